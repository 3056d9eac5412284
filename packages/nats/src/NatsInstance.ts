/**
 * This process as one of the instances that share a group's partitions: it can step down, so that others take over what it has, without
 * ending. For operators: a machine that is to be looked at, a debugger, a rollout that is watched.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"

/**
 * All subscriptions of this process, as far as they take partitions.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * Gives back all partitions, as closing does: handlers that run may end (`drainDeadline`), what waits goes to the next owners. Nothing is
   * taken until `stepUp`. Ends when all was given back. Publishing goes on.
   */
  readonly stepDown: Effect.Effect<void>
  /** Takes part again: this instance gets its share of the partitions. */
  readonly stepUp: Effect.Effect<void>
  readonly isSteppedDown: Effect.Effect<boolean>
}

/**
 * Comes with `NatsTransport.layer`.
 *
 * @since 0.1.0
 * @category tags
 */
export class NatsInstance extends Context.Tag("@effect-eventbus/nats/NatsInstance")<NatsInstance, Service>() {}
