import { Histogram } from "./histogram.js"

/** How many groups the aggregates of a side are divided into, by hash. */
export const groups = 16

/** So many subscriptions are kept apart. The others are measured together. */
const maxSubscriptions = 64

/**
 * What one side has done: counts, and the times of messages that were handled at the first attempt.
 *
 * @internal
 */
export class Meter {
  /** By group of aggregates. */
  readonly begun = new Float64Array(groups)
  readonly restarts = new Float64Array(groups)
  readonly errors = new Float64Array(groups)
  ended = 0
  lost = 0
  readonly waiting = new Histogram()
  readonly handling = new Histogram()
  /** From the moment that a lane took a message to its end, by subscription and group of aggregates. */
  readonly times = new Map<string, Array<Histogram | undefined>>()

  began(group: number, waiting: number): void {
    this.begun[group]!++
    this.waiting.add(waiting)
  }

  handled(subscription: string, group: number, time: number, handling: number): void {
    this.handling.add(handling)
    this.timesOf(subscription, group).add(time)
  }

  addAll(other: Meter): void {
    for (let i = 0; i < groups; i++) {
      this.begun[i]! += other.begun[i]!
      this.restarts[i]! += other.restarts[i]!
      this.errors[i]! += other.errors[i]!
    }
    this.ended += other.ended
    this.lost += other.lost
    this.waiting.addAll(other.waiting)
    this.handling.addAll(other.handling)
    for (const [subscription, times] of other.times) {
      times.forEach((one, group) => one !== undefined && this.timesOf(subscription, group).addAll(one))
    }
  }

  get messages(): number {
    return sum(this.begun)
  }

  private timesOf(subscription: string, group: number): Histogram {
    let times = this.times.get(subscription)
    if (times === undefined) {
      const name = this.times.size < maxSubscriptions ? subscription : ""
      this.times.set(name, times = this.times.get(name) ?? [])
    }
    return times[group] ??= new Histogram()
  }
}

/** @internal */
export interface Both {
  readonly baseline: Meter
  readonly candidate: Meter
}

/**
 * Both sides in the same time.
 *
 * @internal
 */
export class Sides implements Both {
  readonly baseline = new Meter()
  readonly candidate = new Meter()

  addAll({ baseline, candidate }: Both): void {
    this.baseline.addAll(baseline)
    this.candidate.addAll(candidate)
  }
}

/** @internal */
export const sum = (counts: Float64Array): number => {
  let sum = 0
  for (let i = 0; i < counts.length; i++) sum += counts[i]!
  return sum
}

/**
 * The times of all groups together.
 *
 * @internal
 */
export const together = (times: ReadonlyArray<Histogram | undefined>): Histogram => {
  const all = new Histogram()
  for (const one of times) if (one !== undefined) all.addAll(one)
  return all
}

/**
 * The times of both sides for the same work: of subscriptions that have messages on both, those of the baseline as many times as the candidate
 * has messages of that subscription.
 *
 * @internal
 */
export const sameWork = (
  baseline: Meter,
  candidate: Meter
): { readonly baseline: Histogram; readonly candidate: Histogram } => {
  const same = { baseline: new Histogram(), candidate: new Histogram() }
  for (const [subscription, times] of candidate.times) {
    const others = baseline.times.get(subscription)
    if (others === undefined) continue
    const one = together(times)
    const other = together(others)
    same.candidate.addAll(one)
    same.baseline.addAll(other, one.total / other.total)
  }
  return same
}
