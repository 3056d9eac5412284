import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import type * as Dispatch from "../../Dispatch.js"
import type * as Strategy from "../../Strategy.js"
import type { Inside } from "../dispatch.js"
import * as Logging from "../logging.js"
import * as Judge from "./judge.js"
import { type Meter, sameWork, Sides, sum } from "./meter.js"
import type { Probe } from "./probe.js"
import type * as Settings from "./settings.js"
import type * as Rollout from "./state.js"
import { Trial } from "./trial.js"

/** @internal */
export interface Environment {
  readonly dispatch: Dispatch.Service
  readonly inside: Inside
  readonly settings: Settings.Settings
  readonly candidate: Strategy.Service
  readonly baseline: Strategy.Service
  readonly probe: Probe
  readonly heap: () => number | undefined
  readonly save: (state: Rollout.State) => void
  /** Milliseconds of a clock that is never set back. */
  readonly now: () => number
  readonly changes: PubSub.PubSub<Rollout.Change>
  readonly ended: Deferred.Deferred<Rollout.State>
}

/**
 * A rollout: its state, and all ways from one to the next. One at a time is taken.
 *
 * @internal
 */
export class Engine {
  private step = new Sides()
  private stepBegan: number
  private trial: Trial
  /** What the baseline did in the step before; used where it has no aggregates any more. */
  private reference: { readonly meter: Meter; readonly time: number } | undefined
  private heapBefore: number | undefined
  /** Since when the heap is above its limit. */
  private heapSince: number | undefined
  private isDue = false
  private readonly stepped = Effect.unsafeMakeLatch(false)
  private saidDoubts = ""
  private lastFigures: Rollout.Figures | undefined
  /** Its scope has ended. */
  private isClosed = false

  constructor(private readonly env: Environment, public state: Rollout.State) {
    this.stepBegan = env.now()
    this.trial = new Trial(env.settings)
  }

  /** Gives the candidate the share of the present step. */
  begin(kind: "started" | "resumed" | "promoted", before: Rollout.State | undefined) {
    return Effect.gen(this, function*() {
      const { candidate, dispatch, heap, now, probe, settings } = this.env
      const { share } = settings.steps[this.state.step]!
      const figures = before === undefined ? undefined : this.figures()
      if (share === 1 && this.reference === undefined && this.step.baseline.messages > 0) {
        this.reference = { meter: this.step.baseline, time: now() - this.stepBegan }
      }
      yield* dispatch.canary(candidate, share)
      // What was handled before belongs to no step.
      probe.take()
      this.step = new Sides()
      this.trial = new Trial(settings)
      this.stepBegan = now()
      this.heapBefore = heap()
      this.heapSince = undefined
      this.isDue = false
      this.stepped.unsafeOpen()
      this.saidDoubts = ""
      yield* this.changed(kind, before, [], figures)
    })
  }

  /** Analyses what has happened since the last time, and does what follows. */
  get analyse(): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      const { dispatch, inside, probe, settings } = this.env
      if (!this.isRunning) return
      if (!this.isOurs(yield* dispatch.report)) return yield* this.end("superseded", [])
      const sides = probe.take()
      this.step.addAll(sides)
      const under = { baseline: probe.under("baseline"), candidate: probe.under("candidate") }
      const failures = [...this.trial.add(sides, under, this.reference?.meter), ...this.heapFailure()]
      const fired = failures.filter((failure) => this.trial.hasFired(failure))
      inside.tell({ _tag: "RolloutAnalysed", state: this.state, figures: this.figures(), failures })
      if (fired.length > 0) return yield* this.end("rolled-back", fired)
      const { advance, steps } = settings
      if (advance === "timed" && this.time >= steps[this.state.step]!.time) this.isDue = true
      if (!this.isDue) return
      const doubts = this.doubts()
      if (doubts.length === 0) return yield* this.goOn
      const text = doubts.join("; ")
      // The numbers change each time.
      const what = text.replace(/[\d.]+/g, "")
      if (what === this.saidDoubts) return
      this.saidDoubts = what
      yield* Logging.info(`Rollout ${this.state.name}: it stays at its step for now: ${text}`)
    })
  }

  /** The next step begins, or the rollout is complete. */
  get goOn(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { settings } = this.env
      const before = this.state
      if (before.step + 1 === settings.steps.length) return this.end("promoted", [])
      const step = before.step + 1
      this.state = { ...before, step, share: shareOf(settings.steps[step]!.share), since: this.env.inside.time() }
      return Effect.orDie(this.begin("promoted", before))
    })
  }

  end(
    status: "promoted" | "rolled-back" | "superseded",
    failures: ReadonlyArray<Rollout.Failure>,
    why: ReadonlyArray<string> = []
  ): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      const { baseline, candidate, dispatch, ended, inside, probe } = this.env
      const before = this.state
      if (before.status !== "running") return
      this.step.addAll(probe.take())
      const figures = this.figures()
      const reasons = [...why, ...failures.map(Judge.describe)]
      // Before the state says so: if it dies, it is tried again. A backlog moves as well, as the candidate may be too slow to work it off.
      if (status === "rolled-back") yield* Effect.orDie(dispatch.switchTo(baseline, { waiting: "move" }))
      if (status === "promoted") yield* Effect.orDie(dispatch.switchTo(candidate))
      this.state = {
        ...before,
        status,
        share: status === "promoted" ? 1 : status === "rolled-back" ? 0 : before.share,
        since: inside.time(),
        reasons
      }
      this.lastFigures = figures
      inside.watched.end(probe)
      yield* this.changed(status === "promoted" ? "completed" : status, before, failures, figures)
      yield* Deferred.succeed(ended, this.state)
    })
  }

  /** Everything goes back, unless the bus is somebody else's by now. */
  rollback(why: string): Effect.Effect<void> {
    return Effect.flatMap(this.env.dispatch.report, (report) =>
      !this.isRunning
        ? Effect.void
        : this.isOurs(report)
        ? this.end("rolled-back", [], [why])
        : this.end("superseded", []))
  }

  /** Nobody watches the candidate from now on, so nothing is done any more. */
  get close(): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      const { baseline, dispatch, ended, inside, probe } = this.env
      const { name, status } = this.state
      this.lastFigures = this.figures()
      this.isClosed = true
      inside.watched.end(probe)
      if (status !== "running") return
      if (this.isOurs(yield* dispatch.report)) {
        yield* Effect.orDie(dispatch.switchTo(baseline, { waiting: "move" }))
        yield* Logging.info(`Rollout ${name}: nobody watches it any more, so ${baseline.name} has all aggregates again`)
      }
      // Who waits for its end waits for nothing.
      yield* Deferred.interrupt(ended)
    })
  }

  /** Whether the candidate has its share, and is watched. */
  get isRunning(): boolean {
    return this.state.status === "running" && !this.isClosed
  }

  /** Why it does nothing more. */
  get whyEnded(): ReadonlyArray<string> {
    const { reasons, status } = this.state
    return status === "running"
      ? ["its scope has ended, so nobody watches the candidate"]
      : [`it is ${status}`, ...reasons]
  }

  /** The switch was somebody else's if the bus is not as this rollout has left it. */
  isOurs(report: Dispatch.Report): boolean {
    const { baseline, candidate, inside, settings } = this.env
    return report.strategy === inside.guard(baseline) && report.canary?.strategy === candidate &&
      report.canary.share === settings.steps[this.state.step]!.share
  }

  doubts(): ReadonlyArray<string> {
    const { settings } = this.env
    const { failing } = this.trial
    return [
      ...Judge.doubtsOf({ baseline: this.baseline.meter, candidate: this.step.candidate }, settings),
      ...(failing.length > 0 ? [`the last interval has failed (${failing.join(", ")})`] : []),
      ...(this.heapSince === undefined ? [] : ["the heap is above its limit"])
    ]
  }

  figures(): Rollout.Figures {
    const { baseline, candidate, heap } = this.env
    if (this.lastFigures !== undefined) return this.lastFigures
    const { meter, time } = this.baseline
    const same = sameWork(meter, this.step.candidate)
    return {
      time: this.time,
      baseline: sideOf(baseline.name, meter, time, same.baseline.quantile(0.99)),
      candidate: sideOf(candidate.name, this.step.candidate, this.time, same.candidate.quantile(0.99)),
      heap: { before: this.heapBefore, now: heap() }
    }
  }

  private get time(): number {
    return this.env.now() - this.stepBegan
  }

  private get baseline(): { readonly meter: Meter; readonly time: number } {
    return this.reference ?? { meter: this.step.baseline, time: this.time }
  }

  private heapFailure(): ReadonlyArray<Rollout.Failure> {
    const { heap, now, settings } = this.env
    const used = heap()
    this.heapBefore ??= used
    if (settings.heap === undefined || used === undefined) return []
    const before = this.heapBefore!
    const limit = before * (1 + settings.heap.above)
    if (used <= limit) this.heapSince = undefined
    else this.heapSince ??= now()
    return this.heapSince !== undefined && now() - this.heapSince >= settings.heap.time
      ? [{ trigger: "heap", candidate: used, baseline: before, limit }]
      : []
  }

  /** The next step may begin; waits until it has. */
  get due(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.isDue = true
      this.stepped.unsafeClose()
      return this.stepped.await
    })
  }

  /** Tells of a rollout that had ended before. */
  get known(): Effect.Effect<void> {
    return Effect.zipRight(
      this.changed("resumed", this.state, [], undefined),
      Deferred.succeed(this.env.ended, this.state)
    )
  }

  private changed(
    kind: Rollout.Change["kind"],
    before: Rollout.State | undefined,
    failures: ReadonlyArray<Rollout.Failure>,
    figures: Rollout.Figures | undefined
  ): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { changes, inside, save } = this.env
      const change: Rollout.Change = { kind, before, after: this.state, failures, figures }
      save(this.state)
      inside.tell({ _tag: "Rollout", change })
      const line = `Rollout ${describe(change)}`
      return Effect.zipRight(
        kind === "rolled-back" || kind === "superseded" ? Logging.warning(line) : Logging.info(line),
        PubSub.publish(changes, change)
      )
    })
  }
}

const describe = ({ after, before, kind }: Rollout.Change): string => {
  const { baseline, candidate, name, reasons } = after
  switch (kind) {
    case "rolled-back":
      return `${name}: rolled back from ${candidate} at ${percent(before!.share)} to ${baseline}: ${reasons.join("; ")}`
    case "superseded":
      return `${name}: it does nothing more, because somebody else has switched the bus`
    case "completed":
      return `${name}: complete, and all aggregates have ${candidate} now`
    default:
      return `${name}: ${kind}, and ${
        percent(after.share)
      } of the aggregates have ${candidate} now, the others ${baseline}`
  }
}

const percent = (share: number | null): string => share === null ? "some" : `${Math.round(share * 10_000) / 100} %`

/**
 * The share as a state has it.
 *
 * @internal
 */
export const shareOf = (share: Dispatch.Share): number | null => typeof share === "number" ? share : null

const sideOf = (strategy: string, meter: Meter, time: number, p99: number | undefined): Rollout.Side => ({
  strategy,
  messages: meter.messages,
  throughput: time > 0 ? meter.ended / time * 1_000 : 0,
  p99,
  waiting: meter.waiting.quantile(0.99),
  handling: meter.handling.quantile(0.99),
  restarts: sum(meter.restarts),
  errors: sum(meter.errors),
  lost: meter.lost
})
