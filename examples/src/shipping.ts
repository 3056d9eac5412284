// The handlers that docs/testing.md tests: an order that was paid is shipped, and its customer is told.
import { EventBus, FailurePolicy, Topic } from "@effect-eventbus/core"
import { Context, Data, Effect, Layer, Schema } from "effect"

export class OrderPaid extends Schema.TaggedClass<OrderPaid>()("OrderPaid", { parcels: Schema.Int }) {}
export class OrderShipped extends Schema.TaggedClass<OrderShipped>()("OrderShipped", { parcels: Schema.Int }) {}

export const Payments = Topic.envelope("payments", OrderPaid)
export const DeadPayments = Topic.envelope("payments.dead", OrderPaid)
export const Shipments = Topic.envelope("shipments", OrderShipped)

export class CarrierDown extends Data.TaggedError("CarrierDown") {}
export class UnknownAddress extends Data.TaggedError("UnknownAddress")<{ readonly orderId: string }> {}

export class Carrier extends Context.Tag("Carrier")<Carrier, {
  readonly pickUp: (orderId: string, parcels: number) => Effect.Effect<void, CarrierDown | UnknownAddress>
}>() {}

export const ShippingLive = Layer.unwrapEffect(Effect.gen(function*() {
  const bus = yield* EventBus.EventBus
  const carrier = yield* Carrier
  return Payments.toLayer(
    ({ parcels }, { aggregateId, envelope }) =>
      Effect.gen(function*() {
        yield* carrier.pickUp(aggregateId, parcels)
        yield* bus.publish(Shipments, {
          aggregateId,
          payload: new OrderShipped({ parcels }),
          // The same at each attempt, so that a subscriber that gets the event twice can tell.
          eventId: `${envelope.eventId}/shipped`
        })
      }),
    {
      onExhausted: FailurePolicy.deadLetter(DeadPayments),
      onError: FailurePolicy.byTag(
        { CarrierDown: FailurePolicy.retry, UnknownAddress: FailurePolicy.deadLetter(DeadPayments) },
        // A publish that failed: retried after an outage, and not where no try can help.
        FailurePolicy.retryable(FailurePolicy.deadLetter(DeadPayments))
      )
    }
  )
}))
