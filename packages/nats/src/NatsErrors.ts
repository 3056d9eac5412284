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
 * What the user of the connection may not do, as the server says it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Denied {
  readonly operation: "publish" | "subscribe"
  readonly subject: string
}

/**
 * The missing permission in words.
 *
 * @since 0.1.0
 * @category conversions
 */
export const deniedInWords = ({ operation, subject }: Denied): string =>
  `the user has no permission to ${operation} to "${subject}"`

/**
 * A request to the server failed. It is the cause within the errors of the bus.
 *
 * @since 0.1.0
 * @category errors
 */
export class NatsRequestFailed extends Data.TaggedError("NatsRequestFailed")<{
  readonly subject: string
  /**
   * `Closed`: the connection is closed for good; `NoResponders`: nobody listens there; `Denied`: the user has not the permission that `denied` names; `Api`: JetStream refused, and
   * `error` says why.
   */
  readonly reason: "Timeout" | "NoResponders" | "Disconnected" | "Closed" | "Denied" | "Api"
  readonly error?: ApiError | undefined
  readonly denied?: Denied | undefined
  readonly cause?: unknown
}> {
  override get message() {
    if (this.error !== undefined) {
      return `The request ${this.subject} was refused: ${this.error.description} (${this.error.err_code})`
    }
    return `The request ${this.subject} failed: ${this.denied === undefined ? this.reason : deniedInWords(this.denied)}`
  }
}

/**
 * The error codes of JetStream that make a difference here.
 *
 * @since 0.1.0
 * @category codes
 */
export const codes = {
  accountResourcesExceeded: 10002,
  incomplete: 10004,
  notAssigned: 10007,
  temporarilyUnavailable: 10008,
  notLeader: 10009,
  consumerCreateFailed: 10012,
  consumerNotFound: 10014,
  workQueueNeedsExplicitAck: 10098,
  maxAckPendingExceeded: 10121,
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
  unsupportedInCluster: 10036,
  noMessage: 10037,
  memoryExceeded: 10028,
  notEnabledForAccount: 10039,
  raftFailed: 10041,
  storageExceeded: 10047,
  streamLimits: 10053,
  messageTooLarge: 10054,
  streamNotFound: 10059,
  sequenceNotMatched: 10063,
  subjectsOverlap: 10065,
  notEnabled: 10076,
  storeFailed: 10077,
  streamNameInUse: 10058,
  headersTooLarge: 10097,
  consumerExists: 10148,
  consumerDoesNotExist: 10149,
  duplicateInProcess: 10158,
  tooManyRequests: 10167
} as const

/**
 * What an error of JetStream means: `NotFound`: the stream or the consumer is not there; `Temporary`: the same can succeed a little later;
 * `StorageFull`: the same can succeed when there is room again; `TooLarge`, `WrongLast`: of a message, it is too large or was expected
 * behind another one; `NotEnabled`: there is no JetStream; `Refused`: what is asked for is not possible, and trying again does not help;
 * `Failed`: all else.
 *
 * @since 0.1.0
 * @category models
 */
export type Meaning =
  | "NotFound"
  | "Temporary"
  | "StorageFull"
  | "TooLarge"
  | "WrongLast"
  | "NotEnabled"
  | "Refused"
  | "Failed"

const meanings: ReadonlyMap<number, Meaning> = new Map<number, Meaning>([
  [codes.streamNotFound, "NotFound"],
  [codes.consumerNotFound, "NotFound"],
  [codes.consumerDoesNotExist, "NotFound"],
  [codes.noMessage, "Failed"],
  [codes.incomplete, "Temporary"],
  [codes.notAssigned, "Temporary"],
  [codes.temporarilyUnavailable, "Temporary"],
  [codes.notLeader, "Temporary"],
  [codes.raftFailed, "Temporary"],
  [codes.sequenceNotMatched, "Temporary"],
  [codes.duplicateInProcess, "Temporary"],
  [codes.tooManyRequests, "Temporary"],
  [codes.accountResourcesExceeded, "StorageFull"],
  [codes.insufficientResources, "StorageFull"],
  [codes.memoryExceeded, "StorageFull"],
  [codes.storageExceeded, "StorageFull"],
  [codes.storeFailed, "StorageFull"],
  [codes.messageTooLarge, "TooLarge"],
  [codes.headersTooLarge, "TooLarge"],
  [codes.wrongLastSequence, "WrongLast"],
  [codes.wrongLastSequenceAnonymous, "WrongLast"],
  [codes.wrongLastMessageId, "WrongLast"],
  [codes.notEnabled, "NotEnabled"],
  [codes.notEnabledForAccount, "NotEnabled"],
  // To some things that it never does the server answers as if it had failed.
  [codes.unsupportedInCluster, "Refused"],
  [codes.consumerCreateFailed, "Refused"],
  [codes.streamLimits, "Refused"],
  [codes.streamInvalidConfig, "Refused"],
  [codes.streamUpdateRefused, "Refused"],
  [codes.replicasNotSupported, "Refused"]
])

/**
 * What an error of JetStream means, also one whose code is not known here.
 *
 * @since 0.1.0
 * @category conversions
 */
export const meaningOf = ({ code, err_code }: ApiError): Meaning =>
  meanings.get(err_code) ??
    (code === 429 || code === 503
      ? "Temporary"
      : code === 404
      ? "NotFound"
      : code >= 400 && code < 500
      ? "Refused"
      : "Failed")

/**
 * Whether JetStream said that the stream, or the consumer, is not there.
 *
 * @since 0.1.0
 * @category guards
 */
export const isNotFound = (failure: NatsRequestFailed): boolean =>
  failure.error !== undefined && meaningOf(failure.error) === "NotFound"

/**
 * Whether JetStream can't do it at the moment: the same can succeed a little later.
 *
 * @since 0.1.0
 * @category guards
 */
export const isTemporary = (error: ApiError): boolean => meaningOf(error) === "Temporary"

/**
 * Whether the same request can succeed a little later.
 *
 * @since 0.1.0
 * @category guards
 */
export const isTransient = (failure: NatsRequestFailed): boolean =>
  failure.reason !== "Denied" && failure.reason !== "Closed" &&
  (failure.error === undefined || isTemporary(failure.error))

/**
 * Whether waiting can help: the same request may succeed when the server is back, when there is room, or when somebody has made again what
 * is missing.
 *
 * @since 0.1.0
 * @category guards
 */
export const isWorthWaiting = (failure: NatsRequestFailed): boolean =>
  isTransient(failure) || isStorageFull(failure) || isNotFound(failure)

/**
 * Whether what is asked for is not possible: trying again does not help.
 *
 * @since 0.1.0
 * @category guards
 */
export const isRefused = (error: ApiError): boolean => meaningOf(error) === "Refused"

/**
 * Whether there is no room for what is to be written.
 *
 * @since 0.1.0
 * @category guards
 */
export const isStorageFull = (failure: NatsRequestFailed): boolean =>
  failure.error !== undefined && meaningOf(failure.error) === "StorageFull"

/**
 * The error of a publish that the stream refused.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toPublishError = (topic: string, size: number, error: ApiError): MessageTooLarge | PublishFailed => {
  const meaning = meaningOf(error)
  if (meaning === "TooLarge") return new MessageTooLarge({ topic, size, cause: error.description })
  const reason = meaning === "StorageFull" ? meaning : meaning === "WrongLast" ? "WrongLastSequence" : "Rejected"
  return new PublishFailed({ topic, reason, outcome: "not-written", cause: error.description })
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
    ? new PublishFailed({ topic, reason: reasonOf(failure), outcome: "not-written", cause: failure })
    : failure

const reasonOf = (failure: NatsRequestFailed): PublishFailed["reason"] => {
  if (isStorageFull(failure)) return "StorageFull"
  switch (failure.reason) {
    case "Api":
    case "Denied":
      return "Rejected"
    case "Timeout":
      return "Timeout"
    default:
      return "Unreachable"
  }
}

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
