import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { DecodeError, HandlerTimeout, UnknownEventType } from "../EventBusError.js"
import { EnvelopeFailure } from "../Failure.js"
import type { DeadLetter, Drop, FailurePolicy, OnError, UnknownTypePolicy } from "../FailurePolicy.js"
import type { TopicSpec } from "../Transport.js"
import { gone, type Handler } from "./attempt.js"
import type { Breaker } from "./circuit/breaker.js"
import { describeCause } from "./describeCause.js"
import type { Behaviour, Flight, Sentry } from "./flight.js"
import { endScope, type Host } from "./home.js"
import * as Logging from "./logging.js"
import * as UserCode from "./userCode.js"

/** @internal */
export interface Settings<E> {
  readonly handler: Handler<E>
  readonly onExhausted: FailurePolicy
  readonly onUnknownType: UnknownTypePolicy | undefined
  readonly onError: OnError<E>
  readonly retry: Schedule.Schedule<unknown, E | HandlerTimeout>
  readonly holdInterval: Duration.Duration
  /** Publishes to the dead-letter topic until the broker has confirmed it. */
  readonly deadLetter: (topic: TopicSpec, flight: Flight, failure: EnvelopeFailure<E>) => Effect.Effect<void>
  readonly report: (failure: EnvelopeFailure<E>, eventId: string | undefined) => Effect.Effect<void>
  /** Its circuits and its guard. */
  readonly breaker: Breaker
  /** Logs a line that each message could cause, unless there are too many. */
  readonly say: (line: Effect.Effect<void>) => Effect.Effect<void>
}

/**
 * How at-least-once messages are handled, which are settled after they are finished. A typed failure is retried in place. A defect
 * ends the fiber, and the message is run again. When retries or restarts have ended, the failure policy decides.
 *
 * @internal
 */
export const behaviour = <E>(settings: Settings<E>): Behaviour => {
  const attempt = (flight: Flight, host: Host): Effect.Effect<void> =>
    flight.sentry === undefined
      ? ran(flight, host, settings.handler.run(flight))
      : watched(flight, host, flight.sentry)

  /** A process may have died with the message: it waits for its turn, which is noted, or is given up without being started. */
  const watched = (flight: Flight, host: Host, sentry: Sentry): Effect.Effect<void> => {
    const verdict = sentry.verdict(flight)
    if (verdict === "begins") return ran(flight, host, settings.handler.run(flight))
    if (typeof verdict !== "string") {
      const cause = flight.lastCause === undefined ? verdict : Cause.sequential(flight.lastCause, verdict)
      return giveUp(flight, host, cause as Cause.Cause<never>, settings.onExhausted)
    }
    if (!flight.goesOn()) return Effect.void
    flight.wait(verdict)
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(restore(sentry.turn(flight)), (hasTurn) => {
        const begins = flight.begin()
        if (!hasTurn) return begins ? restore(Effect.suspend(() => watched(flight, host, sentry))) : Effect.void
        if (!begins) return sentry.done(flight, false)
        return Effect.flatMap(Effect.exit(restore(settings.handler.run(flight))), (exit) =>
          // What the attempt has opened may end the process as well.
          endScope(host, exit).pipe(
            Effect.zipRight(sentry.done(flight, Exit.isSuccess(exit))),
            Effect.zipRight(restore(ran(flight, host, exit)))
          ))
      })
    )
  }

  const ran = (
    flight: Flight,
    host: Host,
    handling: Effect.Effect<unknown, E | HandlerTimeout>
  ): Effect.Effect<void> =>
    Effect.matchCauseEffect(handling, {
      onFailure: (cause) => after(flight, host, Exit.failCause(cause)),
      onSuccess: (value) => {
        if (host.scope !== undefined) return after(flight, host, Exit.succeed(value))
        if (value !== gone) flight.end("handled")
        return Effect.void
      }
    })

  /** Closes the attempt's scope, and forgets what the attempt has set, before anything else follows. */
  const after = (flight: Flight, host: Host, exit: Exit.Exit<unknown, E | HandlerTimeout>): Effect.Effect<void> =>
    host.scope === undefined
      ? fresh(flight, host, exit)
      : Effect.zipRight(endScope(host, exit), Effect.suspend(() => fresh(flight, host, exit)))

  const fresh = (flight: Flight, host: Host, exit: Exit.Exit<unknown, E | HandlerTimeout>): Effect.Effect<void> => {
    // After a success the slot does that.
    const renewed = Exit.isSuccess(exit) ? undefined : host.renewed()
    return renewed === undefined
      ? ended(flight, host, exit)
      : Effect.zipRight(renewed, Effect.suspend(() => ended(flight, host, exit)))
  }

  const ended = (flight: Flight, host: Host, exit: Exit.Exit<unknown, E | HandlerTimeout>): Effect.Effect<void> => {
    if (Exit.isSuccess(exit)) {
      if (exit.value !== gone) flight.end("handled")
      return Effect.void
    }
    if (flight.undecodable !== undefined) return unreadable(flight, host, flight.undecodable)
    const { cause } = exit
    const error = Cause.failureOption(cause)
    // A defect, or a handler that interrupted itself, goes to the supervisor. A typed failure may come together with an
    // interruption: of fibers that ran beside the one that failed.
    if (Option.isNone(error) || Option.isSome(Cause.dieOption(cause))) {
      if (flight.trial !== undefined && Cause.isDie(cause)) settings.breaker.answered(flight)
      return Effect.failCause(Cause.stripFailures(cause))
    }
    flight.lastCause = cause
    const decision = UserCode.sync(() => settings.onError(error.value))
    if (decision._tag === "Circuit") {
      settings.breaker.failed(flight, decision, () => shortly(cause))
      return standBy(flight, host, "circuit")
    }
    if (flight.trial !== undefined) settings.breaker.answered(flight)
    return decision._tag === "Retry"
      ? retry(flight, host, cause, error.value)
      : giveUp(flight, host, cause, decision)
  }

  // `retry` and `holdOn` wait outside of a generator. A generator that never ends would grow the fiber's stack with each attempt.
  const retry = (
    flight: Flight,
    host: Host,
    cause: Cause.Cause<E | HandlerTimeout>,
    error: E | HandlerTimeout
  ): Effect.Effect<void> => {
    if (flight.isHeld) return holdOn(flight, host)
    if (!flight.goesOn()) return Effect.void
    return Effect.flatMap(retryDriver(flight), (driver) => {
      flight.wait("retry")
      // A schedule that throws has ended, too: the handler must not run again and again because of it.
      return Effect.flatMap(Effect.exit(driver.next(error)), (next) => {
        if (Exit.isFailure(next)) {
          const given = giveUp(flight, host, cause, settings.onExhausted)
          return Cause.isDie(next.cause)
            ? Effect.zipRight(
              settings.say(
                Logging.error(`The retry schedule died: ${describeCause(next.cause)}`, {
                  ...flight.position,
                  group: flight.group,
                  aggregateId: flight.aggregateId
                })
              ),
              given
            )
            : given
        }
        return flight.begin() ? attempt(flight, host) : Effect.void
      })
    })
  }

  const retryDriver = (flight: Flight): Effect.Effect<Schedule.ScheduleDriver<unknown, E | HandlerTimeout>> =>
    flight.retry === undefined
      ? Effect.tap(
        Schedule.driver(settings.retry),
        (driver) => Effect.sync(() => flight.retry = driver as Flight["retry"])
      )
      : Effect.succeed(flight.retry as Schedule.ScheduleDriver<unknown, E | HandlerTimeout>)

  /** It keeps its retries, and its subscription begins nothing more. */
  const standBy = (flight: Flight, host: Host, why: "circuit" | "guard"): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (!flight.goesOn() || flight.standsBy(why)) return Effect.void
      // Somebody lets it go on already.
      return flight.begin() ? start(flight, host) : Effect.void
    })

  const holdOn = (flight: Flight, host: Host): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (!flight.goesOn()) return Effect.void
      flight.hold()
      return Effect.flatMap(
        Effect.sleep(settings.holdInterval),
        () => flight.begin() ? start(flight, host) : Effect.void
      )
    })

  const giveUp = (
    flight: Flight,
    host: Host,
    cause: Cause.Cause<E | HandlerTimeout | DecodeError | UnknownEventType>,
    policy: FailurePolicy,
    isByHand = false
  ): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (!isByHand && policy._tag !== "Hold" && settings.breaker.keeps(flight, () => shortly(cause))) {
        flight.retry = undefined
        return standBy(flight, host, "guard")
      }
      // Whatever it was to probe for: what follows may take long, and says nothing.
      if (flight.trial !== undefined) flight.trial.over(flight)
      const failure = new EnvelopeFailure<E>({
        position: flight.position,
        group: flight.group,
        aggregateId: flight.aggregateId,
        attempts: flight.attempt,
        restarts: flight.restarts,
        policy,
        cause
      })
      const reported = Effect.suspend(() => {
        flight.report(policy._tag !== "Hold")
        return settings.report(failure, flight.envelope?.eventId)
      })
      switch (policy._tag) {
        case "Hold": {
          if (flight.isHeld) return holdOn(flight, host)
          flight.willHold()
          return Effect.zipRight(reported, holdOn(flight, host))
        }
        case "DeadLetter": {
          flight.deadLetter()
          return settings.deadLetter(policy.spec, flight, failure).pipe(
            Effect.zipRight(reported),
            Effect.map(() => flight.end("dead-lettered"))
          )
        }
        case "Park": {
          const { parking } = flight.carrier
          if (flight.key === undefined || parking === undefined) {
            // Without a key it belongs to no aggregate, and there is no order that parking could keep.
            return parking === undefined
              ? Effect.die(new TypeError("onError answered FailurePolicy.park: give it as the option parking, too"))
              // The guard has counted it.
              : giveUp(flight, host, cause, policy.undecodable, true)
          }
          flight.park()
          return Effect.flatMap(parking.park(flight, cause), (isParked) =>
            isParked
              ? Effect.map(reported, () => flight.end("parked"))
              : Effect.sync(() => flight.giveBack()))
        }
        case "Drop":
          return Effect.map(reported, () => flight.end("dropped"))
        default:
          // `onExhausted` was checked. The actor is restarted for this, and then `onExhausted` decides.
          return Effect.die(
            new TypeError("onError answered no decision: expected FailurePolicy.retry, deadLetter, drop or circuit")
          )
      }
    })

  const unreadable = (flight: Flight, host: Host, error: DecodeError | UnknownEventType): Effect.Effect<void> => {
    const { counters } = flight.carrier.subscriber
    const isFirst = flight.lastCause === undefined
    flight.lastCause = Cause.fail(error)
    if (error._tag === "DecodeError") {
      if (isFirst) counters.undecodable++
      return giveUp(flight, host, Cause.fail(error), bytesPolicy(settings.onExhausted))
    }
    if (isFirst) counters.unknownType++
    const policy = settings.onUnknownType ?? settings.onExhausted
    return policy._tag === "Skip" ? skipped(flight) : giveUp(flight, host, Cause.fail(error), policy)
  }

  const skipped = (flight: Flight) => Effect.sync(() => flight.end("skipped"))

  /** The message's turn has come. */
  const start = (flight: Flight, host: Host): Effect.Effect<void> => {
    if (flight.isTombstone) {
      if (flight.attempt === 0) flight.carrier.subscriber.counters.tombstones++
      return settings.handler.handlesTombstones ? attempt(flight, host) : skipped(flight)
    }
    const error = settings.handler.decode(flight)
    return error === undefined ? attempt(flight, host) : unreadable(flight, host, error)
  }

  return {
    receive: (flight, host) => flight.begin() ? start(flight, host) : Effect.void,
    giveUp: (flight, cause, host, byHand) =>
      flight.isHeld && byHand?.policy === undefined
        ? holdOn(flight, host)
        : giveUp(
          flight,
          host,
          cause as Cause.Cause<never>,
          byHand?.policy ?? settings.onExhausted,
          byHand !== undefined
        )
  }
}

/** Without the lines of stacks. */
const shortly = (cause: Cause.Cause<unknown>): string =>
  describeCause(cause).split("\n").filter((line) => !/^\s+at /.test(line)).join("\n")

/** Bytes that can't be decoded will not get better, so they are never held or parked. */
const bytesPolicy = (policy: FailurePolicy): DeadLetter | Drop =>
  policy._tag === "Hold" || policy._tag === "Park" ? policy.undecodable : policy
