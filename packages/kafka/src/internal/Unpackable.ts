/**
 * A batch of records that is not unpacked, because it would take more memory than
 * is allowed. It takes the way of what can't be read: as one message without a key, whose
 * value is the batch as it lies in the log, so that the failure policy drops it or keeps it
 * in a dead letter. Plain messages have no such way: there it is passed over.
 */
import type { TopicSpec } from "@effect-eventbus/core/Transport"
import * as Effect from "effect/Effect"
import type { Fetched } from "./Fetched.js"
import type { UnreadableBatch } from "./records.js"

/** Says why a message is not what was published. */
export const HEADER = "X-Unreadable-Batch"

/** However large a batch is: a codec that never answers must not stop its partition in silence. */
export const inTime = <A>(unpacking: Effect.Effect<A, unknown>): Effect.Effect<A, unknown> =>
  Effect.timeoutFail(unpacking, {
    duration: "1 minute",
    onTimeout: () => new Error("A codec has not unpacked a record batch within a minute")
  })

/** Nobody can see otherwise why something is missing, or is not what was published. */
export const said = (
  { message }: UnreadableBatch,
  topic: Pick<TopicSpec, "kind" | "name">,
  partition: number,
  offset: number
): Effect.Effect<void> =>
  Effect.logError(
    topic.kind === "envelope"
      ? "A record batch is not unpacked: the subscription gets it as one message that can't be decoded"
      : "A record batch is not unpacked, and is passed over",
    message
  ).pipe(Effect.annotateLogs({ topic: topic.name, partition, offset }))

/** What is read in the batch's place. */
export const instead = (
  { batch, message }: UnreadableBatch,
  topic: Pick<TopicSpec, "kind" | "name">,
  partition: number,
  from: number,
  duplicatesBelow: number
): Fetched => {
  const offset = Math.max(from, batch.offset)
  const value = Buffer.from(batch.bytes)
  let left = topic.kind === "envelope" ? 1 : 0
  return {
    get left() {
      return left
    },
    next: batch.next,
    epochs: [],
    bytes: value.length,
    take: (max) => {
      if (left === 0 || max < 1) return []
      left = 0
      return [{
        topic: topic.name,
        partition,
        offset,
        key: null,
        value,
        headers: { [HEADER]: message },
        timestamp: batch.timestamp,
        maybeDuplicate: offset < duplicatesBelow,
        deliveryCount: undefined
      }]
    }
  }
}
