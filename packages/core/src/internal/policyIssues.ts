import * as Predicate from "effect/Predicate"
import type { FailurePolicy } from "../FailurePolicy.js"
import type { Service as Transport, TopicSpec } from "../Transport.js"

/**
 * What is wrong with a failure policy. There is none, or it leads back to the subscription's own topic: then the subscription would
 * give up its own dead letters again without end.
 *
 * @internal
 */
export const policyIssues = (
  transport: Transport,
  topic: TopicSpec,
  policy: FailurePolicy | undefined,
  option = "onExhausted"
): ReadonlyArray<string> => {
  if (policy === undefined) return ["onExhausted is missing: choose FailurePolicy.deadLetter, park, hold or drop"]
  // Without a compiler, and from configuration, anything may be here.
  if (!isPolicy(policy)) return [`${option}: expected FailurePolicy.deadLetter, park, hold or drop`]
  const chosen = (policy._tag === "Hold" || policy._tag === "Park" ? policy.undecodable : policy) as FailurePolicy
  if (!isPolicy(chosen) || chosen._tag === "Hold" || chosen._tag === "Park") {
    return [`${option}: undecodable has to be FailurePolicy.deadLetter or drop`]
  }
  if (policy._tag === "Park") {
    const { maxPerAggregate } = policy
    if (!(Number.isSafeInteger(maxPerAggregate) && maxPerAggregate > 0)) {
      return [`${option}: maxPerAggregate: expected a whole number of at least 1, got ${maxPerAggregate}`]
    }
    if (transport.store === undefined) {
      return [`${option}: the ${transport.name} transport has no store to park messages in`]
    }
  }
  if (chosen._tag !== "DeadLetter") return []
  return chosen.topic === topic.name || transport.covers?.(topic, chosen.spec) === true
    ? [
      `${option}: dead letters to "${chosen.topic}" would come back to this subscription of "${topic.name}": choose another topic`
    ]
    : []
}

const isPolicy = (value: unknown): value is FailurePolicy =>
  Predicate.isTagged(value, "Hold") || Predicate.isTagged(value, "Drop") || Predicate.isTagged(value, "Park") ||
  (Predicate.isTagged(value, "DeadLetter") && Predicate.hasProperty(value, "topic") &&
    typeof value.topic === "string" &&
    Predicate.hasProperty(value, "spec") && Predicate.isRecord(value.spec))
