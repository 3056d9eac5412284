import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import * as AggregateId from "../AggregateId.js"
import * as ConfigSpec from "../ConfigSpec.js"
import * as EventBusConfig from "../EventBusConfig.js"
import * as RateLimit from "../RateLimit.js"
import * as Recovery from "../Recovery.js"
import type * as Replay from "../Replay.js"
import type { CommonOptions } from "../Subscription.js"
import type { Semantics, TopicSpec } from "../Transport.js"
import type { Presubscribed } from "./presubscription.js"
import * as Rate from "./rate.js"
import type * as Internal from "./subscription.js"

const handlerTimeout = ConfigSpec.duration({ infinite: true, description: "How long an attempt may take." })

const guardSettings = {
  from: EventBusConfig.spec.guardFrom,
  percent: EventBusConfig.spec.guardPercent,
  window: EventBusConfig.spec.guardWindow
}

type AnyTopic = Pick<TopicSpec, "kind">

/**
 * What is wrong with the options that all subscriptions have.
 *
 * @internal
 */
export const issuesOf = (options: CommonOptions): Array<string> => {
  const issues: Array<string> = []
  if (options.concurrency !== undefined && !(Number.isSafeInteger(options.concurrency) && options.concurrency > 0)) {
    issues.push(`concurrency: expected a whole number of at least 1, got ${options.concurrency}`)
  }
  const rate: unknown = options.rate
  if (rate !== undefined && !Predicate.hasProperty(rate, RateLimit.TypeId)) {
    issues.push("rate: expected a limit from RateLimit.make")
  }
  const timeout = options.handlerTimeout === undefined ? undefined : handlerTimeout.expected(options.handlerTimeout)
  if (timeout !== undefined) issues.push(`handlerTimeout: ${timeout}`)
  for (const issue of recoveryIssuesOf(options.recovery)) issues.push(issue)
  for (const issue of circuitIssuesOf(options)) issues.push(issue)
  const group: unknown = options.group
  if (group !== undefined && (typeof group !== "string" || group.trim() === "")) {
    issues.push(`group: expected a text that is not blank${Array.isArray(group) ? ", got a list" : ""}`)
  }
  return issues
}

const circuitIssuesOf = (
  { circuits, guard }: CommonOptions & { readonly guard?: unknown }
): ReadonlyArray<string> => {
  const issues: Array<string> = []
  const given: unknown = circuits
  if (given !== undefined && !(Array.isArray(given) && given.every(Predicate.isTagged("Circuit")))) {
    issues.push("circuits: expected a list of FailurePolicy.circuit(…)")
  }
  if (guard === undefined || guard === "off") return issues
  if (!Predicate.isReadonlyRecord(guard)) {
    return [...issues, "guard: expected options, such as { from: 200 }, or \"off\""]
  }
  for (const [name, setting] of Object.entries(guardSettings)) {
    const value = guard[name]
    const issue = value === undefined ? undefined : setting.expected(value)
    if (issue !== undefined) issues.push(`guard.${name}: ${issue}`)
  }
  for (const name of Object.keys(guard)) {
    if (name !== "probe" && !Object.hasOwn(guardSettings, name)) issues.push(`guard.${name}: there is no such option`)
  }
  if (guard["probe"] !== undefined && !Schedule.isSchedule(guard["probe"])) {
    issues.push("guard.probe: expected a Schedule")
  }
  return issues
}

const recoveryIssuesOf = (options: Recovery.Options | undefined): ReadonlyArray<string> => {
  if (options === undefined) return []
  if (!isOptions(options)) return ["recovery: expected options, such as {}"]
  const { enterAt = Recovery.spec.enterAt.value, leaveAt, rate } = options
  const found = ConfigSpec.problems(ConfigSpec.below("recovery", Recovery.spec), "recovery", options, ["rate"])
  const issues = Array.from(found.values())
  if (leaveAt !== undefined && leaveAt >= enterAt && !found.has("leaveAt") && !found.has("enterAt")) {
    issues.push(`recovery.leaveAt: expected less than enterAt (${enterAt}), got ${leaveAt}`)
  }
  if (rate === undefined) return issues
  return rate === "unlimited" || isOptions(rate)
    ? [...issues, ...Rate.issuesOf(rate).map((issue) => `recovery.rate: ${issue}`)]
    : [...issues, "recovery.rate: expected a limit such as { perSecond: 1000 }, or \"unlimited\""]
}

/** Without a compiler anything may be here. */
const isOptions = (value: unknown): boolean => Predicate.isReadonlyRecord(value)

/**
 * What a pre-subscription is found by.
 *
 * @internal
 */
export const keyOf = (topic: string, group: string): string => `${topic}\n${group}`

/**
 * What a topic's messages get by default.
 *
 * @internal
 */
export const semanticsOf = (topic: AnyTopic): Semantics => topic.kind === "envelope" ? "at-least-once" : "at-most-once"

/**
 * The differences between a pre-subscription and a subscription that attaches. What was fixed when the group was joined can't change.
 *
 * @internal
 */
export const differences = <E, R>(
  { settings: { semantics, startFrom, topic: { kind } } }: Presubscribed,
  topic: AnyTopic,
  options: Internal.Options<E, R>
): ReadonlyArray<string> => {
  const issues: Array<string> = []
  if (topic.kind !== kind) issues.push(`kind: the topic was pre-subscribed as one of ${kind} messages`)
  if (options.semantics !== semantics) issues.push(`semantics: the topic was pre-subscribed "${semantics}"`)
  if (options.startFrom !== undefined && options.startFrom !== startFrom) {
    issues.push("startFrom: it was decided when the topic was pre-subscribed; leave it out")
  }
  return issues
}

/**
 * What is wrong with the bounds of a replay.
 *
 * @internal
 */
export const replayIssuesOf = ({ aggregateId, from, to }: Replay.Options): ReadonlyArray<string> => {
  const issues: Array<string> = []
  if (aggregateId !== undefined && !AggregateId.isValid(aggregateId)) {
    issues.push("aggregateId: expected 1 to 256 of A-Z a-z 0-9 : _ - . /")
  }
  for (const [name, bound] of [["from", from], ["to", to]] as const) {
    if (typeof bound === "object" && "time" in bound && Number.isNaN(bound.time.getTime())) {
      issues.push(`${name}: the time is not valid`)
    }
    // Without a compiler anything may be here.
    if (Predicate.hasProperty(bound, "group")) {
      issues.push(
        `${name}: a replay begins at the earliest, at a time or at offsets, and not where a group has stopped`
      )
    }
  }
  return issues
}
