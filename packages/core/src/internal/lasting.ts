import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Schedule from "effect/Schedule"
import type { Problem, ProblemKind } from "../Transport.js"
import * as Logging from "./logging.js"
import * as Safely from "./safely.js"

/** How long something fails before it is said, and how often it is said again, in milliseconds. */
const patience = 10_000
const interval = 60_000

const maxReason = 2_000

/**
 * What is tried again without end, and may last. The log has a line when it has failed for 10 seconds, one each minute after that,
 * and one when it is over. All that fails at the same time is said together.
 *
 * @internal
 */
export class Lasting {
  private readonly failing = new Set<object>()
  private begunAt = 0
  private reason = ""
  private saidAt: number | undefined

  /** `meaning` says what fails, and what it means for the user. */
  constructor(private readonly meaning: string, private readonly kind?: ProblemKind) {}

  /** Tries an effect until it succeeds, or until the schedule or `while` ends that. */
  retry<A, E extends Error>(
    effect: Effect.Effect<A, E>,
    options: { readonly schedule: Schedule.Schedule<unknown, E>; readonly while?: (error: E) => boolean }
  ): Effect.Effect<A, E> {
    return Effect.suspend(() => {
      const one = {}
      return effect.pipe(
        Effect.tapError((error) => this.failed(one, error)),
        Effect.retry({ while: () => true, ...options }),
        Effect.onExit((exit) => this.over(one, Exit.isSuccess(exit)))
      )
    })
  }

  /** What fails now, for the status of the subscription. */
  get problems(): ReadonlyArray<Problem> {
    const { begunAt: since, failing, kind, meaning, reason } = this
    return failing.size === 0 ? [] : [{ message: `${meaning}. ${reason}`, since, kind }]
  }

  private failed(one: object, error: Error): Effect.Effect<void> {
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      if (this.failing.size === 0) this.begunAt = now
      this.failing.add(one)
      this.reason = Safely.cut(error.message, maxReason)
      if (now - this.begunAt < patience || (this.saidAt !== undefined && now - this.saidAt < interval)) {
        return Effect.void
      }
      this.saidAt = now
      return Logging.warning(
        `${this.meaning}; it has been so for ${this.lasted(now)} (${this.failing.size} now). ${this.reason}`
      )
    })
  }

  private over(one: object, isGood: boolean): Effect.Effect<void> {
    if (!this.failing.delete(one) || this.failing.size > 0) return Effect.void
    const wasSaid = this.saidAt !== undefined
    this.saidAt = undefined
    return wasSaid && isGood
      ? Effect.flatMap(
        Clock.currentTimeMillis,
        (now) => Logging.warning(`It is over, after ${this.lasted(now)}: ${this.meaning}`)
      )
      : Effect.void
  }

  private lasted(now: number): string {
    return `${Math.round((now - this.begunAt) / 1_000)} s`
  }
}
