/**
 * Actors and their supervisor. An actor is one fiber with one bounded mailbox
 * that handles one message at a time. When a handler dies, the actor's fiber
 * ends; the supervisor starts another by a schedule, with the mailbox as it was and the message
 * in hand first. Actors know nothing of brokers, and nothing of what a message means.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as Schedule from "effect/Schedule"
import * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import { EventBusConfig } from "./EventBusConfig.js"
import * as Actor from "./internal/actor.js"
import * as Provided from "./internal/provided.js"

/**
 * What actors do with their messages.
 *
 * @since 0.1.0
 * @category models
 */
export interface Behaviour<M, R = never> {
  /** Handles a message. It has no typed failure; a defect ends the actor's fiber. */
  readonly receive: (message: M) => Effect.Effect<void, never, R>
  /** The fiber ended while it handled this message. The next one begins with it again. */
  readonly crashed: (message: M, cause: Cause.Cause<never>) => void
  /** The restart schedule has ended for this message: handles it for the last time. A defect here is one more crash. */
  readonly giveUp: (message: M, cause: Cause.Cause<never>) => Effect.Effect<void, never, R>
  /** The message was in hand or in its retry when it was interrupted by `Actors.interrupt` or by closing. */
  readonly interrupted: (message: M) => void
}

/**
 * The actors of one subscription.
 *
 * @since 0.1.0
 * @category models
 */
export interface Actors<M> {
  /**
   * Puts a message into the mailbox of the actor with this key, which is started when there is none.
   * `false` says that there is no room (the mailbox is full, or too many actors live): then `onRoom` is
   * called once, when there may be some. Synchronous: no lock, no effect.
   */
  readonly offer: (key: string, message: M, onRoom: () => void) => boolean
  /** Interrupts the actors that have such a message in hand; they go on with the one after it. For closing and rebalances. */
  readonly interrupt: (which: (message: M) => boolean) => void
  /** How many actors of this subscription live. */
  readonly live: () => number
}

/**
 * Starts the actors of subscriptions, starts them again when they die, and caps how many live at once.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** Actors for one subscription. When the scope ends they are interrupted, with what is in their mailboxes. */
  readonly open: <M, R>(
    name: string,
    behaviour: Behaviour<M, R>
  ) => Effect.Effect<Actors<M>, never, R | Scope.Scope>
  /** How many actors live under this supervisor. */
  readonly live: () => number
}

/**
 * The supervisor that a dispatcher gets its actors from.
 *
 * @since 0.1.0
 * @category tags
 */
export class ActorSupervisor extends Context.Tag("@effect-eventbus/core/ActorSupervisor")<ActorSupervisor, Service>() {}

/**
 * When actors are started again; everything else comes from `EventBusConfig`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * When, and how often for one message, an actor is started again. Each actor runs its own copy,
   * which begins anew with each message that gets through.
   * Default: `restartTimes` (3) restarts, from `restartBase` (100 ms) doubling, with jitter.
   */
  readonly restart?: Schedule.Schedule<unknown, Cause.Cause<never>> | undefined
}

/**
 * A supervisor that ends, with its actors, when the scope does.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function*(options?: Options) {
  const config = yield* EventBusConfig
  Provided.use(config)
  const clock = yield* Effect.clock
  const restart = options?.restart ?? Schedule.exponential(config.restartBase, 2).pipe(
    Schedule.jittered,
    Schedule.intersect(Schedule.recurs(config.restartTimes))
  )
  const population = new Actor.Population(config.maxActors, () => monotonicMillis(clock))
  // Forks take over the region's interruptibility, and a layer may be built in an uninterruptible one.
  yield* Effect.forkScoped(Effect.interruptible(reap(population, config.actorIdleTimeout)))

  const open: Service["open"] = <M, R>(name: string, behaviour: Behaviour<M, R>) =>
    Effect.gen(function*() {
      const subscriber = yield* Effect.runtime<R>()
      const scheduler = FiberRefs.getOrDefault(subscriber.fiberRefs, FiberRef.currentScheduler)
      const annotations = HashMap.set(
        FiberRefs.getOrDefault(subscriber.fiberRefs, FiberRef.currentLogAnnotations),
        "eventbus.subscription",
        name as unknown
      )
      // None of their fibers has set it, so that one entry is enough for all.
      const context = [[FiberId.none, subscriber.context]] as const
      // What all actors have in common is made once: with a million of them in turn, each one's own wrappers were most of what they cost.
      const run = Runtime.runFork(subscriber.pipe(
        // Whoever subscribes may be uninterruptible; the captured runtime remembers that.
        Runtime.enableRuntimeFlag(RuntimeFlags.Interruption),
        Runtime.setFiberRef(
          FiberRef.currentScheduler,
          scheduler === Scheduler.defaultScheduler ? together : scheduler
        ),
        // Each fiber has its own of these, and would keep the subscriber's behind them.
        Runtime.deleteFiberRef(FiberRef.currentContext),
        Runtime.deleteFiberRef(FiberRef.currentRuntimeFlags),
        Runtime.deleteFiberRef(FiberRef.currentLogAnnotations)
      ))
      const actors = new Actor.ActorMap<M, R>(population, {
        behaviour,
        restart,
        mailboxCapacity: config.mailboxCapacity,
        fork: (key, effect) =>
          run(effect, {
            // A fiber that follows a crash would run on the stack of the one before it, and so on.
            immediate: false,
            updateRefs: ({ locals }, fiberId) =>
              FiberRefs.unsafeMake(
                new Map(locals)
                  .set(FiberRef.currentContext, context)
                  .set(FiberRef.currentLogAnnotations, [[
                    fiberId,
                    HashMap.set(annotations, "eventbus.actor", key as unknown)
                  ]])
              )
          })
      })
      yield* Effect.addFinalizer(() => actors.shutdown)
      return actors
    })

  return ActorSupervisor.of({ open, live: () => population.live })
})

/**
 * The supervisor that `EventBus.layer` uses.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<ActorSupervisor> => Layer.scoped(ActorSupervisor, make(options))

/** After so many operations a fiber asks whether it has run for long enough. */
const askEvery = 16

/**
 * Actors that are woken in one tick run in one task. Effect's default scheduler, which decides when a fiber has run for long
 * enough here too, has a queue and a promise for each fiber.
 */
const together: Scheduler.Scheduler = {
  // It looks up the fiber's limit, 2,048 operations by default, which costs as much as a small operation.
  shouldYield: (fiber) => fiber.currentOpCount % askEvery === 0 && Scheduler.defaultScheduler.shouldYield(fiber),
  scheduleTask: (task, priority) => Scheduler.defaultScheduler.scheduleTask(task, priority)
}

/** The wall clock can be set back. */
const monotonicMillis = (clock: Clock.Clock): number => Number(clock.unsafeCurrentTimeNanos() / 1_000_000n)

/** Ends actors that have been idle for long; the list is in the order in which they became idle. */
const reap = (population: Actor.Population, timeout: Duration.Duration): Effect.Effect<never> =>
  Effect.gen(function*() {
    const now = monotonicMillis(yield* Effect.clock)
    const oldest = population.endIdleSince(now - Duration.toMillis(timeout))
    const wait = oldest === undefined ? Duration.toMillis(timeout) : oldest + Duration.toMillis(timeout) - now
    yield* Effect.sleep(Math.max(wait, 1))
  }).pipe(Effect.forever)
