/**
 * What became of messages, as `TestBus` tells it.
 *
 * @since 0.1.0
 */
import type { Envelope, Failure, Headers, Transport } from "@effect-eventbus/core"
import type * as Cause from "effect/Cause"
import * as Data from "effect/Data"

/**
 * What became of a message.
 *
 * @since 0.1.0
 * @category models
 */
export interface Outcome {
  readonly group: string
  /** How often its handler was started; 0 where it could not be decoded. */
  readonly attempts: number
  /** Why the attempts failed, in their order; one that a timeout broke off is an interruption here. */
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
 * A message as it was published. It is a receipt, too: expectations take it.
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
  /** What the handler was called with: the event, or the bytes of a plain message. */
  readonly event: A
  readonly delivery: D
}

/**
 * A message did not become what was expected. The message says what happened instead; `cause` is its last failure.
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
 * Not everything came to an end in time. The message has a line for each of the first ten that did not.
 *
 * @since 0.1.0
 * @category errors
 */
export class NotSettled extends Data.TaggedError("NotSettled")<{
  readonly unfinished: number
  readonly message: string
}> {}
