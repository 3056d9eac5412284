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
import type * as EnvelopeCodec from "./EnvelopeCodec.js"
import { EventBus } from "./EventBus.js"
import type { SubscribeError } from "./EventBusError.js"
import * as EventTypes from "./internal/eventTypes.js"
import type { NotYetKnown, OptionsFor } from "./Subscription.js"
import type { EnvelopeDefinition, EnvelopeHandler, PlainDefinition, PlainHandler } from "./TopicDefinition.js"
import type { Semantics } from "./Transport.js"

/**
 * @since 0.1.0
 */
export * from "./TopicDefinition.js"

/**
 * A topic of envelopes whose payloads fit a schema.
 *
 * @since 0.1.0
 * @category models
 */
export interface EnvelopeTopic<A, I = unknown> extends EnvelopeDefinition<A, I> {
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
export interface PlainTopic extends PlainDefinition {
  /** A subscription as a layer: what it needs and how it can fail to start are in its type. */
  readonly toLayer: <E = NotYetKnown, R = unknown, R2 = never, S extends Semantics = "at-most-once">(
    handler: PlainHandler<E, R>,
    options?: OptionsFor<"plain", S, E, R2>
  ) => Layer.Layer<never, SubscribeError, EventBus | Exclude<R | R2, Scope.Scope>>
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
  // Not distributed: one member of a union without a `_tag` needs `eventType`, too.
  ...[options]: [A] extends [{ readonly _tag: string }] ? [options?: EnvelopeTopicOptions<A>]
    : [optionsWithEventType: EnvelopeTopicOptions<A> & { readonly eventType: (payload: A) => string }]
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
