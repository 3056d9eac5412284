/** Moves the running bus to another strategy, a share of the orders at a time, and goes back by itself when that makes them slower. */
import { EventBus, Rollout, Strategy } from "@effect-eventbus/core"
import { Effect, HashMap, Option } from "effect"

export const strategies = {
  "actor-per-aggregate": Strategy.actorPerAggregate,
  "actor-pool": Strategy.actorPool,
  "keyed-workers": Strategy.keyedWorkers
} as const satisfies Record<Strategy.Name, Strategy.Service>

/** A service would take minutes for each step, and leave the rest at its defaults. */
export const start = Effect.fnUntraced(function*(candidate: Strategy.Name) {
  const bus = yield* EventBus.EventBus
  return yield* Rollout.start(bus.dispatch, {
    candidate,
    steps: [{ share: 0.2, for: "1 second" }, { share: 0.5, for: "1 second" }, { share: 1, for: "500 millis" }],
    interval: "200 millis",
    triggers: { leastDifference: "5 millis" },
    // In this shop more than one handler in a hundred throws, whatever the strategy is.
    promotion: { restarts: 0.05, p99: 0.2 }
  })
})

/** A fault for the show: what the candidate has in hand takes longer. The slots of a pool are called after it, other actors after their orders. */
export const slowness = (candidate: Strategy.Name, millis: number) => (orderId: string): Effect.Effect<void> =>
  Effect.flatMap(Effect.logAnnotations, (annotations) => {
    const slot = String(Option.getOrElse(HashMap.get(annotations, "eventbus.actor"), () => ""))
    const isIts = candidate === "actor-per-aggregate" ? slot === orderId : slot.startsWith(`${candidate}-`)
    return isIts ? Effect.sleep(millis) : Effect.void
  })
