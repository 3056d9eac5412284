import { type EventBus, FailurePolicy } from "@effect-eventbus/core"
import { Effect } from "effect"
import { describe, expect, test } from "tstyche"
import { Clicks, Orders, Warehouse } from "./fixture.js"

const bus = {} as EventBus.Service
const ship = Effect.flatMap(Warehouse, (_) => _.ship({} as never))
const onExhausted = FailurePolicy.drop

describe("exhaustive", () => {
  test("a map of all of a handler's failures can be given to onError", () => {
    expect(Orders.toLayer).type.toBeCallableWith(() => ship, {
      onExhausted,
      onError: FailurePolicy.exhaustive({
        OutOfStock: FailurePolicy.retry,
        Refused: FailurePolicy.deadLetter("orders.refused")
      })
    })
  })

  test("a handler timeout may have a decision, too", () => {
    expect(Orders.toLayer).type.toBeCallableWith(() => ship, {
      onExhausted,
      onError: FailurePolicy.exhaustive({
        OutOfStock: FailurePolicy.retry,
        Refused: FailurePolicy.drop,
        HandlerTimeout: FailurePolicy.drop
      })
    })
  })

  test("a forgotten failure is an error", () => {
    expect(Orders.toLayer).type.not.toBeCallableWith(() => ship, {
      onExhausted,
      onError: FailurePolicy.exhaustive({ OutOfStock: FailurePolicy.retry })
    })
  })

  test("a failure that is forgotten in place is named", () => {
    // @ts-expect-error Property 'Refused' is missing in type '{ OutOfStock: FailurePolicy.Retry; }'
    Orders.toLayer(() => ship, { onExhausted, onError: FailurePolicy.exhaustive({ OutOfStock: FailurePolicy.retry }) })
    Clicks.toLayer(() => ship, {
      semantics: "at-least-once",
      onExhausted,
      // @ts-expect-error Property 'OutOfStock' is missing in type '{ Refused: FailurePolicy.Retry; }'
      onError: FailurePolicy.exhaustive({ Refused: FailurePolicy.retry })
    })
    bus.subscribe(Orders, (event) => Effect.tap(ship, () => Effect.log(event._tag)), {
      onExhausted,
      // @ts-expect-error Property 'Refused' is missing in type '{ OutOfStock: FailurePolicy.Retry; }'
      onError: FailurePolicy.exhaustive({ OutOfStock: FailurePolicy.retry })
    })
  })

  test("a failure that the handler no longer has is named, where the map is written in place", () => {
    Orders.toLayer(() => ship, {
      onExhausted,
      onError: FailurePolicy.exhaustive({
        OutOfStock: FailurePolicy.retry,
        Refused: FailurePolicy.drop,
        // @ts-expect-error Object literal may only specify known properties, and 'Stale' does not exist in type 'Cases<
        Stale: FailurePolicy.drop
      })
    })
    bus.subscribe(Orders, (event) => Effect.log(event._tag), {
      onExhausted,
      // @ts-expect-error Object literal may only specify known properties, and 'Stale' does not exist in type 'Cases<
      onError: FailurePolicy.exhaustive({ Stale: FailurePolicy.drop })
    })
  })

  test("a map that is written elsewhere fits each handler whose failures it has", () => {
    const decisions = FailurePolicy.exhaustive({
      OutOfStock: FailurePolicy.retry,
      Refused: FailurePolicy.drop,
      CarrierDown: FailurePolicy.retry
    })
    Orders.toLayer((event) => Effect.tap(ship, () => Effect.log(event._tag)), { onExhausted, onError: decisions })
    bus.subscribe(Orders, (event) => Effect.tap(ship, () => Effect.log(event._tag)), {
      onExhausted,
      onError: decisions
    })
    const incomplete = FailurePolicy.exhaustive({ OutOfStock: FailurePolicy.retry })
    // @ts-expect-error Type 'Refused' is not assignable to type
    Orders.toLayer((event) => Effect.tap(ship, () => Effect.log(event._tag)), { onExhausted, onError: incomplete })
  })

  test("a handler without failures needs no case", () => {
    expect(Orders.toLayer).type.toBeCallableWith(() => Effect.void, {
      onExhausted,
      onError: FailurePolicy.exhaustive({})
    })
  })

  test("failures without a tag have no exhaustive map", () => {
    expect(Orders.toLayer).type.not.toBeCallableWith(() => Effect.fail("a text"), {
      onExhausted,
      onError: FailurePolicy.exhaustive({})
    })
  })

  test("to hold for ever is no decision about one failure", () => {
    expect(FailurePolicy.exhaustive).type.not.toBeCallableWith({
      Refused: FailurePolicy.hold({ undecodable: FailurePolicy.drop })
    })
  })
})

describe("byTag", () => {
  test("needs no case for a failure", () => {
    expect(Orders.toLayer).type.toBeCallableWith(() => ship, {
      onExhausted,
      onError: FailurePolicy.byTag({ OutOfStock: FailurePolicy.drop })
    })
  })
})

describe("hold", () => {
  test("has to be told what happens to undecodable bytes", () => {
    expect(FailurePolicy.hold).type.not.toBeCallableWith()
    expect(FailurePolicy.hold).type.not.toBeCallableWith({})
    expect(FailurePolicy.hold).type.not.toBeCallableWith({ undecodable: FailurePolicy.retry })
    expect(FailurePolicy.hold).type.toBeCallableWith({ undecodable: FailurePolicy.deadLetter("bytes") })
  })
})
