import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** So many lines there are in one window, which is so long, in milliseconds. */
const most = 20
const window = 10_000

/**
 * Keeps a storm out of the log: of lines that each message could cause, it has so many in a while, and then how many were left out.
 *
 * @internal
 */
export class Ration {
  private until = -Infinity
  private said = 0
  private left = 0

  /** `rest` is the line that has the number of those left out. `fork` runs what waits for the end of the window; its end is no end of the number. */
  constructor(
    private readonly rest: (left: number) => Effect.Effect<void>,
    private readonly fork: (effect: Effect.Effect<void>) => void
  ) {}

  /** The line, or nothing if there were too many. */
  line(line: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      // A clock that was set back must not silence it.
      if (now >= this.until || this.until - now > window) {
        this.until = now + window
        this.said = 0
      }
      if (this.said < most) {
        this.said++
        return line
      }
      if (this.left++ === 0) this.fork(Effect.ensuring(Effect.sleep(this.until - now), this.tell))
      return Effect.void
    })
  }

  /** Says how many were left out, if any. */
  readonly tell: Effect.Effect<void> = Effect.suspend(() => {
    const { left } = this
    this.left = 0
    return left === 0 ? Effect.void : this.rest(left)
  })
}
