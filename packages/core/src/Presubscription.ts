/**
 * Pre-subscriptions: a topic is joined before there is a handler for it. Handlers
 * come and go within it, and none of them joins the group anew.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { EventBus } from "./EventBus.js"
import type { SubscribeError } from "./EventBusError.js"
import type { EnvelopeTopic, PlainTopic } from "./Topic.js"
import type { Semantics, StartFrom } from "./Transport.js"

/**
 * A topic that a group has joined. A subscription of the same topic and group attaches its handler to it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Presubscription {
  readonly topic: string
  readonly group: string
  readonly stats: Effect.Effect<Stats>
  /**
   * Ends it before its scope does: fetching stops, the subscription that is attached is closed, the group is left.
   */
  readonly close: Effect.Effect<void>
}

/**
 * What has been counted since the topic was joined, and how it stands now.
 *
 * @since 0.1.0
 * @category models
 */
export interface Stats {
  /** Messages that were skipped because there was no handler. */
  readonly skipped: number
  /** Partitions in which messages wait for a handler now. */
  readonly waiting: number
  /** Whether a subscription is attached now. */
  readonly isAttached: boolean
}

/**
 * What has to be known when the group is joined. A subscription that attaches has to agree with it.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /**
   * What becomes of messages while there is no handler. `"hold"`: they stay at the broker, and fetching stops.
   * `"skip"`: they are settled without being handled, and counted. Default: `"hold"`.
   */
  readonly withoutHandler?: "hold" | "skip" | undefined
  /** Default: the configured group. */
  readonly group?: string | undefined
  /** Where a group without a position begins. Default: `"earliest"`. */
  readonly startFrom?: StartFrom | undefined
  /** When messages are settled. Default: at least once for envelopes, at most once for plain messages. */
  readonly semantics?: Semantics | undefined
}

/**
 * A pre-subscription as a layer. Provide it to the layers of its handlers, so that they come after it and go before it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <A, I>(
  topic: EnvelopeTopic<A, I> | PlainTopic,
  options?: Options
): Layer.Layer<never, SubscribeError, EventBus> =>
  Layer.scopedDiscard(Effect.flatMap(EventBus, (bus) => bus.presubscribe(topic, options)))
