/** Wakes one waiting fiber from synchronous code. Notified while nobody waits, it remembers; twice is as once. */
import * as Effect from "effect/Effect"

export class Signal {
  private isSet = false
  private resume: (() => void) | undefined
  readonly notify = (): void => {
    this.isSet = true
    this.resume?.()
  }
  /** Until the next notification, or the last one that nobody has seen. For one fiber at a time. */
  readonly wait: Effect.Effect<void> = Effect.async<void>((resume) => {
    const wake = () => {
      this.isSet = false
      this.resume = undefined
      resume(Effect.void)
    }
    if (this.isSet) return wake()
    this.resume = wake
    return Effect.sync(() => {
      if (this.resume === wake) this.resume = undefined
    })
  })
}
