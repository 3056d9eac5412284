import { EventBus, EventBusConfig, FailurePolicy, Topic } from "@effect-eventbus/core"
import { assert, describe, it } from "@effect/vitest"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { Effect, Layer, Schema } from "effect"
import { inject } from "vitest"
import { NatsTransport } from "../src/index.js"
import * as T from "./fixture.js"

const Step = Schema.Struct({ n: Schema.Int })

/** Nothing of this process runs, not even its timers. */
const suspend = (millis: number) =>
  Effect.sync(() => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis))

describe("A process that was suspended for longer than its lease", () => {
  it("rule 12: starts nothing of what may be another's when it wakes up, and goes on when it has the lease again", () =>
    T.run(
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = Topic.envelope(T.topic().name, Step, { eventType: () => "Step" })
        const aggregates = 50
        const each = 20
        const started: Array<{ readonly at: number; readonly epoch: number }> = []
        const handled = new Set<string>()
        const last = new Map<string, number>()
        const skips: Array<string> = []
        yield* bus.subscribe(topic, ({ n }, { envelope: { aggregateId }, epoch }) =>
          Effect.suspend(() => {
            started.push({ at: performance.now(), epoch })
            if (n > (last.get(aggregateId) ?? -1) + 1) skips.push(`${aggregateId}/${n}`)
            last.set(aggregateId, n)
            return Effect.delay(Effect.sync(() => handled.add(`${aggregateId}/${n}`)), "50 millis")
          }), { onExhausted: FailurePolicy.drop })
        for (let n = 0; n < each; n++) {
          yield* bus.publishAll(
            topic,
            Array.from({ length: aggregates }, (_, i) => ({ aggregateId: `order-${i}`, payload: { n } }))
          )
        }
        yield* T.waitUntil("it is at work", () => handled.size > 0)
        const before = started[0]!.epoch
        yield* suspend(3_000)
        const wokeAt = performance.now()
        yield* T.waitUntil("all are handled", () => handled.size === aggregates * each)
        assert.deepStrictEqual(started.filter(({ at, epoch }) => at > wokeAt && epoch === before), [])
        assert.deepStrictEqual(skips, [])
      }).pipe(
        Effect.provide(EventBus.layer.pipe(
          Layer.provide(NatsTransport.layer({ servers: inject("natsServers"), leaseDuration: "2 seconds" })),
          Layer.provide(EventBusConfig.layer({ drainDeadline: "1 second" }))
        ))
      )
    ))
})
