import { FailurePolicy } from "@effect-eventbus/core"
import { Effect } from "effect"
import { describe, expect, test } from "tstyche"
import { Orders, Warehouse } from "./fixture.js"

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

  test("a forgotten failure is an error where the map is written in place", () => {
    // @ts-expect-error Type 'Refused' is not assignable to type
    Orders.toLayer(() => ship, { onExhausted, onError: FailurePolicy.exhaustive({ OutOfStock: FailurePolicy.retry }) })
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
