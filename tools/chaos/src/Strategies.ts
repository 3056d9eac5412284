/** The strategies that a run can be asked for by name. */
import { EventBus, Strategy } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import * as EffectRandom from "effect/Random"

/** `actor-per-aggregate`, `actor-pool`, `keyed-workers`, or `pool:8` for eight slots. Undefined: there is no such strategy. */
export const named = (name: string): Strategy.Service | undefined => {
  const found = [Strategy.actorPerAggregate, Strategy.actorPool, Strategy.keyedWorkers].find((one) => one.name === name)
  if (found !== undefined) return found
  const size = Number(/^pool:([1-9]\d{0,4})$/.exec(name)?.[1])
  return size > 0 ? Strategy.pool({ name: "pool", size }) : undefined
}

/** What a run with `--switch-every` goes through, in any order. */
const all: ReadonlyArray<Strategy.Service> = [
  Strategy.actorPerAggregate,
  Strategy.actorPool,
  Strategy.keyedWorkers,
  Strategy.pool({ name: "few", size: 8, capacity: 100 })
]

const pick = <A>(from: ReadonlyArray<A>) => Effect.map(EffectRandom.nextIntBetween(0, from.length), (i) => from[i]!)

/** Switches the bus's strategy again and again, on average so often: all aggregates or a share of them, with what waits or without. */
export const switching = (everySeconds: number): Effect.Effect<never, never, EventBus.EventBus> =>
  Effect.gen(function*() {
    const { dispatch } = yield* EventBus.EventBus
    yield* Effect.sleep(everySeconds * 1_000 * (yield* EffectRandom.nextRange(0.5, 1.5)))
    const present = (yield* dispatch.report).strategy
    // The present strategy can't be its own candidate.
    const strategy = yield* pick(all.filter(({ name }) => name !== present.name))
    const options = { waiting: yield* pick(["finish", "move"] as const) }
    const share = yield* pick([undefined, 0.1, 0.5])
    yield* share === undefined
      ? dispatch.switchTo(strategy, options)
      : dispatch.canary(strategy, share, options)
  }).pipe(Effect.orDie, Effect.forever)
