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
import type { PresubscriptionOptions } from "./Subscription.js"
import type { EnvelopeDefinition, PlainDefinition } from "./TopicDefinition.js"

export type {
  /**
   * @since 0.1.0
   * @category models
   */
  Presubscription,
  /**
   * @since 0.1.0
   * @category options
   */
  PresubscriptionOptions as Options,
  /**
   * @since 0.1.0
   * @category models
   */
  PresubscriptionStats as Stats
} from "./Subscription.js"

/**
 * A pre-subscription as a layer. Provide it to the layers of its handlers, so that they come after it and go before it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <A, I>(
  topic: EnvelopeDefinition<A, I> | PlainDefinition,
  options?: PresubscriptionOptions
): Layer.Layer<never, SubscribeError, EventBus> =>
  Layer.scopedDiscard(Effect.flatMap(EventBus, (bus) => bus.presubscribe(topic, options)))
