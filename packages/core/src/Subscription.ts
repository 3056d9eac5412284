/**
 * A running subscription, and what can be set for one.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type * as Stream from "effect/Stream"
import type { GuardOptions } from "./Circuit.js"
import type { Control } from "./Control.js"
import type { Delivery } from "./Delivery.js"
import type { HandlerTimeout } from "./EventBusError.js"
import type { EnvelopeFailure, PlainFailure } from "./Failure.js"
import type { Circuit, FailurePolicy, OnError, Park, Skip, UnknownTypePolicy } from "./FailurePolicy.js"
import type * as Poison from "./Poison.js"
import type { RateLimit } from "./RateLimit.js"
import type * as Recovery from "./Recovery.js"
import type { Semantics, SourceStatus, StartFrom, TopicSpec } from "./Transport.js"

/**
 * A running subscription. `F` is what it reports: `EnvelopeFailure<E>` or `PlainFailure<E>`, with the handler's typed failure.
 *
 * @since 0.1.0
 * @category models
 */
export interface Subscription<out F> {
  readonly topic: string
  readonly group: string
  /**
   * The messages that are given up, as it happens. The stream is a sliding view of the newest 1,024. To see every message, use `onFailure`.
   */
  readonly failures: Stream.Stream<F>
  /** What has been counted since the subscription began. */
  readonly stats: Effect.Effect<Stats>
  /** How the transport sees it: its partitions, and what fails now. `undefined` on transports that can't tell. */
  readonly status: Effect.Effect<SourceStatus | undefined>
  /** Pauses and resumes it or one of its aggregates, shows what waits and why, and gives up messages by hand. */
  readonly control: Control
  /** Whether it is in recovery mode now. */
  readonly isInRecoveryMode: Effect.Effect<boolean>
  /**
   * Puts it into recovery mode, or back to normal, until somebody says otherwise. With `"auto"` the backlog decides from now on. Without the
   * option `recovery`, recovery mode has its defaults.
   */
  readonly setRecoveryMode: (mode: Recovery.Mode) => Effect.Effect<void>
  /** Each change of the recovery mode from now on: a sliding view of the newest 256. */
  readonly recoveryChanges: Stream.Stream<Recovery.Change>
  /**
   * Ends the subscription before its scope does: fetching stops, mailboxes are worked off within
   * `closeDeadline`, what is finished is settled, the group is left. Calling it again answers the same report.
   */
  readonly close: Effect.Effect<CloseReport>
}

/**
 * What has been counted since the subscription began, how many messages are held now, and how many actors live now.
 *
 * @since 0.1.0
 * @category models
 */
export interface Stats {
  /** Messages taken from the transport. */
  readonly received: number
  /** Messages whose handler succeeded. */
  readonly handled: number
  /** Attempts after the first. */
  readonly retried: number
  /** How often an actor was started again after a defect. The last start, which gives the message up, counts as well. With a strategy that never restarts it stays 0. */
  readonly restarted: number
  readonly deadLettered: number
  readonly dropped: number
  /** Messages that became letters, because they failed and the policy is `park`, or because their aggregate was parked. */
  readonly parked: number
  /** Letters that were released and ended: handled, or as their policy says. Each of them counts as received once more. */
  readonly released: number
  /** Letters that were discarded. */
  readonly discarded: number
  /** Aggregates that are parked now, of the partitions that this instance owns. */
  readonly parkedAggregates: number
  /** Their letters. */
  readonly parkedLetters: number
  /** Messages that are held now. */
  readonly held: number
  /** Messages that could not be decoded. */
  readonly undecodable: number
  /** Events of a type that the topic's Schema does not know, whether skipped, dead-lettered or held. */
  readonly unknownType: number
  /** Tombstones on a topic of envelopes. They are given to `onTombstone`, or skipped without it. */
  readonly tombstones: number
  /** At-most-once messages whose handler failed. */
  readonly failed: number
  /**
   * At-most-once messages that were settled and not handled, because closing ran out of time or their partition was taken away; also
   * those whose settlement the broker had not confirmed by then, because it may have settled them.
   */
  readonly lost: number
  /**
   * Messages that came from another partition of their topic than the message of their aggregate before them. More than 0 means that the order of
   * these aggregates is not known: publishers use different partitioners, or partitions were added.
   */
  readonly otherPartition: number
  /** How often a message was run alone, because a process had ended that may have had it in hand (`poison`). */
  readonly suspects: number
  /** Messages that went to the failure policy without being started, because they end the process (`poison`). */
  readonly poisoned: number
  /** Actors alive now. */
  readonly actors: number
  /** Actors of this subscription that have ended, because they were idle or made room. 0 where the strategy's slots are shared. */
  readonly endedActors: number
  /** How full the fullest mailbox is now, from 0 (empty) to 1 (full). */
  readonly fullestMailbox: number
  /** Aggregates that are paused by themselves now. */
  readonly pausedAggregates: number
  /** When the oldest of these pauses began, in milliseconds since the epoch; undefined where there is none. */
  readonly pausedSince: number | undefined
}

/**
 * What closing left.
 *
 * @since 0.1.0
 * @category models
 */
export interface CloseReport {
  /** Messages that were taken and did not finish. They are not settled, so they come again, here or elsewhere. */
  readonly unfinished: number
  /** At-most-once messages that were settled, or may have been, and were not handled. */
  readonly lost: number
}

/**
 * The options that all subscriptions have.
 *
 * @since 0.1.0
 * @category options
 */
export interface CommonOptions {
  /** Default: the configured group. */
  readonly group?: string | undefined
  /** Where a group without a position begins. Default: `"earliest"`. */
  readonly startFrom?: StartFrom | undefined
  /** How many handlers of this subscription run at once. Default: unbounded, within the bounds of the bus. */
  readonly concurrency?: number | undefined
  /** How many messages are handed over in a second; a message counts once, however often it is tried. Default: no limit. */
  readonly rate?: RateLimit | undefined
  /** Recovery mode, which the backlog turns on and off; `{}` has all defaults. Default: it is off, and only `setRecoveryMode` turns it on. */
  readonly recovery?: Recovery.Options | undefined
  /**
   * After this time a handler is interrupted, and has failed with `HandlerTimeout`. A promise behind it goes on unless it is given the
   * signal of `Effect.tryPromise((signal) => …)`, also beside the next attempt. Default: none.
   */
  readonly handlerTimeout?: Duration.DurationInput | undefined
  /**
   * Circuits that stop it, also when another subscription opens them. Those that `byTag` and `exhaustive` have are known without this. An at-most-once
   * subscription opens none itself: while one is open, it takes nothing more. Default: none.
   */
  readonly circuits?: ReadonlyArray<Circuit> | undefined
  /** Whether the last valid token of the subject is the aggregate id if the message has no other (NATS). Default: false. */
  readonly aggregateIdFromSubject?: boolean | undefined
}

/**
 * Options of a subscription that settles a message after it is finished.
 *
 * @since 0.1.0
 * @category options
 */
export interface AtLeastOnceOptions<E, R> extends CommonOptions {
  /** What happens when retries and restarts have ended. There is no default: the subscriber decides. */
  readonly onExhausted: FailurePolicy
  /** What happens at a typed failure. Default: retry. `FailurePolicy.exhaustive` makes forgetting one a compile error. */
  readonly onError?: OnError<NoInfer<E>> | undefined
  /**
   * When the subscription is stopped because too many messages would be given up: that would empty the topic. `"off"`: never. Default: as the bus is
   * configured, 200 in a row, or 200 and half of all within 5 minutes.
   */
  readonly guard?: GuardOptions | "off" | undefined
  /** When a typed failure is tried again. Default: 8 times, from 100 ms doubling to at most 30 s, with jitter. */
  readonly retry?: Schedule.Schedule<unknown, NoInfer<E> | HandlerTimeout> | undefined
  /**
   * Whether messages are found that end the process: by running out of memory, `process.exit`, or a crash of native code. `{}` has all
   * defaults. It needs a store, which the transport makes beside the topic for the group. Default: `"off"`.
   */
  readonly poison?: Poison.Options | "off" | undefined
  /** What `onError` answers to park a message, where neither `onExhausted` nor `onUnknownType` is that policy. */
  readonly parking?: Park | undefined
  /** Runs for each message that was given up, in its actor, before the messages behind it. With `hold` it runs once, when that begins. */
  readonly onFailure?: ((failure: EnvelopeFailure<NoInfer<E>>) => Effect.Effect<unknown, never, R>) | undefined
}

/**
 * Options of a subscription that settles a message before its handler starts.
 *
 * @since 0.1.0
 * @category options
 */
export interface AtMostOnceOptions<E, R> extends CommonOptions {
  /** Runs for each message whose handler failed, in its actor, before the messages behind it. */
  readonly onFailure?: ((failure: PlainFailure<NoInfer<E>>) => Effect.Effect<unknown, never, R>) | undefined
}

/**
 * Handles a tombstone. The delivery's `key` or `aggregateId` says what was deleted.
 *
 * @since 0.1.0
 * @category models
 */
export type TombstoneHandler<E, R> = (delivery: Delivery) => Effect.Effect<unknown, E, R>

/**
 * What happens to messages on a topic of envelopes that the topic's Schema has no event for.
 *
 * @since 0.1.0
 * @category options
 */
export interface ReadingOptions<S extends Semantics, E, R> {
  /**
   * What happens to an event whose type the topic's Schema does not know, because a newer version of the application published it.
   * Default: what `onExhausted` says, at once; with at-most-once it counts as failed, and is reported.
   */
  readonly onUnknownType?: (S extends "at-most-once" ? Skip : UnknownTypePolicy) | undefined
  /** Handles a tombstone, a message without a value: something was deleted. It is run as the handler is. Default: tombstones are counted and skipped. */
  readonly onTombstone?: TombstoneHandler<NoInfer<E>, R> | undefined
}

/**
 * The options of a subscription. An at-least-once subscriber has to say what happens when a message is given up.
 *
 * @since 0.1.0
 * @category options
 */
export type Options<S extends Semantics, E, R = never> =
  & {
    /** When a message is settled. Default: envelopes at least once, plain messages at most once. */
    readonly semantics?: S | undefined
  }
  & (S extends "at-most-once" ? AtMostOnceOptions<E, R> : AtLeastOnceOptions<E, R>)

/**
 * The options of a subscription to a kind of topic.
 *
 * @since 0.1.0
 * @category options
 */
export type OptionsFor<K extends TopicSpec["kind"], S extends Semantics, E, R = never> =
  & Options<S, E, R>
  & (K extends "envelope" ? ReadingOptions<S, E, R> : unknown)

/**
 * The options of any subscription.
 *
 * @since 0.1.0
 * @category options
 */
export type AnyOptions<E, R = never> =
  | OptionsFor<"envelope", "at-least-once", E, R>
  | OptionsFor<"envelope", "at-most-once", E, R>

/**
 * How a subscription reports a message that it gave up.
 *
 * @since 0.1.0
 * @category models
 */
export type FailureOf<S extends Semantics, E> = S extends "at-most-once" ? PlainFailure<E> : EnvelopeFailure<E>

/**
 * The type of a handler's failures until the compiler has read the handler. So a mistake in the options is reported as such a mistake.
 *
 * @since 0.1.0
 * @category models
 */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type NotYetKnown = any

/**
 * A topic that a group has joined. A subscription of the same topic and group attaches its handler to it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Presubscription {
  readonly topic: string
  readonly group: string
  readonly stats: Effect.Effect<PresubscriptionStats>
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
export interface PresubscriptionStats {
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
export interface PresubscriptionOptions {
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
