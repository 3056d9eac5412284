import { Clock, Duration, Effect } from "effect"

interface Sleeper {
  readonly at: number
  readonly resume: () => void
}

/** Effect's `TestClock` waits for real milliseconds at each step, which makes an hour with thousands of steps long. This one goes on at once. */
export class VirtualClock implements Clock.Clock {
  readonly [Clock.ClockTypeId]: Clock.ClockTypeId = Clock.ClockTypeId
  private now = 0
  private readonly sleeping = new Set<Sleeper>()

  readonly unsafeCurrentTimeMillis = () => this.now
  readonly unsafeCurrentTimeNanos = () => BigInt(Math.round(this.now * 1e6))
  readonly currentTimeMillis = Effect.sync(this.unsafeCurrentTimeMillis)
  readonly currentTimeNanos = Effect.sync(this.unsafeCurrentTimeNanos)
  readonly scheduler = Effect.die("a virtual clock has no scheduler")

  readonly sleep = (duration: Duration.Duration): Effect.Effect<void> =>
    Effect.async<void>((resume) => {
      const one = { at: this.now + Duration.toMillis(duration), resume: () => resume(Effect.void) }
      this.sleeping.add(one)
      return Effect.sync(() => this.sleeping.delete(one))
    })

  /** Time goes on, from one sleeper to the next. */
  readonly adjust = (duration: Duration.DurationInput): Effect.Effect<void> =>
    Effect.promise(async () => {
      const end = this.now + Duration.toMillis(duration)
      for (;;) {
        await turns()
        const next = Math.min(end, ...Array.from(this.sleeping, ({ at }) => at))
        this.now = Math.max(this.now, next)
        const due = Array.from(this.sleeping).filter(({ at }) => at <= this.now)
        if (due.length === 0) return
        for (const one of due) {
          this.sleeping.delete(one)
          one.resume()
        }
      }
    })
}

/** What is to be done is done. */
const turns = async () => {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve))
}
