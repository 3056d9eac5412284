/**
 * Dead letters by hand: which there are and why, grouped by their causes; releasing them into the topics that they came from, and discarding them.
 * It needs no running subscription: a script or an operator's tool makes it on the transport. `docs/dead-letters.md` shows it.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { ReplayUnsupported, SubscribeError } from "./EventBusError.js"
import * as Internal from "./internal/deadLetters/deadLetters.js"
import * as Headers from "./internal/deadLetters/headers.js"
import type { DeadLetters, Options } from "./internal/deadLetters/model.js"
import type { Any } from "./TopicDefinition.js"
import type { Transport } from "./Transport.js"

/**
 * The names of the headers that a released message has beside its own.
 *
 * @since 0.1.0
 * @category constants
 */
export const headerNames: {
  /** Where its letter stands: `topic/partition/offset`. */
  readonly from: "X-Released-From"
  /** The id by which the broker knows it (JetStream's `Nats-Msg-Id`), in place of its event id. */
  readonly id: "X-Released-Id"
  /** Its own time, in milliseconds since the epoch: the broker has the time of the release. */
  readonly timestamp: "X-Released-Timestamp"
  /** How often it has been released, this time included. */
  readonly count: "X-Released-Count"
  readonly by: "X-Released-By"
  readonly why: "X-Released-Why"
} = Headers.names

export type {
  /**
   * The dead letters of a topic.
   *
   * @since 0.1.0
   * @category models
   */
  DeadLetters,
  /**
   * Who does it and why. It is logged, remembered, and in the headers of what is released.
   *
   * @since 0.1.0
   * @category options
   */
  DiscardOptions,
  /**
   * The letters with the same cause.
   *
   * @since 0.1.0
   * @category models
   */
  Group,
  /**
   * A letter that waits for somebody's decision.
   *
   * @since 0.1.0
   * @category models
   */
  Letter,
  /**
   * What is needed to know dead letters.
   *
   * @since 0.1.0
   * @category options
   */
  Options,
  /**
   * How letters are released.
   *
   * @since 0.1.0
   * @category options
   */
  ReleaseOptions,
  /**
   * What was done with letters, or would be.
   *
   * @since 0.1.0
   * @category models
   */
  Report,
  /**
   * Which letters an operation is about: those of an aggregate, those with a cause (as a group has it), those that a function picks, or all.
   *
   * @since 0.1.0
   * @category models
   */
  Target
} from "./internal/deadLetters/model.js"

export {
  /**
   * A release or a discard ended before it was through. Say it once more: it goes on where it ended.
   *
   * @since 0.1.0
   * @category errors
   */
  DeadLettersFailed
} from "./internal/deadLetters/model.js"

/**
 * The dead letters of a topic, for as long as the scope lasts. Name it as the policy does: by its name, or as the same topic.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: (
  topic: string | Any,
  options: Options
) => Effect.Effect<DeadLetters, SubscribeError | ReplayUnsupported, Transport | Scope.Scope> = Internal.make
