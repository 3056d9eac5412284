/**
 * Waiting in tests: for a condition and with a deadline, never for a fixed time.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/**
 * The condition did not hold in time, or did not go on to hold.
 *
 * @since 0.1.0
 * @category errors
 */
export class NeverHappened
  extends Data.TaggedError("NeverHappened")<{ readonly what: string; readonly after: string }>
{
  override get message() {
    return `${this.what} did not happen within ${this.after}`
  }
}

/**
 * Polls until the condition holds.
 *
 * @since 0.1.0
 * @category combinators
 */
export const eventually = (
  what: string,
  condition: () => boolean,
  within: Duration.DurationInput = "20 seconds"
): Effect.Effect<void, NeverHappened> =>
  Effect.gen(function*() {
    const deadline = (yield* Clock.currentTimeMillis) + Duration.toMillis(within)
    while (!condition()) {
      if ((yield* Clock.currentTimeMillis) > deadline) {
        return yield* new NeverHappened({ what, after: Duration.format(Duration.decode(within)) })
      }
      yield* Effect.sleep("5 millis")
    }
  })

/**
 * Polls for the given time, and fails as soon as the condition does not hold. It shows that something does not happen.
 *
 * @since 0.1.0
 * @category combinators
 */
export const throughout = (
  what: string,
  condition: () => boolean,
  during: Duration.DurationInput
): Effect.Effect<void, NeverHappened> =>
  Effect.gen(function*() {
    const end = (yield* Clock.currentTimeMillis) + Duration.toMillis(during)
    while ((yield* Clock.currentTimeMillis) < end) {
      if (!condition()) return yield* new NeverHappened({ what, after: Duration.format(Duration.decode(during)) })
      yield* Effect.sleep("5 millis")
    }
  })
