/**
 * How long closing waits for the server: one time for all its steps, however many there are. What a slow step takes is missing to those
 * after it, so that a server which stands still holds a process up once and not at every step.
 */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import { bounded } from "./Bounded.js"

/** A step has so long in any case, in milliseconds: an answer may be here already. */
const least = 10

/** A step that took so long is a slow one, in milliseconds. */
const slow = 400

export class Closing {
  private until = -Infinity
  /** When the last slow step ended. */
  private slowAt = -Infinity

  constructor(
    /** In milliseconds. */
    private readonly total: number
  ) {}

  /** Waits for a step as long as there is time, but no longer than `atMost`. */
  within<A, E, R>(step: Effect.Effect<A, E, R>, atMost = Infinity): Effect.Effect<Option.Option<A>, E, R> {
    return Effect.suspend(() => {
      const startedAt = performance.now()
      // As long as the server answers, and when it is another time that something is closed, there is all the time.
      if (startedAt - this.slowAt > this.total) this.until = startedAt + this.total
      return bounded(step, Math.max(Math.min(this.until - startedAt, atMost), least)).pipe(
        Effect.ensuring(Effect.sync(() => {
          const endedAt = performance.now()
          if (endedAt - startedAt >= Math.min(slow, this.total / 2)) this.slowAt = endedAt
        }))
      )
    })
  }
}
