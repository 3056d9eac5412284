/**
 * Changes the strategy of a bus while it runs. Each aggregate moves to its slot of the other strategy when none of its messages is
 * waiting or in hand, so its order holds throughout. `bus.dispatch` is this service.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { InvalidConfiguration } from "./EventBusError.js"
import type * as Observer from "./Observer.js"
import type * as Strategy from "./Strategy.js"

/**
 * An aggregate that has not moved yet.
 *
 * @since 0.1.0
 * @category models
 */
export interface Remaining {
  /** `topic/group`. */
  readonly subscription: string
  /** The aggregate id. The keys of other messages begin with a space. */
  readonly key: string
  /** The strategy by which its messages are still handled. */
  readonly strategy: string
  /** The slot that has its messages. */
  readonly slot: string
  /** How many of its messages wait or are in hand. */
  readonly messages: number
  /**
   * What its first message does. `queued`: it waits behind messages of other aggregates in the same slot, or it is about to begin.
   * `ended`: its partition was taken away, and the slot is about to drop it.
   */
  readonly state: Observer.State
  /** When that state began, in milliseconds since the epoch. */
  readonly since: number
  /** How often its handler was started. */
  readonly attempt: number
}

/**
 * Which aggregates a candidate has: a share by the hash of their keys, from 0 to 1, or those for which a function answers `true`. The
 * function has to answer the same for a key whenever it is asked. By the hash an aggregate stays on its side also after a restart, and those of a
 * smaller share belong to a larger one, too.
 *
 * @since 0.1.0
 * @category options
 */
export type Share = number | ((key: string, subscription: string) => boolean)

/**
 * A strategy that has a share of the aggregates.
 *
 * @since 0.1.0
 * @category models
 */
export interface Canary {
  readonly strategy: Strategy.Service
  readonly share: Share
}

/**
 * How far a switch has come.
 *
 * @since 0.1.0
 * @category models
 */
export interface Report {
  /** The strategy of all aggregates that have moved, and of new ones. */
  readonly strategy: Strategy.Service
  /** The strategy of a share of the aggregates, while a canary runs. */
  readonly canary: Canary | undefined
  /** How many aggregates have not moved yet. */
  readonly remaining: number
  /** The first 100 of them. */
  readonly aggregates: ReadonlyArray<Remaining>
}

/**
 * How aggregates move.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /**
   * What happens to messages that wait when the strategy is switched. `"finish"`: they are handled in their former slot, and their aggregate
   * moves when none is left. `"move"`: they move with their aggregate as soon as none of its messages is in hand, so that a backlog
   * moves, too. Default: `"finish"`.
   */
  readonly waiting?: "finish" | "move" | undefined
}

/**
 * The strategy of a running bus.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** The present strategy, and which aggregates have not moved to it yet. */
  readonly report: Effect.Effect<Report>
  /**
   * Changes the strategy for all subscriptions of the bus. Aggregates that have no messages move at once, each other one when
   * its last message is done. So an aggregate whose messages never come to an end stays where it is, unless waiting messages
   * move as well: it is in the report. Calling it again with the present strategy changes only how the others move.
   */
  readonly switchTo: (
    strategy: Strategy.Service | Strategy.Name,
    options?: Options
  ) => Effect.Effect<Report, InvalidConfiguration>
  /**
   * Gives a share of the aggregates to another strategy, the candidate. They move as with `switchTo`. Calling it again changes the share, or the
   * candidate. `switchTo` ends the canary: with the candidate it is promoted, with the present strategy it is rolled back.
   */
  readonly canary: (
    strategy: Strategy.Service | Strategy.Name,
    share: Share,
    options?: Options
  ) => Effect.Effect<Report, InvalidConfiguration>
  /** Waits until all aggregates have moved, or the time is over. The report has those that have not, and why. */
  readonly moved: (within: Duration.DurationInput) => Effect.Effect<Report>
}
