/** Where a log is another one than was read, by a leader that the test plays. */
import { expect, it } from "@effect/vitest"
import { Effect, FastCheck } from "effect"
import { Lineage } from "../src/internal/Lineage.js"
import * as Truncation from "../src/internal/Truncation.js"
import { clientOf, topicsOf } from "./fakeLog.js"

/** The epoch of the message at each offset. */
type Log = ReadonlyArray<number>

/** As Kafka's leader answers: the largest epoch that is not above the one that is asked for, and where it ends. */
const endOf = (log: Log, current: number, epoch: number) => {
  if (epoch === current) return { leaderEpoch: current, endOffset: log.length }
  const below = log.filter((one) => one <= epoch)
  return below.length === 0
    ? { leaderEpoch: epoch, endOffset: 0 }
    : { leaderEpoch: below.at(-1)!, endOffset: below.length }
}

const find = (log: Log, current: number, lineage: Lineage, position: number) => {
  let asked = 0
  const client = clientOf({
    fetch: () => Effect.never,
    epochs: ({ partitions }) => {
      asked++
      return {
        partitions: partitions.map(({ leaderEpoch, partition }) => ({
          partition,
          errorCode: 0,
          ...endOf(log, current, leaderEpoch)
        }))
      }
    }
  })
  const topics = topicsOf(() => ({ name: "orders", id: undefined, leaders: [1], epochs: [current] }))
  return Effect.map(
    Truncation.find(client, topics, "role", "orders", { partition: 0, position, lineage }),
    (answer) => ({ answer, asked })
  )
}

const lineageOf = (log: Log, from = 0, bound = -1): Lineage => {
  const lineage = new Lineage(bound)
  log.forEach((epoch, offset) => {
    if (offset >= from) lineage.note(epoch, offset)
  })
  return lineage
}

it.effect("a log that only grew is the same", () =>
  Effect.gen(function*() {
    const read = [0, 0, 1, 1, 1]
    expect((yield* find([...read, 1, 4, 4], 4, lineageOf(read), 5)).answer).toEqual({
      leaderEpoch: 4,
      cutAt: undefined
    })
  }))

it.effect("a log that was cut is found out, shorter than before and longer", () =>
  Effect.gen(function*() {
    const read = [0, 0, 1, 1, 1]
    expect((yield* find([0, 0, 1], 2, lineageOf(read), 5)).answer).toEqual({ leaderEpoch: 2, cutAt: 3 })
    expect((yield* find([0, 0, 1, 2, 2, 2, 2], 2, lineageOf(read), 5)).answer).toEqual({ leaderEpoch: 2, cutAt: 3 })
    expect((yield* find([0, 2, 2, 2, 2, 2, 2], 2, lineageOf(read), 5)).answer).toEqual({ leaderEpoch: 2, cutAt: 1 })
  }))

it.effect("who has read nothing yet knows by the leader it began with", () =>
  Effect.gen(function*() {
    const lineage = new Lineage(3)
    expect((yield* find([0, 0, 1, 1, 1, 3], 4, lineage, 5)).answer).toEqual({ leaderEpoch: 4, cutAt: undefined })
    expect((yield* find([0, 0, 1, 4, 4, 4], 4, lineage, 5)).answer).toEqual({ leaderEpoch: 4, cutAt: 3 })
    expect((yield* find([0, 0], 4, new Lineage(-1), 5)).answer).toBe(Truncation.unknown)
  }))

/** Epochs that ascend with the offsets. */
const ascending = (min: number) =>
  FastCheck.array(FastCheck.integer({ min, max: min + 4 }), { maxLength: 12 }).map((log) =>
    [...log].sort((a, b) => a - b)
  )

it.effect.prop(
  "it is where the logs part, and never above it, whatever the leaders were",
  [ascending(0), ascending(0), FastCheck.nat(12), FastCheck.nat(12)],
  ([ours, branch, shared, from]) =>
    Effect.gen(function*() {
      // Epochs are given once: the other log shares a beginning, and goes on with epochs that ours does not have.
      const common = Math.min(shared, ours.length)
      const taken = new Set(ours.slice(common))
      const last = common === 0 ? 0 : ours[common - 1]!
      const rest = branch.map((epoch) => epoch * 2 + 1).filter((epoch) => epoch > last && !taken.has(epoch))
      const theirs = [...ours.slice(0, common), ...rest.filter((epoch) => !ours.includes(epoch))]
      const current = Math.max(0, ...ours, ...theirs) + 1
      const { answer, asked } = yield* find(theirs, current, lineageOf(ours), ours.length)
      if (ours.length === 0) {
        expect(answer).toBe(Truncation.unknown)
        return
      }
      expect(answer).toEqual({ leaderEpoch: current, cutAt: common < ours.length ? common : undefined })
      expect(asked).toBeLessThanOrEqual(8)
      // Whoever began later knows less, and passes over nothing that was not read.
      const begun = Math.min(from, ours.length)
      const bound = begun === 0 ? -1 : ours[begun - 1]!
      const { answer: late } = yield* find(theirs, current, lineageOf(ours, begun, bound), ours.length)
      if (late !== Truncation.unknown && late.cutAt !== undefined) expect(late.cutAt).toBeLessThanOrEqual(ours.length)
    }),
  { fastCheck: { numRuns: 500 } }
)

it("leaders that were long ago count as one", () => {
  const lineage = new Lineage(-1)
  for (let epoch = 0; epoch < 1_000; epoch++) lineage.note(epoch, epoch * 10)
  expect([lineage.before(9_995), lineage.before(9_990), lineage.endOf(998), lineage.before(5)]).toEqual([
    999,
    998,
    9_990,
    -1
  ])
  expect(lineage.upTo(9_980).before(10_000)).toBe(997)
})
