/** What the transport tells the observer that is provided below it. */
import { EventBus, FailurePolicy, Observer, Topic } from "@effect-eventbus/core"
import { NatsTransport } from "@effect-eventbus/nats"
import { eventually } from "@effect-eventbus/testing/Eventually"
import { expect, it } from "@effect/vitest"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { Effect, Layer, Schema } from "effect"
import { inject } from "vitest"

const servers = inject("natsServers")
const Order = Schema.TaggedStruct("Placed", { n: Schema.Int })

for (const semantics of ["at-least-once", "at-most-once"] as const) {
  it.live(`the connection, the assignment and each settlement that the server has confirmed, ${semantics}`, () => {
    const events: Array<Observer.Event> = []
    const orders = Topic.envelope(`test.observed.${semantics}.${process.pid}`, Order)
    const settled = () => events.flatMap((event) => event._tag === "Settled" ? [event] : [])
    const count = () => settled().reduce((sum, { count }) => sum + count!, 0)
    const messages = [1, 2, 3].map((n) => ({ aggregateId: "a", payload: { _tag: "Placed" as const, n } }))
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      expect(events).toMatchObject([{ _tag: "Connected", transport: "nats" }])
      let handled = 0
      const handler = () => Effect.sync(() => handled++)
      yield* semantics === "at-most-once"
        ? bus.subscribe(orders, handler, { semantics })
        : bus.subscribe(orders, handler, { onExhausted: FailurePolicy.drop })
      yield* bus.publishAll(orders, messages)
      yield* eventually("all is handled and settled", () => handled === 3 && count() >= 3)
      const [assigned] = events.filter((event) => event._tag === "Assigned")
      expect(assigned).toMatchObject({ topic: orders.name, group: "group", partition: 0 })
      for (const one of settled()) expect(one).toMatchObject({ ...assigned, _tag: "Settled" })
    }).pipe(
      Effect.scoped,
      Effect.provide(EventBus.layer.pipe(
        Layer.provide(NatsTransport.layer({ servers })),
        Layer.provide(Observer.layer({ event: (event) => void events.push(event) }))
      )),
      Effect.ensuring(Effect.sync(() => {
        expect(events.at(-1)).toMatchObject({ _tag: "Disconnected", transport: "nats", isClosed: true })
        // Each message once.
        expect(count()).toBe(3)
      }))
    )
  }, 30_000)
}
