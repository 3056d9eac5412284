/** Why a message was not acknowledged, and whether the stream can have it all the same. */
import { type PublishError, PublishFailed } from "@effect-eventbus/core/EventBusError"
import { type Denied, deniedInWords } from "../NatsErrors.js"
import type { Entry } from "./Outgoing.js"

const topicOf = (entry: Entry): string => entry.topic.spec.name

/** It may have been written, and the stream would not know it again. */
export const unknown = (entry: Entry): PublishFailed =>
  new PublishFailed({
    topic: topicOf(entry),
    reason: "Unreachable",
    outcome: "unknown",
    cause: "the connection was lost before the answer came, and the stream may not know the message's id any more: " +
      "sent again it could be written twice"
  })

/** It waited behind this one. */
export const behind = ({ message, reason, topic }: PublishFailed): PublishFailed =>
  new PublishFailed({
    topic,
    reason,
    outcome: "not-written",
    cause: `the message before it, of the same aggregate or key, failed: ${message}`
  })

export const denied = (entry: Entry, denied: Denied): PublishFailed =>
  new PublishFailed({ topic: topicOf(entry), reason: "Rejected", outcome: "not-written", cause: deniedInWords(denied) })

/** The stream has another message with its id, or one that can't be compared for this reason. */
export const duplicate = (entry: Entry, sequence: number, incomparable: unknown): PublishFailed =>
  new PublishFailed({
    topic: topicOf(entry),
    reason: "Duplicate",
    outcome: incomparable === undefined ? "not-written" : "unknown",
    cause: incomparable === undefined
      ? `the stream has another message with this id, at ${sequence}`
      : `the stream had a message with this id, at ${sequence}, and it can't be compared: ${String(incomparable)}`
  })

/** An attempt that was refused; one before it, whose answer was lost, may have been written all the same. */
export const refused = (entry: Entry, error: PublishError): PublishError =>
  entry.maybeWritten
    ? new PublishFailed({ topic: topicOf(entry), reason: "Rejected", outcome: "unknown", cause: error })
    : error
