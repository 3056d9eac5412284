import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as AggregateId from "../AggregateId.js"
import * as Envelope from "../Envelope.js"
import type * as EnvelopeCodec from "../EnvelopeCodec.js"
import { InvalidMessage } from "../EventBusError.js"
import * as Headers from "../Headers.js"
import type { EnvelopeMessage, EnvelopeTopic, PlainMessage, PlainTopic } from "../Topic.js"
import type { OutgoingMessage } from "../Transport.js"
import * as Utf8 from "./utf8.js"

type Result = Either.Either<OutgoingMessage, InvalidMessage>

/**
 * What a transport gets for a message that a user publishes. Synchronous: it runs for every message.
 *
 * @internal
 */
export const make = (
  codec: EnvelopeCodec.Service,
  topic: EnvelopeTopic<unknown, unknown> | PlainTopic,
  message: EnvelopeMessage<unknown> | PlainMessage,
  now: number
): Result =>
  topic.kind === "envelope"
    ? fromEnvelope(codec, topic, message as EnvelopeMessage<unknown>, now)
    : fromPlain(topic, message as PlainMessage)

const encoders = new WeakMap<object, (payload: unknown) => Either.Either<unknown, ParseResult.ParseError>>()

/** Compiling a schema's encoder costs more than using it. */
const encoderOf = (topic: EnvelopeTopic<unknown, unknown>) => {
  let encode = encoders.get(topic.schema)
  if (encode === undefined) {
    encode = Schema.encodeUnknownEither(topic.schema)
    encoders.set(topic.schema, encode)
  }
  return encode
}

const invalid = (topic: { readonly name: string }, issue: string, cause?: unknown) =>
  Either.left(new InvalidMessage({ topic: topic.name, issue, cause }))

const fromEnvelope = (
  codec: EnvelopeCodec.Service,
  topic: EnvelopeTopic<unknown, unknown>,
  message: EnvelopeMessage<unknown>,
  now: number
): Result => {
  const payload = encoderOf(topic)(message.payload)
  if (Either.isLeft(payload)) {
    const issue = ParseResult.TreeFormatter.formatErrorSync(payload.left)
    return invalid(topic, `the payload does not fit the topic's schema: ${issue}`, payload.left)
  }
  const payloadJson = stringify(payload.right)
  if (Either.isLeft(payloadJson)) return invalid(topic, "the payload can't be written as JSON", payloadJson.left)
  const envelope = Envelope.make(message, {
    eventType: message.eventType ?? topic.eventType(message.payload),
    payload: payload.right,
    payloadJson: payloadJson.right
  }, now)
  const issue = Envelope.issueOf(envelope)
  if (issue !== undefined) return invalid(topic, issue)
  return Either.right({
    id: envelope.eventId,
    aggregateId: envelope.aggregateId,
    key: null,
    value: codec.encode(envelope),
    headers: message.headers === undefined ? codec.headers : Headers.merge(message.headers, codec.headers),
    timestamp: undefined
  })
}

const fromPlain = (topic: PlainTopic, message: PlainMessage): Result =>
  message.aggregateId !== undefined && !AggregateId.isValid(message.aggregateId)
    ? invalid(topic, "aggregateId must be 1 to 256 of A-Z a-z 0-9 : _ - . /")
    : Either.right({
      id: undefined,
      aggregateId: message.aggregateId,
      key: message.key === undefined ? null : bytesOf(message.key),
      value: bytesOf(message.body),
      headers: headersOf(message),
      timestamp: undefined
    })

/** The key is what it is stored under; an aggregate id beside it would be lost without a header. */
const headersOf = ({ aggregateId, headers = Headers.empty, key }: PlainMessage): Headers.Headers =>
  aggregateId === undefined || key === undefined
    ? headers
    : Headers.merge(headers, { [AggregateId.headerNames[0]]: aggregateId })

const stringify = (payload: unknown): Either.Either<string, unknown> => {
  try {
    const json = JSON.stringify(payload) as string | undefined
    return json === undefined ? Either.left(undefined) : Either.right(json)
  } catch (cause) {
    return Either.left(cause)
  }
}

const bytesOf = (text: Uint8Array | string): Uint8Array => typeof text === "string" ? Utf8.encode(text) : text
