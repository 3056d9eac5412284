import type * as Duration from "effect/Duration"
import * as Schedule from "effect/Schedule"

/**
 * So many restarts for one message: the first wait is `base`, each next one is twice as long, with jitter.
 *
 * @internal
 */
export const upTo = (times: number, base: Duration.Duration): Schedule.Schedule<unknown> =>
  Schedule.exponential(base, 2).pipe(Schedule.jittered, Schedule.intersect(Schedule.recurs(times)))
