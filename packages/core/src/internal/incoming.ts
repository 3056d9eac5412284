import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as AggregateId from "../AggregateId.js"
import type { Envelope } from "../Envelope.js"
import type * as EnvelopeCodec from "../EnvelopeCodec.js"
import { DecodeError, type Position, UnknownEventType } from "../EventBusError.js"
import type { EnvelopeDefinition, PlainDefinition } from "../TopicDefinition.js"
import type { IncomingMessage, Semantics } from "../Transport.js"
import * as EventTypes from "./eventTypes.js"
import * as MailboxKey from "./mailboxKey.js"
import * as ParseIssue from "./parseIssue.js"
import * as Safely from "./safely.js"
import * as UserCode from "./userCode.js"

/**
 * What is known of a message when a lane takes it.
 *
 * @internal
 */
export interface Read {
  readonly aggregateId: string | undefined
  /** The mailbox's key: the aggregate id, else the id that the codec read, else the message's key. Undefined: the message has no order. */
  readonly mailbox: string | undefined
  readonly envelope: Envelope | undefined
  readonly undecodable: DecodeError | undefined
  /** The message has no value, and its topic is one of envelopes: something was deleted. */
  readonly isTombstone: boolean
}

/**
 * How a subscription's messages are read. Neither function throws: bytes are data, and codecs are users' code.
 *
 * @internal
 */
export interface Incoming {
  /** Reads what a message is ordered by, when it is taken. The payload is not looked at. */
  readonly read: (message: IncomingMessage) => Read
  /**
   * The handler's argument, made when the message's turn has come. It is an effect if the topic's Schema does asynchronous work: then
   * decoding belongs to the attempt, before the handler. If a Schema throws, the answer is an effect that dies.
   */
  readonly event: (envelope: Envelope | undefined, message: IncomingMessage) => Decoding
}

/** @internal */
export type Decoding =
  | Either.Either<unknown, DecodeError | UnknownEventType>
  | Effect.Effect<unknown, DecodeError | UnknownEventType>

/** @internal */
export const make = (
  topic: EnvelopeDefinition<unknown, unknown> | PlainDefinition,
  busCodec: EnvelopeCodec.Service,
  options: { readonly aggregateIdFromSubject?: boolean | undefined; readonly semantics?: Semantics | undefined }
): Incoming => {
  const fromSubject = options.aggregateIdFromSubject === true
  const idOf = (message: IncomingMessage): string | undefined =>
    AggregateId.fromHeaders(message.headers) ?? AggregateId.fromKey(message.key) ??
      (fromSubject ? AggregateId.fromSubject(message.topic) : undefined)

  if (topic.kind === "plain") {
    return {
      read: (message) => ordered(message, idOf(message), undefined, undefined, undefined, false),
      // A message that may be run again or dead-lettered keeps its bytes, whatever a handler does to those that it gets.
      event: options.semantics === "at-least-once"
        ? (_, message) => Either.right(message.value?.slice() ?? empty)
        : (_, message) => Either.right(message.value ?? empty)
    }
  }
  const codec = topic.codec ?? busCodec
  return {
    read: (message) => {
      if (message.value === null) return ordered(message, idOf(message), undefined, undefined, undefined, true)
      const decoded = decode(codec, message)
      const isBad = decoded instanceof Bad
      const id = isBad ? decoded.id : decoded.aggregateId
      return ordered(
        message,
        AggregateId.isValid(id) ? id : idOf(message),
        id,
        isBad ? undefined : decoded,
        isBad ? decoded.undecodable : undefined,
        false
      )
    },
    event: eventOf(topic)
  }
}

const empty = new Uint8Array(0)

const ordered = (
  message: IncomingMessage,
  aggregateId: string | undefined,
  /** The id that the codec read. */
  id: string | undefined,
  envelope: Envelope | undefined,
  undecodable: DecodeError | undefined,
  isTombstone: boolean
): Read => ({
  aggregateId,
  mailbox: aggregateId ?? (id !== undefined && id !== ""
    ? MailboxKey.ofForeignId(id)
    : message.key === null
    ? undefined
    : MailboxKey.ofKey(message.key)),
  envelope,
  undecodable,
  isTombstone
})

const positionOf = ({ offset, partition, topic }: IncomingMessage): Position => ({ topic, partition, offset })

/** A message that the codec can't read. */
class Bad {
  constructor(readonly undecodable: DecodeError, readonly id: string | undefined) {}
}

/** Asks the codec, and believes nothing that it answers. */
const decode = (codec: EnvelopeCodec.Service, message: IncomingMessage): Envelope | Bad => {
  try {
    const decoded = codec.decode(message.value, message.headers)
    if (Either.isRight(decoded)) {
      const envelope = decoded.right
      const issue = issueOf(envelope)
      return issue === undefined
        ? envelope
        : new Bad(codecError(message, `the codec answered no envelope: ${issue}`), undefined)
    }
    const { aggregateId, error } = decoded.left
    const { cause, issue, reason } = error
    return new Bad(
      new DecodeError({ reason, issue: String(issue), cause, position: positionOf(message) }),
      typeof aggregateId === "string" ? aggregateId : undefined
    )
  } catch (cause) {
    // What it threw may have the value in its message, as JSON's SyntaxError has.
    return new Bad(
      codecError(message, `the codec threw (${Safely.nameOf(cause)}), or answered no Either`, cause),
      undefined
    )
  }
}

/** The fields that later code relies on, whichever codec made the envelope. */
const issueOf = (envelope: Envelope): string | undefined => {
  const { aggregateId, eventId, eventType, eventVersion, timestamp } = envelope
  return typeof aggregateId !== "string"
    ? "aggregateId is no string"
    : typeof eventType !== "string"
    ? "eventType is no string"
    : typeof eventId !== "string"
    ? "eventId is no string"
    : typeof eventVersion !== "number"
    ? "eventVersion is no number"
    : typeof timestamp !== "string"
    ? "timestamp is no string"
    : undefined
}

const codecError = (message: IncomingMessage, issue: string, cause?: unknown): DecodeError =>
  new DecodeError({ reason: "Codec", issue, cause, position: positionOf(message) })

const eventOf = (topic: EnvelopeDefinition<unknown, unknown>): Incoming["event"] => {
  // It answers an Either where it can.
  const decodePayload = ParseResult.decodeUnknown(topic.schema)
  const known = EventTypes.of(topic)
  const misfit = (envelope: Envelope, payload: unknown, message: IncomingMessage, issue: ParseResult.ParseIssue) =>
    known !== undefined && EventTypes.isUnknown(known, envelope, payload)
      ? unknownType(envelope, message)
      : payloadError(message, issue)
  // It runs for every message, so it makes no closure unless something is wrong.
  return (envelope, message) => {
    if (envelope === undefined) {
      return Either.left(new DecodeError({ reason: "Empty", issue: "it has no value", position: positionOf(message) }))
    }
    if (known?.isNamed === true && !known.types.has(envelope.eventType)) {
      return Either.left(unknownType(envelope, message))
    }
    let payload: unknown
    try {
      payload = envelope.payload
    } catch (cause) {
      return Either.left(codecError(message, `the payload can't be read (${Safely.nameOf(cause)})`, cause))
    }
    try {
      const decoded = decodePayload(payload) as
        | Either.Either<unknown, ParseResult.ParseIssue>
        | Effect.Effect<unknown, ParseResult.ParseIssue>
      if (!Either.isEither(decoded)) {
        return Effect.mapError(decoded, (issue) => misfit(envelope, payload, message, issue))
      }
      return Either.isLeft(decoded)
        ? Either.left(misfit(envelope, payload, message, decoded.left))
        : decoded as Either.Right<never, unknown>
    } catch (thrown) {
      return Effect.die(UserCode.wrapped(thrown))
    }
  }
}

const unknownType = ({ eventType, eventVersion }: Envelope, message: IncomingMessage): UnknownEventType =>
  new UnknownEventType({ position: positionOf(message), eventType, eventVersion })

const payloadError = (message: IncomingMessage, issue: ParseResult.ParseIssue): DecodeError =>
  new DecodeError({
    reason: "Payload",
    issue: `the payload does not fit the topic's schema: ${ParseIssue.format(issue)}`,
    position: positionOf(message),
    cause: new ParseIssue.DiscreetParseError({ issue })
  })
