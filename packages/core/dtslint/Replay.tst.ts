import type { EventBus, Replay } from "@effect-eventbus/core"
import { Effect } from "effect"
import type { Scope } from "effect"
import { describe, expect, test } from "tstyche"
import type { OutOfStock, Refused } from "./fixture.js"
import { Clicks, Orders, Warehouse } from "./fixture.js"

const bus = {} as EventBus.Service
const ship = Effect.flatMap(Warehouse, (_) => _.ship({} as never))
const within = {} as Effect.Effect<void, Refused, Scope.Scope>

describe("replay", () => {
  test("fails with what its handler fails with, and needs what it needs, but no scope", () => {
    expect(bus.replay(Orders, () => Effect.zipRight(Effect.scope, ship))).type.toBe<
      Effect.Effect<Replay.Report, Replay.ReplayFailed<OutOfStock | Refused> | Replay.ReplayError, Warehouse>
    >()
    expect(bus.replay(Clicks, () => within, { to: "now" })).type.toBe<
      Effect.Effect<Replay.Report, Replay.ReplayFailed<Refused> | Replay.ReplayError>
    >()
  })

  test("is bounded: it can't begin at the latest", () => {
    expect(bus.replay).type.not.toBeCallableWith(Orders, () => Effect.void, { from: "latest" })
  })
})
