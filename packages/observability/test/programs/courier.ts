/**
 * One station of messages' way. Without a transport to read from it publishes two, otherwise its handler fails twice and then publishes
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

const messages = 2

const program = Effect.gen(function*() {
  const next = Given.next === "" ? undefined : yield* busOf(Given.next)
  const publish = next === undefined
    ? Effect.void
    : next.publish(Orders, { aggregateId: "order-1", payload: Order.make() })
  if (Given.name === "") return yield* Effect.withSpan(Effect.repeatN(publish, messages - 1), "place an order")
  const bus = yield* busOf(Given.name)
  const over = yield* Deferred.make<void>()
  let handled = 0
  // The second waits in the mailbox until the first has been tried three times.
  yield* bus.subscribe(Orders, (_, { attempt }) =>
    attempt < 3
      ? Effect.fail(new Error(`attempt ${attempt}`))
      : Effect.tap(publish, () => ++handled === messages ? Deferred.succeed(over, undefined) : Effect.void), {
    onExhausted: FailurePolicy.drop
  })
  yield* Given.say({ isReady: true })
  yield* Effect.raceFirst(Deferred.await(over), Given.isOver)
})

const Collector = Otlp.layerJson({
  baseUrl: Given.collector,
  resource: { serviceName: Given.name === "" ? "publisher" : `reads ${Given.name}` },
  tracerExportInterval: "200 millis"
}).pipe(Layer.provide(FetchHttpClient.layer))

Given.run(Effect.provide(Effect.scoped(program), Collector))
