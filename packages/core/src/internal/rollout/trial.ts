import * as Judge from "./judge.js"
import { type Both, type Meter, Sides } from "./meter.js"
import type { Settings } from "./settings.js"
import type * as Rollout from "./state.js"

type Trigger = Exclude<Rollout.Failure["trigger"], "heap">

const triggers: ReadonlyArray<Trigger> = ["p99", "restarts", "errors"]

/**
 * The intervals of a step, one after the other, and how many in a row have failed.
 *
 * @internal
 */
export class Trial {
  /** What was measured since the candidate was judged last. */
  private interval = new Sides()
  /** The last intervals that were judged, as many as have to fail. */
  private readonly judged: Array<Both> = []
  private readonly inRow = new Map<Trigger, number>()

  constructor(private readonly settings: Pick<Settings, "failures" | "limits" | "minimum">) {}

  /**
   * Adds what was measured in an interval, and judges it once there are enough messages. `reference` stands for the baseline where that has no
   * aggregates any more.
   */
  add(sides: Both, under: Judge.Interval["under"], reference: Meter | undefined): ReadonlyArray<Rollout.Failure> {
    this.interval.addAll(sides)
    const { baseline, candidate } = this.interval
    const { failures: needed, limits, minimum } = this.settings
    if (candidate.messages + under.candidate.length < minimum) return []
    this.interval = new Sides()
    const interval = reference === undefined
      ? { baseline, candidate, under }
      : { baseline: reference, candidate, under: { baseline: [], candidate: under.candidate } }
    this.judged.push(interval)
    if (this.judged.length > needed) this.judged.shift()
    const recent = new Sides()
    for (const one of this.judged) {
      recent.candidate.addAll(one.candidate)
      if (reference === undefined) recent.baseline.addAll(one.baseline)
    }
    if (reference !== undefined) recent.baseline.addAll(reference)
    const failures = Judge.failuresOf(interval, recent, limits)
    for (const trigger of triggers) {
      const isFailed = failures.some((failure) => failure.trigger === trigger)
      this.inRow.set(trigger, isFailed ? Math.min(needed, (this.inRow.get(trigger) ?? 0) + 1) : 0)
    }
    return failures
  }

  /** Whether so many intervals in a row have failed that the trigger fires. */
  hasFired({ trigger }: Rollout.Failure): boolean {
    return trigger === "heap" || this.inRow.get(trigger) === this.settings.failures
  }

  /** The triggers whose last interval has failed. */
  get failing(): ReadonlyArray<Trigger> {
    return triggers.filter((trigger) => (this.inRow.get(trigger) ?? 0) > 0)
  }
}
