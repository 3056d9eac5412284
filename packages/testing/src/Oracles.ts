/**
 * Judges a history: pure functions, one for each guarantee of the delivery contract. A verdict has the findings that
 * contradict the guarantee, each with the part of the history that shows it.
 *
 * Order is checked when a handler starts. When it ends, it is too late to see a violation. A log such as
 * `1, 2, 1, 2, 3` is legal if there was a crash or a take-over between the second and the third entry, and if no
 * message that comes again was settled: an aggregate may step back once for each of them. `1, 3, 2` is never legal.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { type Ended, type Entry, type History, type Message, show, type Started } from "./History.js"
import { duplicatesOf } from "./internal/duplicatesOf.js"
import { finding, name, quoted } from "./internal/finding.js"
import { index, ownerOf } from "./internal/historyIndex.js"
import { orderOf } from "./internal/orderOf.js"

/**
 * The oracles by name.
 *
 * @since 0.1.0
 * @category models
 */
export type OracleName = "atLeastOnce" | "atMostOnce" | "order" | "overlap" | "duplicates" | "progress"

/**
 * One contradiction to a guarantee.
 *
 * - `lost`: published with the broker's confirmation, and never finished (at-most-once: never started, beyond the bound).
 * - `settled-unfinished`: settled before it was finished. `unpublished`: handled, and never published.
 * - `twice`: an at-most-once message was started twice. `unsettled`: it was started before it was settled.
 * - `skip`: started before the message before it was finished. `step-back`: started again within one epoch.
 * - `stale`: started in an epoch that another one had taken over from. `settled-again`: started after it was settled.
 * - `overlap`: started while another handler of its aggregate ran.
 * - `unannounced`: started again without `maybeDuplicate`. `too-many`: more duplicates of one take-over than allowed.
 * - `stuck`: messages were outstanding, and none was finished for too long.
 *
 * @since 0.1.0
 * @category models
 */
export interface Finding {
  readonly oracle: OracleName
  readonly kind:
    | "lost"
    | "settled-unfinished"
    | "unpublished"
    | "twice"
    | "unsettled"
    | "skip"
    | "step-back"
    | "stale"
    | "settled-again"
    | "overlap"
    | "unannounced"
    | "too-many"
    | "stuck"
  /** Undefined: the finding is about no single message. */
  readonly message: Message | undefined
  readonly explanation: string
  /** The entries about the same aggregate up to this point, the newest 12. */
  readonly context: History
}

/**
 * What one oracle has found.
 *
 * @since 0.1.0
 * @category models
 */
export interface Verdict {
  readonly oracle: OracleName
  /** Empty: the guarantee holds. */
  readonly findings: ReadonlyArray<Finding>
}

/**
 * What the oracles have to know about the run.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** What the subscription promises. Default: `"at-least-once"`. */
  readonly semantics?: "at-least-once" | "at-most-once" | undefined
  /**
   * Whether a message with `maybeDuplicate` may be started again within one epoch. For transports that break the contract on
   * purpose, as `Faults` with `duplicate` does. Default: false.
   */
  readonly repeats?: boolean | undefined
  /**
   * How long after a suspension the process may still overlap with its successor, in ms (rule 12): a handler that was about to start then
   * still does, and repeats what its successor has finished, unannounced. Default: 0.
   */
  readonly grace?: number | undefined
  /**
   * How many messages one take-over (a process and an epoch) may start again after they were finished.
   * Default: 11,000 for each take-over, the bounds of rule 6 of a partition.
   */
  readonly maxDuplicates?: number | undefined
  /** How many at-most-once messages each kill may lose. Default: 100. */
  readonly maxLostPerKill?: number | undefined
  /** How many at-most-once messages were reported as lost, by closing for example. Default: 0. */
  readonly reportedLost?: number | undefined
  /** For how long nothing may move while something is outstanding, in ms. Default: progress is not judged by `judge`. */
  readonly within?: number | undefined
  /** When the history ended, in ms. Default: with its last entry. */
  readonly until?: number | undefined
}

/**
 * Rule 2: no envelope is lost, none is settled before it is finished, and none is handled that was not published.
 *
 * @since 0.1.0
 * @category oracles
 */
export const atLeastOnce = (history: History): Verdict => {
  const findings: Array<Finding> = []
  const { aggregates, hasPublished } = index(history)
  for (const [aggregate, { copies, entries, finished, published }] of aggregates) {
    const done = new Set<number>()
    for (const entry of entries) {
      if (entry.kind === "ended" && entry.outcome === "finished") done.add(entry.sequence)
      else if (entry.kind === "settled" && !done.has(entry.sequence)) {
        findings.push(finding(
          "atLeastOnce",
          "settled-unfinished",
          entry,
          `${name(entry)} was settled before it was finished: a crash would lose it`,
          entries,
          entry
        ))
      } else if (entry.kind === "started" && hasPublished && !copies.has(entry.sequence)) {
        findings.push(
          finding("atLeastOnce", "unpublished", entry, `nobody published ${name(entry)}`, entries, entry)
        )
      }
    }
    for (const sequence of published) {
      if (finished.has(sequence)) continue
      const message = { aggregate, sequence }
      const about = entries.filter((entry) => entry.sequence === sequence)
      findings.push(finding("atLeastOnce", "lost", message, `${name(message)} was never finished`, about))
    }
  }
  return { oracle: "atLeastOnce", findings }
}

/**
 * Rule 3: a plain message is started at most once, and after it was settled. Only kills lose messages, and only a few.
 *
 * @since 0.1.0
 * @category oracles
 */
export const atMostOnce = (history: History, options: Options = {}): Verdict => {
  const findings: Array<Finding> = []
  const { aggregates, hasSettled, kills } = index(history)
  const lost: Array<Message> = []
  for (const [aggregate, { copies, entries, published }] of aggregates) {
    const starts = new Map<number, number>()
    const settled = new Set<number>()
    for (const entry of entries) {
      if (entry.kind === "settled") settled.add(entry.sequence)
      if (entry.kind !== "started") continue
      const times = (starts.get(entry.sequence) ?? 0) + 1
      starts.set(entry.sequence, times)
      if (times > Math.max(1, copies.get(entry.sequence) ?? 1)) {
        findings.push(finding("atMostOnce", "twice", entry, `${name(entry)} was started again`, entries, entry))
      }
      if (hasSettled && !settled.has(entry.sequence)) {
        const why = `${name(entry)} was started before it was settled: a crash would run it twice`
        findings.push(finding("atMostOnce", "unsettled", entry, why, entries, entry))
      }
    }
    for (const sequence of published) if (!starts.has(sequence)) lost.push({ aggregate, sequence })
  }
  const allowed = kills * (options.maxLostPerKill ?? 100) + (options.reportedLost ?? 0)
  if (lost.length > allowed) {
    const which = lost.slice(0, 5).map(name).join(", ")
    const why =
      `${lost.length} messages were never started, after ${kills} kills at most ${allowed} may be; the first: ${which}`
    findings.push(finding("atMostOnce", "lost", lost[0], why))
  }
  return { oracle: "atMostOnce", findings }
}

/**
 * Rule 1: the messages of an aggregate are started in their order. After each crash or take-over they may step back once, to an
 * unsettled message. They never skip one.
 *
 * @since 0.1.0
 * @category oracles
 */
export const order = (history: History, options: Options = {}): Verdict => {
  const findings: Array<Finding> = []
  const { aggregates, wasOutSince } = index(history)
  for (const aggregate of aggregates.values()) orderOf(aggregate, wasOutSince, options, findings)
  return { oracle: "order", findings }
}

/**
 * Rules 1 and 12: two handlers of one aggregate never run at once, in one process or in several, unless one of the
 * processes is dead or suspended.
 *
 * @since 0.1.0
 * @category oracles
 */
export const overlap = (history: History, options: Options = {}): Verdict => {
  const findings: Array<Finding> = []
  const { aggregates, isOut } = index(history)
  const grace = options.grace ?? 0
  for (const { entries } of aggregates.values()) {
    const running = new Map<string, Started>()
    const key = (entry: Started | Ended) => `${entry.sequence} ${ownerOf(entry)}`
    for (const entry of entries) {
      if (entry.kind === "ended") running.delete(key(entry))
      if (entry.kind !== "started") continue
      for (const [id, other] of running) {
        if (isOut(other.process, entry.at, grace)) running.delete(id)
        else if (!isOut(entry.process, entry.at, grace)) {
          const why = `${name(entry)} was started in ${ownerOf(entry)} while ${name(other)} ran in ${ownerOf(other)}`
          findings.push(finding("overlap", "overlap", entry, why, entries, entry))
        }
      }
      running.set(key(entry), entry)
    }
  }
  return { oracle: "overlap", findings }
}

/**
 * Rule 5: messages that are handled again have `maybeDuplicate`, and a take-over brings a bounded number of them.
 *
 * @since 0.1.0
 * @category oracles
 */
export const duplicates = (history: History, options: Options = {}): Verdict => {
  const findings: Array<Finding> = []
  const max = options.maxDuplicates ?? 11_000
  const perOwner = new Map<string, number>()
  const { aggregates, isOut } = index(history)
  const grace = options.grace ?? 0
  for (const aggregate of aggregates.values()) {
    for (const entry of duplicatesOf(aggregate)) {
      const { copies, entries } = aggregate
      const id = ownerOf(entry)
      const count = (perOwner.get(id) ?? 0) + 1
      perOwner.set(id, count)
      const isSaid = entry.maybeDuplicate || (copies.get(entry.sequence) ?? 1) > 1
      // It was handed over before the process stood still, and nobody could know then.
      if (!isSaid && !(isOut(entry.process, entry.at, grace) && isOutlived(entry, entries))) {
        const why = `${name(entry)} was started again in ${id}, and its delivery did not say that it may be a duplicate`
        findings.push(finding("duplicates", "unannounced", entry, why, entries, entry))
      }
      if (count === max + 1) {
        const why = `more than ${max} messages were started again in ${id}`
        findings.push(finding("duplicates", "too-many", entry, why, entries, entry))
      }
    }
  }
  return { oracle: "duplicates", findings }
}

/** Whether a later owner has finished the message before. */
const isOutlived = ({ at, epoch, sequence }: Started, entries: ReadonlyArray<Entry>): boolean =>
  entries.some((entry) =>
    entry.kind === "ended" && entry.outcome === "finished" && entry.sequence === sequence && entry.at <= at &&
    entry.epoch > epoch
  )

/**
 * While published messages are unfinished, at least one is finished within each time of this length.
 *
 * @since 0.1.0
 * @category oracles
 */
export const progress = (history: History, options: Options & { readonly within: number }): Verdict => {
  const findings: Array<Finding> = []
  const { sorted } = index(history)
  const outstanding = new Map<string, Entry>()
  const finished = new Set<string>()
  let moved = 0
  const look = (now: number) => {
    if (outstanding.size === 0 || now - moved <= options.within) return
    const oldest = Array.from(outstanding.values()).slice(0, quoted)
    const why = `nothing was finished for ${now - moved} ms, with ${outstanding.size} messages outstanding`
    findings.push(finding("progress", "stuck", undefined, why, oldest))
    moved = now
  }
  for (const entry of sorted) {
    look(entry.at)
    if (entry.kind === "published" && entry.outcome === "confirmed" && !finished.has(name(entry))) {
      if (outstanding.size === 0) moved = entry.at
      outstanding.set(name(entry), entry)
    } else if (entry.kind === "ended" && entry.outcome === "finished") {
      moved = entry.at
      finished.add(name(entry))
      outstanding.delete(name(entry))
    }
  }
  look(options.until ?? sorted[sorted.length - 1]?.at ?? 0)
  return { oracle: "progress", findings }
}

/**
 * The figures of a history, and all findings.
 *
 * @since 0.1.0
 * @category models
 */
export interface Judgement {
  /** Messages whose publishing was confirmed. */
  readonly published: number
  /** Messages that a process finished. */
  readonly finished: number
  /** How often a message was run again after it was finished. Legal, and bounded. */
  readonly duplicates: number
  /** How many of the duplicates had `maybeDuplicate`. */
  readonly announced: number
  /** The findings of all oracles that apply, in the order of this module. */
  readonly findings: ReadonlyArray<Finding>
}

/**
 * All oracles that apply to the subscription's semantics (progress where `within` is given).
 *
 * @since 0.1.0
 * @category judging
 */
export const judge = (history: History, options: Options = {}): Judgement => {
  const { aggregates } = index(history)
  const again = Array.from(aggregates.values()).flatMap(duplicatesOf)
  const { within } = options
  const verdicts = [
    ...(options.semantics === "at-most-once"
      ? [atMostOnce(history, options)]
      : [atLeastOnce(history), order(history, options), duplicates(history, options)]),
    overlap(history, options),
    ...(within === undefined ? [] : [progress(history, { ...options, within })])
  ]
  let published = 0
  let finished = 0
  for (const aggregate of aggregates.values()) {
    published += aggregate.published.size
    finished += aggregate.finished.size
  }
  return {
    published,
    finished,
    duplicates: again.length,
    announced: again.filter(({ maybeDuplicate }) => maybeDuplicate).length,
    findings: verdicts.flatMap((verdict) => verdict.findings)
  }
}

/**
 * Findings as text. Each has its meaning, and the entries that show it.
 *
 * @since 0.1.0
 * @category printing
 */
export const render = (findings: ReadonlyArray<Finding>, atMost = 5): string =>
  findings.slice(0, atMost).map(({ context, explanation, kind, oracle }) =>
    [`${oracle}, ${kind}: ${explanation}`, ...context.map(show)].join("\n")
  ).concat(findings.length > atMost ? [`and ${findings.length - atMost} more`] : []).join("\n\n")

/**
 * `watchProgress` has seen no message finish for too long.
 *
 * @since 0.1.0
 * @category errors
 */
export class Stuck extends Data.TaggedError("Stuck")<{ readonly outstanding: number; readonly after: string }> {
  override get message() {
    return `Nothing moved for ${this.after}, with ${this.outstanding} messages outstanding`
  }
}

/**
 * Watches a run while it goes on. It fails as soon as no message was finished for a time while some are outstanding, and does not wait for
 * the end of a long deadline. Race it with the run. It ends by itself when `outstanding` is 0.
 *
 * @since 0.1.0
 * @category judging
 */
export const watchProgress = (options: {
  /** A number that rises with each message that is finished. */
  readonly moved: () => number
  readonly outstanding: () => number
  readonly within: Duration.DurationInput
  /** How often it looks. Default: 100 millis. */
  readonly every?: Duration.DurationInput | undefined
}): Effect.Effect<void, Stuck> =>
  Effect.gen(function*() {
    let before = options.moved()
    let since = yield* Clock.currentTimeMillis
    while (options.outstanding() > 0) {
      yield* Effect.sleep(options.every ?? "100 millis")
      const moved = options.moved()
      const now = yield* Clock.currentTimeMillis
      if (moved !== before) {
        before = moved
        since = now
      } else if (now - since > Duration.toMillis(options.within) && options.outstanding() > 0) {
        return yield* new Stuck({
          outstanding: options.outstanding(),
          after: Duration.format(Duration.millis(now - since))
        })
      }
    }
  })
