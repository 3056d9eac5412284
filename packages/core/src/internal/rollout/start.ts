import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Dispatch from "../../Dispatch.js"
import { InvalidConfiguration } from "../../EventBusError.js"
import type * as Strategy from "../../Strategy.js"
import { describeCause } from "../describeCause.js"
import { inside } from "../dispatch.js"
import * as Logging from "../logging.js"
import * as Safely from "../safely.js"
import { Engine, shareOf } from "./engine.js"
import { NotPromoted, type StoreFailed } from "./errors.js"
import type * as Options from "./options.js"
import { Probe } from "./probe.js"
import * as Saving from "./saving.js"
import * as Settings from "./settings.js"
import type * as Rollout from "./state.js"

/** How many changes are kept for those who look later. */
const kept = 64

/**
 * Begins a rollout, or goes on with the one of the store.
 *
 * @internal
 */
export const start = Effect.fnUntraced(function*(
  dispatch: Dispatch.Service,
  options: Options.Options,
  heap: { readonly open: Effect.Effect<() => number | undefined, never, Scope.Scope> }
): Effect.fn.Return<Options.Rollout, InvalidConfiguration | StoreFailed, Scope.Scope> {
  const found = inside(dispatch)
  if (found === undefined) {
    return yield* new InvalidConfiguration({ issues: ["rollout: this dispatch is not that of a bus (bus.dispatch)"] })
  }
  const { issues, settings } = Settings.make(options)
  if (issues.length > 0) return yield* new InvalidConfiguration({ issues })
  const given = yield* dispatch.report
  if (given.canary !== undefined) {
    return yield* new InvalidConfiguration({
      issues: [`rollout: ${given.canary.strategy.name} is the bus's canary already`]
    })
  }
  const baseline = given.strategy
  const candidate = found.strategyOf(options.candidate)
  const name = options.name ?? candidate.name
  const { store } = options
  const stored = store && (yield* Saving.load(store, name))
  const clock = yield* Effect.clock
  const now = () => Number(clock.unsafeCurrentTimeNanos()) / 1e6
  const guarded = found.guard(candidate)
  const probe = new Probe((strategy) => strategy === guarded, now)
  const changes = yield* Effect.acquireRelease(
    PubSub.sliding<Rollout.Change>({ capacity: kept, replay: kept }),
    PubSub.shutdown
  )
  const ended = yield* Deferred.make<Rollout.State>()
  const save = store === undefined ? () => {} : yield* Saving.saver(store, name)
  const time = found.time()
  const fresh: Rollout.State = {
    name,
    status: "running",
    baseline: baseline.name,
    candidate: candidate.name,
    step: 0,
    share: shareOf(settings.steps[0]!.share),
    startedAt: time,
    since: time,
    reasons: []
  }
  const known = stored?.candidate === candidate.name ? stored : undefined
  const opened = yield* openHeap(heap)
  const engine = new Engine(
    { dispatch, inside: found, settings, candidate, baseline, probe, heap: opened, save, now, changes, ended },
    known?.status === "running" ? resumed(known, fresh, settings) : known ?? fresh
  )
  const semaphore = yield* Effect.makeSemaphore(1)
  const alone = <A, E>(effect: Effect.Effect<A, E>) => Effect.uninterruptible(semaphore.withPermits(1)(effect))

  const isOver = yield* takenUp(engine, known, { dispatch, candidate, baseline: given.strategy, guard: found.guard })
  if (isOver) yield* engine.known
  else {
    if (!found.watched.begin(probe)) {
      return yield* new InvalidConfiguration({ issues: ["rollout: another one measures this bus already"] })
    }
    yield* Effect.addFinalizer(() => alone(engine.close))
    yield* engine.begin(known === undefined ? "started" : "resumed", known).pipe(
      Effect.onError(() => Effect.sync(() => found.watched.end(probe)))
    )
    // Nobody would watch the candidate any more.
    const analyse = engine.analyse.pipe(
      Effect.catchAllCause((cause) => engine.rollback(`the figures could not be analysed: ${describeCause(cause)}`)),
      Effect.catchAllCause((cause) =>
        Logging.error(`Rollout ${name}: it could not be rolled back: ${describeCause(cause)}`)
      )
    )
    yield* Effect.forkScoped(Effect.interruptible(
      alone(analyse).pipe(
        Effect.delay(settings.interval),
        Effect.repeat({ while: () => engine.state.status === "running" })
      )
    ))
    if (Schedule.isSchedule(settings.advance)) {
      yield* Effect.forkScoped(Effect.interruptible(
        Effect.catchAllCause(
          Effect.schedule(engine.due, settings.advance),
          (cause) =>
            Cause.isInterruptedOnly(cause) ? Effect.failCause(cause) : Logging.warning(
              `Rollout ${name}: its schedule has failed, so only \`promote\` begins the next step: ${
                describeCause(cause)
              }`
            )
        )
      ))
    }
  }

  return {
    state: Effect.sync(() => engine.state),
    figures: Effect.sync(() => engine.figures()),
    changes: Stream.takeUntil(Stream.fromPubSub(changes), ({ after }) => after.status !== "running"),
    promote: ({ force = false } = {}) =>
      alone(Effect.gen(function*() {
        const { step } = engine.state
        const wasRunning = engine.isRunning
        yield* engine.analyse
        const { status } = engine.state
        // The time of the step may just have been over.
        if (wasRunning && (status === "promoted" || engine.state.step > step)) return engine.state
        if (!engine.isRunning) return yield* new NotPromoted({ name, reasons: engine.whyEnded })
        const doubts = force ? [] : engine.doubts()
        if (doubts.length > 0) return yield* new NotPromoted({ name, reasons: doubts })
        yield* engine.goOn
        return engine.state
      })),
    rollback: Effect.map(alone(engine.rollback("by hand")), () => engine.state),
    ended: Deferred.await(ended)
  }
})

/** It may be a user's. */
const openHeap = (
  { open }: { readonly open: Effect.Effect<() => number | undefined, never, Scope.Scope> }
): Effect.Effect<() => number | undefined, never, Scope.Scope> =>
  Effect.zipWith(open, Logging.atOnce, (used, log) => {
    let isSaid = false
    return () => {
      try {
        const bytes = used()
        // With anything else no limit could be told.
        return Number.isFinite(bytes) && bytes! > 0 ? bytes : undefined
      } catch (thrown) {
        if (!isSaid) {
          log(Logging.warning(`Rollout.Heap threw (${Safely.nameOf(thrown)}), and is not judged. This is said once.`))
        }
        isSaid = true
        return undefined
      }
    }
  })

/** The step of the store, or the largest that is not larger if the steps are others now. */
const resumed = (stored: Rollout.State, fresh: Rollout.State, { steps }: Settings.Settings): Rollout.State => {
  const isSame = stored.step < steps.length && shareOf(steps[stored.step]!.share) === stored.share
  // Shares do not become smaller.
  const smaller = steps.filter(({ share }) =>
    typeof share === "number" && stored.share !== null && share <= stored.share
  )
  const step = isSame ? stored.step : Math.max(0, smaller.length - 1)
  return { ...stored, baseline: fresh.baseline, step, share: shareOf(steps[step]!.share), since: fresh.since }
}

/** A rollout that has ended before: what it has ended with is done again, as a bus begins with its configured strategy. */
const takenUp = (
  engine: Engine,
  known: Rollout.State | undefined,
  { baseline, candidate, dispatch, guard }: {
    readonly dispatch: Dispatch.Service
    readonly candidate: Strategy.Service
    readonly baseline: Strategy.Service
    readonly guard: (strategy: Strategy.Service) => Strategy.Service
  }
): Effect.Effect<boolean, InvalidConfiguration> =>
  Effect.gen(function*() {
    if (known === undefined || known.status === "running") return false
    if (known.status === "promoted" && guard(candidate) !== baseline) yield* dispatch.switchTo(candidate)
    yield* Logging.info(
      known.status === "promoted"
        ? `Rollout ${known.name}: it is complete since ${date(known)}, so all aggregates have ${known.candidate}`
        : `Rollout ${known.name}: it is ${known.status} since ${date(known)}, so it does not begin again${
          known.reasons.length === 0 ? "" : ` (${known.reasons.join("; ")})`
        }. A rollout of another name does`
    )
    return engine.state.status !== "running"
  })

const date = ({ since }: Rollout.State): string => new Date(since).toISOString()
