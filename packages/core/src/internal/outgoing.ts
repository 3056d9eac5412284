import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as AggregateId from "../AggregateId.js"
import * as Envelope from "../Envelope.js"
import * as EnvelopeCodec from "../EnvelopeCodec.js"
import { InvalidMessage } from "../EventBusError.js"
import * as Headers from "../Headers.js"
import type { EnvelopeDefinition, EnvelopeMessage, PlainDefinition, PlainMessage } from "../TopicDefinition.js"
import type { OutgoingMessage } from "../Transport.js"
import * as ParseIssue from "./parseIssue.js"
import * as Safely from "./safely.js"
import * as UserCode from "./userCode.js"
import * as Utf8 from "./utf8.js"

type Result = Either.Either<OutgoingMessage, InvalidMessage>

/**
 * What a transport gets for a message that a user publishes. Synchronous, because it runs for every message; an effect only where the
 * topic's Schema needs one, for asynchronous work.
 *
 * @internal
 */
export const make = (
  codec: EnvelopeCodec.Service,
  topic: EnvelopeDefinition<unknown, unknown> | PlainDefinition,
  message: EnvelopeMessage<unknown> | PlainMessage,
  now: number
): Result | Effect.Effect<OutgoingMessage, InvalidMessage> =>
  topic.kind === "envelope"
    ? fromEnvelope(topic.codec ?? codec, topic, message as EnvelopeMessage<unknown>, now)
    : fromPlain(topic, message as PlainMessage)

type Encode = (payload: unknown) => Effect.Effect<unknown, ParseResult.ParseIssue>

const encoders = new WeakMap<object, Encode>()

/** Compiling a schema's encoder costs more than using it. It answers an Either where it can. */
const encoderOf = (topic: EnvelopeDefinition<unknown, unknown>) => {
  let encode = encoders.get(topic.schema)
  if (encode === undefined) {
    encode = ParseResult.encodeUnknown(topic.schema)
    encoders.set(topic.schema, encode)
  }
  return encode
}

const invalid = (topic: { readonly name: string }, issue: string, cause?: unknown) =>
  Either.left(new InvalidMessage({ topic: topic.name, issue, cause }))

const fromEnvelope = (
  codec: EnvelopeCodec.Service,
  topic: EnvelopeDefinition<unknown, unknown>,
  message: EnvelopeMessage<unknown>,
  now: number
): Result | Effect.Effect<OutgoingMessage, InvalidMessage> => {
  let payload: Effect.Effect<unknown, ParseResult.ParseIssue>
  try {
    payload = encoderOf(topic)(message.payload)
  } catch (cause) {
    return invalid(topic, `the topic's schema threw (${Safely.nameOf(cause)})`, UserCode.wrapped(cause))
  }
  if (!Either.isEither(payload)) {
    return Effect.matchEffect(payload, {
      onFailure: (issue) => misfit(topic, issue),
      onSuccess: (encoded) => finish(codec, topic, message, encoded, now)
    })
  }
  return Either.isLeft(payload)
    ? misfit(topic, payload.left as ParseResult.ParseIssue)
    : finish(codec, topic, message, payload.right, now)
}

const misfit = (topic: { readonly name: string }, issue: ParseResult.ParseIssue) =>
  invalid(
    topic,
    `the payload does not fit the topic's schema: ${ParseIssue.format(issue)}`,
    new ParseIssue.DiscreetParseError({ issue })
  )

/** The rest, with the payload as the Schema encoded it. */
const finish = (
  codec: EnvelopeCodec.Service,
  topic: EnvelopeDefinition<unknown, unknown>,
  message: EnvelopeMessage<unknown>,
  payload: unknown,
  now: number
): Result => {
  const payloadJson = stringify(payload)
  if (Either.isLeft(payloadJson)) return invalid(topic, "the payload can't be written as JSON", payloadJson.left)
  try {
    const envelope = Envelope.make(message, {
      eventType: message.eventType ?? topic.eventType(message.payload),
      payload,
      payloadJson: payloadJson.right
    }, now)
    const issue = Envelope.issueOf(envelope)
    if (issue !== undefined) return invalid(topic, issue)
    const { headers, value } = codec.encode(envelope)
    if (!(value instanceof Uint8Array)) return invalid(topic, "the codec answered no bytes")
    if (typeof headers !== "object" || headers === null) return invalid(topic, "the codec answered no headers")
    // Another codec may write all messages into one buffer, and a transport keeps several of them until it sends.
    const isOwn = codec === EnvelopeCodec.json
    return Either.right({
      id: envelope.eventId,
      aggregateId: envelope.aggregateId,
      key: null,
      value: isOwn ? value : new Uint8Array(value),
      headers: message.headers !== undefined
        ? Headers.merge(message.headers, headers)
        : isOwn
        ? headers
        : { ...headers },
      timestamp: undefined
    })
  } catch (cause) {
    return invalid(topic, `the codec or \`eventType\` threw (${Safely.nameOf(cause)})`, UserCode.wrapped(cause))
  }
}

const fromPlain = (topic: PlainDefinition, message: PlainMessage): Result =>
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
