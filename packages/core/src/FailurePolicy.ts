/**
 * What happens to a message whose handling does not succeed. The bus has no
 * default for it: a subscriber chooses.
 *
 * @since 0.1.0
 */
import * as Predicate from "effect/Predicate"
import type { HandlerTimeout } from "./EventBusError.js"
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
  /** As whom the transport makes the topic if there is none. */
  readonly spec: TopicSpec
}

/**
 * Never give up: the aggregate's followers wait, the message is tried again every
 * `holdInterval` (30 s by default), counted and shown as held. Bytes that
 * can't be decoded would be held for ever, so it has to be said what happens to them.
 *
 * @since 0.1.0
 * @category models
 */
export interface Hold {
  readonly _tag: "Hold"
  readonly undecodable: DeadLetter | Drop
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
 * Try again by the subscription's retry schedule; when that ends, do what `onExhausted` says.
 *
 * @since 0.1.0
 * @category models
 */
export interface Retry {
  readonly _tag: "Retry"
}

/**
 * What a subscriber can choose for messages whose handling has been given up.
 *
 * @since 0.1.0
 * @category models
 */
export type FailurePolicy = DeadLetter | Hold | Drop

/**
 * What a subscriber can choose for one typed failure.
 *
 * @since 0.1.0
 * @category models
 */
export type Decision = Retry | DeadLetter | Drop

/**
 * Dead letters to a topic: give the topic's value where there is one, so that its settings hold if it has to be made.
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
 * Counts and reports the message, and goes on.
 *
 * @since 0.1.0
 * @category policies
 */
export const drop: Drop = { _tag: "Drop" }

/**
 * Tries again by the subscription's schedule; for `onError`.
 *
 * @since 0.1.0
 * @category decisions
 */
export const retry: Retry = { _tag: "Retry" }

/**
 * A decision for each typed failure of a handler, by its `_tag`; for a handler timeout where that is not to be retried.
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
(error) => lookup(cases, error) ?? retry

/**
 * A decision for some typed failures, by their `_tag`; the others get `otherwise` (by default they are retried).
 *
 * @since 0.1.0
 * @category decisions
 */
export const byTag = (
  cases: { readonly [tag: string]: Decision },
  otherwise: Decision = retry
): (error: unknown) => Decision =>
(error) => lookup(cases, error) ?? otherwise

const lookup = (cases: { readonly [tag: string]: Decision }, error: unknown): Decision | undefined =>
  Predicate.hasProperty(error, "_tag") && typeof error._tag === "string" && Object.hasOwn(cases, error._tag)
    ? cases[error._tag]
    : undefined

/**
 * What `onError` is: a function from a handler's typed failure to a decision.
 *
 * @since 0.1.0
 * @category models
 */
export type OnError<E> = (error: E | HandlerTimeout) => Decision
