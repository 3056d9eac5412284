/** What a broker's answer to a batch means for it. */
import * as ErrorCode from "./ErrorCode.js"

/**
 * - `written`: it is in the log.
 * - `again`: the broker asks for it again. It keeps its numbers, by which a repetition is known.
 * - `put-off`: this attempt wrote nothing, and a later one may. Its numbers are free.
 * - `uncounted`: the broker has lost count of this producer. What it certainly never had is sent under another id.
 * - `too-large`: it was not written, and smaller ones may be.
 * - `refused`: it was not written, and won't be. Its numbers are free.
 * - `unknown`: nobody knows. Its numbers are not used again, or what comes next could be taken for its repetition and dropped: the producer's next epoch begins.
 */
export type Verdict = "written" | "again" | "put-off" | "uncounted" | "too-large" | "refused" | "unknown"

const verdicts = new Map<ErrorCode.ErrorName, Verdict>()
const all = (verdict: Verdict, ...types: ReadonlyArray<ErrorCode.ErrorName>): void => {
  for (const type of types) verdicts.set(type, verdict)
}

// A repetition that the broker knows, and of which it has forgotten the offset.
all("written", "DUPLICATE_SEQUENCE_NUMBER")
// A leader that loses its office while it waits for its followers says so by `NOT_LEADER_OR_FOLLOWER`: it has written by then, and
// the next leader may have that, too. The same goes for a partition that is taken from a broker.
all(
  "again",
  "BROKER_NOT_AVAILABLE",
  "FENCED_LEADER_EPOCH",
  "INCONSISTENT_TOPIC_ID",
  "KAFKA_STORAGE_ERROR",
  "LEADER_NOT_AVAILABLE",
  "NETWORK_EXCEPTION",
  "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
  "NOT_LEADER_OR_FOLLOWER",
  "REPLICA_NOT_AVAILABLE",
  "REQUEST_TIMED_OUT",
  "THROTTLING_QUOTA_EXCEEDED",
  "UNKNOWN_LEADER_EPOCH",
  "UNKNOWN_TOPIC_ID",
  "UNKNOWN_TOPIC_OR_PARTITION"
)
// The broker looks at these before it writes, and they pass.
all("put-off", "CORRUPT_MESSAGE", "NOT_ENOUGH_REPLICAS")
all(
  "uncounted",
  "INVALID_PRODUCER_EPOCH",
  "OUT_OF_ORDER_SEQUENCE_NUMBER",
  "PRODUCER_FENCED",
  "UNKNOWN_PRODUCER_ID"
)
all("too-large", "MESSAGE_TOO_LARGE", "RECORD_LIST_TOO_LARGE")
// The broker looks at these before it writes.
all(
  "refused",
  "CLUSTER_AUTHORIZATION_FAILED",
  "INVALID_RECORD",
  "INVALID_REQUEST",
  "INVALID_REQUIRED_ACKS",
  "INVALID_TIMESTAMP",
  "INVALID_TOPIC_EXCEPTION",
  "POLICY_VIOLATION",
  "TOPIC_AUTHORIZATION_FAILED",
  "UNSUPPORTED_COMPRESSION_TYPE",
  "UNSUPPORTED_FOR_MESSAGE_FORMAT",
  "UNSUPPORTED_VERSION"
)

/** Of an error code; whatever is not known here may have been written. */
export const verdictOf = (errorCode: number): Verdict =>
  errorCode === 0 ? "written" : verdicts.get(ErrorCode.nameOf(errorCode)) ?? "unknown"
