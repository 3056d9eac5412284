import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { Delivery } from "../Delivery.js"
import { type DecodeError, HandlerTimeout, type UnknownEventType } from "../EventBusError.js"
import type { CommonOptions } from "../Subscription.js"
import type { Incoming } from "./incoming.js"
import * as UserCode from "./userCode.js"
import type { Work } from "./work.js"

/**
 * A user's handler with what surrounds it: the payload is decoded, once, when the
 * message's turn has come; the time and the number of running handlers are limited where asked for.
 *
 * @internal
 */
export interface Handler<E, R> {
  readonly incoming: Incoming
  /** Whether there is somebody for a tombstone. */
  readonly handlesTombstones: boolean
  readonly decode: (work: Work) => DecodeError | UnknownEventType | undefined
  /** Where a Schema needs an effect, its failure is in `work.undecodable`, too. */
  readonly run: (work: Work) => Effect.Effect<unknown, E | HandlerTimeout, R>
}

/** @internal */
export const make = <E, R>(
  incoming: Incoming,
  handle: (event: never, work: Work) => Effect.Effect<unknown, E, R>,
  options: CommonOptions,
  onTombstone?: (delivery: Delivery) => Effect.Effect<unknown, E, R>
): Handler<E, R> => {
  let run = (work: Work): Effect.Effect<unknown, E | HandlerTimeout, R> =>
    work.isTombstone
      ? UserCode.call(() => onTombstone!(work))
      : work.decoding === undefined
      ? UserCode.call(() => handle(work.event as never, work))
      : decodeFirst(work, work.decoding)
  const decodeFirst = (work: Work, decoding: NonNullable<Work["decoding"]>) =>
    Effect.matchEffect(decoding, {
      onFailure: (error) => {
        work.undecodable = error
        // The behaviour looks there first.
        return Effect.fail(error as never)
      },
      onSuccess: (event) => {
        work.event = event
        work.isDecoded = true
        work.decoding = undefined
        return UserCode.call(() => handle(event as never, work))
      }
    })
  if (options.handlerTimeout !== undefined) {
    const timeout = Duration.decode(options.handlerTimeout)
    const untimed = run
    run = (work) =>
      Effect.timeoutFail(Effect.suspend(() => untimed(work)), {
        duration: timeout,
        onTimeout: () => new HandlerTimeout({ position: work.position, timeout })
      })
  }
  if (options.concurrency !== undefined) {
    const permits = Effect.unsafeMakeSemaphore(options.concurrency)
    const unlimited = run
    run = (work) => permits.withPermits(1)(Effect.suspend(() => unlimited(work)))
  }
  return {
    incoming,
    run,
    handlesTombstones: onTombstone !== undefined,
    decode: (work) => {
      if (work.isDecoded || work.isTombstone || work.decoding !== undefined) return undefined
      if (work.undecodable !== undefined) return work.undecodable
      const event = incoming.event(work.envelope, work.message)
      if (!Either.isEither(event)) {
        work.decoding = event
        return undefined
      }
      if (Either.isLeft(event)) return event.left
      work.event = event.right
      work.isDecoded = true
      return undefined
    }
  }
}
