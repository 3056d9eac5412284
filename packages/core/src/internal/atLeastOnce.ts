import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { Behaviour } from "../ActorSupervisor.js"
import type { DecodeError, HandlerTimeout, UnknownEventType } from "../EventBusError.js"
import { EnvelopeFailure } from "../Failure.js"
import type { DeadLetter, FailurePolicy, OnError, UnknownTypePolicy } from "../FailurePolicy.js"
import type { TopicSpec } from "../Transport.js"
import type { Counters } from "./counters.js"
import type { Handler } from "./handler.js"
import * as UserCode from "./userCode.js"
import type { Work } from "./work.js"

/** @internal */
export interface Settings<E, R> {
  readonly handler: Handler<E, R>
  readonly counters: Counters
  readonly onExhausted: FailurePolicy
  readonly onUnknownType: UnknownTypePolicy | undefined
  readonly onError: OnError<E>
  readonly retry: Schedule.Schedule<unknown, E | HandlerTimeout>
  readonly holdInterval: Duration.Duration
  /** Publishes to the dead-letter topic until the broker has confirmed it. */
  readonly deadLetter: (topic: TopicSpec, work: Work, failure: EnvelopeFailure<E>) => Effect.Effect<void>
  readonly report: (failure: EnvelopeFailure<E>) => Effect.Effect<void, never, R>
}

/**
 * The behaviour of an actor whose messages are settled after they are finished: a typed failure is retried in
 * place, a defect ends the fiber and the message is run again, and what outlives both goes the policy's way.
 *
 * @internal
 */
export const behaviour = <E, R>(settings: Settings<E, R>): Behaviour<Work, R> => {
  const { counters, handler } = settings

  const letGo = (work: Work): void => {
    if (work.held) counters.held--
    work.held = false
  }

  const finished = (work: Work): void => {
    letGo(work)
    work.lane.finish(work)
  }

  /** Asked before each start of the handler, the first and those after a wait: the lane may be closing. */
  const begins = (work: Work): boolean => {
    const goesOn = work.lane.begin(work)
    if (!goesOn) letGo(work)
    return goesOn
  }

  const succeeded = (work: Work) => {
    counters.handled++
    finished(work)
    return Effect.void
  }

  const attempt = (work: Work): Effect.Effect<void, never, R> => {
    work.attempt++
    if (work.attempt > 1) counters.retried++
    if (work.crashed) {
      work.crashed = false
      work.restarts++
    }
    return Effect.matchCauseEffect(handler.run(work), {
      onFailure: (cause) => failed(work, cause),
      onSuccess: () => succeeded(work)
    })
  }

  const failed = (work: Work, cause: Cause.Cause<E | HandlerTimeout>): Effect.Effect<void, never, R> => {
    const error = Cause.failureOption(cause)
    // A defect, or a handler that interrupted itself, is the supervisor's concern. A typed failure may
    // come together with the interruption of what ran beside it.
    if (Option.isNone(error) || Option.isSome(Cause.dieOption(cause))) {
      return Effect.failCause(Cause.stripFailures(cause))
    }
    if (work.undecodable !== undefined) return unreadable(work, work.undecodable)
    work.lastCause = cause
    const decision = UserCode.sync(() => settings.onError(error.value))
    if (decision._tag !== "Retry") return giveUp(work, cause, decision)
    return retry(work, cause, error.value)
  }

  // Neither of the two waits inside a generator: one that never ends would grow the fiber's stack with each attempt.
  const retry = (
    work: Work,
    cause: Cause.Cause<E | HandlerTimeout>,
    error: E | HandlerTimeout
  ): Effect.Effect<void, never, R> => {
    if (work.held) return holdOn(work)
    if (!begins(work)) return Effect.void
    return Effect.flatMap(retryDriver(work), (driver) => {
      work.waiting = true
      return Effect.flatMap(Effect.isSuccess(driver.next(error)), (goesOn) => {
        work.waiting = false
        if (!goesOn) return giveUp(work, cause, settings.onExhausted)
        return begins(work) ? attempt(work) : Effect.void
      })
    })
  }

  const retryDriver = (work: Work): Effect.Effect<Schedule.ScheduleDriver<unknown, E | HandlerTimeout>> =>
    work.retry === undefined
      ? Effect.tap(Schedule.driver(settings.retry), (driver) => Effect.sync(() => work.retry = driver as Work["retry"]))
      : Effect.succeed(work.retry as Schedule.ScheduleDriver<unknown, E | HandlerTimeout>)

  const holdOn = (work: Work): Effect.Effect<void, never, R> =>
    Effect.suspend(() => {
      if (!begins(work)) return Effect.void
      work.waiting = true
      return Effect.flatMap(Effect.sleep(settings.holdInterval), () => begins(work) ? start(work) : Effect.void)
    })

  const giveUp = (
    work: Work,
    cause: Cause.Cause<E | HandlerTimeout | DecodeError | UnknownEventType>,
    policy: FailurePolicy
  ): Effect.Effect<void, never, R> =>
    Effect.gen(function*() {
      work.waiting = false
      const failure = new EnvelopeFailure<E>({
        position: work.position,
        group: work.group,
        aggregateId: work.aggregateId,
        attempts: work.attempt,
        restarts: work.restarts,
        policy,
        cause
      })
      if (policy._tag === "Hold") {
        if (!work.held) {
          work.held = true
          counters.held++
          yield* settings.report(failure)
        }
        return yield* holdOn(work)
      }
      if (policy._tag === "DeadLetter") {
        work.waiting = true
        yield* settings.deadLetter(policy.spec, work, failure)
        work.waiting = false
        counters.deadLettered++
      } else {
        counters.dropped++
      }
      yield* settings.report(failure)
      finished(work)
    })

  const unreadable = (work: Work, error: DecodeError | UnknownEventType): Effect.Effect<void, never, R> => {
    const isFirst = work.lastCause === undefined
    work.lastCause = Cause.fail(error)
    if (error._tag === "DecodeError") {
      if (isFirst) counters.undecodable++
      return giveUp(work, Cause.fail(error), bytesPolicy(settings.onExhausted))
    }
    if (isFirst) counters.unknownType++
    const policy = settings.onUnknownType ?? settings.onExhausted
    return policy._tag === "Skip" ? Effect.sync(() => finished(work)) : giveUp(work, Cause.fail(error), policy)
  }

  const start = (work: Work): Effect.Effect<void, never, R> => {
    if (work.isTombstone) {
      if (work.attempt === 0) counters.tombstones++
      return handler.handlesTombstones ? attempt(work) : Effect.sync(() => finished(work))
    }
    const error = handler.decode(work)
    return error === undefined ? attempt(work) : unreadable(work, error)
  }

  return {
    receive: (work) => {
      return begins(work) ? start(work) : Effect.void
    },
    crashed: (work, cause) => {
      work.crashed = true
      work.waiting = true
      work.lastCause = cause
      counters.restarted++
    },
    giveUp: (work, cause) => work.held ? holdOn(work) : giveUp(work, cause, settings.onExhausted),
    interrupted: (work) => {
      letGo(work)
      work.lane.interrupted(work)
    }
  }
}

/** Bytes that can't be decoded will not be better later: they are never held. */
const bytesPolicy = (policy: FailurePolicy): DeadLetter | Exclude<FailurePolicy, { _tag: "Hold" }> =>
  policy._tag === "Hold" ? policy.undecodable : policy
