import type { EventBus, EventBusError, Failure, Subscription, Transport } from "@effect-eventbus/core"
import { FailurePolicy } from "@effect-eventbus/core"
import { Effect } from "effect"
import type { Scope } from "effect"
import { describe, expect, test } from "tstyche"
import type { OutOfStock, Refused } from "./fixture.js"
import { Clicks, OrderPlaced, Orders, Warehouse } from "./fixture.js"

const bus = {} as EventBus.Service
const ship = Effect.flatMap(Warehouse, (_) => _.ship({} as never))
const onExhausted = FailurePolicy.deadLetter("orders.dead")

type Subscribing<F> = Effect.Effect<
  Subscription.Subscription<F>,
  EventBusError.SubscribeError,
  Warehouse | Scope.Scope
>

describe("subscribe", () => {
  test("to envelopes reports envelope failures with the handler's own", () => {
    expect(bus.subscribe(Orders, () => ship, { onExhausted })).type.toBe<
      Subscribing<Failure.EnvelopeFailure<OutOfStock | Refused>>
    >()
  })

  test("to envelopes at most once reports plain failures", () => {
    expect(bus.subscribe(Orders, () => ship, { semantics: "at-most-once" })).type.toBe<
      Subscribing<Failure.PlainFailure<OutOfStock | Refused>>
    >()
  })

  test("to plain messages reports plain failures", () => {
    expect(bus.subscribe(Clicks, () => ship)).type.toBe<Subscribing<Failure.PlainFailure<OutOfStock | Refused>>>()
    expect(bus.subscribe(Clicks, () => ship, { group: "clicks" })).type.toBe<
      Subscribing<Failure.PlainFailure<OutOfStock | Refused>>
    >()
  })

  test("to plain messages at least once reports envelope failures", () => {
    expect(bus.subscribe(Clicks, () => ship, { semantics: "at-least-once", onExhausted })).type.toBe<
      Subscribing<Failure.EnvelopeFailure<OutOfStock | Refused>>
    >()
  })

  test("at least once has no default for what happens when retrying ends", () => {
    expect(bus.subscribe).type.not.toBeCallableWith(Orders, () => Effect.void)
    expect(bus.subscribe).type.not.toBeCallableWith(Orders, () => Effect.void, {})
    expect(bus.subscribe).type.not.toBeCallableWith(Clicks, () => Effect.void, { semantics: "at-least-once" })
  })

  test("the two kinds of failure are told apart by their tags", () => {
    type Both = Failure.EnvelopeFailure | Failure.PlainFailure
    expect<Both["_tag"]>().type.toBe<"EnvelopeFailure" | "PlainFailure">()
    expect(Effect.catchTag(Effect.fail({} as Both), "EnvelopeFailure", () => Effect.void)).type.toBe<
      Effect.Effect<void, Failure.PlainFailure>
    >()
    expect<Failure.EnvelopeFailure>().type.not.toBeAssignableFrom<Failure.PlainFailure>()
  })
})

type Publishing = Effect.Effect<Transport.Receipt, EventBusError.PublishError>

describe("publish", () => {
  test("takes an event of the topic with its aggregate id", () => {
    expect(
      bus.publish(Orders, { aggregateId: "order-42", eventVersion: 1, payload: new OrderPlaced({ total: 12 }) })
    ).type.toBe<Publishing>()
  })

  test("takes no event without an aggregate id, and none of another topic", () => {
    expect(bus.publish).type.not.toBeCallableWith(Orders, { payload: new OrderPlaced({ total: 12 }) })
    expect(bus.publish).type.not.toBeCallableWith(Orders, { aggregateId: "order-42", payload: { total: 12 } })
    expect(bus.publish).type.not.toBeCallableWith(Orders, { body: "text" })
  })

  test("takes bytes or text with headers for a topic of plain messages", () => {
    expect(bus.publish(Clicks, { body: new Uint8Array(3), headers: { page: "/" } })).type.toBe<Publishing>()
    expect(bus.publish(Clicks, { body: "text", key: "user-1" })).type.toBe<Publishing>()
    expect(bus.publish).type.not.toBeCallableWith(Clicks, {
      aggregateId: "order-42",
      payload: new OrderPlaced({ total: 12 })
    })
  })

  test("of several tells which ones failed", () => {
    expect(bus.publishAll(Clicks, [{ body: "a" }, { body: "b" }])).type.toBe<
      Effect.Effect<ReadonlyArray<Transport.Receipt>, EventBus.PublishAllFailed>
    >()
  })
})
