import { EventBus, FailurePolicy, MemoryTransport, Topic, TransportConfig } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { NatsTransport } from "@effect-eventbus/nats"
import { Metrics, Tracing } from "@effect-eventbus/observability"
import { Console, Data, Effect, Layer, Schema } from "effect"

// The events of an order, and the topic that carries them.
class OrderPlaced extends Schema.TaggedClass<OrderPlaced>()("OrderPlaced", { total: Schema.Number }) {}
class OrderShipped extends Schema.TaggedClass<OrderShipped>()("OrderShipped", { carrier: Schema.String }) {}

const Orders = Topic.envelope("orders", Schema.Union(OrderPlaced, OrderShipped))
const Clicks = Topic.plain("clicks")

class CarrierDown extends Data.TaggedError("CarrierDown") {}

// A subscription is a Layer. Events of one order are handled one after the other; orders go in parallel.
const OrdersLive = Orders.toLayer(
  (event, { aggregateId, attempt }) =>
    event._tag === "OrderShipped" && attempt === 1
      ? Effect.fail(new CarrierDown()) // retried in place; the order's later events wait
      : Console.log(`${aggregateId}: ${event._tag}`),
  { onExhausted: FailurePolicy.deadLetter("orders.dead") } // no default: you decide
)

const ClicksLive = Clicks.toLayer((body) => Console.log(`a click on ${new TextDecoder().decode(body)}`))

const program = Effect.gen(function*() {
  const bus = yield* EventBus.EventBus
  yield* bus.publish(Orders, { aggregateId: "order-42", payload: new OrderPlaced({ total: 12 }) })
  yield* bus.publish(Orders, { aggregateId: "order-42", payload: new OrderShipped({ carrier: "bicycle" }) })
  yield* bus.publish(Clicks, { body: "/pricing", headers: { referrer: "/" } })
  yield* Effect.sleep("1 second") // a service would run on: Layer.launch(OrdersLive)
})

// EVENTBUS_TRANSPORT=memory|kafka|nats chooses, memory by default; nothing else in the program changes.
const BusLive = EventBus.layer.pipe(
  Layer.provide(TransportConfig.layer({
    memory: MemoryTransport.driver,
    kafka: KafkaTransport.driver,
    nats: NatsTransport.driver
  }, { default: "memory" })),
  Layer.provide(Metrics.layer()), // what happens, on Effect's Metric
  Layer.provide(Tracing.layer()) // spans, where the program has a Tracer
)

const AppLive = Layer.merge(OrdersLive, ClicksLive).pipe(Layer.provideMerge(BusLive))

await Effect.runPromise(program.pipe(Effect.provide(AppLive)))
