/**
 * The supervisor of a bus: it starts slots, starts them again by a schedule when a handler dies, ends idle ones and caps how
 * many live. A slot is one fiber with one bounded mailbox that runs one task at a time. The supervisor knows nothing of brokers, of
 * aggregates, or of what a task means: a `Strategy` says which slot an aggregate's messages go to.
 *
 * The mailbox is a plain bounded array and not Effect's `Queue`: taking from a `Queue` makes a `Deferred` each time the fiber
 * waits, which made a message ten times as expensive.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as Layer from "effect/Layer"
import type * as Runtime from "effect/Runtime"
import type * as Schedule from "effect/Schedule"
import { EventBusConfig } from "./EventBusConfig.js"
import { Home } from "./internal/home.js"
import { Population } from "./internal/population.js"
import * as Provided from "./internal/provided.js"
import { Quota, type Share, Waiter } from "./internal/quota.js"
import * as Restarts from "./internal/restarts.js"
import { Slot, type SlotOptions, Yard } from "./internal/slot.js"
import { Turns } from "./internal/turn.js"
import * as Observer from "./Observer.js"

export type {
  /**
   * @since 0.1.0
   * @category models
   */
  SlotOptions,
  /**
   * @since 0.1.0
   * @category models
   */
  Task
} from "./internal/slot.js"

/**
 * Starts slots and counts them.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** The schedule of restarts for slots whose strategy names none. */
  readonly restart: Schedule.Schedule<unknown, Cause.Cause<never>>
  /** A place where tasks run: with the services, the logger and the FiberRefs of the fiber that makes it, without its spans. */
  readonly home: <R>(name: string) => Effect.Effect<Home, never, R>
  /** The turns of the event loop, which are also the clock of flights. */
  readonly turns: Turns
  /** One more user of the places that live slots take. */
  readonly places: () => Share
  /** Whether one more slot may live. Idle slots end to make room. `false`: the waiter is woken when a place is reserved for it. */
  readonly admit: (places: Share, waiter: Waiter) => boolean
  /** Starts a slot that was admitted. Slots may share their options. */
  readonly start: (name: string, home: Home, options: SlotOptions) => Slot
  /** How many slots live under this supervisor. */
  readonly live: () => number
}

/**
 * The supervisor of a bus; `EventBus.layer` has one.
 *
 * @since 0.1.0
 * @category tags
 */
export class Supervisor extends Context.Tag("@effect-eventbus/core/Supervisor")<Supervisor, Service>() {}

/**
 * When slots are started again; everything else comes from `EventBusConfig`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * When, and how often for one message, a slot is started again. Each slot runs a copy of its own, which begins anew
   * after each message that leaves the slot. A schedule that throws counts as ended.
   * Default: `restartTimes` (3) restarts, from `restartBase` (100 ms) doubling, with jitter.
   */
  readonly restart?: Schedule.Schedule<unknown, Cause.Cause<never>> | undefined
}

/**
 * A supervisor. As long as the scope lives, it ends slots that have been idle for `actorIdleTimeout`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(options?: Options) {
  const config = yield* EventBusConfig
  Provided.use(config)
  const observer = yield* Observer.provided
  const turns = new Turns(yield* Effect.clock, yield* FiberRef.get(FiberRef.currentScheduler))
  const quota = new Quota(
    config.maxActors,
    (isReached) => observer.event?.({ _tag: "Bound", bound: "actors", subscription: undefined, isReached })
  )
  const population = new Population(quota, () => turns.monotonic())
  const yard = new Yard(population, turns)
  // A fork is as interruptible as the region around it, and a layer may be built in an uninterruptible region.
  yield* Effect.forkScoped(Effect.interruptible(reap(population, turns, config.actorIdleTimeout)))
  return Supervisor.of({
    restart: options?.restart ?? Restarts.upTo(config.restartTimes, config.restartBase),
    home: <R>(name: string) =>
      Effect.map(Effect.runtime<R>(), (runtime) => new Home(runtime as Runtime.Runtime<never>, name, turns)),
    turns,
    places: () => quota.share(),
    admit: (places, waiter) => population.admit(places, waiter),
    start: (name, home, options) => new Slot(yard, name, home, options),
    live: () => population.live
  })
})

/**
 * The supervisor that `EventBus.layer` uses.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<Supervisor> => Layer.scoped(Supervisor, make(options))

/**
 * A waiter for room, for one amount at a time. `wake` is called once, when the room is reserved.
 *
 * @since 0.1.0
 * @category constructors
 */
export const waiter = (wake: () => void): Waiter => new Waiter(wake)

/** Ends slots that have been idle for long; the list is in the order in which they became idle. */
const reap = (population: Population, turns: Turns, timeout: Duration.Duration): Effect.Effect<never> =>
  Effect.suspend(() => {
    const longest = Duration.toMillis(timeout)
    const now = turns.monotonic()
    const oldest = population.endIdleSince(now - longest)
    return Effect.sleep(Math.max(oldest === undefined ? longest : oldest + longest - now, 1))
  }).pipe(Effect.forever)
