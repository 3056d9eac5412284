/**
 * What one side has done since the step began.
 *
 * @internal
 */
export interface Side {
  /** The strategy's name. */
  readonly strategy: string
  /** Messages whose handler was started. Those that were taken before the rollout began are in no figure. */
  readonly messages: number
  /** Messages that have ended, per second. */
  readonly throughput: number
  /**
   * The p99 of the time from the moment that a lane takes a message to its end, in milliseconds, exact to some percent. It is of messages that were handled
   * at the first attempt, and of subscriptions that have messages on both sides; the baseline's subscriptions are weighted as the candidate has them.
   */
  readonly p99: number | undefined
  /** The p99 of the wait in the mailbox, in milliseconds. */
  readonly waiting: number | undefined
  /** The p99 of the time in hand, in milliseconds, of messages that were handled at the first attempt. */
  readonly handling: number | undefined
  /** How often an actor was restarted after a defect. */
  readonly restarts: number
  /** Messages of which an attempt has failed, or that were given up. Each counts once. */
  readonly errors: number
  /** Messages that were lost (`Outcome`). */
  readonly lost: number
}

/**
 * The figures of a step, kept apart for both sides.
 *
 * @internal
 */
export interface Figures {
  /** How long the step has been measured, in milliseconds. */
  readonly time: number
  readonly baseline: Side
  readonly candidate: Side
  /** The process's heap after a collection, in bytes: before the step, and now. Undefined: nothing has been collected yet. */
  readonly heap: { readonly before: number | undefined; readonly now: number | undefined }
}

/**
 * Why a trigger counts an interval as failed.
 *
 * @internal
 */
export interface Failure {
  readonly trigger: "p99" | "restarts" | "errors" | "heap"
  /** What was measured: milliseconds for `p99`, a share of the messages for `restarts` and `errors`, bytes for `heap`. */
  readonly candidate: number
  /** The same of the baseline; for `heap` what it was before the step. */
  readonly baseline: number | undefined
  /** What it should not exceed. */
  readonly limit: number
}

/**
 * Where a rollout stands. It is plain data, which a store may keep as JSON.
 *
 * @internal
 */
export interface State {
  readonly name: string
  /**
   * `running`: the candidate has its share. `promoted`: it has everything. `rolled-back`: the baseline has everything. `superseded`: somebody has
   * switched the bus by hand meanwhile, so the rollout does nothing more.
   */
  readonly status: "running" | "promoted" | "rolled-back" | "superseded"
  readonly baseline: string
  readonly candidate: string
  /** The index of the step. */
  readonly step: number
  /** The candidate's share from 0 to 1. `null`: a function decides. */
  readonly share: number | null
  /** When the rollout began, and when this state did, in milliseconds since the epoch. */
  readonly startedAt: number
  readonly since: number
  /** Why it was rolled back; empty otherwise. */
  readonly reasons: ReadonlyArray<string>
}

/**
 * A rollout goes from one state to the next.
 *
 * @internal
 */
export interface Change {
  /** `started`, or `resumed` from the store (also where the state is one that has ended); `promoted` to the next step, or `completed` after the last one. */
  readonly kind: "started" | "resumed" | "promoted" | "completed" | "rolled-back" | "superseded"
  readonly before: State | undefined
  readonly after: State
  /** The triggers that have fired. Empty: it was done by hand, or is no rollback. */
  readonly failures: ReadonlyArray<Failure>
  /** Those of the step that has ended. */
  readonly figures: Figures | undefined
}
