import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"

/** Waits no longer than so many milliseconds, also within a finalizer, where a plain timeout has to wait for its loser. */
export const bounded = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  millis: number
): Effect.Effect<Option.Option<A>, E, R> => Effect.timeoutOption(Effect.interruptible(effect), millis)
