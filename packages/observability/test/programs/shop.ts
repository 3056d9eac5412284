/**
 * A service that has something of everything to show: it publishes and handles, some messages fail, some handlers crash, and some
 * messages are dead-lettered. It says on which port it answers Prometheus, and ends when its standard input does.
 */
import { EventBus, EventBusConfig, FailurePolicy, Topic } from "@effect-eventbus/core"
import { Metrics, Prometheus } from "@effect-eventbus/observability"
import { Effect, Layer, Schedule, Schema } from "effect"
import * as Given from "./given.js"

const Order = Schema.TaggedStruct("Order", { n: Schema.Number })
const Orders = Topic.envelope(Given.topic, Order, { partitions: 2 })
const Dead = Topic.envelope(`${Given.topic}.dead`, Order)

const handle = ({ n }: typeof Order.Type, { attempt }: { readonly attempt: number }) =>
  n % 5 === 1 && attempt === 1
    ? Effect.die("crashed")
    : n % 5 === 2 && attempt === 1
    ? Effect.fail("busy")
    : n % 5 === 3
    ? Effect.fail("broken")
    : Effect.sleep("30 millis")

const program = Effect.gen(function*() {
  const bus = yield* EventBus.EventBus
  // The topic of the dead letters is there before the first.
  yield* bus.subscribe(Dead, () => Effect.void, { onExhausted: FailurePolicy.drop })
  yield* bus.subscribe(Orders, handle, { onExhausted: FailurePolicy.deadLetter(Dead.name) })
  const { port } = yield* Prometheus.PrometheusServer
  yield* Given.say({ port })
  let n = 0
  const publish = Effect.suspend(() =>
    bus.publish(Orders, { aggregateId: `order-${n % 7}`, payload: Order.make({ n: n++ }) })
  )
  yield* Effect.raceFirst(Effect.repeat(publish, Schedule.spaced("20 millis")), Given.isOver)
})

const Live = EventBus.layer.pipe(
  Layer.provide(Given.transport(Given.name)),
  Layer.provide(EventBusConfig.layer({ retryBase: "10 millis", retryTimes: 1, restartBase: "10 millis" })),
  Layer.provide(Metrics.layer({ clientId: "shop", checkOrder: true })),
  Layer.merge(Prometheus.layerServer({ port: 0 }))
)

Given.run(Effect.scoped(Effect.provide(program, Live)))
