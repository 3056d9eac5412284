import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type * as Stream from "effect/Stream"
import type * as Dispatch from "../../Dispatch.js"
import type * as Strategy from "../../Strategy.js"
import type { NotPromoted } from "./errors.js"
import type { Change, Figures, State } from "./state.js"

/**
 * A step of a rollout.
 *
 * @internal
 */
export interface Step {
  /** Which aggregates the candidate has. */
  readonly share: Dispatch.Share
  /** How long the step lasts at least, where `advance` is `"timed"`. Default: 10 minutes. */
  readonly for?: Duration.DurationInput | undefined
}

/**
 * What makes an interval a failed one. `false` turns a trigger off. All but `heap` also need that the candidate is worse than the baseline in the same
 * time, and that chance gives so much in less than one interval of a hundred.
 *
 * @internal
 */
export interface Triggers {
  /** By how much the candidate's p99 may be above the baseline's, as a share of it. Default: 0.2. */
  readonly p99?: number | false | undefined
  /** A difference of the p99 that is smaller does not count. Default: 1 ms. */
  readonly leastDifference?: Duration.DurationInput | undefined
  /** Restarts per message. Default: 0.05. */
  readonly restarts?: number | false | undefined
  /** Messages with an error per message. Default: 0.01. */
  readonly errors?: number | false | undefined
  /** By how much the heap may be above what it was before the step, as a share of it. Default: 0.5. */
  readonly heap?: number | false | undefined
  /** For how long the heap has to be above that without a break. Default: 30 minutes. */
  readonly heapFor?: Duration.DurationInput | undefined
}

/**
 * What a step has to have shown before the next one begins.
 *
 * @internal
 */
export interface Promotion {
  /** By how much the candidate's p99 may be above the baseline's, as a share of it. Default: 0.05. */
  readonly p99?: number | undefined
  /** Restarts per message have to be below this. Default: 0.01. */
  readonly restarts?: number | undefined
}

/**
 * How a rollout goes.
 *
 * @internal
 */
export interface Options {
  readonly candidate: Strategy.Service | Strategy.Name
  /** A number is a step with that share. Shares must not become smaller. With a share of 1 the candidate is compared with what the baseline did in the step before. */
  readonly steps: ReadonlyArray<Step | number>
  /** For logs, events and the store. Default: the candidate's name. */
  readonly name?: string | undefined
  /**
   * When the next step begins, if the figures allow it. `"timed"`: when the step has lasted for its time. `"by-hand"`: when `promote` is called. A
   * schedule: each time it recurs, counted from the beginning of the step. Once it has ended, only `promote` does. Default: `"timed"`.
   */
  readonly advance?: "timed" | "by-hand" | Schedule.Schedule<unknown> | undefined
  /** How often the figures are analysed. Default: 10 seconds. */
  readonly interval?: Duration.DurationInput | undefined
  /** So many failed intervals in a row make a trigger fire. Default: 3. */
  readonly failures?: number | undefined
  /** With fewer messages of the candidate an interval is not judged, and goes on. A step needs as many to be promoted. Default: 50. */
  readonly minimum?: number | undefined
  readonly triggers?: Triggers | undefined
  readonly promotion?: Promotion | undefined
  /** Keeps the state over restarts of the process. Default: none, so that a rollout begins again with its first step. */
  readonly store?: Store | undefined
}

/**
 * A rollout that runs, or has ended.
 *
 * @internal
 */
export interface Rollout {
  readonly state: Effect.Effect<State>
  /** The figures of the present step; once it has ended, those of the last one. */
  readonly figures: Effect.Effect<Figures>
  /** The changes from the first one on (at most 64 of them), until the rollout has ended. */
  readonly changes: Stream.Stream<Change>
  /** Begins the next step now, or completes the rollout after the last one. `force`: whatever the figures are. */
  readonly promote: (options?: { readonly force?: boolean | undefined }) => Effect.Effect<State, NotPromoted>
  /** Gives everything back to the baseline now. It does nothing to a rollout that has ended, or whose scope has. */
  readonly rollback: Effect.Effect<State>
  /** Waits until the rollout has ended. Interrupted if its scope ends before. */
  readonly ended: Effect.Effect<State>
}

/**
 * Keeps the states of rollouts, for example in a table or in a file. Both get 10 seconds for each call.
 *
 * @internal
 */
export interface Store {
  /** What was saved last under this name; `undefined` if nothing was. */
  readonly load: (name: string) => Effect.Effect<unknown, unknown>
  /** Saves a state over the one before. It is tried again until it succeeds. */
  readonly save: (name: string, state: State) => Effect.Effect<void, unknown>
}
