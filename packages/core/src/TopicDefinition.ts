/**
 * What a topic is, without what can be done with it: `Topic` makes topics from it. Handlers and messages are typed here.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { Delivery, EnvelopeDelivery } from "./Delivery.js"
import type { Metadata } from "./Envelope.js"
import type * as EnvelopeCodec from "./EnvelopeCodec.js"
import type { Headers } from "./Headers.js"
import type { TopicSpec } from "./Transport.js"

/**
 * What a topic of envelopes is: its name, the schema of its payloads, and how they are read.
 *
 * @since 0.1.0
 * @category models
 */
export interface EnvelopeDefinition<A, I = unknown> {
  readonly kind: "envelope"
  /** Its name on the broker; in NATS the subject. */
  readonly name: string
  readonly spec: TopicSpec
  readonly schema: Schema.Schema<A, I>
  /** The `event_type` of a payload that is published. */
  readonly eventType: (payload: A) => string
  /** The event types that the schema knows, if the topic names them. Undefined: they are the `_tag`s of the schema, if it has such. */
  readonly eventTypes: ReadonlyArray<string> | undefined
  /** The codec of the topic's envelopes, if it is another than the codec of the bus. */
  readonly codec: EnvelopeCodec.Service | undefined
}

/**
 * What a topic of plain messages is.
 *
 * @since 0.1.0
 * @category models
 */
export interface PlainDefinition {
  readonly kind: "plain"
  readonly name: string
  readonly spec: TopicSpec
}

/**
 * A topic of either kind, as far as its name goes.
 *
 * @since 0.1.0
 * @category models
 */
export interface Any {
  readonly kind: "envelope" | "plain"
  readonly name: string
  readonly spec: TopicSpec
}

/**
 * The first argument of a topic's handler: the decoded event, or a plain message's bytes.
 *
 * @since 0.1.0
 * @category models
 */
export type Event<T extends Any> = T extends EnvelopeDefinition<infer A, infer _I> ? A : Uint8Array

/**
 * The second argument of a topic's handler.
 *
 * @since 0.1.0
 * @category models
 */
export type DeliveryOf<T extends Any> = T extends { readonly kind: "envelope" } ? EnvelopeDelivery : Delivery

/**
 * When a topic's messages are settled unless a subscription says otherwise.
 *
 * @since 0.1.0
 * @category models
 */
export type DefaultSemantics<T extends Any> = T extends { readonly kind: "envelope" } ? "at-least-once" : "at-most-once"

/**
 * Handles one event. It succeeds when the event is handled. A typed failure is retried, and a defect restarts the actor.
 * The handler runs in its actor's fiber. A fiber that it forks with `Effect.fork` lives as long as that actor, so wait for all work that belongs to the event.
 *
 * @since 0.1.0
 * @category models
 */
export type EnvelopeHandler<A, E, R> = (event: A, delivery: EnvelopeDelivery) => Effect.Effect<unknown, E, R>

/**
 * Handles one plain message, at most once unless the subscription chooses otherwise. The body is empty where the value is `null`.
 *
 * @since 0.1.0
 * @category models
 */
export type PlainHandler<E, R> = (body: Uint8Array, delivery: Delivery) => Effect.Effect<unknown, E, R>

/**
 * What is published to a topic of envelopes.
 *
 * @since 0.1.0
 * @category models
 */
export interface EnvelopeMessage<A> extends Metadata {
  readonly payload: A
  /** Default: what the topic's `eventType` makes of the payload. */
  readonly eventType?: string | undefined
  readonly headers?: Headers | undefined
}

/**
 * What is published to a topic of plain messages.
 *
 * @since 0.1.0
 * @category models
 */
export interface PlainMessage {
  /** Text is written as UTF-8. */
  readonly body: Uint8Array | string
  readonly headers?: Headers | undefined
  /** Kafka's key, of any bytes. Messages with one key are handled in order. Text is written as UTF-8. */
  readonly key?: Uint8Array | string | undefined
  /** The aggregate: its messages are handled in order. Default: the key, if that is a valid aggregate id. */
  readonly aggregateId?: string | undefined
}
