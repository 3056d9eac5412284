import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type { PublishError } from "../EventBusError.js"
import type { EnvelopeFailure } from "../Failure.js"
import * as Headers from "../Headers.js"
import type * as Transport from "../Transport.js"
import type { Work } from "./work.js"

/** A cause in a header is for people; brokers limit headers. */
const maxCauseLength = 2_000

/** What can't be headers of the dead letter is text in one of them, if it is no longer than so many characters. */
const maxTextLength = 16_384

/**
 * The headers that a dead letter gets beside its own: where it came from, and why it was given up.
 *
 * @internal
 */
export const headers = (work: Work, failure: EnvelopeFailure): Headers.Headers => ({
  "X-Dead-Letter-Topic": work.topic,
  "X-Dead-Letter-Partition": String(work.partition),
  "X-Dead-Letter-Offset": String(work.offset),
  "X-Dead-Letter-Timestamp": String(work.timestamp),
  "X-Dead-Letter-Group": work.group,
  "X-Dead-Letter-Attempts": String(failure.attempts),
  "X-Dead-Letter-Restarts": String(failure.restarts),
  "X-Dead-Letter-Error": errorTag(failure.cause),
  "X-Dead-Letter-Cause": oneLine(Cause.pretty(failure.cause)).slice(0, maxCauseLength)
})

/**
 * Publishes the original message to the dead-letter topic, until the broker has confirmed it.
 *
 * @internal
 */
export const publisher = (
  transport: Transport.Service,
  timeout: Duration.Duration,
  retry: Schedule.Schedule<unknown, PublishError>
) =>
(topic: Transport.TopicSpec, work: Work, failure: EnvelopeFailure): Effect.Effect<void> => {
  const all = headers(work, failure)
  const { "X-Dead-Letter-Cause": _, ...withoutCause } = all
  const publish = (letter: Headers.Headers) =>
    Effect.flatMap(
      transport.publish(topic, [{
        // One message has one dead letter, however often its publishing is tried.
        id: `${work.topic}/${work.partition}/${work.offset}/${work.group}`,
        aggregateId: work.aggregateId,
        key: work.key,
        value: work.value,
        headers: letter,
        // Its own time, as of publishing: retention goes by it, and would soon delete the dead letters of old events.
        timestamp: undefined
      }], { timeout }),
      (results) => results[0]!
    )
  return publish(Headers.merge(work.headers, all)).pipe(
    // The cause is the one part that can be missed where the original fits by a hair.
    Effect.catchIf(isRefused, () => publish(Headers.merge(work.headers, withoutCause))),
    // Foreign producers write headers that a client of this broker can't write, or as many as leave no room.
    Effect.catchIf(isRefused, () => publish({ ...withoutCause, ...asText(work.headers) })),
    Effect.catchIf(isRefused, () => publish(withoutCause)),
    // It was written by an attempt whose answer was lost, in this process or before a crash.
    Effect.catchIf((error) => error._tag === "PublishFailed" && error.reason === "Duplicate", () => Effect.void),
    Effect.tapError((error) =>
      Effect.logError(`A dead letter could not be published and is tried again. ${error.message}`)
    ),
    Effect.retry(retry),
    Effect.asVoid,
    // The schedule has no end; were it given one, the message must stay unfinished.
    Effect.orDie
  )
}

const isRefused = (error: PublishError): boolean => error._tag === "InvalidMessage" || error._tag === "MessageTooLarge"

const asText = (own: Headers.Headers): Headers.Headers => {
  const values = (value: Headers.Headers[string]) =>
    [value ?? []].flat().map((one) => Headers.valueToString(one as Headers.HeaderValue))
  const text = escaped(JSON.stringify(Object.entries(own).map(([name, value]) => [name, ...values(value)])))
  return text.length > maxTextLength ? {} : { "X-Dead-Letter-Headers": text }
}

const escaped = (json: string): string =>
  json.replace(/[^\x20-\x7e]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`)

const errorTag = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  if (typeof error !== "object" || error === null) return typeof error
  if ("_tag" in error && typeof error._tag === "string") return oneLine(error._tag)
  return error instanceof Error ? oneLine(error.name) : "object"
}

/** Printable ASCII on one line: the safest header value on every broker. */
const oneLine = (text: string): string => text.replace(/\s+/g, " ").replace(/[^\x20-\x7e]/g, "?").trim()
