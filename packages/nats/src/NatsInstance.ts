/**
 * This process as one of the instances that share a group's partitions: it can step down, so that others take over what it has, without
 * ending. For operators: a machine that is to be looked at, a debugger, a rollout that is watched.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"

/**
 * What became of stepping down.
 *
 * @since 0.1.0
 * @category models
 */
export interface StepDownReport {
  /** How many partitions this instance still has. */
  readonly left: number
}

/**
 * All subscriptions of this process, as far as they take partitions.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * Gives back all partitions, as closing does: handlers that run may end (`drainDeadline`), what waits goes to the next owners. Nothing is
   * taken until `stepUp`. Publishing goes on. Ends when all was given back, or when no partition has been for longer than handlers may
   * take and the server may need (`drainDeadline` and twice `requestTimeout`); the report then says how many are left. They are given back
   * as soon as that is possible, while the bucket of the leases has no room for example it is not, and are read until then.
   */
  readonly stepDown: Effect.Effect<StepDownReport>
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
