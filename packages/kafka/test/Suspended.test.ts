import { EventBus, EventBusConfig, FailurePolicy, Topic } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { describe, expect } from "vitest"
import { driverName } from "./driver.js"
import { eventually, shared, topicName } from "./Harness.js"

const Step = Schema.Struct({ n: Schema.Int })

/** Nothing of this process runs, not even its timers. */
const suspend = (millis: number) =>
  Effect.sync(() => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis))

describe("a process that was suspended for longer than its session", () => {
  it.scopedLive(
    "rule 12: starts nothing of what may be another's when it wakes up, and goes on when it has joined again",
    () =>
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = Topic.envelope(topicName(), Step, { eventType: () => "Step", partitions: 4 })
        const aggregates = 50
        const each = 20
        const started: Array<{ readonly at: number; readonly partition: number; readonly epoch: number }> = []
        const handled = new Set<string>()
        const last = new Map<string, number>()
        const skips: Array<string> = []
        const stops: Array<number> = []
        // The first time it never ends by itself.
        const stuck = Effect.suspend(() => stops.length > 0 ? Effect.void : Effect.never).pipe(
          Effect.onInterrupt(() => Effect.sync(() => stops.push(performance.now())))
        )
        yield* bus.subscribe(topic, ({ n }, { envelope: { aggregateId }, epoch, partition }) =>
          Effect.suspend(() => {
            if (aggregateId === "stuck") return stuck
            started.push({ at: performance.now(), partition, epoch })
            if (n > (last.get(aggregateId) ?? -1) + 1) skips.push(`${aggregateId}/${n}`)
            last.set(aggregateId, n)
            return Effect.delay(Effect.sync(() => handled.add(`${aggregateId}/${n}`)), "50 millis")
          }), { onExhausted: FailurePolicy.drop })
        yield* bus.publish(topic, { aggregateId: "stuck", payload: { n: 0 } })
        for (let n = 0; n < each; n++) {
          yield* bus.publishAll(
            topic,
            Array.from({ length: aggregates }, (_, i) => ({ aggregateId: `order-${i}`, payload: { n } }))
          )
        }
        yield* eventually("it is at work", () =>
          handled.size > 0 && new Set(started.map(({ partition }) => partition)).size === 4)
        const before = new Map(started.map(({ epoch, partition }) => [partition, epoch]))
        yield* suspend(7_000)
        const wokeAt = performance.now()
        yield* eventually("all are handled", () =>
          handled.size === aggregates * each)
        const late = started.filter(({ at, epoch, partition }) => at > wokeAt && epoch === before.get(partition))
        expect(late).toEqual([])
        // The session is over: nothing is waited for, though handlers have a deadline otherwise.
        expect(stops[0]! - wokeAt).toBeLessThan(2_000)
        expect(skips).toEqual([])
      }).pipe(
        Effect.provide(EventBus.layer.pipe(
          Layer.provide(
            KafkaTransport.layer({
              brokers: shared(),
              driver: driverName,
              sessionTimeout: "6 seconds",
              heartbeatInterval: "500 millis"
            })
          ),
          Layer.provide(EventBusConfig.layer({ drainDeadline: "3 seconds" }))
        ))
      ),
    60_000
  )
})
