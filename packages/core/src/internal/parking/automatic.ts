import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import * as Decision from "effect/ScheduleDecision"
import * as Intervals from "effect/ScheduleIntervals"
import type { By } from "./letter.js"
import type { Parked } from "./parked.js"
import type { Owner } from "./settings.js"

/** Failures of so long, in milliseconds, are looked at together. */
const patience = 100

/** A timer may not be longer than about 24 days. */
const longestSleep = 3_600_000

/** What is parked by hand is released by hand, and so is what would kill the process again. */
const byHand = ["GivenUpByHand", "KilledProcess"]

const by = { who: "the schedule of FailurePolicy.park", why: "its time has come" }

/**
 * Releases the parked aggregates of one partition by the policy's schedule. Each failure of an aggregate is one step of it.
 *
 * @internal
 */
export class Automatic {
  private readonly failed = Effect.unsafeMakeLatch(false)

  constructor(
    private readonly lane: Owner,
    private readonly schedule: Schedule.Schedule<unknown>,
    private readonly release: (due: ReadonlyArray<Parked>, by: By) => void
  ) {}

  /** An aggregate was parked, or parked again. */
  changed(): void {
    this.failed.unsafeOpen()
  }

  readonly run: Effect.Effect<void> = Effect.suspend(() =>
    Effect.whileLoop({
      while: () => !this.lane.isClosing,
      body: () => this.look,
      step: () => {}
    })
  )

  private get look(): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      this.failed.unsafeClose()
      let next = longestSleep
      const due: Array<Parked> = []
      const now = yield* Clock.currentTimeMillis
      for (const one of Array.from(this.lane.parked.values())) {
        if (one.cause === undefined || byHand.some((cause) => one.cause!.startsWith(cause))) continue
        if (one.auto === undefined || one.auto.failedAt !== one.failedAt) yield* this.ask(one, now)
        const dueAt = one.auto?.dueAt
        if (dueAt === undefined) continue
        if (dueAt > now) next = Math.min(next, dueAt - now)
        else {
          one.auto = { ...one.auto!, dueAt: undefined }
          due.push(one)
        }
      }
      if (due.length > 0) this.release(due, by)
      const again = Effect.zipRight(this.failed.await, Effect.sleep(patience))
      yield* Effect.raceFirst(Effect.sleep(next), again)
    })
  }

  private ask(one: Parked, now: number): Effect.Effect<void> {
    const { failedAt } = one
    return this.schedule.step(now, undefined, one.auto?.state ?? this.schedule.initial).pipe(
      Effect.map(([state, , decision]) => {
        const dueAt = Decision.isContinue(decision) ? Intervals.start(decision.intervals) : undefined
        one.auto = { state, failedAt, dueAt }
      }),
      // A schedule that throws has ended.
      Effect.catchAllCause(() =>
        Effect.sync(() => {
          one.auto = { state: one.auto?.state, failedAt, dueAt: undefined }
        })
      )
    )
  }
}
