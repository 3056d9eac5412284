import type { IncomingMessage } from "@effect-eventbus/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Fiber } from "effect"
import { type Bucket, Conflict, type Entry, type Value } from "../src/internal/Bucket.js"
import { LeaseLost } from "../src/internal/Lease.js"
import { OfferLimit, Pace } from "../src/internal/OfferLimit.js"
import { codes, NatsRequestFailed } from "../src/NatsErrors.js"
import * as T from "./fixture.js"

const stream = {
  name: "s",
  subjects: [],
  created: "now",
  last: 0,
  lastAt: 0,
  replicas: 1,
  forgets: false,
  duplicateWindow: 0
}

const incoming = (offset: number): IncomingMessage => ({
  topic: "t",
  partition: 0,
  offset,
  key: null,
  value: null,
  headers: {},
  timestamp: 0,
  maybeDuplicate: false,
  deliveryCount: 1
})

/** One key of a bucket, and whoever hands over. */
const scene = () => {
  let entry: Entry | undefined
  let isLosing = false
  let isFull = false
  const put = (_key: string, value: Value, revision: number) =>
    Effect.suspend((): Effect.Effect<number, Conflict | NatsRequestFailed> => {
      if (isFull) {
        const error = { code: 400, err_code: codes.accountResourcesExceeded, description: "no room" }
        return new NatsRequestFailed({ subject: "", reason: "Api", error })
      }
      if (revision !== (entry?.revision ?? 0)) return new Conflict({ key: "" })
      entry = { value, revision: revision + 1 }
      if (!isLosing) return Effect.succeed(entry.revision)
      isLosing = false
      // As when it is tried again.
      return new Conflict({ key: "" })
    })
  const withdraw = (_key: string, revision: number) =>
    Effect.sync(() => {
      if (entry === undefined || entry.revision > revision) return false
      entry = undefined
      return true
    })
  const bucket = { get: () => Effect.sync(() => entry), put, withdraw } as unknown as Bucket
  const taken: Array<number> = []
  const recorded = () => entry?.value?.offered ?? 0
  /** Hands over what may be, and answers how many that are. */
  const handOver = (limit: OfferLimit, messages: ReadonlyArray<IncomingMessage>): number => {
    const count = limit.allowed(messages)
    const over = messages.slice(0, count).map(({ offset }) => offset)
    // Where nothing is recorded all may have been handed over.
    const most = entry === undefined ? Infinity : recorded()
    for (const offset of over) assert.isAtMost(offset, most, "more than is recorded")
    taken.push(...over)
    return count
  }
  return {
    /** Whether the partition is still its owner's is what renewing the epoch finds out. */
    limit: (isOwner = true, pace = new Pace(() => 1)) =>
      new OfferLimit(bucket, "group.t", {
        partition: 0,
        renewEpoch: Effect.suspend(() => isOwner ? Effect.succeed(1) : new LeaseLost({ partition: 0 }))
      }, pace),
    fill: (is: boolean) => {
      isFull = is
    },
    isRecorded: () => entry !== undefined,
    remove: () => {
      entry = undefined
    },
    handOver,
    taken,
    recorded,
    loseAnswer: () => {
      isLosing = true
    }
  }
}

describe("What may be handed over", () => {
  it("is recorded before, raised in time, and what waits for that goes on by itself", () =>
    T.run(Effect.gen(function*() {
      const { handOver, limit, recorded, taken } = scene()
      const own = limit()
      assert.isUndefined(yield* own.recorded(stream))
      yield* own.begin(stream, 40)
      const first = recorded()
      assert.isAbove(first, 40)
      let waiting = T.range(1, first + 100).map(incoming)
      const offer = () => {
        if (waiting.length > 0) waiting = waiting.slice(handOver(own, waiting))
      }
      offer()
      assert.lengthOf(taken, first)
      offer()
      assert.lengthOf(taken, first)
      yield* Effect.forkScoped(own.raising(offer))
      yield* T.waitUntil("the rest is handed over", () => waiting.length === 0)
      assert.isAbove(recorded(), first + 100)
      // Far ahead, as where other partitions have the sequences in between.
      waiting = [incoming(9_000_000)]
      offer()
      yield* T.waitUntil("it is handed over", () => waiting.length === 0)
      T.assertNumbers(taken, [...T.range(1, first + 100), 9_000_000])
      assert.strictEqual(yield* limit().recorded(stream), recorded())
      assert.isUndefined(yield* limit().recorded({ ...stream, created: "later" }))
    })))

  it("of many partitions is raised seldom, and one that begins begins with what the others have found out", () =>
    T.run(Effect.gen(function*() {
      assert.strictEqual(new Pace(() => 1).lasts, 1_000)
      assert.strictEqual(new Pace(() => 100).lasts, 2_000)
      assert.strictEqual(new Pace(() => 5_000).lasts, 10_000)
      const { handOver, limit, recorded, remove } = scene()
      const pace = new Pace(() => 100)
      const own = limit(true, pace)
      yield* own.recorded(stream)
      yield* own.begin(stream, 0)
      yield* Effect.forkScoped(own.raising(() => {}))
      for (let sequence = 500; pace.step < 64_000; sequence += pace.step / 2) {
        const before = recorded()
        handOver(own, [incoming(sequence)])
        if (sequence > before - pace.step / 2) yield* T.waitUntil("it is raised", () => recorded() > before)
      }
      remove()
      const other = limit(true, pace)
      yield* other.recorded(stream)
      yield* other.begin(stream, 0)
      assert.strictEqual(recorded(), pace.step)
    })))

  it("is raised for what waited when reading broke off", () =>
    T.run(Effect.gen(function*() {
      const { handOver, limit, recorded, taken } = scene()
      const own = limit()
      yield* own.recorded(stream)
      yield* own.begin(stream, 0)
      const beyond = [incoming(recorded() + 1)]
      assert.strictEqual(handOver(own, beyond), 0)
      const signals = yield* Effect.fork(own.raising(() => {}))
      yield* Fiber.interrupt(signals)
      yield* Effect.forkScoped(own.raising(() => handOver(own, beyond)))
      yield* T.waitUntil("it is handed over", () => taken.length === 1)
    })))

  it("is ours again where only an answer, or the key, got lost, and not where another one has written", () =>
    T.run(Effect.gen(function*() {
      const { limit, loseAnswer, recorded, remove } = scene()
      const [own, other] = [limit(false), limit()]
      yield* own.recorded(stream)
      loseAnswer()
      yield* own.begin(stream, 0)
      yield* own.begin(stream, 7)
      assert.isAbove(recorded(), 7)
      yield* other.recorded(stream)
      yield* other.begin(stream, 5)
      const late = yield* Effect.either(own.begin(stream, 10))
      assert.strictEqual(Either.getOrThrow(Either.flip(late))._tag, "LeaseLost")
      // Deleted by hand, it is written again by who has the partition.
      remove()
      yield* other.begin(stream, 20)
      assert.isAbove(recorded(), 20)
    })))

  it("is withdrawn where there is no room to raise it, and recorded before it counts again", () =>
    T.run(Effect.gen(function*() {
      const { fill, handOver, isRecorded, limit, recorded, taken } = scene()
      const own = limit()
      yield* own.begin(stream, 0)
      const first = recorded()
      fill(true)
      let waiting = [incoming(first + 1), incoming(9_000_000)]
      const offer = () => {
        if (waiting.length > 0) waiting = waiting.slice(handOver(own, waiting))
      }
      offer()
      assert.lengthOf(taken, 0)
      yield* Effect.forkScoped(own.raising(offer))
      yield* T.waitUntil("all is handed over", () => taken.length === 2)
      assert.isFalse(isRecorded())
      fill(false)
      yield* T.waitUntil("it is recorded again", isRecorded)
      assert.isAbove(recorded(), 9_000_000)
      assert.strictEqual(handOver(own, [incoming(recorded() + 1)]), 0)
    })))

  it("is not withdrawn by an owner before, which goes on with its own", () =>
    T.run(Effect.gen(function*() {
      const { fill, isRecorded, limit, recorded } = scene()
      const [old, next] = [limit(false), limit()]
      yield* old.begin(stream, 0)
      yield* next.recorded(stream)
      yield* next.begin(stream, 70_000)
      fill(true)
      const late = yield* Effect.either(old.begin(stream, 10))
      assert.strictEqual(Either.getOrThrow(Either.flip(late))._tag, "LeaseLost")
      assert.isTrue(isRecorded())
      assert.isAbove(recorded(), 70_000)
    })))
})
