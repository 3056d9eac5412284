import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** So long no second line follows, in milliseconds. */
const quiet = 60_000

/** Within `quiet` of the line before. A clock that was set back must not silence it. */
const isSoon = (saidAt: number, now: number): boolean => now >= saidAt && now - saidAt < quiet

/**
 * Logs that requests can't be answered, and when it is over: a line of either kind each minute at most, with the number of those left out.
 * Whoever asks may do so many times a second.
 *
 * @internal
 */
export class Unanswered {
  private failedAt = -Infinity
  private overAt = -Infinity
  /** That it is over was not said yet. */
  private isFailing = false
  private left = 0

  /** What can't be told, such as `"The health"`. */
  constructor(private readonly subject: string) {}

  failed(cause: Cause.Cause<unknown>): Effect.Effect<void> {
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      this.isFailing = true
      if (isSoon(this.failedAt, now)) {
        this.left++
        return Effect.void
      }
      this.failedAt = now
      return this.noted(Effect.logError(`${this.subject} can't be told`, cause))
    })
  }

  readonly answered: Effect.Effect<void> = Effect.suspend(() =>
    this.isFailing
      ? Effect.flatMap(Clock.currentTimeMillis, (now) => {
        // A later answer says it.
        if (isSoon(this.overAt, now)) return Effect.void
        this.isFailing = false
        this.overAt = now
        return this.noted(Effect.logWarning(`${this.subject} can be told again`))
      })
      : Effect.void
  )

  private noted(line: Effect.Effect<void>): Effect.Effect<void> {
    const { left } = this
    this.left = 0
    return left === 0 ? line : Effect.annotateLogs(line, "left", left)
  }
}
