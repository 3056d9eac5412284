/** What the transport tells the observer that is provided below it. */
import { EventBus, FailurePolicy, Observer, Topic } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { eventually } from "@effect-eventbus/testing/Eventually"
import { expect, it } from "@effect/vitest"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { Effect, Layer, Schema } from "effect"
import { inject } from "vitest"

const brokers = inject("kafkaBrokers")
const Order = Schema.TaggedStruct("Placed", { n: Schema.Int })

it.live("the connection, the assignment and each commit that the broker has confirmed", () => {
  const events: Array<Observer.Event> = []
  const name = `observed-${process.pid}-${Date.now()}`
  const orders = Topic.envelope(name, Order, { partitions: 1 })
  const settled = () => events.flatMap((event) => event._tag === "Settled" ? [event] : [])
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    expect(events).toMatchObject([{ _tag: "Connected", transport: "kafka" }])
    yield* bus.subscribe(orders, () => Effect.void, { onExhausted: FailurePolicy.drop })
    const messages = [1, 2, 3].map((n) => ({ aggregateId: "a", payload: { _tag: "Placed" as const, n } }))
    yield* bus.publishAll(orders, messages)
    yield* eventually("all is settled", () => settled().at(-1)?.position === 3)
    const [assigned] = events.filter((event) => event._tag === "Assigned")
    expect(assigned).toMatchObject({ topic: name, group: "group", partition: 0 })
    for (const one of settled()) expect(one).toMatchObject({ ...assigned, _tag: "Settled" })
    const rebalanced = () => events.filter((event) => event._tag === "Rebalanced")
    const [first] = rebalanced()
    expect(first).toEqual({ _tag: "Rebalanced", transport: "kafka", topic: name, group: "group" })
    const before = rebalanced().length
    yield* Effect.scoped(Effect.gen(function*() {
      const other = yield* Layer.build(EventBus.layer.pipe(Layer.provide(KafkaTransport.layer({ brokers }))))
      yield* Effect.provide(
        Effect.flatMap(
          EventBus.EventBus,
          (bus) => bus.subscribe(orders, () => Effect.void, { onExhausted: FailurePolicy.drop })
        ),
        other
      )
      yield* eventually(
        "another member's join is a rebalance for the first one, too",
        () => rebalanced().length > before
      )
    }))
  }).pipe(
    Effect.scoped,
    Effect.provide(EventBus.layer.pipe(
      Layer.provide(KafkaTransport.layer({ brokers, commitInterval: "50 millis" })),
      Layer.provide(Observer.layer({ event: (event) => void events.push(event) }))
    )),
    Effect.ensuring(
      Effect.sync(() =>
        expect(events.at(-1)).toMatchObject({ _tag: "Disconnected", transport: "kafka", isClosed: true })
      )
    )
  )
}, 30_000)
