import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import type * as Dispatch from "../../Dispatch.js"
import type * as Options from "./options.js"

/**
 * The limits of the triggers. Undefined: it never fires.
 *
 * @internal
 */
export interface Limits {
  readonly p99: number | undefined
  /** A difference of the p99 that is smaller does not count, in milliseconds. */
  readonly leastDifference: number
  readonly restarts: number | undefined
  readonly errors: number | undefined
}

/**
 * The options of a rollout with their defaults.
 *
 * @internal
 */
export interface Settings {
  readonly steps: ReadonlyArray<{ readonly share: Dispatch.Share; readonly time: number }>
  readonly advance: "timed" | "by-hand" | Schedule.Schedule<unknown>
  readonly interval: Duration.Duration
  readonly failures: number
  readonly minimum: number
  readonly limits: Limits
  /** Undefined: the heap is not judged. In milliseconds. */
  readonly heap: { readonly above: number; readonly time: number } | undefined
  readonly promotion: { readonly p99: number; readonly restarts: number }
}

/**
 * The settings, and what is wrong with the options.
 *
 * @internal
 */
export const make = (
  options: Options.Options
): { readonly settings: Settings; readonly issues: ReadonlyArray<string> } => {
  const issues: Array<string> = []
  const refuse = (name: string, wanted: string, value: unknown): void => {
    issues.push(`rollout: ${name}: expected ${wanted}, got ${String(value)}`)
  }
  const count = (name: string, value: unknown, byDefault: number): number => {
    if (value === undefined) return byDefault
    if (Number.isSafeInteger(value) && (value as number) >= 1) return value as number
    refuse(name, "a whole number of at least 1", value)
    return byDefault
  }
  const time = (name: string, value: unknown, byDefault: Duration.DurationInput, least = 1): Duration.Duration => {
    if (value === undefined) return Duration.decode(byDefault)
    const duration = Option.getOrUndefined(Duration.decodeUnknown(value))
    if (duration !== undefined && Duration.isFinite(duration) && Duration.toMillis(duration) >= least) return duration
    refuse(name, `a finite duration of at least ${least} ms`, value)
    return Duration.decode(byDefault)
  }
  const share = (name: string, value: unknown, byDefault: number): number => {
    if (value === undefined) return byDefault
    if (typeof value === "number" && value > 0 && value < Infinity) return value
    refuse(name, "a number above 0", value)
    return byDefault
  }
  const trigger = (name: string, value: unknown, byDefault: number) =>
    value === false ? undefined : share(`triggers.${name}`, value, byDefault)

  const { promotion = {}, triggers = {} } = options
  const heap = trigger("heap", triggers.heap, 0.5)
  const heapFor = time("triggers.heapFor", triggers.heapFor, "30 minutes")
  const settings: Settings = {
    steps: options.steps.map((given, at) => {
      const step = typeof given === "number" ? { share: given } : given
      return { share: step.share, time: Duration.toMillis(time(`steps[${at}].for`, step.for, "10 minutes", 0)) }
    }),
    advance: options.advance ?? "timed",
    interval: time("interval", options.interval, "10 seconds"),
    failures: count("failures", options.failures, 3),
    minimum: count("minimum", options.minimum, 50),
    limits: {
      p99: trigger("p99", triggers.p99, 0.2),
      leastDifference: Duration.toMillis(time("triggers.leastDifference", triggers.leastDifference, "1 milli", 0)),
      restarts: trigger("restarts", triggers.restarts, 0.05),
      errors: trigger("errors", triggers.errors, 0.01)
    },
    heap: heap === undefined ? undefined : { above: heap, time: Duration.toMillis(heapFor) },
    promotion: {
      p99: share("promotion.p99", promotion.p99, 0.05),
      restarts: share("promotion.restarts", promotion.restarts, 0.01)
    }
  }
  if (settings.steps.length === 0) issues.push("rollout: steps: expected at least one")
  settings.steps.forEach(({ share }, at) => {
    if (typeof share === "function") return
    if (!(share > 0 && share <= 1)) refuse(`steps[${at}].share`, "a number above 0 and up to 1, or a function", share)
    const before = settings.steps[at - 1]?.share
    if (typeof before === "number" && share < before) refuse(`steps[${at}].share`, `at least ${before}`, share)
  })
  return { settings, issues }
}
