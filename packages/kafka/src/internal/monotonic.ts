/** Time for deadlines: somebody who sets the clock must not end or prolong them. */
import type * as Clock from "effect/Clock"

/** Milliseconds of a clock that nobody sets, from no time in particular. */
export const monotonic = (clock: Clock.Clock) => (): number => Number(clock.unsafeCurrentTimeNanos() / 1_000_000n)
