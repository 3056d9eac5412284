/**
 * Replaying: a bounded part of a topic is read again and handled, outside of any
 * group. Subscriptions and their positions don't notice.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import type { BusClosed, HandlerTimeout, Position, ReadError, ReplayUnsupported } from "./EventBusError.js"
import { describeCause } from "./internal/describeCause.js"
import type { RateLimit } from "./RateLimit.js"
import type { ReadFrom, ReadTo } from "./Transport.js"

/**
 * Which part of a topic is replayed, and how its handlers run.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** Where it begins. Default: `"earliest"`. */
  readonly from?: ReadFrom | undefined
  /** Where it ends, exclusively. Default: `"now"`, what is in the topic when the replay begins. */
  readonly to?: ReadTo | undefined
  /** Only the messages of this aggregate are handled. All partitions are read, because only the message itself names its aggregate. Default: all. */
  readonly aggregateId?: string | undefined
  /** Only these partitions are read: for one aggregate, where you know its partition. Default: all. */
  readonly partitions?: ReadonlyArray<number> | undefined
  /** How many handlers run at once, each for another aggregate. Default: unbounded, within the bounds of the bus. */
  readonly concurrency?: number | undefined
  /** How many messages are handed over in a second. Default: no limit. */
  readonly rate?: RateLimit | undefined
  /**
   * After this time a handler is interrupted, and has failed with `HandlerTimeout`. A promise behind it goes on unless it is given the
   * signal of `Effect.tryPromise((signal) => …)`, also beside the next attempt. Default: none.
   */
  readonly handlerTimeout?: Duration.DurationInput | undefined
  /** Whether the last valid token of the subject is the aggregate id if the message has no other (NATS). Default: false. */
  readonly aggregateIdFromSubject?: boolean | undefined
}

/**
 * What a replay did.
 *
 * @since 0.1.0
 * @category models
 */
export interface Report {
  /** Messages that were read. */
  readonly read: number
  /** Messages whose handler succeeded. */
  readonly handled: number
  /** Messages of other aggregates than the one that was asked for. */
  readonly skipped: number
  /** Messages that could not be decoded. Each is logged and passed over. */
  readonly undecodable: number
  /** Events of a type that the topic's Schema does not know. Each is logged and passed over. */
  readonly unknownType: number
  /** Tombstones on a topic of envelopes, which are passed over. */
  readonly tombstones: number
}

/**
 * A handler failed or died, and the replay has ended. The replay retries nothing. If a retry can help, let the handler retry.
 *
 * @since 0.1.0
 * @category errors
 */
export class ReplayFailed<E = unknown> extends Data.TaggedError("ReplayFailed")<{
  readonly position: Position
  readonly aggregateId: string | undefined
  /** What was done until then. Handlers that ran beside it are interrupted. */
  readonly report: Report
  readonly cause: Cause.Cause<unknown>
}> {
  /** @since 0.1.0 */
  declare readonly cause: Cause.Cause<E | HandlerTimeout>
  override get message() {
    const { offset, partition, topic } = this.position
    return `The replay ended at ${topic}[${partition}]@${offset}, whose handler failed: ${describeCause(this.cause)}`
  }
}

/**
 * How a replay can fail beside its handlers.
 *
 * @since 0.1.0
 * @category errors
 */
export type ReplayError = BusClosed | ReplayUnsupported | ReadError
