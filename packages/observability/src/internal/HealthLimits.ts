import * as Duration from "effect/Duration"
import type { Options } from "../Health.js"

/**
 * The bounds of `Health`, in milliseconds.
 *
 * @internal
 */
export interface Limits {
  readonly interval: number
  readonly stalledAfter: (subscription: { readonly topic: string; readonly group: string }) => number
  readonly failingAfter: number
  readonly unsettledAfter: number
  readonly disconnectedAfter: number
  readonly blockedAfter: number
  readonly window: number
  readonly floodFrom: number
  readonly floodShare: number
}

/** @internal */
export const of = (options: Options): Limits => {
  const millis = (given: Duration.DurationInput | undefined, byDefault: Duration.DurationInput) =>
    Duration.toMillis(given ?? byDefault)
  const stalledAfter = millis(options.stalledAfter, "5 minutes")
  const { stalledAfterOf } = options
  return {
    interval: millis(options.interval, "5 seconds"),
    stalledAfter: (subscription) => millis(stalledAfterOf?.(subscription), stalledAfter),
    failingAfter: millis(options.failingAfter, "10 seconds"),
    unsettledAfter: millis(options.unsettledAfter, "1 minute"),
    disconnectedAfter: millis(options.disconnectedAfter, "10 seconds"),
    blockedAfter: millis(options.blockedAfter, "5 seconds"),
    window: millis(options.window, "1 minute"),
    floodFrom: options.floodFrom ?? 20,
    floodShare: options.floodShare ?? 0.5
  }
}
