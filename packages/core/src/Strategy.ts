/**
 * Which slot handles the messages of an aggregate, and what happens when that slot dies. Messages of one
 * aggregate always go to the same slot, so that their order holds with every strategy.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import type * as Schedule from "effect/Schedule"

/**
 * A strategy as a value.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** For logs and metrics. */
  readonly name: string
  /**
   * `"per-aggregate"`: each active aggregate of each subscription has a slot of its own. Or a fixed number of slots that all
   * subscriptions of the bus share: then `slotOf` answers a number from 0 to `count - 1`, and always the same number for a key.
   */
  readonly slots: "per-aggregate" | { readonly count: number; readonly slotOf: (key: string) => number }
  /** Messages in one slot's mailbox, the one in hand included. Default: the setting `mailboxCapacity` (1,000). */
  readonly capacity?: number | undefined
  /**
   * When a slot is started again after a defect. `"never"`: a message whose handler dies goes to the failure policy at once.
   * Default: the supervisor's schedule.
   */
  readonly restart?: Schedule.Schedule<unknown, Cause.Cause<never>> | "never" | undefined
}

/**
 * Every active aggregate has an actor of its own, so that unrelated aggregates never wait for each other.
 *
 * @since 0.1.0
 * @category strategies
 */
export const actorPerAggregate: Service = { name: "actor-per-aggregate", slots: "per-aggregate" }

/**
 * The strategy of a bus. Default: an actor per aggregate. Provide it below `EventBus.layer`.
 *
 * @since 0.1.0
 * @category tags
 */
export class Strategy extends Context.Reference<Strategy>()("@effect-eventbus/core/Strategy", {
  defaultValue: (): Service => actorPerAggregate
}) {}

/**
 * A strategy for the bus above.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (strategy: Service): Layer.Layer<Strategy> => Layer.succeed(Strategy, strategy)
