/**
 * Moves a running bus to another strategy in steps: a share of the aggregates goes to the candidate first, and the figures of both sides are compared. When
 * those of the candidate are worse, all go back to the strategy of before, the baseline.
 *
 * ```ts
 * import { EventBus, MemoryTransport, Rollout } from "@effect-eventbus/core"
 * import { Effect, Layer, Stream } from "effect"
 *
 * export const RolloutLive = Layer.scopedDiscard(Effect.gen(function*() {
 *   const bus = yield* EventBus.EventBus
 *   const rollout = yield* Rollout.start(bus.dispatch, {
 *     candidate: "actor-pool",
 *     steps: [{ share: 0.1, for: "30 minutes" }, { share: 0.5, for: "1 hour" }, 1]
 *   })
 *   yield* Effect.forkScoped(Stream.runForEach(rollout.changes, ({ after }) => Effect.log(after.status, after.share)))
 * }))
 *
 * export const BusLive = RolloutLive.pipe(
 *   Layer.provideMerge(EventBus.layer),
 *   Layer.provide(MemoryTransport.layer())
 * )
 * ```
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type * as Dispatch from "./Dispatch.js"
import type { InvalidConfiguration } from "./EventBusError.js"
import * as Engine from "./internal/rollout/engine.js"
import type { NotPromoted, StoreFailed } from "./internal/rollout/errors.js"
import * as InternalHeap from "./internal/rollout/heap.js"
import type * as Strategy from "./Strategy.js"

export {
  /**
   * @since 0.1.0
   * @category errors
   */
  NotPromoted,
  /**
   * @since 0.1.0
   * @category errors
   */
  StoreFailed
} from "./internal/rollout/errors.js"

/**
 * What one side has done since the step began.
 *
 * @since 0.1.0
 * @category models
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
 * @since 0.1.0
 * @category models
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
 * @since 0.1.0
 * @category models
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
 * @since 0.1.0
 * @category models
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
 * @since 0.1.0
 * @category models
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

/**
 * A step of a rollout.
 *
 * @since 0.1.0
 * @category options
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
 * @since 0.1.0
 * @category options
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
 * @since 0.1.0
 * @category options
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
 * @since 0.1.0
 * @category options
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
 * @since 0.1.0
 * @category models
 */
export interface Rollout {
  readonly state: Effect.Effect<State>
  /** The figures of the present step; once it has ended, those of the last one. */
  readonly figures: Effect.Effect<Figures>
  /** The changes from the first one on (at most 64 of them), until the rollout has ended. */
  readonly changes: Stream.Stream<Change>
  /** Begins the next step now, or completes the rollout after the last one. `force`: whatever the figures are. */
  readonly promote: (options?: { readonly force?: boolean | undefined }) => Effect.Effect<State, NotPromoted>
  /** Gives everything back to the baseline now. It does nothing to a rollout that has ended. */
  readonly rollback: Effect.Effect<State>
  /** Waits until the rollout has ended. */
  readonly ended: Effect.Effect<State>
}

/**
 * Keeps the states of rollouts, for example in a table or in a file. Both get 10 seconds for each call.
 *
 * @since 0.1.0
 * @category models
 */
export interface Store {
  /** What was saved last under this name; `undefined` if nothing was. */
  readonly load: (name: string) => Effect.Effect<unknown, unknown>
  /** Saves a state over the one before. It is tried again until it succeeds. */
  readonly save: (name: string, state: State) => Effect.Effect<void, unknown>
}

/**
 * A store that lives as long as the process: for tests, and for a bus that is made anew.
 *
 * @since 0.1.0
 * @category constructors
 */
export const memoryStore: Effect.Effect<Store> = Effect.sync(() => {
  const states = new Map<string, State>()
  return {
    load: (name) => Effect.sync(() => states.get(name)),
    save: (name, state) => Effect.sync(() => void states.set(name, state))
  }
})

/**
 * The process's heap after a collection, in bytes. `open` begins to watch it, until the scope ends; the function answers the lowest of the last
 * three full collections, and `undefined` before the first one. Default: `process.memoryUsage().heapUsed` after each full collection. Where the platform does not tell of them, the
 * heap is not judged.
 *
 * @since 0.1.0
 * @category tags
 */
export class Heap extends Context.Reference<Heap>()("@effect-eventbus/core/Rollout/Heap", {
  defaultValue: (): { readonly open: Effect.Effect<() => number | undefined, never, Scope.Scope> } => InternalHeap.live
}) {}

/**
 * Begins a rollout. If its store knows it, it goes on where it was: a running one with its step from the beginning, a promoted one with the candidate, and one that was
 * rolled back stays with the baseline. It is watched until the scope ends. A rollout that still runs then gives everything back to the baseline, as nobody
 * would watch the candidate any more; its stored state stays.
 *
 * @since 0.1.0
 * @category constructors
 */
export const start = (
  dispatch: Dispatch.Service,
  options: Options
): Effect.Effect<Rollout, InvalidConfiguration | StoreFailed, Scope.Scope> =>
  Effect.flatMap(Heap, (heap) => Engine.start(dispatch, options, heap))

/**
 * Runs a rollout until it has ended, and answers how.
 *
 * @since 0.1.0
 * @category constructors
 */
export const run = (
  dispatch: Dispatch.Service,
  options: Options
): Effect.Effect<State, InvalidConfiguration | StoreFailed> =>
  Effect.scoped(Effect.flatMap(start(dispatch, options), ({ ended }) => ended))
