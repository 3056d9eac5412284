/**
 * Topics as values: a name, what its messages are, and how they are read. The
 * same value is used to publish and to subscribe.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Delivery, EnvelopeDelivery } from "./Delivery.js"
import type { Metadata } from "./Envelope.js"
import type * as EnvelopeCodec from "./EnvelopeCodec.js"
import { EventBus } from "./EventBus.js"
import type { SubscribeError } from "./EventBusError.js"
import type { Headers } from "./Headers.js"
import * as EventTypes from "./internal/eventTypes.js"
import type { NotYetKnown, OptionsFor } from "./Subscription.js"
import type { Semantics, TopicSpec } from "./Transport.js"

/**
 * A topic of envelopes whose payloads fit a schema.
 *
 * @since 0.1.0
 * @category models
 */
export interface EnvelopeTopic<A, I = unknown> {
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
  /** A subscription as a layer: what it needs and how it can fail to start are in its type. */
  readonly toLayer: <E = NotYetKnown, R = unknown, R2 = never, S extends Semantics = "at-least-once">(
    handler: EnvelopeHandler<A, E, R>,
    options: OptionsFor<"envelope", S, E, R2>
  ) => Layer.Layer<never, SubscribeError, EventBus | Exclude<R | R2, Scope.Scope>>
}

/**
 * A topic of plain messages: bytes, headers and an optional key.
 *
 * @since 0.1.0
 * @category models
 */
export interface PlainTopic {
  readonly kind: "plain"
  readonly name: string
  readonly spec: TopicSpec
  /** A subscription as a layer: what it needs and how it can fail to start are in its type. */
  readonly toLayer: <E = NotYetKnown, R = unknown, R2 = never, S extends Semantics = "at-most-once">(
    handler: PlainHandler<E, R>,
    options?: OptionsFor<"plain", S, E, R2>
  ) => Layer.Layer<never, SubscribeError, EventBus | Exclude<R | R2, Scope.Scope>>
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
export type Event<T extends Any> = T extends EnvelopeTopic<infer A, infer _I> ? A : Uint8Array

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

/**
 * What a transport should know when it makes the topic.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** How many partitions the topic gets if the transport creates it. Default: the transport's setting. */
  readonly partitions?: number | undefined
}

/**
 * The options of a topic of envelopes.
 *
 * @since 0.1.0
 * @category models
 */
export interface EnvelopeTopicOptions<A> extends Options {
  /** The `event_type` of a payload. Default: its `_tag`. */
  readonly eventType?: ((payload: A) => string) | undefined
  /**
   * The event types that the schema knows: all answers of `eventType`. An event of another type is then of an unknown type, and not
   * undecodable (`onUnknownType` of a subscription). Default: the `_tag`s of the schema if these are the event types, else nothing is known.
   */
  readonly eventTypes?: ReadonlyArray<string> | undefined
  /** The codec of the topic's envelopes, if their format is another one. Default: the codec of the bus. */
  readonly codec?: EnvelopeCodec.Service | undefined
}

/**
 * A topic of envelopes: define it once, and use the value to publish and to subscribe. The event type is the payload's `_tag`, or what `eventType` says: payloads without a `_tag` need it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const envelope = <A, I>(
  name: string,
  schema: Schema.Schema<A, I>,
  ...[options]: A extends { readonly _tag: string } ? [options?: EnvelopeTopicOptions<A>]
    : [options: EnvelopeTopicOptions<A> & { readonly eventType: (payload: A) => string }]
): EnvelopeTopic<A, I> => {
  const topic: EnvelopeTopic<A, I> = {
    kind: "envelope",
    name,
    spec: { name, kind: "envelope", partitions: options?.partitions },
    schema,
    eventType: options?.eventType ?? EventTypes.tagOf,
    eventTypes: options?.eventTypes,
    codec: options?.codec,
    toLayer: (handler, options) =>
      Layer.scopedDiscard(Effect.flatMap(EventBus, (bus) => bus.subscribe(topic, handler, options)))
  }
  return topic
}

/**
 * A topic of plain messages.
 *
 * @since 0.1.0
 * @category constructors
 */
export const plain = (name: string, options?: Options): PlainTopic => {
  const topic: PlainTopic = {
    kind: "plain",
    name,
    spec: { name, kind: "plain", partitions: options?.partitions },
    toLayer: (handler, options) =>
      Layer.scopedDiscard(Effect.flatMap(EventBus, (bus) => bus.subscribe(topic, handler, options)))
  }
  return topic
}
