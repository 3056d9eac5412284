import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import { headerNames as names } from "../DeadLetter.js"
import { type PublishError, PublishFailed } from "../EventBusError.js"
import type { EnvelopeFailure } from "../Failure.js"
import * as Headers from "../Headers.js"
import type * as Transport from "../Transport.js"
import { describeCause, nameOf } from "./describeCause.js"
import type { Lasting } from "./lasting.js"
import * as Logging from "./logging.js"
import * as Safely from "./safely.js"

/** A cause in a header is for people; brokers limit headers. */
const maxCauseLength = 2_000

/** An error's name and a group's are users' text. A topic's is bounded by its broker. */
const maxNameLength = 256
const maxTopicLength = 2_048

/** What can't be headers of the dead letter is text in one of them, if it is no longer than so many characters. */
const maxTextLength = 16_384

/**
 * What a dead letter is made from.
 *
 * @internal
 */
export interface Original {
  readonly message: Transport.IncomingMessage
  readonly group: string
  readonly aggregateId: string | undefined
}

/** Where the message stood. A letter has at least these headers, if anything fits beside the original. */
const positionHeaders = ({ message }: Original): Headers.Headers => ({
  [names.topic]: Safely.cut(message.topic, maxTopicLength),
  [names.partition]: String(message.partition),
  [names.offset]: String(message.offset)
})

/** All but the cause. Each has a bound, so that together they have one. */
const shortHeaders = (original: Original, failure: EnvelopeFailure): Headers.Headers => ({
  ...positionHeaders(original),
  [names.timestamp]: String(original.message.timestamp),
  [names.group]: Safely.cut(original.group, maxNameLength),
  [names.attempts]: String(failure.attempts),
  [names.restarts]: String(failure.restarts),
  [names.error]: oneLine(nameOf(failure.cause)).slice(0, maxNameLength)
})

/**
 * Publishes the original message to the dead-letter topic, until the broker has confirmed it.
 *
 * @internal
 */
export const publisher = (
  transport: Transport.Service,
  timeout: Duration.Duration,
  retry: Schedule.Schedule<unknown, PublishError>,
  lasting: Lasting
) =>
(topic: Transport.TopicSpec, original: Original, failure: EnvelopeFailure): Effect.Effect<void> => {
  const { aggregateId, group, message } = original
  const publish = (headers: Headers.Headers) =>
    Effect.flatMap(
      transport.publish(topic, [{
        // One message has one dead letter, however often its publishing is tried.
        id: `${message.topic}/${message.partition}/${message.offset}/${group}`,
        aggregateId,
        key: message.key,
        value: message.value,
        headers,
        // Its own time, as of publishing: retention goes by it, and would soon delete the dead letters of old events.
        timestamp: undefined
      }], { timeout }),
      (results) => results[0]!
    )
  return smallerAndSmaller(original, failure, publish).pipe(
    // An earlier try wrote the letter, and its answer was lost: in this process or before a crash.
    Effect.catchIf((error) => error._tag === "PublishFailed" && error.reason === "Duplicate", () => Effect.void),
    // A defect of the transport would only run the actor round in a circle, and nobody would hear of it.
    Effect.catchAllDefect((cause) =>
      new PublishFailed({ topic: topic.name, reason: "Unreachable", outcome: "unknown", cause })
    ),
    Effect.tapError((error) => lasting.failed(original, Safely.cut(error.message, maxCauseLength))),
    Effect.retry(retry),
    // The schedule has no end; were it given one, the message must stay unfinished.
    Effect.orDie,
    Effect.zipRight(lasting.worked(original)),
    // The subscription closes, or the partition is taken away.
    Effect.onError(() => Effect.sync(() => lasting.forget(original)))
  )
}

/** The headers that the bus adds must not cause a refusal. A refused letter is tried with fewer of them, down to the bare message. */
const smallerAndSmaller = <A>(
  original: Original,
  failure: EnvelopeFailure,
  publish: (headers: Headers.Headers) => Effect.Effect<A, PublishError>
): Effect.Effect<A, PublishError> =>
  Effect.suspend(() => {
    const own = original.message.headers
    const short = shortHeaders(original, failure)
    const position = positionHeaders(original)
    const cause = oneLine(describeCause(failure.cause)).slice(0, maxCauseLength)
    return publish(Headers.merge(own, { ...short, [names.cause]: cause })).pipe(
      // The cause is the one part that can be missed where the original fits by a hair.
      Effect.catchIf(isRefused, () => publish(Headers.merge(own, short))),
      // Foreign producers write headers that a client of this broker can't write, or as many as leave no room.
      Effect.catchIf(isRefused, () => publish({ ...short, ...asText(own) })),
      Effect.catchIf(isRefused, () => publish(short)),
      Effect.catchIf(isRefused, () => publish(position)),
      Effect.catchIf(isRefused, () =>
        Effect.tap(publish(Headers.empty), () => {
          const { offset, partition, topic } = original.message
          return Logging.warning(
            `The dead letter of ${topic}[${partition}]@${offset} has neither its position nor its headers: there was no room`
          )
        }))
    )
  })

const isRefused = (error: PublishError): boolean => error._tag === "InvalidMessage" || error._tag === "MessageTooLarge"

const asText = (own: Headers.Headers): Headers.Headers => {
  const values = (value: Headers.Headers[string]) =>
    [value ?? []].flat().map((one) => Headers.valueToString(one as Headers.HeaderValue))
  const text = escaped(JSON.stringify(Object.entries(own).map(([name, value]) => [name, ...values(value)])))
  return text.length > maxTextLength ? {} : { [names.headers]: text }
}

const escaped = (json: string): string =>
  json.replace(/[^\x20-\x7e]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`)

/** Printable ASCII on one line: the safest header value on every broker. */
const oneLine = (text: string): string => text.replace(/\s+/g, " ").replace(/[^\x20-\x7e]/g, "?").trim()
