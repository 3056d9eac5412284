import type { EventBusError, Failure, Subscription } from "@effect-eventbus/core"
import { type EventBus, FailurePolicy } from "@effect-eventbus/core"
import { Context, Effect, Schedule } from "effect"
import type { Layer, Scope } from "effect"
import { describe, expect, test } from "tstyche"
import type { OutOfStock, Refused } from "./fixture.js"
import { Clicks, Orders, Warehouse } from "./fixture.js"

class Alarm extends Context.Tag("Alarm")<Alarm, { readonly ring: Effect.Effect<void> }>() {}

const bus = {} as EventBus.Service
const ship = Effect.flatMap(Warehouse, (_) => _.ship({} as never))
const ring = Effect.flatMap(Alarm, (_) => _.ring)
const onExhausted = FailurePolicy.drop

describe("onFailure", () => {
  test("is given the failure of its semantics", () => {
    const onFailure = (failure: Failure.PlainFailure<OutOfStock | Refused>) => Effect.succeed(failure)
    Clicks.toLayer(() => ship, {
      onFailure: (failure) => {
        expect(failure).type.toBe<Failure.PlainFailure<OutOfStock | Refused>>()
        return onFailure(failure)
      }
    })
    bus.subscribe(Clicks, (body) => Effect.succeed(body), {
      onFailure: (failure) => {
        expect(failure).type.toBe<Failure.PlainFailure<never>>()
        return Effect.void
      }
    })
    bus.subscribe(Orders, () => ship, {
      semantics: "at-most-once",
      onFailure: (failure) => {
        expect(failure).type.toBe<Failure.PlainFailure<OutOfStock | Refused>>()
        return Effect.void
      }
    })
    bus.subscribe(Clicks, () => ship, {
      semantics: "at-least-once",
      onExhausted,
      onFailure: (failure) => {
        expect(failure).type.toBe<Failure.EnvelopeFailure<OutOfStock | Refused>>()
        return Effect.void
      }
    })
  })

  test("may need what the handler does not need", () => {
    expect(Orders.toLayer(() => ship, { onExhausted, onFailure: () => ring })).type.toBe<
      Layer.Layer<never, EventBusError.SubscribeError, EventBus.EventBus | Warehouse | Alarm>
    >()
    expect(Clicks.toLayer(() => Effect.void, { onFailure: () => ring })).type.toBe<
      Layer.Layer<never, EventBusError.SubscribeError, EventBus.EventBus | Alarm>
    >()
  })
})

describe("onError and retry", () => {
  test("are given the handler's failures", () => {
    bus.subscribe(Orders, () => ship, {
      onExhausted,
      onError: (error) => {
        expect(error).type.toBe<OutOfStock | Refused | EventBusError.HandlerTimeout>()
        return FailurePolicy.retry
      },
      retry: Schedule.recurWhile((error) => {
        expect(error).type.toBe<OutOfStock | Refused | EventBusError.HandlerTimeout>()
        return true
      })
    })
  })
})

describe("a schedule for any error", () => {
  test("leaves a handler without failures without failures", () => {
    expect(bus.subscribe(Orders, () => Effect.void, { onExhausted, retry: Schedule.recurs(3) })).type.toBe<
      Effect.Effect<
        Subscription.Subscription<Failure.EnvelopeFailure<never>>,
        EventBusError.SubscribeError,
        Scope.Scope
      >
    >()
  })
})

describe("a mistake in subscribe is told by its own words", () => {
  test("where the policy is missing", () => {
    // @ts-expect-error Property 'onExhausted' is missing in type '{}' but required in type 'AtLeastOnceOptions<
    bus.subscribe(Orders, () => ship, {})
    // @ts-expect-error Property 'onExhausted' is missing in type '{ group: string; }'
    bus.subscribe(Orders, (event) => Effect.tap(ship, () => Effect.log(event._tag)), { group: "orders" })
    // @ts-expect-error Property 'onExhausted' is missing in type '{ semantics: "at-least-once"; }'
    bus.subscribe(Clicks, () => ship, { semantics: "at-least-once" })
    // @ts-expect-error Expected 3 arguments, but got 2
    bus.subscribe(Orders, () => ship)
  })

  test("where the policy is missing in a layer", () => {
    // @ts-expect-error Property 'onExhausted' is missing in type '{}' but required in type 'AtLeastOnceOptions<
    Orders.toLayer((event) => Effect.tap(ship, () => Effect.log(event._tag)), {})
    // @ts-expect-error Property 'onExhausted' is missing in type '{ semantics: "at-least-once"; }'
    Clicks.toLayer(() => ship, { semantics: "at-least-once" })
    // @ts-expect-error Expected 2 arguments, but got 1
    Orders.toLayer(() => ship)
  })

  test("where an option is misspelled", () => {
    // @ts-expect-error Did you mean to write 'concurrency'?
    bus.subscribe(Orders, () => ship, { onExhausted, concurency: 4 })
  })
})
