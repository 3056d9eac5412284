/**
 * A limit of how many messages are handed over or published in a second. A subscription takes one as its option `rate`, a
 * publisher as `RateLimit.limited`. Several of them can share a limit, and it can be changed while they run.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import type * as Scope from "effect/Scope"
import { InvalidConfiguration } from "./EventBusError.js"
import { type Share, Waiter } from "./internal/quota.js"
import { issuesOf, Rate } from "./internal/rate.js"

/**
 * So many messages per second. At most `burst` of them come at once, after a time with fewer.
 *
 * @since 0.1.0
 * @category models
 */
export interface Limit {
  /** Messages per second, above 0. It need not be a whole number: 0.1 is one message each 10 seconds. */
  readonly perSecond: number
  /** The most that come at once: a whole number, at least 1. Default: what comes in a tenth of a second, at least 1. */
  readonly burst?: number | undefined
}

/**
 * @since 0.1.0
 * @category symbols
 */
export const TypeId: unique symbol = Symbol.for("@effect-eventbus/core/RateLimit")

/**
 * A limit that can be changed. The first user that waits is the first to go on, and a user that has had its share does not pass the others.
 *
 * @since 0.1.0
 * @category models
 */
export interface RateLimit {
  readonly [TypeId]: Rate
  /** The limit as it is now. */
  readonly current: Effect.Effect<Limit | "unlimited">
  /** Another limit from now on, also for those that wait. */
  readonly set: (limit: Limit | "unlimited") => Effect.Effect<void, InvalidConfiguration>
  /** Waits until so many messages (default: 1) are within the limit. More than the burst at once wait until all before them are through. */
  readonly take: (amount?: number) => Effect.Effect<void>
}

const numbersOf = (limit: Limit | "unlimited"): [perSecond: number, burst: number] =>
  limit === "unlimited"
    ? [Infinity, Number.MAX_SAFE_INTEGER]
    : [limit.perSecond, limit.burst ?? Math.max(1, Math.ceil(limit.perSecond / 10))]

const checked = (limit: Limit | "unlimited"): Effect.Effect<void, InvalidConfiguration> =>
  Effect.suspend(() => {
    const issues = issuesOf(limit)
    return issues.length === 0 ? Effect.void : new InvalidConfiguration({ issues })
  })

/**
 * A limit. It ends with its scope: from then on nothing is limited by it, and those that wait go on.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (limit: Limit | "unlimited"): Effect.Effect<RateLimit, InvalidConfiguration, Scope.Scope> =>
  Effect.gen(function*() {
    yield* checked(limit)
    let current = limit
    const clock = yield* Effect.clock
    const awaited = Effect.unsafeMakeLatch(false)
    const changed = Effect.unsafeMakeLatch(false)
    const rate = new Rate(
      ...numbersOf(limit),
      () => Number(clock.unsafeCurrentTimeNanos()) / 1_000_000,
      () => awaited.unsafeOpen()
    )
    const refill = Effect.suspend(() => {
      if (!rate.isAwaited) {
        awaited.unsafeClose()
        return awaited.await
      }
      changed.unsafeClose()
      return Effect.zipRight(
        Effect.raceFirst(Effect.sleep(rate.delay), changed.await),
        Effect.sync(() => rate.refill())
      )
    })
    // A fork is as interruptible as the region around it.
    yield* Effect.forkScoped(Effect.interruptible(Effect.forever(refill)))
    const become = (limit: Limit | "unlimited") =>
      Effect.sync(() => {
        current = limit
        rate.set(...numbersOf(limit))
        changed.unsafeOpen()
      })
    yield* Effect.addFinalizer(() => become("unlimited"))
    // Of all that wait by `take`. Made late: a share keeps a part of the burst for itself.
    let share: Share | undefined
    const take = (amount = 1): Effect.Effect<void> =>
      Effect.async((resume) => {
        if (!(amount > 0)) return resume(Effect.void)
        const own = share ??= rate.quota.share()
        const waiter = new Waiter(() => {
          rate.take(own, Math.ceil(amount), waiter)
          resume(Effect.void)
        })
        if (rate.take(own, Math.ceil(amount), waiter)) return resume(Effect.void)
        return Effect.sync(() => own.cancel(waiter))
      })
    return {
      [TypeId]: rate,
      current: Effect.sync(() => current),
      set: (limit) => Effect.zipRight(checked(limit), become(limit)),
      take
    }
  })

/**
 * Runs an effect, a publish for instance, when it is within a limit. The wait is outside of the effect: a publish has its whole
 * `publishTimeout` afterwards.
 *
 * @since 0.1.0
 * @category combinators
 */
export const limited: {
  (limit: RateLimit): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(self: Effect.Effect<A, E, R>, limit: RateLimit): Effect.Effect<A, E, R>
} = dual(2, <A, E, R>(self: Effect.Effect<A, E, R>, limit: RateLimit) => Effect.zipRight(limit.take(), self))
