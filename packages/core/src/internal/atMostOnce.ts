import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { DecodeError, HandlerTimeout, UnknownEventType } from "../EventBusError.js"
import { PlainFailure } from "../Failure.js"
import type { Skip } from "../FailurePolicy.js"
import { gone, type Handler } from "./attempt.js"
import type { Behaviour, Flight } from "./flight.js"
import { endScope, type Host } from "./home.js"

/** @internal */
export interface Settings<E> {
  readonly handler: Handler<E>
  readonly onUnknownType: Skip | undefined
  readonly report: (failure: PlainFailure<E>, eventId: string | undefined) => Effect.Effect<void>
}

/**
 * How at-most-once messages are handled, which were settled before. A failure of any kind is counted and reported, and the next
 * message has its turn.
 *
 * @internal
 */
export const behaviour = <E>(settings: Settings<E>): Behaviour => {
  const failed = (
    flight: Flight,
    cause: Cause.Cause<E | HandlerTimeout | DecodeError | UnknownEventType>
  ): Effect.Effect<void> => {
    flight.lastCause = cause
    flight.report()
    return Effect.map(
      settings.report(
        new PlainFailure<E>({ position: flight.position, group: flight.group, aggregateId: flight.aggregateId, cause }),
        flight.envelope?.eventId
      ),
      () => flight.end("failed")
    )
  }

  const unreadable = (flight: Flight, error: DecodeError | UnknownEventType): Effect.Effect<void> => {
    const { counters } = flight.carrier.subscriber
    if (error._tag === "DecodeError") counters.undecodable++
    else counters.unknownType++
    return error._tag === "UnknownEventType" && settings.onUnknownType !== undefined
      ? skipped(flight)
      : failed(flight, Cause.fail(error))
  }

  const skipped = (flight: Flight) => Effect.sync(() => flight.end("skipped"))

  const ended = (flight: Flight, exit: Exit.Exit<unknown, E | HandlerTimeout>): Effect.Effect<void> => {
    if (Exit.isSuccess(exit)) {
      if (exit.value !== gone) flight.end("handled")
      return Effect.void
    }
    if (flight.undecodable !== undefined) return unreadable(flight, flight.undecodable)
    const { cause } = exit
    // A typed failure ends here. A defect ends the fiber.
    return Cause.isFailure(cause) && !Cause.isDie(cause)
      ? failed(flight, cause)
      : Effect.failCause(Cause.stripFailures(cause))
  }

  const after = (flight: Flight, host: Host, exit: Exit.Exit<unknown, E | HandlerTimeout>): Effect.Effect<void> =>
    host.scope === undefined
      ? ended(flight, exit)
      : Effect.zipRight(endScope(host, exit), Effect.suspend(() => ended(flight, exit)))

  return {
    receive: (flight, host) => {
      // It was given back, or the former fiber died while it handled this message and this one has reported that.
      if (!flight.begin()) return Effect.void
      if (flight.isTombstone) {
        flight.carrier.subscriber.counters.tombstones++
        if (!settings.handler.handlesTombstones) return skipped(flight)
      }
      const error = settings.handler.decode(flight)
      if (error !== undefined) return unreadable(flight, error)
      return Effect.matchCauseEffect(settings.handler.run(flight), {
        onFailure: (cause) => after(flight, host, Exit.failCause(cause)),
        onSuccess: (value) => after(flight, host, Exit.succeed(value))
      })
    },
    // At once: an interruption during the wait for the restart would leave the failure unsaid.
    crashed: (flight) => failed(flight, flight.lastCause as Cause.Cause<never>),
    giveUp: (flight, cause) => flight.state === "ended" ? Effect.void : failed(flight, cause as Cause.Cause<never>)
  }
}
