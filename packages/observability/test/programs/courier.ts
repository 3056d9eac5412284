/**
 * One station of a message's way. Without a transport to read from it publishes one, otherwise its handler fails twice and then publishes
 * to the next transport, if there is one. Its spans go to a collector by OTLP.
 */
import { EventBus, EventBusConfig, FailurePolicy, Topic } from "@effect-eventbus/core"
import { Tracing } from "@effect-eventbus/observability"
import { Otlp } from "@effect/opentelemetry"
import { FetchHttpClient } from "@effect/platform"
import { Deferred, Effect, Layer, Schema } from "effect"
import * as Given from "./given.js"

const Order = Schema.TaggedStruct("Order", {})
const Orders = Topic.envelope(Given.topic, Order, { partitions: 1 })

const busOf = (transport: string) =>
  EventBus.layer.pipe(
    Layer.provide(Given.transport(transport)),
    Layer.provide(EventBusConfig.layer({ retryBase: "50 millis" })),
    Layer.provide(Tracing.layer({ relation: "child" })),
    Layer.build,
    Effect.flatMap((context) => Effect.provide(EventBus.EventBus, context))
  )

const program = Effect.gen(function*() {
  const next = Given.next === "" ? undefined : yield* busOf(Given.next)
  const publish = next === undefined ? Effect.void : next.publish(Orders, { aggregateId: "order-1", payload: Order.make() })
  if (Given.name === "") return yield* publish
  const bus = yield* busOf(Given.name)
  const handled = yield* Deferred.make<void>()
  // What comes behind the first waits in the mailbox of the same aggregate.
  yield* bus.subscribe(
    Orders,
    (_, { attempt }) =>
      attempt < 3
        ? Effect.fail(new Error(`attempt ${attempt}`))
        : publish.pipe(Effect.zipRight(Deferred.succeed(handled, undefined))),
    { onExhausted: FailurePolicy.drop }
  )
  yield* Given.say({ isReady: true })
  yield* Effect.raceFirst(Deferred.await(handled), Given.isOver)
})

const Collector = Otlp.layerJson({
  baseUrl: Given.collector,
  resource: { serviceName: Given.name === "" ? "publisher" : `reads ${Given.name}` },
  tracerExportInterval: "200 millis"
}).pipe(Layer.provide(FetchHttpClient.layer))

Given.run(Effect.provide(Effect.scoped(program), Collector))
