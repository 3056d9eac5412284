/** Reading from a replica near to us, before brokers that the test plays: 1 leads, and names 2. */
import { expect, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { codeOf } from "../src/internal/ErrorCode.js"
import { KafkaFailure } from "../src/internal/Failure.js"
import type { FetchedPartition } from "../src/internal/records.js"
import { batch, clientOf, fetched, poolOf, response, subscription, topicsOf } from "./fakeLog.js"

const topic = () => ({ name: "orders", id: undefined, leaders: [1], epochs: [0] })
const settled = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

/** What the replica says, one after the other; then it waits and has nothing. The leader has only its name. */
const setUp = (answers: Array<Partial<FetchedPartition> | KafkaFailure>, throttleMs = 0) =>
  Effect.gen(function*() {
    const asked: Array<number | "any"> = []
    const racks = new Set<string | undefined>()
    const pool = yield* poolOf(
      clientOf({
        fetch: (request, _, node) =>
          Effect.suspend(() => {
            asked.push(node)
            racks.add(request.rack)
            if (node === 1) return Effect.succeed(response([fetched(0, { readReplica: 2 })], { throttleMs }))
            const answer = answers.shift()
            return answer === undefined
              ? Effect.delay(Effect.succeed(response([])), request.maxWaitTime)
              : answer instanceof KafkaFailure
              ? Effect.fail(answer)
              : Effect.succeed(response([fetched(0, answer)]))
          })
      }),
      { rack: "a" }
    )
    const { fetcher, taken } = yield* subscription(pool, topicsOf(topic), 1, {
      options: { metadataMaxAge: "10 seconds" },
      callbacks: { onOutOfRange: () => Effect.dieMessage("the log is all right") }
    })
    fetcher.wake()
    yield* settled
    return { asked, racks, taken }
  })

it.scoped("what its leader does not give is read from the replica that it names, until the time is over", () =>
  Effect.gen(function*() {
    const records = yield* Effect.promise(() => batch(0, ["0", "1"]))
    const { asked, racks, taken } = yield* setUp([{ records, highWatermark: 2 }])
    yield* TestClock.adjust("100 millis")
    yield* settled
    expect(taken.map(({ offset }) => offset)).toEqual([0, 1])
    yield* TestClock.adjust("9 seconds")
    expect(asked[0]).toBe(1)
    expect(asked.slice(1).every((node) => node === 2)).toBe(true)
    expect([...racks]).toEqual(["a"])
    // Where the leader names it again, nothing is lost by asking.
    yield* TestClock.adjust("2 seconds")
    yield* settled
    expect(asked.filter((node) => node === 1)).toHaveLength(2)
    const before = asked.length
    yield* TestClock.adjust("2 seconds")
    expect(asked.length).toBeGreaterThan(before)
    expect(asked.at(-1)).toBe(2)
  }))

it.scoped("a quota of the leader holds up nothing for good", () =>
  Effect.gen(function*() {
    const records = yield* Effect.promise(() => batch(0, ["0"]))
    const { taken } = yield* setUp([{ records }], 200)
    yield* TestClock.adjust("300 millis")
    yield* settled
    expect(taken).toHaveLength(1)
  }))

const failures: ReadonlyArray<readonly [string, Partial<FetchedPartition> | KafkaFailure]> = [
  ["can't be reached", new KafkaFailure({ type: "Connection", sent: false, cause: "away" })],
  ["is no replica any more", { errorCode: codeOf("NOT_LEADER_OR_FOLLOWER")! }],
  ["does not have the offset yet", { errorCode: codeOf("OFFSET_NOT_AVAILABLE")! }],
  ["begins and ends elsewhere, which is no matter of the log", { errorCode: codeOf("OFFSET_OUT_OF_RANGE")! }]
]

for (const [what, failure] of failures) {
  it.scoped(`the leader is asked again where the replica ${what}`, () =>
    Effect.gen(function*() {
      const records = yield* Effect.promise(() => batch(0, ["0"]))
      const { asked, taken } = yield* setUp([failure, { records }])
      yield* TestClock.adjust("5 seconds")
      yield* settled
      yield* TestClock.adjust("1 second")
      yield* settled
      expect(asked.slice(0, 4)).toEqual([1, 2, 1, 2])
      expect(taken).toHaveLength(1)
    }))
}
