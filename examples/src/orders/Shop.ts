/** The publisher: places orders, takes payments, ships. */
import { EventBus } from "@effect-eventbus/core"
import { Effect } from "effect"
import { Ledger } from "./Ledger.js"
import { type OrderEvent, OrderPaid, OrderPlaced, OrderShipped, type topics } from "./Orders.js"

const batchSize = 100

const eventOf = (orderId: string, number: number): OrderEvent => {
  const at = performance.now()
  switch (number % 3) {
    case 0:
      return new OrderPlaced({ number, at, total: 10 + orderId.length })
    case 1:
      return new OrderPaid({ number, at, method: "card" })
    default:
      return new OrderShipped({ number, at, carrier: "bicycle" })
  }
}

export const publish = Effect.fnUntraced(function*(
  { orders }: ReturnType<typeof topics>,
  options: { readonly events: number; readonly aggregates: number },
  /** Events per second; undefined: as fast as possible. */
  rate?: number
) {
  const bus = yield* EventBus.EventBus
  const ledger = yield* Ledger
  for (let from = 0; from < options.events; from += batchSize) {
    const count = Math.min(batchSize, options.events - from)
    yield* bus.publishAll(
      orders,
      Array.from({ length: count }, (_, i) => {
        const orderId = `order-${(from + i) % options.aggregates}`
        return { aggregateId: orderId, payload: eventOf(orderId, Math.floor((from + i) / options.aggregates)) }
      })
    )
    ledger.published(count)
    if (rate !== undefined) yield* Effect.sleep(count / rate * 1_000)
  }
})
