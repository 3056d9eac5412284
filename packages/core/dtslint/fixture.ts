import { Topic } from "@effect-eventbus/core"
import { Context, Schema } from "effect"
import type { Effect } from "effect"

export class OrderPlaced extends Schema.TaggedClass<OrderPlaced>()("OrderPlaced", { total: Schema.Number }) {}
export class OrderShipped extends Schema.TaggedClass<OrderShipped>()("OrderShipped", { carrier: Schema.String }) {}
export type OrderEvent = OrderPlaced | OrderShipped

export class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { sku: Schema.String }) {}
export class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}

/** What the handlers of the tests need. */
export class Warehouse extends Context.Tag("Warehouse")<
  Warehouse,
  { readonly ship: (event: OrderEvent) => Effect.Effect<void, OutOfStock | Refused> }
>() {}

export const Orders = Topic.envelope("orders", Schema.Union(OrderPlaced, OrderShipped))
export const Clicks = Topic.plain("clicks")
