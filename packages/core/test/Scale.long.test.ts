import { EventBus, EventBusConfig, FailurePolicy, MemoryTransport, Topic } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { eventually } from "./Eventually.js"

const mib = 1_048_576
const idleMs = 3_000

const Steps = Topic.plain("steps", { partitions: 4 })

const decoder = new TextDecoder()

/** In MiB, without what is garbage. */
const heap = (): number => {
  setFlagsFromString("--expose-gc")
  runInNewContext("gc")()
  return process.memoryUsage().heapUsed / mib
}

/** What the handlers see: whether each aggregate's steps come one after the other, and none twice. */
class Seen {
  handled = 0
  violations = 0
  private readonly next: Uint8Array

  constructor(aggregates: number) {
    this.next = new Uint8Array(aggregates)
  }

  readonly handle = (body: Uint8Array): Effect.Effect<void> =>
    Effect.suspend(() => {
      const [aggregate, sequence] = decoder.decode(body).split(" ").map(Number) as [number, number]
      if (this.next[aggregate] !== sequence) this.violations++
      this.next[aggregate] = sequence + 1
      this.handled++
      // Some wait, so that not every actor is idle at once.
      return this.handled % 64 === 0 ? Effect.sleep(1) : Effect.void
    })
}

interface Size {
  readonly aggregates: number
  readonly active: number
  readonly mostActors: number
  readonly isRecovery: boolean
}

const run = ({ active, aggregates, isRecovery, mostActors }: Size) =>
  Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const seen = new Seen(aggregates)
    const subscription = yield* bus.subscribe(Steps, seen.handle, {
      onExhausted: FailurePolicy.drop,
      semantics: "at-least-once",
      recovery: isRecovery
        ? { maxActors: mostActors, idleTimeout: idleMs, rate: "unlimited", calmFor: "1 hour" }
        : undefined
    })
    let [published, mostLive, mostHeap] = [0, 0, 0]
    const look = Effect.gen(function*() {
      mostLive = Math.max(mostLive, (yield* subscription.stats).actors)
    })
    const publish = (ids: ReadonlyArray<number>, sequence: number) =>
      bus.publishAll(Steps, ids.map((id) => ({ key: `order-${id}`, body: `${id} ${sequence}` })))
    const before = heap()
    // Each aggregate once, and then the active ones, in turns that bring each back when its actor has had to end.
    const rounds = [
      { from: 0, to: aggregates, sequence: 0 },
      ...[1, 2].map((sequence) => ({
        from: 0,
        to: active,
        sequence
      }))
    ]
    for (const { from, sequence, to } of rounds) {
      for (let first = from; first < to; first += 1_000) {
        yield* publish(Array.from({ length: Math.min(1_000, to - first) }, (_, i) => first + i), sequence)
        published += Math.min(1_000, to - first)
        if (published % 50_000 === 0) yield* look
        if (published % (aggregates / 4) === 0) mostHeap = Math.max(mostHeap, heap() - before)
      }
    }
    yield* eventually("all are handled", () => seen.handled >= published)
    yield* look
    const lastAt = performance.now()
    const live = (yield* subscription.stats).actors
    yield* eventually("idle actors end", () => Effect.runSync(subscription.stats).actors === 0)
    const idleFor = performance.now() - lastAt
    const after = heap() - before
    return {
      ...seen,
      published,
      mostLive,
      live,
      mostHeap,
      idleFor,
      after,
      ended: (yield* subscription.stats).endedActors
    }
  }).pipe(
    Effect.scoped,
    Effect.provide(EventBus.layer.pipe(
      Layer.provide(MemoryTransport.layer({ partitions: 4, maxMessages: 20_000 })),
      Layer.provide(EventBusConfig.layer(
        isRecovery ? { actorIdleTimeout: "1 hour" } : { maxActors: mostActors, actorIdleTimeout: idleMs }
      ))
    ))
  )

describe("many aggregates", () => {
  const sizes: ReadonlyArray<Size> = [
    { aggregates: 1_000_000, active: 100_000, mostActors: 10_000, isRecovery: false },
    { aggregates: 100_000, active: 10_000, mostActors: 1_000, isRecovery: true }
  ]
  for (const size of sizes) {
    const { active, aggregates, isRecovery, mostActors } = size
    const numbers = [aggregates, active, mostActors].map((number) => number.toLocaleString("en"))
    it.live(
      `${numbers[0]} of them, ${numbers[1]} active, have at most ${numbers[2]} actors${
        isRecovery ? " in recovery" : ""
      }: in order, with bounded memory, and idle ones end after their time`,
      () =>
        Effect.gen(function*() {
          const began = performance.now()
          const seen = yield* run(size)
          process.stdout.write(
            `scale: ${JSON.stringify({ ...seen, next: undefined, ms: performance.now() - began })}\n`
          )
          expect(seen.violations).toBe(0)
          expect(seen.handled).toBe(aggregates + 2 * active)
          expect(seen.mostLive).toBeLessThanOrEqual(mostActors)
          // The bound was reached, and an actor that was idle was there until its time was over.
          expect(seen.mostLive).toBeGreaterThan(mostActors * 0.9)
          expect(seen.live).toBeGreaterThan(0)
          expect(seen.ended).toBeGreaterThanOrEqual(aggregates)
          expect(seen.idleFor).toBeGreaterThan(idleMs * 0.8)
          expect(seen.idleFor).toBeLessThan(60_000)
          // An actor takes about 3 KiB, and the log's 20,000 messages and the numbers of the test are there, too.
          expect(seen.mostHeap).toBeLessThan(mostActors * 0.01 + 60)
          expect(seen.after).toBeLessThan(30)
        }),
      // It takes about 50 µs of processor time for each aggregate.
      600_000
    )
  }
})
