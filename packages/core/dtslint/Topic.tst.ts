import type { Delivery, EventBus, EventBusError } from "@effect-eventbus/core"
import { FailurePolicy, Topic } from "@effect-eventbus/core"
import { Effect, Schema } from "effect"
import type { Layer, Scope } from "effect"
import { describe, expect, test } from "tstyche"
import type { OrderEvent } from "./fixture.js"
import { Clicks, OrderPlaced, Orders, Warehouse } from "./fixture.js"

const Untagged = Schema.Struct({ total: Schema.NumberFromString })
const needsWarehouse = Effect.flatMap(Warehouse, (_) => _.ship({} as never))

describe("envelope", () => {
  test("takes the event type from a tagged payload", () => {
    expect(Topic.envelope).type.toBeCallableWith("orders", OrderPlaced)
    expect(Topic.envelope).type.toBeCallableWith("orders", OrderPlaced, { partitions: 12 })
    expect(Topic.envelope).type.toBeCallableWith("orders", OrderPlaced, { eventType: () => "order.placed" })
  })

  test("has to be told the event type of an untagged payload", () => {
    expect(Topic.envelope).type.not.toBeCallableWith("totals", Untagged)
    expect(Topic.envelope).type.not.toBeCallableWith("totals", Untagged, { partitions: 12 })
    expect(Topic.envelope).type.toBeCallableWith("totals", Untagged, { eventType: () => "total" })
  })

  test("says in one short message that the event type of an untagged payload is missing", () => {
    // @ts-expect-error Expected 3 arguments, but got 2
    Topic.envelope("totals", Untagged)
    // @ts-expect-error Property 'eventType' is missing in type '{ partitions: number; }'
    Topic.envelope("totals", Untagged, { partitions: 12 })
    // @ts-expect-error Expected 3 arguments, but got 2
    Topic.envelope("either", Schema.Union(OrderPlaced, Untagged))
  })

  test("knows the payload and how it is encoded", () => {
    expect(Topic.envelope("totals", Untagged, { eventType: () => "total" })).type.toBe<
      Topic.EnvelopeTopic<{ readonly total: number }, { readonly total: string }>
    >()
  })

  test("takes no schema that needs services", () => {
    const needs = {} as Schema.Schema<OrderPlaced, unknown, Warehouse>
    expect(Topic.envelope).type.not.toBeCallableWith("orders", needs)
  })
})

describe("toLayer of envelopes", () => {
  test("has the failures of subscribing and what the handler needs in its type", () => {
    expect(Orders.toLayer(() => needsWarehouse, { onExhausted: FailurePolicy.drop })).type.toBe<
      Layer.Layer<never, EventBusError.SubscribeError, EventBus.EventBus | Warehouse>
    >()
  })

  test("provides the scope of a handler", () => {
    const scoped = Effect.addFinalizer(() => Effect.void)
    expect(scoped).type.toBe<Effect.Effect<void, never, Scope.Scope>>()
    expect(Orders.toLayer(() => scoped, { onExhausted: FailurePolicy.drop })).type.toBe<
      Layer.Layer<never, EventBusError.SubscribeError, EventBus.EventBus>
    >()
  })

  test("gives its handler the decoded event and the delivery with its envelope", () => {
    Orders.toLayer((event, delivery) => {
      expect(event).type.toBe<OrderEvent>()
      expect(delivery).type.toBe<Delivery.EnvelopeDelivery>()
      return Effect.void
    }, { onExhausted: FailurePolicy.drop })
  })

  test("has no default for what happens when retrying ends", () => {
    expect(Orders.toLayer).type.not.toBeCallableWith(() => Effect.void)
    expect(Orders.toLayer).type.not.toBeCallableWith(() => Effect.void, {})
    expect(Orders.toLayer).type.not.toBeCallableWith(() => Effect.void, { semantics: "at-least-once" })
    expect(Orders.toLayer).type.not.toBeCallableWith(() => Effect.void, { onExhausted: undefined })
  })

  test("asks for no policy where messages are handled at most once", () => {
    expect(Orders.toLayer).type.toBeCallableWith(() => Effect.void, { semantics: "at-most-once" })
  })

  test("takes no policy that could not be followed", () => {
    // @ts-expect-error 'onExhausted' does not exist
    Orders.toLayer(() => Effect.void, { semantics: "at-most-once", onExhausted: FailurePolicy.drop })
  })
})

describe("toLayer of plain messages", () => {
  test("asks for no policy", () => {
    expect(Clicks.toLayer).type.toBeCallableWith(() => Effect.void)
    expect(Clicks.toLayer).type.toBeCallableWith(() => Effect.void, { group: "clicks" })
    expect(Clicks.toLayer).type.toBeCallableWith(() => Effect.void, { semantics: "at-most-once" })
  })

  test("has no default for what happens when retrying ends", () => {
    expect(Clicks.toLayer).type.not.toBeCallableWith(() => Effect.void, { semantics: "at-least-once" })
    expect(Clicks.toLayer).type.toBeCallableWith(() => Effect.void, {
      semantics: "at-least-once",
      onExhausted: FailurePolicy.drop
    })
  })

  test("gives its handler the bytes", () => {
    Clicks.toLayer((body, delivery) => {
      expect(body).type.toBe<Uint8Array>()
      expect(delivery).type.toBe<Delivery.Delivery>()
      return Effect.void
    })
  })

  test("has the failures of subscribing and what the handler needs in its type", () => {
    expect(Clicks.toLayer(() => needsWarehouse)).type.toBe<
      Layer.Layer<never, EventBusError.SubscribeError, EventBus.EventBus | Warehouse>
    >()
  })
})
