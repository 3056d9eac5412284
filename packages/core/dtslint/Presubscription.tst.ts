import type { EventBus, EventBusError } from "@effect-eventbus/core"
import { Presubscription } from "@effect-eventbus/core"
import type { Effect, Layer, Scope } from "effect"
import { describe, expect, test } from "tstyche"
import { Clicks, Orders } from "./fixture.js"

const bus = {} as EventBus.Service

describe("presubscribe", () => {
  test("takes topics of both kinds, and needs a scope", () => {
    type Presubscribing = Effect.Effect<
      Presubscription.Presubscription,
      EventBusError.SubscribeError,
      Scope.Scope
    >
    expect(bus.presubscribe(Orders)).type.toBe<Presubscribing>()
    expect(bus.presubscribe(Clicks, { withoutHandler: "skip", semantics: "at-least-once" })).type.toBe<Presubscribing>()
    expect(bus.presubscribe).type.not.toBeCallableWith(Orders, { withoutHandler: "drop" })
  })

  test("is a layer, too", () => {
    expect(Presubscription.layer(Orders)).type.toBe<
      Layer.Layer<never, EventBusError.SubscribeError, EventBus.EventBus>
    >()
  })
})
