/** The subscriber: handles the events of each order in order, and fails now and then, as the world does. */
import { type Delivery, EventBus, FailurePolicy } from "@effect-eventbus/core"
import { Data, Effect } from "effect"
import { Ledger } from "./Ledger.js"
import type { OrderEvent, topics } from "./Orders.js"

/** The warehouse is busy: trying again helps. */
class WarehouseBusy extends Data.TaggedError("WarehouseBusy") {}

/** The bank said no: trying again does not help. */
class PaymentDeclined extends Data.TaggedError("PaymentDeclined")<{ readonly orderId: string }> {}

/** The same run has the same troubles: they follow from the order and the event. */
const trouble = (orderId: string, number: number): number => {
  let hash = number + 1
  for (let i = 0; i < orderId.length; i++) hash = Math.imul(hash ^ orderId.charCodeAt(i), 0x01000193)
  hash ^= hash >>> 15
  return (Math.imul(hash, 0x2c1b3c6d) >>> 0) % 1_000
}

/** What is wrong with this attempt: nothing, mostly. */
const verdict = (luck: number, attempt: number): "fine" | "declined" | "busy" | "bug" => {
  if (luck < 4) return "declined"
  if (luck < 20) return attempt <= 1 + luck % 3 ? "busy" : "fine"
  return luck < 32 && attempt === 1 ? "bug" : "fine"
}

type Slowness = (orderId: string) => Effect.Effect<void>

const fulfil = (slowness: Slowness) => (event: OrderEvent, { aggregateId, attempt }: Delivery.EnvelopeDelivery) =>
  Effect.gen(function*() {
    const ledger = yield* Ledger
    ledger.started(aggregateId, event.number, event.at, attempt)
    yield* slowness(aggregateId)
    const luck = trouble(aggregateId, event.number)
    if (luck < 100) yield* Effect.sleep("2 millis")
    const outcome = verdict(luck, attempt)
    if (outcome === "fine") return ledger.handled(aggregateId, event.number)
    ledger.paused(aggregateId)
    if (outcome === "declined") return yield* new PaymentDeclined({ orderId: aggregateId })
    if (outcome === "busy") return yield* new WarehouseBusy()
    // A bug is no failure that anybody planned for: the handler throws, and its actor is started again.
    throw new Error("a bug in the handler")
  })

export const subscribe = Effect.fnUntraced(function*(
  { dead, orders }: ReturnType<typeof topics>,
  slowness: Slowness = () => Effect.void
) {
  const bus = yield* EventBus.EventBus
  const ledger = yield* Ledger
  yield* bus.subscribe(dead, () => Effect.sync(ledger.letterArrived), { onExhausted: FailurePolicy.drop })
  return yield* bus.subscribe(orders, fulfil(slowness), {
    onExhausted: FailurePolicy.deadLetter(dead),
    // Every typed failure of the handler has a decision: forgetting one does not compile.
    onError: FailurePolicy.exhaustive({
      WarehouseBusy: FailurePolicy.retry,
      PaymentDeclined: FailurePolicy.deadLetter(dead)
    }),
    onFailure: ({ aggregateId }) => Effect.sync(() => ledger.deadLettered(aggregateId ?? ""))
  })
})
