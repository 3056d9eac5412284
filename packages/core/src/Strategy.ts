/**
 * Which slot handles the messages of an aggregate, and what happens when that slot dies. Messages of one
 * aggregate always go to the same slot, so that their order holds with every strategy.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Layer from "effect/Layer"
import type * as Schedule from "effect/Schedule"
import * as Partitioner from "./Partitioner.js"

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
   * Messages without a key take turns over all slots, and `slotOf` is not asked.
   */
  readonly slots: "per-aggregate" | { readonly count: number; readonly slotOf: (key: string) => number }
  /** Messages in one slot's mailbox, the one in hand included. Default: the setting `mailboxCapacity` (1,000). */
  readonly capacity?: number | undefined
  /**
   * When a slot is started again after a defect: by a schedule, or so many times for one message with the waits of the setting
   * `restartBase`. `"never"` (or 0): a message whose handler dies goes to the failure policy at once.
   * Default: the supervisor's schedule.
   */
  readonly restart?: Schedule.Schedule<unknown, Cause.Cause<never>> | number | "never" | undefined
  /**
   * When a mailbox that messages wait for has been full for so long, the observer is told, and a warning is logged. Waiting goes on.
   * Default: it is not reported.
   */
  readonly reportFullAfter?: Duration.DurationInput | undefined
}

/**
 * The strategies that the setting `dispatch` can name.
 *
 * @since 0.1.0
 * @category models
 */
export type Name = "actor-per-aggregate" | "actor-pool" | "keyed-workers"

/**
 * A fixed number of slots that all subscriptions share.
 *
 * @since 0.1.0
 * @category options
 */
export interface PoolOptions extends Omit<Service, "slots"> {
  /** How many slots there are. Default: 256. */
  readonly size?: number | undefined
}

/**
 * A fixed number of slots that all topics and subscriptions of a bus share. An aggregate's slot is the FNV-1a hash of its id, modulo the
 * number of slots.
 *
 * @since 0.1.0
 * @category constructors
 */
export const pool = ({ size = 256, ...options }: PoolOptions): Service => ({
  ...options,
  slots: { count: size, slotOf: (key) => hash(key) % size }
})

/**
 * Every active aggregate has an actor of its own, so that unrelated aggregates never wait for each other.
 *
 * @since 0.1.0
 * @category strategies
 */
export const actorPerAggregate: Service = { name: "actor-per-aggregate", slots: "per-aggregate" }

/**
 * 256 actors that all topics and subscriptions of a bus share. Their mailboxes and restarts are those of the settings: 1,000 messages,
 * and 3 restarts for one message.
 *
 * @since 0.1.0
 * @category strategies
 */
export const actorPool: Service = pool({ name: "actor-pool" })

/**
 * 256 workers that all topics and subscriptions of a bus share, each with a queue of 1,000 messages (the setting `mailboxCapacity`).
 * Nobody restarts them: a message whose handler dies goes to the failure policy at once. A queue that has been full for 500 ms is reported.
 *
 * @since 0.1.0
 * @category strategies
 */
export const keyedWorkers: Service = pool({ name: "keyed-workers", restart: "never", reportFullAfter: "500 millis" })

/**
 * The strategy of a bus. Default: an actor per aggregate, or the one that the setting `dispatch` names. Provide it below
 * `EventBus.layer`. To change it while the bus runs, use `bus.dispatch`.
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

const encoder = new TextEncoder()

/** FNV-1a of a key's bytes in UTF-8. Aggregate ids are ASCII, and need no bytes of their own. */
const hash = (key: string): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i++) {
    const code = key.charCodeAt(i)
    if (code > 0x7f) return Partitioner.fnv1a(encoder.encode(key))
    hash = Math.imul(hash ^ code, 0x01000193)
  }
  return hash >>> 0
}
