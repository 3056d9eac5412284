import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Tracer from "effect/Tracer"
import type { Delivery } from "../Delivery.js"
import { type DecodeError, HandlerTimeout, type UnknownEventType } from "../EventBusError.js"
import type { CommonOptions } from "../Subscription.js"
import type { Flight } from "./flight.js"
import type { Incoming } from "./incoming.js"
import { Waiter } from "./quota.js"
import * as UserCode from "./userCode.js"

/**
 * A user's handler, and what happens around each start of it. The event is decoded when the message's turn has come, and anew for each
 * further attempt, because the one before may have changed it. Where
 * the options say so, the time of an attempt and the number of running handlers are limited.
 *
 * @internal
 */
export interface Handler<E> {
  readonly incoming: Incoming
  /** Whether the subscription has a handler for tombstones. */
  readonly handlesTombstones: boolean
  /** Decodes the event, and answers why there is none. A Schema that needs an effect is run by `run`. */
  readonly decode: (flight: Flight) => DecodeError | UnknownEventType | undefined
  /**
   * Starts the handler. The answer is `gone` if the flight ended while it waited for its permit. If decoding fails, the error is in
   * `flight.undecodable`, too.
   */
  readonly run: (flight: Flight) => Effect.Effect<unknown, E | HandlerTimeout>
}

/** @internal */
export const gone: unique symbol = Symbol.for("@effect-eventbus/core/gone")

/**
 * `R` is what the handler needs: it runs in the subscription's `Home`, which has it.
 *
 * @internal
 */
export const make = <E, R>(
  incoming: Incoming,
  handle: (event: never, delivery: never) => Effect.Effect<unknown, E, R>,
  options: CommonOptions,
  onTombstone?: (delivery: Delivery) => Effect.Effect<unknown, E, R>
): Handler<E> => {
  /** What an attempt has done to its event or envelope is not seen by the next one. */
  const decodeAnew = (flight: Flight): void => {
    const { envelope } = incoming.read(flight.message)
    // A codec that can't read now what it has read before: then there is nothing better.
    if (envelope === undefined && flight.envelope !== undefined) return
    flight.envelope = envelope
    const event = incoming.event(envelope, flight.message)
    if (!Either.isEither(event)) flight.decoding = event
    else if (Either.isRight(event)) flight.event = event.right
  }

  const start = (flight: Flight): Effect.Effect<unknown, E> => {
    flight.started()
    const { spanOf } = flight.carrier.subscriber.observer
    const span = spanOf === undefined ? undefined : spanOf(flight)
    if (span === undefined) return run(flight)
    return Effect.provideService(Effect.suspend(() => run(flight)), Tracer.ParentSpan, span)
  }
  const run = (flight: Flight): Effect.Effect<unknown, E> => {
    if (flight.isTombstone) return called(onTombstone!, flight.delivery(), undefined)
    if (flight.attempt > 1) decodeAnew(flight)
    return flight.decoding === undefined
      ? called(handle, flight.event as never, flight.delivery() as never)
      : Effect.flatMap(
        decoded<E>(flight, flight.decoding),
        // The partition may be taken away while the Schema does its work.
        (event) => flight.goesOn() ? called(handle, event as never, flight.delivery() as never) : Effect.succeed(gone)
      )
  }
  const timed = options.handlerTimeout === undefined ? start : limited(start, Duration.decode(options.handlerTimeout))
  return {
    incoming,
    handlesTombstones: onTombstone !== undefined,
    run: options.concurrency === undefined ? timed : permitted(timed),
    decode: (flight) => {
      if (flight.isDecoded || flight.isTombstone || flight.decoding !== undefined) return undefined
      if (flight.undecodable !== undefined) return flight.undecodable
      const event = incoming.event(flight.envelope, flight.message)
      if (!Either.isEither(event)) {
        flight.decoding = event
        return undefined
      }
      if (Either.isLeft(event)) return event.left
      flight.event = event.right
      flight.isDecoded = true
      return undefined
    }
  }
}

type Run<E> = (flight: Flight) => Effect.Effect<unknown, E>

/** The services that the handler needs are in its subscription's `Home`. */
const called = UserCode.call as <A, B, E, R>(
  f: (a: A, b: B) => Effect.Effect<unknown, E, R>,
  a: A,
  b: B
) => Effect.Effect<unknown, E>

const decoded = <E>(flight: Flight, decoding: NonNullable<Flight["decoding"]>): Effect.Effect<unknown, E> =>
  Effect.matchEffect(decoding, {
    onFailure: (error) => {
      flight.undecodable = error
      // The behaviour looks at `flight.undecodable` first.
      return Effect.fail(error as never)
    },
    onSuccess: (event) => {
      flight.event = event
      flight.isDecoded = true
      flight.decoding = undefined
      return Effect.succeed(event)
    }
  })

const limited = <E>(run: Run<E>, timeout: Duration.Duration): Run<E | HandlerTimeout> => (flight) =>
  Effect.timeoutFail(Effect.suspend(() => flight.goesOn() ? run(flight) : Effect.succeed(gone)), {
    duration: timeout,
    onTimeout: () => new HandlerTimeout({ position: flight.position, timeout })
  })

/** Waits for a permit first, and then asks whether the flight may begin: the partition may be taken away during the wait. */
const permitted = <E>(run: Run<E>): Run<E> => (flight) => {
  const share = flight.carrier.permits!
  let wake: (() => void) | undefined
  let isTaken = false
  const waiter = new Waiter(() => wake!())
  const acquire = Effect.async<void>((resume) => {
    wake = () => resume(Effect.void)
    isTaken = share.take(1, waiter)
    if (isTaken) return resume(Effect.void)
    flight.wait("permit")
  }).pipe(
    // An interruption may arrive between the two.
    Effect.onError(() => Effect.sync(() => isTaken ? share.give(1) : share.cancel(waiter)))
  )
  return Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(restore(acquire), () => {
      // Takes the permit that was reserved during the wait.
      if (waiter.granted > 0) share.take(1, waiter)
      const release = Effect.sync(() => share.give(1))
      if (flight.state !== "running" && !flight.begin()) return Effect.as(release, gone)
      return Effect.ensuring(restore(Effect.suspend(() => run(flight))), release)
    })
  )
}
