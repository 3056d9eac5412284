/** How long to wait after failures: twice as long after each, and never longer than a second. */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

/** In milliseconds, after so many failures in a row. */
export const backoff = (failures: number): number => Math.min(1_000, 50 * 2 ** Math.min(failures, 6))

/** Sleeps so long, a fifth more or less: of many that failed together not all come back at once. */
export const rest = (failures: number): Effect.Effect<void> =>
  Effect.flatMap(Random.next, (random) => Effect.sleep(backoff(failures) * (0.8 + 0.4 * random)))
