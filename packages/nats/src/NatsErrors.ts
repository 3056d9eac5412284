/**
 * What the server answers when it does not do what was asked, and what that
 * means to the bus.
 *
 * @since 0.1.0
 */
import {
  type InvalidConfiguration,
  MessageTooLarge,
  PublishFailed,
  type SubscribeError,
  SubscribeFailed,
  UnknownTopic
} from "@effect-eventbus/core/EventBusError"
import * as Data from "effect/Data"

/**
 * An error as JetStream writes it.
 *
 * @since 0.1.0
 * @category models
 */
export interface ApiError {
  /** Like HTTP's. */
  readonly code: number
  readonly err_code: number
  readonly description: string
}

/**
 * A request to the server failed. It is the cause within the errors of the bus.
 *
 * @since 0.1.0
 * @category errors
 */
export class NatsRequestFailed extends Data.TaggedError("NatsRequestFailed")<{
  readonly subject: string
  /** `NoResponders`: nobody listens there; `Api`: JetStream refused, and `error` says why. */
  readonly reason: "Timeout" | "NoResponders" | "Disconnected" | "Api"
  readonly error?: ApiError | undefined
  readonly cause?: unknown
}> {
  override get message() {
    return this.error === undefined
      ? `The request ${this.subject} failed: ${this.reason}`
      : `The request ${this.subject} was refused: ${this.error.description} (${this.error.err_code})`
  }
}

/**
 * The error codes of JetStream that make a difference here.
 *
 * @since 0.1.0
 * @category codes
 */
export const codes = {
  temporarilyUnavailable: 10008,
  consumerNotFound: 10014,
  workQueueNeedsExplicitAck: 10098,
  workQueueUnfilteredTwice: 10099,
  workQueueReadTwice: 10100,
  workQueueNotFromStart: 10101,
  streamInvalidConfig: 10052,
  streamUpdateRefused: 10069,
  wrongStream: 10060,
  wrongLastMessageId: 10070,
  wrongLastSequence: 10071,
  wrongLastSequenceAnonymous: 10164,
  replicasNotSupported: 10074,
  insufficientResources: 10023,
  memoryExceeded: 10028,
  notEnabledForAccount: 10039,
  storageExceeded: 10047,
  messageTooLarge: 10054,
  streamNotFound: 10059,
  subjectsOverlap: 10065,
  notEnabled: 10076,
  storeFailed: 10077,
  streamNameInUse: 10058,
  headersTooLarge: 10097,
  consumerExists: 10148,
  consumerDoesNotExist: 10149,
  duplicateInProcess: 10158
} as const

/**
 * Whether JetStream said that the stream, or the consumer, is not there.
 *
 * @since 0.1.0
 * @category guards
 */
export const isNotFound = (failure: NatsRequestFailed): boolean =>
  failure.error !== undefined && (
    failure.error.err_code === codes.streamNotFound || failure.error.err_code === codes.consumerNotFound ||
    failure.error.err_code === codes.consumerDoesNotExist
  )

/**
 * Whether JetStream has no leader for it at the moment: the same can succeed a little later.
 *
 * @since 0.1.0
 * @category guards
 */
export const isTemporary = (error: ApiError): boolean =>
  error.err_code === codes.temporarilyUnavailable || error.err_code === codes.duplicateInProcess

/**
 * The error of a publish that the stream refused.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toPublishError = (topic: string, size: number, error: ApiError): MessageTooLarge | PublishFailed => {
  switch (error.err_code) {
    case codes.messageTooLarge:
    case codes.headersTooLarge:
      return new MessageTooLarge({ topic, size, cause: error.description })
    case codes.insufficientResources:
    case codes.memoryExceeded:
    case codes.storageExceeded:
    case codes.storeFailed:
      return new PublishFailed({ topic, reason: "StorageFull", outcome: "not-written", cause: error.description })
    case codes.wrongLastSequence:
    case codes.wrongLastSequenceAnonymous:
    case codes.wrongLastMessageId:
      return new PublishFailed({
        topic,
        reason: "WrongLastSequence",
        outcome: "not-written",
        cause: error.description
      })
    default:
      return new PublishFailed({ topic, reason: "Rejected", outcome: "not-written", cause: error.description })
  }
}

/**
 * The error of a publish whose stream could not be made or checked.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toNotWritten = (
  topic: string,
  failure: NatsRequestFailed | UnknownTopic | InvalidConfiguration
): UnknownTopic | InvalidConfiguration | PublishFailed =>
  failure._tag === "NatsRequestFailed"
    ? new PublishFailed({
      topic,
      reason: failure.reason === "Api" ? "Rejected" : failure.reason === "Timeout" ? "Timeout" : "Unreachable",
      outcome: "not-written",
      cause: failure
    })
    : failure

/**
 * The error of a subscription that could not be made.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toSubscribeError = (
  topic: string,
  group: string,
  failure: NatsRequestFailed | UnknownTopic | InvalidConfiguration
): SubscribeError => {
  if (failure._tag !== "NatsRequestFailed") return failure
  return failure.error?.err_code === codes.streamNotFound
    ? new UnknownTopic({ topic, transport: "nats", cause: failure })
    : new SubscribeFailed({ topic, group, cause: failure })
}
