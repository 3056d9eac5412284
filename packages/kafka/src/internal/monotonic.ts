/** Time for deadlines: somebody who sets the clock must not end or prolong them. */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as ScheduleDecision from "effect/ScheduleDecision"
import * as ScheduleInterval from "effect/ScheduleInterval"

/** Milliseconds of a clock that nobody sets, from no time in particular. */
export const monotonic = (clock: Clock.Clock) => (): number => Number(clock.unsafeCurrentTimeNanos() / 1_000_000n)

/** As `Schedule.upTo`, which counts by the clock on the wall. */
export const upTo = <Out, In, R>(
  self: Schedule.Schedule<Out, In, R>,
  duration: Duration.DurationInput
): Schedule.Schedule<Out, In, R> =>
  Schedule.zipLeft(self, Schedule.whileOutput(elapsed, (millis) => millis < Duration.toMillis(duration)))

const elapsed: Schedule.Schedule<number> = Schedule.makeWithState(
  undefined as number | undefined,
  (wall, _, since) =>
    Effect.map(Effect.clock, (clock) => {
      const now = monotonic(clock)()
      const begun = since ?? now
      return [begun, now - begun, ScheduleDecision.continueWith(ScheduleInterval.after(wall))] as const
    })
)
