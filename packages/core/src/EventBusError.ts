/**
 * The errors of the bus. Each has a tag, a message a person can act on, the
 * topic and the position where there is one, and the cause.
 *
 * @since 0.1.0
 */
import type { YieldableError } from "effect/Cause"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Predicate from "effect/Predicate"

/**
 * Marks the errors of this module; `isEventBusError` looks for it.
 *
 * @since 0.1.0
 * @category type ids
 */
export const TypeId: unique symbol = Symbol.for("@effect-eventbus/core/EventBusError")

/**
 * The type of the mark.
 *
 * @since 0.1.0
 * @category type ids
 */
export type TypeId = typeof TypeId

/**
 * Whether a value is one of the errors of this module.
 *
 * @since 0.1.0
 * @category guards
 */
export const isEventBusError = (value: unknown): value is EventBusError => Predicate.hasProperty(value, TypeId)

/**
 * Where a message stands: its topic, its partition and its offset (in NATS the
 * stream sequence).
 *
 * @since 0.1.0
 * @category models
 */
export interface Position {
  readonly topic: string
  readonly partition: number
  readonly offset: number
}

const at = (position: Position): string => `${position.topic}[${position.partition}]@${position.offset}`

const because = (cause: unknown): string =>
  cause === undefined ? "" : `: ${cause instanceof Error ? cause.message : String(cause)}`

type ErrorClass<Tag extends string, More> = new<A extends Record<string, unknown>>(
  fields: Readonly<A>
) => YieldableError & { readonly _tag: Tag; readonly [TypeId]: TypeId } & More & Readonly<A>

/** A tagged error that `isEventBusError` knows. `isRetryable` is given where all errors of the class have the same. */
const error: {
  <Tag extends string>(tag: Tag): ErrorClass<Tag, unknown>
  <Tag extends string, R extends boolean>(tag: Tag, isRetryable: R): ErrorClass<Tag, { readonly isRetryable: R }>
} = (tag: string, isRetryable?: boolean) => {
  const known = { [TypeId]: TypeId, ...(isRetryable === undefined ? {} : { isRetryable }) }
  return class extends Data.TaggedError(tag)<object> {
    constructor(fields: object) {
      super(fields as never)
      Object.assign(this, known)
    }
  } as never
}

/**
 * The bus, or the scope it lives in, was closed before the call.
 *
 * @since 0.1.0
 * @category errors
 */
export class BusClosed extends error("BusClosed", false)<{ readonly topic: string }> {
  override get message() {
    return `The event bus is closed; nothing was done for topic "${this.topic}". Publish and subscribe within the scope of EventBus.layer.`
  }
}

/**
 * The topic already has a handler in this bus. One handler per topic and group
 * is what makes the order of an aggregate well defined.
 *
 * @since 0.1.0
 * @category errors
 */
export class AlreadySubscribed extends error("AlreadySubscribed", false)<{
  readonly topic: string
  readonly group: string
}> {
  override get message() {
    return `Topic "${this.topic}" is already subscribed to by group "${this.group}" in this bus. Close that subscription first, or give this one another group.`
  }
}

/**
 * The broker has no such topic, and the configuration does not let the
 * transport create it.
 *
 * @since 0.1.0
 * @category errors
 */
export class UnknownTopic extends error("UnknownTopic", false)<{
  readonly topic: string
  readonly transport: string
  readonly cause?: unknown
}> {
  override get message() {
    return `Topic "${this.topic}" does not exist on the ${this.transport} transport${
      because(this.cause)
    }. Create it, or let the transport create topics.`
  }
}

/**
 * What was given to publish is no valid message; nothing was sent.
 *
 * @since 0.1.0
 * @category errors
 */
export class InvalidMessage extends error("InvalidMessage", false)<{
  readonly topic: string
  readonly issue: string
  readonly cause?: unknown
}> {
  override get message() {
    return `The message for topic "${this.topic}" is not valid and was not sent: ${this.issue}`
  }
}

/**
 * The message is larger than the broker or the transport takes; it was not written.
 *
 * @since 0.1.0
 * @category errors
 */
export class MessageTooLarge extends error("MessageTooLarge", false)<{
  readonly topic: string
  /** Size of the message in bytes. */
  readonly size: number
  /** The limit in bytes, where the broker tells it. */
  readonly limit?: number | undefined
  readonly cause?: unknown
}> {
  override get message() {
    const limit = this.limit === undefined ? "the broker's limit" : `the limit of ${this.limit} bytes`
    return `A message of ${this.size} bytes for topic "${this.topic}" exceeds ${limit} and was not written.`
  }
}

/**
 * A publish that the broker did not confirm. `outcome` says whether the message
 * may have been written all the same: after `"unknown"` a second publish can
 * make a duplicate, after `"not-written"` it cannot.
 *
 * @since 0.1.0
 * @category errors
 */
export class PublishFailed extends error("PublishFailed")<{
  readonly topic: string
  readonly reason: "Timeout" | "Unreachable" | "Rejected" | "StorageFull" | "Duplicate" | "WrongLastSequence"
  readonly outcome: "not-written" | "unknown"
  readonly cause?: unknown
}> {
  get isRetryable() {
    return this.reason === "Timeout" || this.reason === "Unreachable" || this.reason === "StorageFull"
  }
  override get message() {
    const what = {
      Timeout: "was not confirmed in time",
      Unreachable: "could not reach the broker",
      Rejected: "was rejected by the broker",
      StorageFull: "found the topic's storage full",
      Duplicate: "was taken for a duplicate at its first attempt",
      WrongLastSequence: "expected another message to be the last one"
    }[this.reason]
    const written = this.outcome === "unknown" ? "it may have been written" : "it was not written"
    return `A publish to topic "${this.topic}" ${what}; ${written}${because(this.cause)}`
  }
}

/**
 * A message of the same aggregate could not be published, or may not have been, so this one was not sent. The bus has
 * `stopAfterFailedPublish`. After `bus.publishing.resume` messages are sent again, so trying again can help.
 *
 * @since 0.1.0
 * @category errors
 */
export class PublishStopped extends error("PublishStopped", true)<{
  readonly topic: string
  /** Undefined: publishing to the topic has stopped, because too many of its aggregates have. */
  readonly aggregate: string | undefined
  /** The failure with which it began. */
  readonly cause: PublishError
}> {
  override get message(): string {
    const what = this.aggregate === undefined ? "The topic" : `Aggregate "${this.aggregate}" of topic`
    return `${what} "${this.topic}" is not published to since a publish failed, and this message was not sent. Say bus.publishing.resume when the first failure is settled: ${this.cause.message}`
  }
}

/**
 * As many aggregates of a subscription are paused as it can remember.
 *
 * @since 0.1.0
 * @category errors
 */
export class TooManyPaused extends error("TooManyPaused", true)<{
  readonly topic: string
  readonly group: string
  readonly limit: number
}> {
  override get message() {
    return `${this.limit} aggregates of topic "${this.topic}" and group "${this.group}" are paused already, and no more can be. Resume some, or pause the subscription.`
  }
}

/**
 * Somebody has given up the message by hand. It is a defect in the cause of the failure, behind the cause of the last attempt.
 *
 * @since 0.1.0
 * @category errors
 */
export class GivenUpByHand extends error("GivenUpByHand", false)<{ readonly reason: string | undefined }> {
  override get message() {
    return `It was given up by hand${this.reason === undefined ? "" : `: ${this.reason}`}`
  }
}

/**
 * Processes have died with this message in hand, the last ones while nothing else was suspected, and one has lived without it. So it
 * was given up without being started again. It is a defect in the cause of the failure. A released letter has it as a failure when owners that went on
 * with the release have died with it in hand.
 *
 * @since 0.1.0
 * @category errors
 */
export class KilledProcess extends error("KilledProcess", false)<{
  /** How many processes have died. */
  readonly deaths: number
  /** When the first and the last death was noticed that happened while it was run alone. */
  readonly first: Date
  readonly last: Date
}> {
  override get message() {
    const when = this.first.getTime() === this.last.getTime()
      ? this.last.toISOString()
      : `${this.first.toISOString()} to ${this.last.toISOString()}`
    return `${this.deaths} processes have died with it in hand (${when}), and one has lived without it. It was not started again`
  }
}

/**
 * The broker could not be reached, or refused the connection.
 *
 * @since 0.1.0
 * @category errors
 */
export class BrokerUnreachable extends error("BrokerUnreachable", true)<{
  readonly transport: string
  readonly addresses: ReadonlyArray<string>
  readonly cause?: unknown
}> {
  override get message() {
    return `No ${this.transport} broker answers at ${this.addresses.join(", ")}${because(this.cause)}`
  }
}

/**
 * A setting is wrong, unknown, given beside the bus, or does not fit what the broker has.
 *
 * @since 0.1.0
 * @category errors
 */
export class InvalidConfiguration extends error("InvalidConfiguration", false)<{
  readonly issues: ReadonlyArray<string>
  readonly topic?: string | undefined
  readonly cause?: unknown
}> {
  override get message() {
    const where = this.topic === undefined ? "" : ` of topic "${this.topic}"`
    return `The configuration${where} is not valid:\n${this.issues.map((issue) => `  - ${issue}`).join("\n")}`
  }
}

/**
 * The broker refused or broke a subscription while it was being made.
 *
 * @since 0.1.0
 * @category errors
 */
export class SubscribeFailed extends error("SubscribeFailed", true)<{
  readonly topic: string
  readonly group: string
  readonly cause?: unknown
}> {
  override get message() {
    return `Group "${this.group}" could not subscribe to topic "${this.topic}"${because(this.cause)}`
  }
}

/**
 * A group was to begin where another one has stopped (`startFrom: { group }`), and can't. Nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class TakeOverRefused extends error("TakeOverRefused")<{
  readonly topic: string
  readonly group: string
  /** The other group, as the subscription names it. */
  readonly from: string
  /** `Alive`: it has members, or something is in their hands. `Unknown`: there is no such group. `OtherTopic`: it has no position in this topic. */
  readonly reason: "Alive" | "Unknown" | "OtherTopic"
  /** What the broker says: who is alive, or under which names the group was looked for. */
  readonly details: ReadonlyArray<string>
}> {
  /** When the other one has ended, trying again helps. */
  get isRetryable() {
    return this.reason === "Alive"
  }
  override get message() {
    const details = this.details.join(", ")
    const why = {
      Alive: `which is alive (${details}). Stop it, and subscribe again`,
      Unknown: `which the broker does not know (looked for: ${details}). Check the name, or begin elsewhere`,
      OtherTopic: `which has no position in this topic (looked for: ${details}). Check the name, or begin elsewhere`
    }[this.reason]
    return `Group "${this.group}" can't take over topic "${this.topic}" from group "${this.from}", ${why}.`
  }
}

/**
 * The broker did not confirm a settlement (a commit, an ack). What was to be
 * settled may come again.
 *
 * @since 0.1.0
 * @category errors
 */
export class SettlementFailed extends error("SettlementFailed")<{
  readonly topic: string
  readonly partition: number
  /** Whether trying again can help: not when the partition was taken away. */
  readonly isRetryable: boolean
  readonly cause?: unknown
}> {
  override get message() {
    return `The settlement of ${this.topic}[${this.partition}] was not confirmed${because(this.cause)}`
  }
}

/**
 * A part of a topic could not be read to its end.
 *
 * @since 0.1.0
 * @category errors
 */
export class ReadFailed extends error("ReadFailed", true)<{
  readonly topic: string
  /** Undefined where not even the bounds could be found out. */
  readonly partition?: number | undefined
  readonly cause?: unknown
}> {
  override get message() {
    const where = this.partition === undefined ? "" : `[${this.partition}]`
    return `Topic "${this.topic}"${where} could not be read${because(this.cause)}`
  }
}

/**
 * The transport can't read a topic outside of a group.
 *
 * @since 0.1.0
 * @category errors
 */
export class ReplayUnsupported extends error("ReplayUnsupported", false)<{
  readonly topic: string
  readonly transport: string
}> {
  override get message() {
    return `The ${this.transport} transport can't replay topic "${this.topic}". Subscribe with a group of its own that begins at the earliest.`
  }
}

/**
 * The bytes of a message are no valid envelope, or its payload does not fit the
 * topic's schema.
 *
 * @since 0.1.0
 * @category errors
 */
export class DecodeError extends error("DecodeError", false)<{
  /**
   * `Empty`, `Utf8` and `Json`: the value has no bytes, is no text, or is no JSON object. `Field`: a field of the envelope is missing or wrong.
   * `Payload`: the payload does not fit the topic's schema. `Codec`: a codec of one's own threw, or answered no envelope.
   */
  readonly reason: "Empty" | "Utf8" | "Json" | "Field" | "Payload" | "Codec"
  /** What is wrong, in words and without any value of the payload; for `Field` it names the field. */
  readonly issue: string
  readonly position?: Position | undefined
  /** For `Payload` the Schema's ParseError, whose `issue` has the values. For `Codec` what was thrown. No log of the bus shows it. */
  readonly cause?: unknown
}> {
  override get message() {
    const where = this.position === undefined ? "A message" : `The message ${at(this.position)}`
    return `${where} can't be decoded: ${this.issue}`
  }
}

/**
 * The topic's Schema does not know the event's type: a newer version of the application published it. The bytes are in order. The
 * subscription's option `onUnknownType` says what happens.
 *
 * @since 0.1.0
 * @category errors
 */
export class UnknownEventType extends error("UnknownEventType", false)<{
  readonly position: Position
  readonly eventType: string
  readonly eventVersion: number
}> {
  override get message() {
    const type = this.eventType.length > 100 ? `${this.eventType.slice(0, 99)}…` : this.eventType
    return `The event ${
      at(this.position)
    } has the type "${type}" (version ${this.eventVersion}), which the topic's Schema does not know`
  }
}

/**
 * A handler took longer than the subscription's `handlerTimeout` and was
 * interrupted. It counts as a typed failure: it is retried.
 *
 * @since 0.1.0
 * @category errors
 */
export class HandlerTimeout extends error("HandlerTimeout", true)<{
  readonly position: Position
  readonly timeout: Duration.Duration
}> {
  override get message() {
    return `The handler of ${at(this.position)} was interrupted after ${Duration.format(this.timeout)}`
  }
}

/**
 * How publishing one message can fail. `PublishFailed` has `outcome`; all others mean that nothing was written.
 *
 * @since 0.1.0
 * @category errors
 */
export type PublishError =
  | BusClosed
  | UnknownTopic
  | InvalidMessage
  | MessageTooLarge
  | PublishFailed
  | PublishStopped
  | InvalidConfiguration

/**
 * How a subscription can fail to begin. What breaks later is repaired by the transport.
 *
 * @since 0.1.0
 * @category errors
 */
export type SubscribeError =
  | BusClosed
  | AlreadySubscribed
  | UnknownTopic
  | BrokerUnreachable
  | InvalidConfiguration
  | SubscribeFailed
  | TakeOverRefused

/**
 * A bounded read did not begin.
 *
 * @since 0.1.0
 * @category errors
 */
export type ReadError =
  | UnknownTopic
  | BrokerUnreachable
  | InvalidConfiguration
  | ReadFailed

/**
 * Any error of this module.
 *
 * @since 0.1.0
 * @category errors
 */
export type EventBusError =
  | PublishError
  | SubscribeError
  | ReadError
  | ReplayUnsupported
  | SettlementFailed
  | DecodeError
  | UnknownEventType
  | HandlerTimeout
