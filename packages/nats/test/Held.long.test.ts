import { EventBus, EventBusConfig, FailurePolicy, Topic } from "@effect-eventbus/core"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { inject } from "vitest"
import { NatsTransport } from "../src/index.js"
import * as T from "./fixture.js"

const Order = Schema.Struct({ n: Schema.Int })

/** Fewer than by default, so that it is quick. */
const maxUnfinished = 200

/**
 * An aggregate whose first message is held, and as many behind it as may be unfinished. Others are between the first of them, and behind the
 * last; all that are handled are counted.
 */
const scene = (partitions: number | undefined) =>
  Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const topic = Topic.envelope(T.topic().name, Order, { eventType: () => "Order", partitions })
    const handled = new Map<string, number>()
    const broken = { is: true }
    yield* bus.subscribe(topic, (_, { aggregateId }) =>
      Effect.suspend(() => {
        if (aggregateId === "held" && broken.is) return Effect.fail("broken")
        handled.set(aggregateId, (handled.get(aggregateId) ?? 0) + 1)
        return Effect.void
      }), { onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop }) })
    const publish = (aggregateId: string, count: number) =>
      bus.publishAll(topic, Array.from({ length: count }, (_, n) => ({ aggregateId, payload: { n } })))
    yield* publish("held", 50)
    for (let n = 0; n < 20; n++) yield* publish(`early-${n}`, 5)
    yield* publish("held", maxUnfinished)
    for (let n = 0; n < 20; n++) yield* publish(`late-${n}`, 5)
    const count = (prefix: string) =>
      [...handled].filter(([id]) => id.startsWith(prefix)).reduce((sum, [, count]) => sum + count, 0)
    return { broken, count, handled }
  })

describe("As many messages of one held aggregate as may be unfinished", () => {
  it(
    "stop their partition, which is said, and nothing else; all goes on when the aggregate does",
    () =>
      T.runRemembering((lines) => {
        const said = (what: string) => lines.filter((line) => line.includes(what)).length
        return Effect.gen(function*() {
          const [alone, partitioned] = yield* Effect.all([scene(undefined), scene(4)], { concurrency: 2 })
          yield* T.waitUntil(
            "what came before the bound is handled",
            () => alone.count("early") === 100 && partitioned.count("early") === 100
          )
          yield* T.waitUntil("both are said", () => said("Nothing more is read") === 2)
          assert.strictEqual(alone.count("late"), 0)
          // A quarter of them, more or less, is in its partition.
          assert.isAtLeast(partitioned.count("late"), 50)
          assert.isBelow(partitioned.count("late"), 100)
          alone.broken.is = partitioned.broken.is = false
          yield* T.waitUntil("all is handled", () =>
            [alone, partitioned].every(({ count }) => count("late") === 100 && count("held") === maxUnfinished + 50))
        }).pipe(Effect.provide(EventBus.layer.pipe(
          Layer.provide(NatsTransport.layer({ servers: inject("natsServers") })),
          Layer.provide(EventBusConfig.layer({ retryBase: "10 millis", retryCap: "200 millis", maxUnfinished }))
        )))
      }),
    60_000
  )
})
