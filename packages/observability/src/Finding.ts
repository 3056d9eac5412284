/**
 * What keeps a bus from being well: a reason, how bad it is, and where it is so. `Health` finds it.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"

/**
 * Why a bus is not well.
 *
 * - `Stalled`: a handler does not end, an aggregate is tried again and again, or a partition stands still while there is something to do.
 * - `StuckActor`: a handler kept the event loop from everything else.
 * - `Held`: messages are held by `FailurePolicy.hold`, and their aggregates wait.
 * - `RestartsExhausted`: messages were given up because their handlers died at each restart.
 * - `DeadLetterFlood`: a large part of the messages is given up.
 * - `DeadLetterFailing`, `CommitFailing`, `LeaseFailing`, `FetchFailing`: what is tried again, and fails.
 * - `GroupUnsettled`: the group of a subscription does not settle.
 * - `RightMissing`: the broker refuses something for want of a right.
 * - `Paused`: somebody wants it so, on the server or here.
 * - `CircuitOpen`: what its handler needs is down, so the subscription begins nothing until that answers.
 * - `GuardStopped`: too many messages would be given up, so the guard has stopped the subscription.
 * - `Broken`: a subscription has broken for good.
 * - `Degraded`, `Disconnected`: some or all of the brokers can't be reached.
 * - `NotSubscribed`: a subscription does not stand yet, or one that is expected is not there.
 * - `ProbeMissed`: messages of `Probe` did not come back.
 *
 * @since 0.1.0
 * @category models
 */
export type Reason =
  | "Stalled"
  | "StuckActor"
  | "Held"
  | "RestartsExhausted"
  | "DeadLetterFlood"
  | "DeadLetterFailing"
  | "CommitFailing"
  | "LeaseFailing"
  | "FetchFailing"
  | "GroupUnsettled"
  | "RightMissing"
  | "Paused"
  | "CircuitOpen"
  | "GuardStopped"
  | "Broken"
  | "Degraded"
  | "Disconnected"
  | "NotSubscribed"
  | "ProbeMissed"

/**
 * How bad something is: with a `critical` finding a bus is not ready.
 *
 * @since 0.1.0
 * @category models
 */
export type Level = "warning" | "critical"

/**
 * Something that keeps a bus from being well.
 *
 * @since 0.1.0
 * @category models
 */
export interface Finding {
  readonly reason: Reason
  readonly level: Level
  /** What is so, with its place. No payload and no secret. */
  readonly message: string
  /** What would end it. */
  readonly remedy: string
  /** In milliseconds since the epoch. */
  readonly since: number
  readonly age: Duration.Duration
  readonly transport: string | undefined
  readonly topic: string | undefined
  readonly group: string | undefined
  readonly partition: number | undefined
  readonly offset: number | undefined
  readonly aggregateId: string | undefined
  /** How many of the same reason the subscription has. Five of them are told at most. */
  readonly count: number
}
