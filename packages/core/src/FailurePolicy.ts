/**
 * What happens to a message whose handling does not succeed. The bus has no
 * default for it: a subscriber chooses.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type { HandlerTimeout } from "./EventBusError.js"
import * as Safely from "./internal/safely.js"
import type { TopicSpec } from "./Transport.js"

/**
 * Publish the original message, with the cause in headers, to another topic, and
 * go on when the broker has confirmed it. Until then the message is unfinished and its followers wait.
 *
 * @since 0.1.0
 * @category models
 */
export interface DeadLetter {
  readonly _tag: "DeadLetter"
  readonly topic: string
  /** What the transport needs to make the topic if there is none. */
  readonly spec: TopicSpec
}

/**
 * Never give up. The message is tried again every `holdInterval` (30 s by default), and counted as held. The aggregate's later
 * messages wait. Bytes that can't be decoded would be held for ever, so you say what happens to them.
 *
 * @since 0.1.0
 * @category models
 */
export interface Hold {
  readonly _tag: "Hold"
  readonly undecodable: DeadLetter | Drop
}

/**
 * Put the message, and all that follow of its aggregate, aside in order: as letters in the group's store beside the topic, which the broker confirms before a
 * message is settled. Others of its partition go on without a limit in time. Somebody releases the aggregate later, or a schedule does, and its letters are handled
 * in order before newer messages. Bytes that can't be decoded, and messages without any key, go the way of `undecodable`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Park {
  readonly _tag: "Park"
  readonly undecodable: DeadLetter | Drop
  /** How many letters an aggregate has at most; then its messages wait as with `hold`. */
  readonly maxPerAggregate: number
  /** When a parked aggregate is released by itself: each of its failures is one step of the schedule. Undefined: only by hand. */
  readonly release: Schedule.Schedule<unknown> | undefined
  /** Is told of each letter that is discarded, before it is gone: its aggregate goes on without it. It may be told twice after a crash. */
  readonly onDiscarded: ((gap: Gap) => Effect.Effect<unknown>) | undefined
}

/**
 * A parked message that somebody has discarded.
 *
 * @since 0.1.0
 * @category models
 */
export interface Gap {
  /** Its id, or what stands for its key. */
  readonly aggregate: string
  readonly partition: number
  readonly offset: number
  readonly by: { readonly who: string; readonly why: string }
}

/**
 * Count it, report it and go on.
 *
 * @since 0.1.0
 * @category models
 */
export interface Drop {
  readonly _tag: "Drop"
}

/**
 * Count it and go on. Nothing is reported, because nothing failed.
 *
 * @since 0.1.0
 * @category models
 */
export interface Skip {
  readonly _tag: "Skip"
}

/**
 * Try again by the subscription's retry schedule; when that ends, do what `onExhausted` says.
 *
 * @since 0.1.0
 * @category models
 */
export interface Retry {
  readonly _tag: "Retry"
}

/**
 * What the handler needs is down, so trying other messages is in vain. The subscription begins nothing more, and each other one of the bus that has
 * the named circuit, until a message that probes has succeeded. The failed message stays unfinished, and none of its retries is used.
 *
 * @since 0.1.0
 * @category models
 */
export interface Circuit {
  readonly _tag: "Circuit"
  /** Undefined: the subscription has a circuit of its own. */
  readonly name: string | undefined
  /** Undefined: from 1 second, doubling to 30 seconds, with jitter. */
  readonly probe: Schedule.Schedule<unknown> | undefined
}

/**
 * What a subscriber can choose for messages whose handling has been given up.
 *
 * @since 0.1.0
 * @category models
 */
export type FailurePolicy = DeadLetter | Hold | Drop | Park

/**
 * What a subscriber can choose for an event whose type the topic's Schema does not know. With `hold` the aggregate waits until a
 * version of the application takes over that knows the type.
 *
 * @since 0.1.0
 * @category models
 */
export type UnknownTypePolicy = Skip | DeadLetter | Hold | Park

/**
 * What a subscriber can choose for one typed failure.
 *
 * @since 0.1.0
 * @category models
 */
export type Decision = Retry | DeadLetter | Drop | Park | Circuit

/**
 * Dead letters to a topic. Give the topic's value if there is one, so that its settings hold if the topic has to be made.
 *
 * @since 0.1.0
 * @category policies
 */
export const deadLetter = (topic: string | { readonly spec: TopicSpec }): DeadLetter => {
  const spec: TopicSpec = typeof topic === "string" ? { name: topic, kind: "envelope" } : topic.spec
  return { _tag: "DeadLetter", topic: spec.name, spec }
}

/**
 * Tries again every `holdInterval` until it succeeds, and says what happens to bytes that can't be decoded.
 *
 * @since 0.1.0
 * @category policies
 */
export const hold = (options: { readonly undecodable: DeadLetter | Drop }): Hold => ({
  _tag: "Hold",
  undecodable: options.undecodable
})

/**
 * Parks the aggregate of a message that failed. An aggregate has 10,000 letters at most by default.
 *
 * @since 0.1.0
 * @category policies
 */
export const park = (options: {
  readonly undecodable: DeadLetter | Drop
  readonly maxPerAggregate?: number | undefined
  readonly release?: Schedule.Schedule<unknown> | undefined
  readonly onDiscarded?: ((gap: Gap) => Effect.Effect<unknown>) | undefined
}): Park => ({
  _tag: "Park",
  undecodable: options.undecodable,
  maxPerAggregate: options.maxPerAggregate ?? 10_000,
  release: options.release,
  onDiscarded: options.onDiscarded
})

/**
 * Counts and reports the message, and goes on.
 *
 * @since 0.1.0
 * @category policies
 */
export const drop: Drop = { _tag: "Drop" }

/**
 * Counts the event and goes on; for `onUnknownType`.
 *
 * @since 0.1.0
 * @category policies
 */
export const skip: Skip = { _tag: "Skip" }

/**
 * Tries again by the subscription's schedule; for `onError`.
 *
 * @since 0.1.0
 * @category decisions
 */
export const retry: Retry = { _tag: "Retry" }

/**
 * The dependency is down: nothing more begins until a probe has succeeded; for `onError`. Circuits of the same name are one in a bus. Name
 * `HandlerTimeout` as well if a dependency that is down makes handlers hang.
 *
 * @since 0.1.0
 * @category decisions
 */
export const circuit = (options: {
  /** What is down, as logs and health name it. Default: the subscription has a circuit of its own. */
  readonly name?: string | undefined
  /** When a message probes. Default: after 1 second, doubling to 30 seconds, with jitter. */
  readonly probe?: Schedule.Schedule<unknown> | undefined
} = {}): Circuit => ({ _tag: "Circuit", name: options.name, probe: options.probe })

/**
 * A decision for each typed failure of a handler, by its `_tag`. A decision for `HandlerTimeout` is optional: by default it is retried.
 *
 * @since 0.1.0
 * @category models
 */
export type Cases<E extends { readonly _tag: string }> =
  & { readonly [Tag in Exclude<E["_tag"], "HandlerTimeout">]: Decision }
  & { readonly HandlerTimeout?: Decision }

/**
 * A decision for every typed failure of a handler, by its `_tag`. Written where `onError` is given, the map has to have
 * each failure of the handler and no other: the compiler names the one that is missing, or the one that no longer exists.
 * A map that is written elsewhere may have more. A handler timeout is retried unless `HandlerTimeout` is in the map.
 *
 * @since 0.1.0
 * @category decisions
 */
// `E` comes from `onError`, `Tag` from the map where there is no `onError` around it.
export const exhaustive = <E extends { readonly _tag: string } = never, const Tag extends string = never>(
  cases: [E] extends [never] ? { readonly [K in Tag]: Decision } : Cases<E>
): (error: [E] extends [never] ? { readonly _tag: Tag | "HandlerTimeout" } : E) => Decision =>
  withCircuits((error: unknown) => lookup(cases, error) ?? retry, Object.values(cases))

/**
 * A decision for some typed failures, by their `_tag`; the others get `otherwise`, a decision or how it is made (by default they are retried).
 *
 * @since 0.1.0
 * @category decisions
 */
export const byTag = (
  cases: { readonly [tag: string]: Decision },
  otherwise: Decision | ((error: unknown) => Decision) = retry
): (error: unknown) => Decision =>
  withCircuits(
    (error: unknown) => lookup(cases, error) ?? (typeof otherwise === "function" ? otherwise(error) : otherwise),
    [...Object.values(cases), otherwise]
  )

/**
 * A decision by the error itself: an error whose `isRetryable` is `false` gets `otherwise`, and all others are retried. The errors of
 * this library have that field, except for `ReplayFailed`. So a publish inside a handler is tried again after an outage, and a message that
 * can never be published is not. `BusClosed` is retried although its `isRetryable` is `false`: the subscription is closing, and the message
 * comes again elsewhere.
 *
 * @since 0.1.0
 * @category decisions
 */
export const retryable = (otherwise: Decision): (error: unknown) => Decision => (error) =>
  Safely.get(error, "isRetryable") === false && Safely.get(error, "_tag") !== "BusClosed" ? otherwise : retry

/** The circuits that an `onError` is known to answer: a subscription has them from its beginning. */
const known = new WeakMap<object, ReadonlyArray<Circuit>>()

const withCircuits = <F extends (error: never) => Decision>(onError: F, decisions: ReadonlyArray<unknown>): F => {
  known.set(
    onError,
    decisions.flatMap((one) =>
      typeof one === "function" ? known.get(one) ?? [] : Safely.get(one, "_tag") === "Circuit" ? [one as Circuit] : []
    )
  )
  return onError
}

/**
 * The circuits that are known of an `onError` before it is asked.
 *
 * @internal
 */
export const circuitsOf = (onError: object | undefined): ReadonlyArray<Circuit> => (onError && known.get(onError)) ?? []

const lookup = (cases: { readonly [tag: string]: Decision }, error: unknown): Decision | undefined => {
  const tag = Safely.text(error, "_tag")
  return tag !== undefined && Object.hasOwn(cases, tag) ? cases[tag] : undefined
}

/**
 * What `onError` is: a function from a handler's typed failure to a decision.
 *
 * @since 0.1.0
 * @category models
 */
export type OnError<E> = (error: E | HandlerTimeout) => Decision
