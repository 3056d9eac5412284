/** The domain: orders, and the events that happen to them. */
import { Topic } from "@effect-eventbus/core"
import { Schema } from "effect"

/** The how-manieth event of its order this is, from 0, and when it was published (ms of a monotonic clock): for the report. */
const event = { number: Schema.Int, at: Schema.Number }

export class OrderPlaced extends Schema.TaggedClass<OrderPlaced>()("OrderPlaced", {
  ...event,
  total: Schema.Number
}) {}

export class OrderPaid extends Schema.TaggedClass<OrderPaid>()("OrderPaid", {
  ...event,
  method: Schema.Literal("card", "invoice")
}) {}

export class OrderShipped extends Schema.TaggedClass<OrderShipped>()("OrderShipped", {
  ...event,
  carrier: Schema.String
}) {}

export const OrderEvent = Schema.Union(OrderPlaced, OrderPaid, OrderShipped)

export type OrderEvent = typeof OrderEvent.Type

/** The topics have the run in their names, so that runs on a shared broker don't meet. */
export const topics = (run: string) => ({
  orders: Topic.envelope(`orders-${run}`, OrderEvent),
  dead: Topic.envelope(`orders-${run}.dead`, OrderEvent)
})
