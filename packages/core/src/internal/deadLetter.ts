import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import { headerNames as names } from "../DeadLetter.js"
import { type PublishError, PublishFailed } from "../EventBusError.js"
import type { EnvelopeFailure } from "../Failure.js"
import * as Headers from "../Headers.js"
import type * as Transport from "../Transport.js"
import { describeCause, nameOf } from "./describeCause.js"
import { Lasting } from "./lasting.js"
import * as Logging from "./logging.js"
import * as Fingerprint from "./parking/fingerprint.js"
import { Ration } from "./ration.js"
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
const shortHeaders = (original: Original, failure: EnvelopeFailure): Headers.Headers => {
  const { frame } = Fingerprint.ofCause(failure.cause)
  return {
    ...positionHeaders(original),
    [names.timestamp]: String(original.message.timestamp),
    [names.group]: Safely.cut(original.group, maxNameLength),
    [names.attempts]: String(failure.attempts),
    [names.restarts]: String(failure.restarts),
    [names.error]: oneLine(nameOf(failure.cause)).slice(0, maxNameLength),
    ...(frame === undefined ? {} : { [names.frame]: oneLine(frame) })
  }
}

/** How many ids a letter is tried with at a time, where other messages have the first ones. */
const maxIds = 8

/**
 * What is said while letters can't be published.
 *
 * @internal
 */
export const lasting = (): Lasting =>
  new Lasting(
    "Dead letters can't be published, so their messages stay unfinished and their aggregates wait",
    "dead-letter"
  )

/**
 * Publishes the original message to the dead-letter topic, until the broker has confirmed it.
 *
 * @internal
 */
export const publisher = (
  transport: Transport.Service,
  timeout: Duration.Duration,
  schedule: Schedule.Schedule<unknown, PublishError>,
  failing: Lasting = lasting(),
  ration: Ration = new Ration(() => Effect.void, () => {})
) =>
(topic: Transport.TopicSpec, original: Original, failure: EnvelopeFailure): Effect.Effect<void> => {
  const { group, message: { offset, partition, timestamp, topic: of } } = original
  // One message has one dead letter, however often its publishing is tried. The time tells it from a message that had its offset
  // in a topic that was deleted and made again.
  const id = `${of}/${partition}/${offset}/${group}/${timestamp}`
  const write = (copy: number): Effect.Effect<unknown, PublishError> =>
    smallerAndSmaller(
      original,
      failure,
      ration,
      (headers) => publishOnce(transport, timeout, topic, original, copy === 1 ? id : `${id}/${copy}`, headers)
    ).pipe(
      // Another message has the id, so nothing of this one was written.
      Effect.catchIf((error) => copy < maxIds && isDuplicate(error, "not-written"), () => write(copy + 1)),
      // An earlier try wrote the letter, and its answer was lost: in this process or before a crash.
      Effect.catchIf((error) => isDuplicate(error, "unknown"), () => Effect.void),
      // A defect of the transport would only run the actor round in a circle, and nobody would hear of it.
      Effect.catchAllDefect((cause) =>
        new PublishFailed({ topic: topic.name, reason: "Unreachable", outcome: "unknown", cause })
      )
    )
  // The schedule has no end; were it given one, the message must stay unfinished.
  return Effect.asVoid(Effect.orDie(failing.retry(write(1), { schedule })))
}

const isDuplicate = (error: PublishError, outcome: PublishFailed["outcome"]): boolean =>
  error._tag === "PublishFailed" && error.reason === "Duplicate" && error.outcome === outcome

const publishOnce = (
  transport: Transport.Service,
  timeout: Duration.Duration,
  topic: Transport.TopicSpec,
  { aggregateId, message }: Original,
  id: string,
  headers: Headers.Headers
): Effect.Effect<unknown, PublishError> =>
  Effect.flatMap(
    transport.publish(topic, [{
      id,
      aggregateId,
      key: message.key,
      value: message.value,
      headers,
      // Its own time, as of publishing: retention goes by it, and would soon delete the dead letters of old events.
      timestamp: undefined
    }], { timeout }),
    (results) => results[0]!
  )

/** The headers that the bus adds must not cause a refusal. A refused letter is tried with fewer of them, down to the bare message. */
const smallerAndSmaller = <A>(
  original: Original,
  failure: EnvelopeFailure,
  ration: Ration,
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
          return ration.line(Logging.warning(
            `The dead letter of ${topic}[${partition}]@${offset} has neither its position nor its headers: there was no room`,
            { topic, partition, offset, group: original.group, aggregateId: original.aggregateId }
          ))
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
