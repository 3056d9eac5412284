/**
 * How messages ended, as `TestBus` tells it.
 *
 * @since 0.1.0
 */
import type { Envelope, Failure, Headers, Transport } from "@effect-eventbus/core"
import type * as Cause from "effect/Cause"
import * as Data from "effect/Data"

/**
 * How a message ended.
 *
 * @since 0.1.0
 * @category models
 */
export interface Outcome {
  readonly group: string
  /** How often its handler was started. 0: the message could not be decoded. */
  readonly attempts: number
  /** Why the attempts failed, in their order. An attempt that a timeout broke off has a `HandlerTimeout`. */
  readonly causes: ReadonlyArray<Cause.Cause<unknown>>
  /** When each attempt started, in milliseconds since the epoch by the clock of the bus. */
  readonly startedAt: ReadonlyArray<number>
}

/**
 * A message that was given up (or, where the policy is `hold`, goes on at the cap).
 *
 * @since 0.1.0
 * @category models
 */
export interface GivenUp extends Outcome {
  readonly failure: Failure.EnvelopeFailure
}

/**
 * A message that was dead-lettered, with its dead letter.
 *
 * @since 0.1.0
 * @category models
 */
export interface DeadLettered extends GivenUp {
  readonly letter: PublishedMessage
}

/**
 * A plain message whose handler failed.
 *
 * @since 0.1.0
 * @category models
 */
export interface Failed extends Outcome {
  readonly failure: Failure.PlainFailure
}

/**
 * A message as it was published. It is also a receipt, so it can be given to an expectation.
 *
 * @since 0.1.0
 * @category models
 */
export interface PublishedMessage extends Transport.Receipt {
  readonly aggregateId: string | undefined
  readonly key: Uint8Array | null
  readonly headers: Headers.Headers
  readonly value: Uint8Array | null
}

/**
 * A published event, read by its topic's schema.
 *
 * @since 0.1.0
 * @category models
 */
export interface PublishedEvent<out A> extends PublishedMessage {
  readonly event: A
  readonly envelope: Envelope.Envelope
}

/**
 * A message whose handler succeeded.
 *
 * @since 0.1.0
 * @category models
 */
export interface Handled<out A, out D> {
  /** The handler's argument: the event, or the bytes of a plain message. */
  readonly event: A
  readonly delivery: D
}

/**
 * A message ended in another way than expected. The error's message says what happened instead. `cause` is the last failure.
 *
 * @since 0.1.0
 * @category errors
 */
export class ExpectationFailed extends Data.TaggedError("ExpectationFailed")<{
  readonly receipt: Transport.Receipt
  readonly message: string
  readonly cause?: unknown
}> {}

/**
 * Some messages did not end in time. The error's message has a line for each of the first ten.
 *
 * @since 0.1.0
 * @category errors
 */
export class NotSettled extends Data.TaggedError("NotSettled")<{
  readonly unfinished: number
  readonly message: string
}> {}
