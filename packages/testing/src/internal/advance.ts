import * as Chunk from "effect/Chunk"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Predicate from "effect/Predicate"
import type * as TestClock from "effect/TestClock"
import type { Ledger } from "./ledger.js"

/** Under virtual time: how long to wait for work outside of it, in real milliseconds. */
const patience = { running: 2_000, idle: 50 }

/** Waits outlast the default retries with ease, and end where something is held for ever. */
const defaults = { virtual: Duration.hours(1), live: Duration.seconds(5) }

/** @internal */
export const isVirtual = (clock: Clock.Clock): clock is TestClock.TestClock => Predicate.hasProperty(clock, "setTime")

/** @internal */
export const limitOf = (clock: Clock.Clock, within: Duration.DurationInput | undefined): Duration.Duration =>
  within === undefined ? (isVirtual(clock) ? defaults.virtual : defaults.live) : Duration.decode(within)

/**
 * Lets everything run until a condition holds, or the time is over; answers whether it holds. Under a `TestClock` time
 * goes on to the next timer whenever nothing else happens.
 *
 * @internal
 */
export const until = (
  clock: Clock.Clock,
  ledger: Ledger,
  limit: Duration.Duration,
  holds: () => boolean
): Effect.Effect<boolean> =>
  Effect.gen(function*() {
    const deadline = clock.unsafeCurrentTimeMillis() + Duration.toMillis(limit)
    while (true) {
      yield* quiet(ledger)
      if (holds()) return true
      if (isVirtual(clock)) {
        const next = yield* nextTimer(clock)
        if (next !== undefined && next <= deadline) yield* clock.setTime(next)
        else if (!(yield* changes(ledger))) return holds()
      } else {
        if (clock.unsafeCurrentTimeMillis() > deadline) return false
        yield* pause(2)
      }
    }
  })

/**
 * Moves virtual time on, timer by timer, until an effect has ended.
 *
 * @internal
 */
export const during = <A>(clock: Clock.Clock, ledger: Ledger, effect: Effect.Effect<A>): Effect.Effect<A> =>
  isVirtual(clock)
    ? Effect.gen(function*() {
      const fiber = yield* Effect.forkDaemon(effect)
      yield* until(clock, ledger, defaults.virtual, () => fiber.unsafePoll() !== null)
      return yield* Fiber.join(fiber)
    })
    : effect

/** Lets fibers and microtasks run until nothing more happens. */
const quiet = (ledger: Ledger): Effect.Effect<void> =>
  Effect.gen(function*() {
    for (let round = 0; round < 100; round++) {
      const before = ledger.version
      for (let i = 0; i < 20; i++) yield* Effect.yieldNow()
      yield* Effect.async<void>((resume) => {
        const immediate = setImmediate(() => resume(Effect.void))
        return Effect.sync(() => clearImmediate(immediate))
      })
      if (ledger.version === before) return
    }
  })

const nextTimer = (clock: TestClock.TestClock): Effect.Effect<number | undefined> =>
  Effect.map(clock.sleeps, (sleeps) => {
    const now = clock.unsafeCurrentTimeMillis()
    const next = Chunk.reduce(
      sleeps,
      undefined as number | undefined,
      (next, time) => time > now && (next === undefined || time < next) ? time : next
    )
    // A `TestClock` can't tell the nanoseconds of a fraction, so spans and `Effect.timed` would die there. Jitter makes fractions.
    return next === undefined ? undefined : Math.ceil(next)
  })

/** Whether something happens that no virtual timer drives: a handler may wait for the real world. */
const changes = (ledger: Ledger): Effect.Effect<boolean> =>
  Effect.gen(function*() {
    const before = ledger.version
    const end = performance.now() + (ledger.isRunning || ledger.publishing > 0 ? patience.running : patience.idle)
    while (ledger.version === before) {
      if (performance.now() > end) return false
      yield* pause(2)
    }
    return true
  })

/** Sleeps in real time, under any clock. */
const pause = (millis: number): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    const timer = setTimeout(() => resume(Effect.void), millis)
    return Effect.sync(() => clearTimeout(timer))
  })
