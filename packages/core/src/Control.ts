/**
 * Control of a running subscription by hand: pausing and resuming it or one of its aggregates, looking at what waits and why, ending a wait, and
 * giving up a message that does not get through. All of it works in this process only, and ends with the subscription.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type { InvalidConfiguration, Position, PublishError, TooManyPaused } from "./EventBusError.js"
import type { DeadLetter, Drop } from "./FailurePolicy.js"
import type { Parking } from "./Parking.js"

/**
 * The operations of a subscription's `control`. An aggregate is named by its id. One that is ordered by the key of its messages is named as
 * `list` names it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Control extends Parking {
  /**
   * From now on no handler of this subscription begins. What runs finishes; what waits for a retry waits until `resume`. Fetching stops.
   * Pausing once more replaces the former end and reason.
   */
  readonly pause: (options?: PauseOptions) => Effect.Effect<void>
  /** Ends the pause of the subscription. Aggregates that are paused by themselves stay so. `false`: it was not paused. */
  readonly resume: Effect.Effect<boolean>
  /** The pause of the subscription, if it is paused. */
  readonly paused: Effect.Effect<Option.Option<Pause>>
  /**
   * The guard lets the subscription go on, and counts from zero: it had stopped it, because too many messages would be given up. They are tried again,
   * with all their retries. `false`: it had not stopped it.
   */
  readonly goOn: Effect.Effect<boolean>
  /**
   * From now on no handler of this aggregate begins. Its messages wait in a place of their own, so that they keep no others of their slot
   * waiting. Up to 10,000 aggregates of a subscription can be paused.
   */
  readonly pauseAggregate: (
    aggregate: string,
    options?: PauseAggregateOptions
  ) => Effect.Effect<void, TooManyPaused>
  /** Ends the pause of an aggregate. `false`: it was not paused by itself. */
  readonly resumeAggregate: (aggregate: string) => Effect.Effect<boolean>
  /** What is known of an aggregate. None: it has no message here and is not paused. */
  readonly inspect: (aggregate: string) => Effect.Effect<Option.Option<Aggregate>>
  /**
   * Ends the wait of the message in hand for its retry, its restart or its next attempt as a held one. `false`: it does not wait for one of these,
   * or its aggregate is paused.
   */
  readonly retryNow: (aggregate: string) => Effect.Effect<boolean>
  /**
   * Gives up the message in hand: it goes to the failure policy at once, and a handler that runs is interrupted. With a paused aggregate it is the
   * first one that waits. `false`: there is no such message, it goes its way already, or it is held and no other policy was given.
   */
  readonly giveUp: (aggregate: string, options?: GiveUpOptions) => Effect.Effect<boolean, InvalidConfiguration>
  /** The aggregates that are paused, parked, held, retrying or slow, in the order of their names. */
  readonly list: (options?: ListOptions) => Effect.Effect<Page>
}

/**
 * Publishing that has stopped, where the bus has `stopAfterFailedPublish`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Publishing {
  /** The aggregates whose messages are refused, and the failure with which that began. Up to 10,000; with more a topic stops as a whole. */
  readonly stopped: Effect.Effect<ReadonlyArray<StoppedPublishing>>
  /** From now on messages of the aggregate are sent again; without one, those of all aggregates of the topic. `false`: none had stopped. */
  readonly resume: (topic: string | { readonly name: string }, aggregate?: string) => Effect.Effect<boolean>
}

/**
 * An aggregate whose messages are refused.
 *
 * @since 0.1.0
 * @category models
 */
export interface StoppedPublishing {
  readonly topic: string
  /** Its id, or the key of its messages. Undefined: all of the topic. */
  readonly aggregate: string | undefined
  readonly cause: PublishError
}

/**
 * How long a pause lasts, and why it is made.
 *
 * @since 0.1.0
 * @category options
 */
export interface PauseOptions {
  /** When it ends by itself: after a time from now, or at a date. Default: it lasts until it is ended. */
  readonly until?: Duration.DurationInput | Date | undefined
  /** Shown by `paused`, `inspect` and `list`, and logged. */
  readonly reason?: string | undefined
}

/**
 * How one aggregate is paused.
 *
 * @since 0.1.0
 * @category options
 */
export interface PauseAggregateOptions extends PauseOptions {
  /**
   * Whether the pause stays when the partition of its messages is taken away, and holds again when it comes back to this subscription. Another
   * instance knows nothing of it either way. Default: false.
   */
  readonly survivesRebalance?: boolean | undefined
}

/**
 * How a message is given up by hand.
 *
 * @since 0.1.0
 * @category options
 */
export interface GiveUpOptions {
  /** What happens to it. Default: what the subscription's `onExhausted` says. At-most-once messages have no policy: they fail. */
  readonly policy?: DeadLetter | Drop | undefined
  /** It is in the failure that is reported, and in the dead letter. */
  readonly reason?: string | undefined
}

/**
 * Which aggregates are listed.
 *
 * @since 0.1.0
 * @category options
 */
export interface ListOptions {
  /** Only those with one of these. Default: all five. */
  readonly only?: ReadonlyArray<Concern> | undefined
  /** From when on a running handler is slow. Default: 10 seconds. */
  readonly slowAfter?: Duration.DurationInput | undefined
  /** How many are answered, 1,000 at most. Default: 100. */
  readonly limit?: number | undefined
  /** The `next` of the page before. */
  readonly after?: string | undefined
}

/**
 * Why an aggregate is listed. `paused`: by itself. `parked`: its messages are letters. `held`: its policy is `hold`. `retrying`: its message waits for another attempt, or runs in one.
 * `slow`: its handler has run for long.
 *
 * @since 0.1.0
 * @category models
 */
export type Concern = "paused" | "parked" | "held" | "retrying" | "slow"

/**
 * Why the first message of an aggregate does not go on now. `slot`: others of its slot are before it. `circuit` and `guard`: it has failed, and its
 * circuit is open, or the guard has stopped the subscription. Those behind such a message wait with `subscription-paused`.
 * `suspect`: it may have been in hand when a process died, and waits until it may be run alone. `probation`: a process died while it was run
 * alone, and it is given up if this one lives without it.
 *
 * @since 0.1.0
 * @category models
 */
export type Wait =
  | "paused"
  | "subscription-paused"
  | "handler"
  | "retry"
  | "restart"
  | "permit"
  | "suspect"
  | "probation"
  | "circuit"
  | "guard"
  | "held"
  | "dead-letter"
  | "parked"
  | "slot"

/**
 * A pause.
 *
 * @since 0.1.0
 * @category models
 */
export interface Pause {
  /** In milliseconds since the epoch. */
  readonly since: number
  /** When it ends by itself, in milliseconds since the epoch. Undefined: not by itself. */
  readonly until: number | undefined
  readonly reason: string | undefined
  readonly survivesRebalance: boolean
}

/**
 * What is known of an aggregate.
 *
 * @since 0.1.0
 * @category models
 */
export interface Aggregate {
  readonly aggregate: string
  /** Its own pause. */
  readonly pause: Pause | undefined
  readonly concerns: ReadonlyArray<Concern>
  /** Why its first message does not go on. Undefined: it has none. */
  readonly waitsFor: Wait | undefined
  /** How many of its messages wait behind the one in hand. */
  readonly waiting: number
  /** The message that has begun and not ended. Undefined: there is none. */
  readonly inHand: InHand | undefined
}

/**
 * A message that has begun and not ended.
 *
 * @since 0.1.0
 * @category models
 */
export interface InHand {
  readonly position: Position
  /** The state of its flight, as an observer is told of it. */
  readonly state: "settling" | "queued" | "running" | "waiting" | "held" | "dead-lettering" | "parking" | "ended"
  /** How long it has been in this state, in milliseconds, exact to about 10 ms. */
  readonly inState: number
  /** How long ago it was taken from the transport, in milliseconds, exact to about 10 ms. */
  readonly age: number
  readonly attempts: number
  readonly restarts: number
  /** Why its last attempt failed: what a log line would say, cut to 500 characters. What a Schema says is without payload. */
  readonly cause: string | undefined
}

/**
 * Some of the aggregates that are listed.
 *
 * @since 0.1.0
 * @category models
 */
export interface Page {
  readonly aggregates: ReadonlyArray<Aggregate>
  /** To be given as `after`. Undefined: there are no more. */
  readonly next: string | undefined
}
