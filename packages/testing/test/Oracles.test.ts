import { type History, Oracles } from "@effect-eventbus/testing"
import { describe, expect, it } from "@effect/vitest"
import { Effect, FastCheck as fc, Fiber, TestClock } from "effect"
import { insert, legal, legalPlain, retimed } from "./Histories.js"

type Entry = History.Entry

const kinds = (history: ReadonlyArray<Entry>, options: Oracles.Options = {}) =>
  new Set(Oracles.judge(history, options).findings.map(({ kind, oracle }) => `${oracle} ${kind}`))

/**
 * Changes a legal history at a place that fits, in every way that `mutate` finds, and asks for the finding. A history
 * without such a place does not count: fast-check draws another, so that each oracle sees as many changed histories.
 */
const caught = (
  expected: string,
  mutate: (entry: Entry, history: ReadonlyArray<Entry>) => ReadonlyArray<Entry> | undefined,
  options: Oracles.Options = {},
  histories: fc.Arbitrary<ReadonlyArray<Entry>> = legal
) =>
  fc.assert(
    fc.property(histories, fc.nat(), (history, place) => {
      for (let i = 0; i < history.length; i++) {
        const mutated = mutate(history[(place + i) % history.length]!, history)
        if (mutated === undefined) continue
        expect(kinds(mutated, options)).toContain(expected)
        return
      }
      fc.pre(false)
    }),
    { numRuns: 60, maxSkipsPerRun: 200 }
  )

const isEnded = (entry: Entry): entry is History.Ended => entry.kind === "ended" && entry.outcome === "finished"
const same = (a: Entry, b: Entry) =>
  "aggregate" in a && "aggregate" in b && a.aggregate === b.aggregate && a.sequence === b.sequence
const before = (history: ReadonlyArray<Entry>, entry: Entry) => history.slice(0, history.indexOf(entry))

describe("the oracles", () => {
  it("find nothing in histories that keep the contract, also after JSON", () =>
    fc.assert(
      fc.property(legal, (history) => {
        const all = Oracles.judge(JSON.parse(JSON.stringify(history)) as typeof history, { within: 1_000 })
        expect(Oracles.render(all.findings)).toBe("")
        expect(all.finished).toBe(all.published)
        expect(all.announced).toBe(all.duplicates)
      }),
      { numRuns: 500 }
    ))

  it("find nothing in histories of plain messages that keep the contract", () =>
    fc.assert(fc.property(legalPlain, (history) => {
      expect(kinds(history, { semantics: "at-most-once" })).toEqual(new Set())
    })))

  it("see a message that was lost", () =>
    caught(
      "atLeastOnce lost",
      (entry, history) =>
        isEnded(entry) ? retimed(history.filter((one) => one.kind === "published" || !same(one, entry))) : undefined
    ))

  it("see a message that was settled before it was finished", () =>
    caught(
      "atLeastOnce settled-unfinished",
      (entry, history) =>
        entry.kind === "started" && !before(history, entry).some((one) => isEnded(one) && same(one, entry))
          ? insert(history, entry, { ...entry, kind: "settled" })
          : undefined
    ))

  it("see a message that nobody published", () =>
    caught("atLeastOnce unpublished", (entry, history) => {
      if (!isEnded(entry)) return undefined
      const without = history.filter((one) => one.kind !== "published" || !same(one, entry))
      // A history in which nobody publishes is not judged by it.
      return without.some(({ kind }) => kind === "published") ? retimed(without) : undefined
    }))

  it("see a message that overtakes the one before it", () =>
    caught("order skip", (entry, history) => {
      if (entry.kind !== "started" || entry.sequence === 0) return undefined
      const { aggregate, sequence } = entry
      const swapped = (one: Entry): Entry =>
        (one.kind === "started" || one.kind === "ended") && one.aggregate === aggregate &&
          Math.abs(one.sequence - sequence + 0.5) < 1
          ? { ...one, sequence: 2 * sequence - 1 - one.sequence }
          : one
      return history.map(swapped)
    }))

  it("see a message that comes again within one epoch", () =>
    caught(
      "order step-back",
      (entry, history) =>
        isEnded(entry) && !before(history, entry).some((one) => one.kind === "settled" && same(one, entry))
          ? insert(history, entry, { ...entry, kind: "started", maybeDuplicate: true }, entry)
          : undefined
    ))

  it("see a message that comes again though it was settled", () =>
    caught("order settled-again", (entry, history) =>
      entry.kind === "settled"
        ? insert(history, entry, { ...entry, kind: "started", process: "p99", epoch: 99, maybeDuplicate: true })
        : undefined))

  it("see a process that goes on after another took over, unless it was suspended", () => {
    const goesOn = (suspended: boolean) => (entry: Entry, history: ReadonlyArray<Entry>) => {
      if (!isEnded(entry)) return undefined
      const earlier = before(history, entry).filter((one) =>
        one.kind === "started" && one.aggregate === entry.aggregate && one.process !== entry.process
      ).at(-1)
      if (earlier === undefined || history.some((one) => one.kind === "down" && one.process === earlier.process)) {
        return undefined
      }
      const { process } = earlier
      const awake = suspended ? [{ kind: "down", process, cause: "suspended" }, { kind: "up", process }] : []
      return insert(history, entry, ...awake, { ...earlier, maybeDuplicate: true })
    }
    caught("order stale", goesOn(false))
    fc.assert(fc.property(legal, (history) => {
      for (const entry of history) {
        const mutated = goesOn(true)(entry, history)
        if (mutated !== undefined) expect(kinds(mutated)).not.toContain("order stale")
      }
    }))
  })

  it("see two handlers of one aggregate at once, unless one of the processes was out", () => {
    const twice = (outage: boolean) => (entry: Entry, history: ReadonlyArray<Entry>) =>
      entry.kind === "started"
        ? insert(
          history,
          entry,
          ...(outage ? [{ kind: "down", process: entry.process, cause: "suspended" }] : []),
          { ...entry, process: "p99", epoch: 99, maybeDuplicate: true },
          { ...entry, kind: "ended", process: "p99", epoch: 99, outcome: "interrupted" },
          ...(outage ? [{ kind: "up", process: entry.process }] : [])
        )
        : undefined
    caught("overlap overlap", twice(false))
    fc.assert(fc.property(legal, fc.nat(), (history, place) => {
      const mutated = twice(true)(history[place % history.length]!, history)
      if (mutated !== undefined) expect(kinds(mutated)).not.toContain("overlap overlap")
    }))
  })

  it("see a duplicate that does not say so, and too many of them", () => {
    // A retry of a duplicate, in the same process, is no other duplicate.
    const isAgain = (entry: Entry, history: ReadonlyArray<Entry>) =>
      entry.kind === "started" && entry.maybeDuplicate &&
      !before(history, entry).some((one) => one.kind === "started" && one.process === entry.process && same(one, entry))
    caught(
      "duplicates unannounced",
      (entry, history) =>
        isAgain(entry, history) ?
          history.map((one) => one === entry ? { ...entry, maybeDuplicate: false } as Entry : one)
          : undefined
    )
    caught("duplicates too-many", (entry, history) => isAgain(entry, history) ? history : undefined, {
      maxDuplicates: 0
    })
  })

  it("excuse an unannounced duplicate of a process that was just resumed, if a later owner had finished the message", () => {
    /** The process is resumed at 4,000, and starts then what it was about to start when it was suspended. */
    const resumed = (at: number, epoch: number): ReadonlyArray<Entry> => {
      const message = { aggregate: "a", sequence: 0 }
      const other = { ...message, process: "p2", epoch: 2 }
      return [
        { kind: "published", at: 0, process: "p0", ...message, outcome: "confirmed" },
        { kind: "down", at: 1_000, process: "p1", cause: "suspended" },
        { kind: "started", at: 3_000, ...other, maybeDuplicate: true },
        { kind: "ended", at: 3_001, ...other, outcome: "finished" },
        { kind: "up", at: 4_000, process: "p1" },
        { kind: "started", at, ...message, process: "p1", epoch, maybeDuplicate: false }
      ]
    }
    const unannounced = "duplicates unannounced"
    expect(kinds(resumed(4_010, 1), { grace: 1_000 })).not.toContain(unannounced)
    expect(kinds(resumed(4_010, 1))).toContain(unannounced)
    expect(kinds(resumed(6_000, 1), { grace: 1_000 })).toContain(unannounced)
    // It has taken the partition again, and knows that the message may have been handled.
    expect(kinds(resumed(4_010, 3), { grace: 1_000 })).toContain(unannounced)
  })

  it("see that nothing moves while something is outstanding, and only then", () => {
    const pause = (outstanding: boolean) => (entry: Entry, history: ReadonlyArray<Entry>) => {
      if (entry.kind !== "published") return undefined
      const first = before(history, entry)
      const open = first.filter(({ kind }) => kind === "published").length !==
        new Set(first.filter(isEnded).map((one) => `${one.aggregate}/${one.sequence}`)).size
      if (open !== outstanding) return undefined
      return history.map((one) => one.at < entry.at ? one : { ...one, at: one.at + 10_000 })
    }
    caught("progress stuck", pause(true), { within: 5_000 })
    fc.assert(fc.property(legal, (history) => {
      for (const entry of history) {
        const mutated = pause(false)(entry, history)
        if (mutated !== undefined) expect(kinds(mutated, { within: 5_000 })).toEqual(new Set())
      }
    }))
  })

  it("see a plain message that is handled twice, one that is handled before it is settled, and losses without a kill", () => {
    const options: Oracles.Options = { semantics: "at-most-once" }
    const started = (how: (entry: Entry, history: ReadonlyArray<Entry>) => ReadonlyArray<Entry>) =>
    (
      entry: Entry,
      history: ReadonlyArray<Entry>
    ) => entry.kind === "started" ? how(entry, history) : undefined
    caught("atMostOnce twice", started((entry, history) => insert(history, entry, entry)), options, legalPlain)
    caught(
      "atMostOnce unsettled",
      started((entry, history) => history.filter((one) => one.kind !== "settled" || !same(one, entry))),
      // A history without any `settled` is not judged by them.
      options,
      legalPlain.filter((history) => history.filter(({ kind }) => kind === "settled").length > 1)
    )
    caught(
      "atMostOnce lost",
      (entry, history) => entry.kind === "down" ? history.filter(({ kind }) => kind !== "down") : undefined,
      options,
      legalPlain
    )
  })

  it("let a message of unknown outcome be missing, and one that was published twice come twice", () => {
    const publish = (sequence: number, outcome: string) => ({ kind: "published", sequence, outcome })
    const handle = (sequence: number, outcome = "finished") => [
      { kind: "started", sequence, maybeDuplicate: false },
      { kind: "ended", sequence, outcome }
    ]
    const history = (...entries: ReadonlyArray<object>) =>
      retimed(entries.map((entry) => ({ process: "p", epoch: 1, aggregate: "a", ...entry }) as unknown as Entry))
    expect(kinds(history(
      publish(0, "confirmed"),
      publish(1, "unknown"),
      publish(2, "confirmed"),
      ...handle(0),
      ...handle(2, "failed"),
      ...handle(2)
    ))).toEqual(new Set())
    expect(kinds(history(publish(0, "unknown"), publish(0, "confirmed"), ...handle(0), ...handle(0))))
      .toEqual(new Set())
    expect(kinds(history(publish(0, "confirmed"), publish(1, "confirmed"), ...handle(1), ...handle(0))))
      .toContain("order skip")
  })

  it("explain a finding by the entries that show it", () => {
    const [first] = Oracles.judge([
      { kind: "published", at: 1, process: "shop", aggregate: "order-1", sequence: 0, outcome: "confirmed" },
      { kind: "started", at: 2, process: "worker", aggregate: "order-1", sequence: 0, epoch: 3, maybeDuplicate: false }
    ]).findings
    expect(Oracles.render([first!])).toBe([
      "atLeastOnce, lost: order-1/0 was never finished",
      "        1 ms  shop published order-1/0 (confirmed)",
      "        2 ms  worker epoch 3 started order-1/0"
    ].join("\n"))
  })

  it.effect("fail fast while a run goes on, when nothing moves", () =>
    Effect.gen(function*() {
      let moved = 0
      const fiber = yield* Effect.fork(Effect.flip(
        Oracles.watchProgress({ moved: () => moved, outstanding: () => 10 - moved, within: "5 seconds" })
      ))
      for (let i = 0; i < 5; i++) {
        moved++
        yield* TestClock.adjust("4 seconds")
      }
      expect(fiber.unsafePoll()).toBeNull()
      yield* TestClock.adjust("2 seconds")
      expect(yield* Fiber.join(fiber)).toMatchObject({ _tag: "Stuck", outstanding: 5 })
    }))
})
