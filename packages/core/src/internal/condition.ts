import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/**
 * A condition that plain code makes true and that an effect waits for.
 *
 * @internal
 */
export class Condition {
  private waiting = new Set<() => void>()

  constructor(private readonly holds: () => boolean) {}

  /** Call this after each change that could make the condition true. */
  changed(): void {
    if (this.waiting.size === 0 || !this.holds()) return
    const waiting = this.waiting
    this.waiting = new Set()
    for (const resume of waiting) resume()
  }

  /** Waits until the condition is true. */
  readonly wait: Effect.Effect<void> = Effect.async<void>((resume) => {
    if (this.holds()) return resume(Effect.void)
    const wake = () => resume(Effect.void)
    this.waiting.add(wake)
    return Effect.sync(() => {
      this.waiting.delete(wake)
    })
  })

  /** Waits until the condition is true or the time is over. */
  waitFor(time: Duration.Duration): Effect.Effect<void> {
    return Effect.asVoid(Effect.timeoutOption(Effect.interruptible(this.wait), time))
  }
}
