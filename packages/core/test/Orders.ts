import { EventBus, EventBusConfig, FailurePolicy, MemoryBroker, MemoryTransport, Topic } from "@effect-eventbus/core"
import { Data, Effect, Layer, Schema } from "effect"

export class Placed extends Schema.TaggedClass<Placed>()("Placed", { n: Schema.Number }) {}
export class Shipped extends Schema.TaggedClass<Shipped>()("Shipped", { at: Schema.Date }) {}
export class Bad extends Data.TaggedError("Bad")<{ readonly n?: number }> {}
export class Worse extends Data.TaggedError("Worse") {}

export const Orders = Topic.envelope("orders", Schema.Union(Placed, Shipped), { partitions: 1 })
export const Dead = Topic.envelope("dead", Schema.Union(Placed, Shipped), { partitions: 1 })
export const Clicks = Topic.plain("clicks", { partitions: 1 })
export const RawOrders = Topic.plain("orders", { partitions: 1 })

export const provideBus = (config: EventBusConfig.Options = {}, broker: MemoryBroker.Options = {}) =>
  Effect.provide(
    EventBus.layer.pipe(
      Layer.provideMerge(MemoryTransport.layerBroker),
      Layer.provideMerge(MemoryBroker.layer(broker)),
      Layer.provideMerge(EventBusConfig.layer(config))
    )
  )

export const placed = (aggregateId: string, n: number) => ({ aggregateId, payload: new Placed({ n }) })
export const text = (bytes: Uint8Array | null) => new TextDecoder().decode(bytes ?? new Uint8Array(0))
export const dropping = { onExhausted: FailurePolicy.drop }

/** Records what a handler gets; `act` decides what it does. */
export const recorder = <E = never>(
  act: (n: number, attempt: number) => Effect.Effect<void, E> = () => Effect.void
) => {
  const started: Array<number> = []
  const ended: Array<number> = []
  const handler = (event: Placed | Shipped, delivery: { readonly attempt: number }) =>
    Effect.suspend(() => {
      const n = event._tag === "Placed" ? event.n : -1
      started.push(n)
      return Effect.map(act(n, delivery.attempt), () => void ended.push(n))
    })
  return { started, ended, handler }
}
