/**
 * Recovery mode of a subscription: while it works off a backlog it has fewer actors, a rate limit, and says so when messages wait for long. The
 * subscription begins in it, goes into it when it falls behind, and goes back to normal by itself. Order is the same in both modes.
 *
 * @since 0.1.0
 */
import * as ConfigSpec from "./ConfigSpec.js"
import type * as RateLimit from "./RateLimit.js"

/**
 * The settings of recovery mode, with type, default, unit and meaning. `rate` is not among them.
 *
 * @since 0.1.0
 * @category configuration
 */
export const spec = {
  /** Whether the subscription begins in recovery. Default: `true`. */
  atStart: ConfigSpec.boolean({ default: true, description: "Whether the subscription begins in recovery." }),
  /** Recovery begins with a larger backlog. Default: `10000`. */
  enterAt: ConfigSpec.integer({
    unit: "messages",
    default: 10_000,
    description: "Recovery begins with a larger backlog."
  }),
  /** Recovery ends when the backlog has been at most so large for `calmFor`. Default: `half of enterAt`. */
  leaveAt: ConfigSpec.integer({
    min: 0,
    unit: "messages",
    default: "half of enterAt",
    description: "Recovery ends when the backlog has been at most so large for `calmFor`."
  }),
  /** How long the backlog has to be small before recovery ends. Default: `30 seconds`. */
  calmFor: ConfigSpec.duration({
    zero: true,
    default: "30 seconds",
    description: "How long the backlog has to be small before recovery ends."
  }),
  /** How often the backlog is looked at. It is read from memory. Default: `1 second`. */
  interval: ConfigSpec.duration({
    default: "1 second",
    description: "How often the backlog is looked at. It is read from memory."
  }),
  /** Live actors of this subscription in recovery. Default: `1000`. */
  maxActors: ConfigSpec.integer({
    unit: "actors",
    default: 1_000,
    description: "Live actors of this subscription in recovery."
  }),
  /** How long the next message of a partition waits for room in its mailbox, or for an actor, before that is reported. Default: `5 seconds`. */
  sendTimeout: ConfigSpec.duration({
    infinite: true,
    default: "5 seconds",
    description:
      "How long the next message of a partition waits for room in its mailbox, or for an actor, before that is reported."
  }),
  /** How long an actor without messages lives in recovery, unless `actorIdleTimeout` ends it earlier. Default: `5 minutes`. */
  idleTimeout: ConfigSpec.duration({
    infinite: true,
    default: "5 minutes",
    description: "How long an actor without messages lives in recovery, unless `actorIdleTimeout` ends it earlier."
  })
}

/**
 * What can be set for recovery mode, all with defaults; `spec` says what each means.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options extends ConfigSpec.Options<typeof spec> {
  /**
   * How many messages are handed over in a second while the subscription is in recovery, beside the subscription's own `rate`. It has
   * to be above what comes in, or else recovery does not end. Default: 1,000 messages per second, and at most 100 at once.
   */
  readonly rate?: RateLimit.Limit | "unlimited" | undefined
}

/**
 * `true` and `false`: the subscription is in recovery, or is not, until somebody says otherwise. `"auto"`: the backlog decides.
 *
 * @since 0.1.0
 * @category models
 */
export type Mode = boolean | "auto"

/**
 * A subscription has gone into recovery, or back to normal.
 *
 * @since 0.1.0
 * @category models
 */
export interface Change {
  readonly isInRecovery: boolean
  /**
   * Why. `start`: it has begun in recovery. `backlog`: the backlog was above `enterAt`. `calm`: the backlog was small for `calmFor`. `hand`:
   * `setRecoveryMode` was called. `unknown`: the transport does not say how large the backlog is.
   */
  readonly reason: "start" | "backlog" | "calm" | "hand" | "unknown"
  /** The backlog as it was seen last, in messages; undefined where it was not. */
  readonly backlog: number | undefined
}
