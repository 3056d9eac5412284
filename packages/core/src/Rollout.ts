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
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Dispatch from "./Dispatch.js"
import type { InvalidConfiguration } from "./EventBusError.js"
import type { StoreFailed } from "./internal/rollout/errors.js"
import * as InternalHeap from "./internal/rollout/heap.js"
import type { Options, Rollout, Store } from "./internal/rollout/options.js"
import * as Start from "./internal/rollout/start.js"
import type { State } from "./internal/rollout/state.js"

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

export type {
  /**
   * How a rollout goes.
   *
   * @since 0.1.0
   * @category options
   */
  Options,
  /**
   * What a step has to have shown before the next one begins.
   *
   * @since 0.1.0
   * @category options
   */
  Promotion,
  /**
   * A rollout that runs, or has ended.
   *
   * @since 0.1.0
   * @category models
   */
  Rollout,
  /**
   * A step of a rollout.
   *
   * @since 0.1.0
   * @category options
   */
  Step,
  /**
   * Keeps the states of rollouts, for example in a table or in a file.
   *
   * @since 0.1.0
   * @category models
   */
  Store,
  /**
   * What makes an interval a failed one.
   *
   * @since 0.1.0
   * @category options
   */
  Triggers
} from "./internal/rollout/options.js"

export type {
  /**
   * A rollout goes from one state to the next.
   *
   * @since 0.1.0
   * @category models
   */
  Change,
  /**
   * Why a trigger counts an interval as failed.
   *
   * @since 0.1.0
   * @category models
   */
  Failure,
  /**
   * The figures of a step, kept apart for both sides.
   *
   * @since 0.1.0
   * @category models
   */
  Figures,
  /**
   * What one side has done since the step began.
   *
   * @since 0.1.0
   * @category models
   */
  Side,
  /**
   * Where a rollout stands.
   *
   * @since 0.1.0
   * @category models
   */
  State
} from "./internal/rollout/state.js"

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
  Effect.flatMap(Heap, (heap) => Start.start(dispatch, options, heap))

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
