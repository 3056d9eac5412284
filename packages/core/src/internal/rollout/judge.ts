import { Histogram } from "./histogram.js"
import { type Both, groups, sameWork, sum, together } from "./meter.js"
import type { Late } from "./probe.js"
import type { Limits, Settings } from "./settings.js"
import type * as Rollout from "./state.js"
import { chanceOf, spread } from "./statistics.js"

/** How unlikely it has to be that a side is as bad only by chance. */
const unlikely = 0.01

/**
 * What was measured in an interval, and what is still under way.
 *
 * @internal
 */
export interface Interval extends Both {
  readonly under: { readonly baseline: ReadonlyArray<Late>; readonly candidate: ReadonlyArray<Late> }
}

/**
 * Why an interval of the candidate has failed. What differs from the baseline by chance, or is above a limit by chance, has not. `recent` is the
 * interval with those before it: with more messages the p99 is known better.
 *
 * @internal
 */
export const failuresOf = (interval: Interval, recent: Both, limits: Limits): ReadonlyArray<Rollout.Failure> =>
  [
    rateOf("errors", interval, limits.errors),
    rateOf("restarts", interval, limits.restarts),
    slowness(interval, recent, limits)
  ].filter((failure) => failure !== undefined)

/** A share of the messages is above its limit, and above the share of the baseline's. */
const rateOf = (
  trigger: "errors" | "restarts",
  { baseline, candidate }: Interval,
  limit: number | undefined
): Rollout.Failure | undefined => {
  if (limit === undefined) return undefined
  const mine = sum(candidate[trigger])
  const messages = Math.max(candidate.messages, mine)
  if (mine <= limit * messages) return undefined
  const others = sum(baseline[trigger])
  const all = baseline.messages
  const wide = Math.max(
    spread(candidate[trigger], candidate.begun),
    spread(baseline[trigger], baseline.begun)
  )
  const mean = limit * messages / wide
  if (chanceOf(mine / wide, mean, mean) > unlikely) return undefined
  if (all > 0 && !isAbove(mine / wide, messages / wide, (others + 0.5) / wide, all / wide)) return undefined
  return { trigger, candidate: mine / messages, baseline: all === 0 ? undefined : others / all, limit }
}

/** Whether so many of `messages` are more than chance gives, where the baseline has `others` of `all`. */
const isAbove = (count: number, messages: number, others: number, all: number): boolean => {
  const mean = messages * others / all
  return count > mean && chanceOf(count, mean, mean + mean * mean / others) <= unlikely
}

/** The shares of the messages that are slowest. The p99 alone would need some thousand messages to be known. */
const levels = [0.01, 0.05, 0.1]

/**
 * Whether the candidate's p99 is above its limit, and that is not by chance: the slowest of its messages are significantly slower than the baseline's, by more
 * than the limit.
 */
const slowness = (interval: Interval, recent: Both, limits: Limits): Rollout.Failure | undefined => {
  const { p99 } = limits
  if (p99 === undefined) return undefined
  const bounds = boundsOf(interval, p99, limits.leastDifference)
  if (bounds === undefined) return undefined
  const mine = p99Of(interval)
  const { candidate } = sameWork(recent.baseline, recent.candidate)
  if (!(Math.max(mine ?? 0, candidate.quantile(0.99) ?? 0) > bounds.limit)) return undefined
  const longer = { ...recent, under: interval.under }
  const isSlowest = (level: number) =>
    isSlower(interval, level, p99, limits.leastDifference) || isSlower(longer, level, p99, limits.leastDifference)
  if (!levels.some(isSlowest)) return undefined
  return { trigger: "p99", candidate: mine ?? bounds.limit, baseline: bounds.baseline, limit: bounds.limit }
}

/** The p99 of the baseline on the candidate's work, and the limit that follows. Messages that are under way are work, too. */
const boundsOf = ({ baseline, candidate, under }: Interval, above: number, least: number) => {
  const same = sameWork(baseline, candidate)
  let theirs = same.baseline
  if (theirs.total === 0) {
    theirs = new Histogram()
    for (const name of new Set(under.candidate.map(({ subscription }) => subscription))) {
      theirs.addAll(together(baseline.times.get(name) ?? []))
    }
  }
  const p99 = theirs.quantile(0.99)
  return p99 === undefined ? undefined : { baseline: p99, limit: Math.max(p99 * (1 + above), p99 + least) }
}

/**
 * For each subscription that both sides have, the time is looked up that such a share of the baseline's messages exceeds. How many of the candidate's
 * exceed it by more than the limit is compared with how many would, if the candidate were slower by just the limit. That needs no assumption on how times
 * are spread. Messages that are under way for longer count as well: a candidate that handles nothing any more has no times.
 */
const isSlower = ({ baseline, candidate, under }: Interval, level: number, above: number, least: number): boolean => {
  const mine = new Exceeding()
  const theirs = new Exceeding()
  let mean = 0
  let variance = 0
  let doubt = 0
  for (const [subscription, others] of baseline.times) {
    const all = together(others)
    const time = all.timeBelow(Math.max(1, all.total * level))
    if (time === undefined) continue
    const bound = Math.max(time * (1 + above), time + least)
    const messages = mine.add(subscription, candidate.times.get(subscription) ?? [], under.candidate, bound)
    const before = sum(theirs.counts)
    const known = theirs.add(subscription, others, under.baseline, time)
    const exceeding = Math.max(1, sum(theirs.counts) - before)
    const rate = exceeding / known
    mean += messages * rate
    variance += messages * rate * (1 - Math.min(rate, 1))
    doubt += (messages * rate) ** 2 * (1 - Math.min(rate, 1)) / exceeding
  }
  const count = sum(mine.counts)
  if (count <= mean) return false
  // Divided by it are the counts of both sides, and so what is known of the baseline.
  const wide = Math.max(spread(mine.counts, mine.sizes), spread(theirs.counts, theirs.sizes))
  return chanceOf(count / wide, mean / wide, (variance + doubt) / wide) <= unlikely
}

/** By group of aggregates: how many messages there are, and how many of them took longer than some time. */
class Exceeding {
  readonly counts = new Float64Array(groups)
  readonly sizes = new Float64Array(groups)

  /** Answers how many messages there are. */
  add(subscription: string, times: ReadonlyArray<Histogram | undefined>, under: ReadonlyArray<Late>, bound: number) {
    let messages = 0
    const count = (group: number, size: number, exceeding: number) => {
      messages += size
      this.sizes[group]! += size
      this.counts[group]! += exceeding
    }
    times.forEach((one, group) => one !== undefined && count(group, one.total, one.above(bound)))
    for (const one of under) if (one.subscription === subscription && one.age > bound) count(one.group, 1, 1)
    return messages
  }
}

/** With those that are under way as if they ended now. */
const p99Of = ({ baseline, candidate, under }: Interval): number | undefined => {
  const times = new Histogram()
  for (const [subscription, mine] of candidate.times) {
    if (baseline.times.has(subscription)) times.addAll(together(mine))
  }
  const usual = times.quantile(0.5) ?? 0
  for (const { age, subscription } of under.candidate) {
    if (age > usual && baseline.times.has(subscription)) times.add(age)
  }
  return times.quantile(0.99)
}

/**
 * What a step has not shown yet that the next one needs.
 *
 * @internal
 */
export const doubtsOf = (
  { baseline, candidate }: Both,
  { limits, minimum, promotion }: Pick<Settings, "limits" | "minimum" | "promotion">
): ReadonlyArray<string> => {
  const { messages } = candidate
  if (messages < minimum) return [`the candidate has had ${messages} messages, and ${minimum} are needed`]
  const doubts: Array<string> = []
  const same = sameWork(baseline, candidate)
  const mine = same.candidate.quantile(0.99)
  const theirs = same.baseline.quantile(0.99)
  if (limits.p99 !== undefined && (mine === undefined || theirs === undefined)) {
    // Without a baseline, as where the first step has all aggregates, there is nothing to compare with.
    if (baseline.messages > 0) {
      doubts.push("no subscription has handled messages on both sides, so their p99 can't be compared")
    }
  } else if (limits.p99 !== undefined) {
    const bound = Math.max(theirs! * (1 + promotion.p99), theirs! + limits.leastDifference)
    if (mine! > bound) doubts.push(`the p99 is ${ms(mine!)}, and has to be at most ${ms(bound)}`)
  }
  const restarts = sum(candidate.restarts) / messages
  if (limits.restarts !== undefined && restarts >= promotion.restarts) {
    doubts.push(
      `restarts are ${percent(restarts)} of the messages, and have to be below ${percent(promotion.restarts)}`
    )
  }
  if (candidate.lost > 0) doubts.push(`${candidate.lost} messages of the candidate were lost`)
  return doubts
}

/**
 * A failure in words.
 *
 * @internal
 */
export const describe = ({ baseline, candidate, limit, trigger }: Rollout.Failure): string => {
  const text = trigger === "p99" ? ms : trigger === "heap" ? mebibytes : percent
  const known = baseline === undefined
    ? ""
    : trigger === "heap"
    ? `${text(baseline)} before the step, `
    : `${text(baseline)} at the baseline, `
  return `${trigger}: ${text(candidate)} (${known}limit ${text(limit)})`
}

const ms = (time: number): string => `${time < 10 ? time.toFixed(2) : Math.round(time)} ms`
const percent = (share: number): string => `${Math.round(share * 1_000) / 10} %`
const mebibytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`
