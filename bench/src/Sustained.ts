/**
 * Publishes at a steady rate to a bus in memory, and looks at how long messages wait: what a strategy makes of a load that does not fill
 * the processor.
 */
import { EventBus, FailurePolicy } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Runtime from "effect/Runtime"
import { effectful } from "./Handlers.js"
import { type Job, type Measurement, nothing } from "./Job.js"
import { idOf, type Step, steps, topic } from "./Load.js"
import { Meter } from "./Meter.js"
import * as Bus from "./systems/Bus.js"
import type { Sustained } from "./Workload.js"

/** One message of so many dies at its first attempt, from this one on. */
const diesEvery = 200
const firstToDie = 50

/** What is published, and when it was; the index of a step is its place in the order of publishing. */
class Plan {
  readonly all: ReadonlyArray<readonly [aggregate: number, sequence: number]>
  readonly publishedAt: Float64Array
  private readonly indices: ReadonlyArray<Array<number>>

  constructor({ spread }: Sustained, total: number) {
    const next = steps(spread)
    this.indices = Array.from({ length: spread.aggregates }, () => [])
    this.all = Array.from({ length: total }, (_, index) => {
      const { aggregate, sequence } = next()
      this.indices[aggregate]!.push(index)
      return [aggregate, sequence]
    })
    this.publishedAt = new Float64Array(total)
  }

  indexOf({ aggregate, sequence }: Step): number {
    return this.indices[aggregate]![sequence]!
  }
}

export const run = (workload: Sustained, job: Job): Effect.Effect<Measurement> =>
  Effect.suspend(() => {
    const warm = Math.floor(job.seconds * 0.25 * workload.ratePerSecond)
    const total = Math.min(job.steps, warm + Math.floor(job.seconds * workload.ratePerSecond))
    const plan = new Plan(workload, total)
    const meter = new Meter({
      aggregates: workload.spread.aggregates,
      total,
      warmUpMs: job.seconds * 250,
      windowMs: Infinity
    })
    const watch = new Watch(workload, plan, meter, Math.min(warm, total >> 2))
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const to = topic(job.topic)
      const publish = yield* Bus.publisher(job.topic)
      yield* Effect.orDie(bus.subscribe(to, watch.handle, {
        group: "bench",
        onExhausted: FailurePolicy.drop,
        onFailure: ({ aggregateId }) => Effect.sync(() => watch.dropped(aggregateId))
      }))
      const fork = Runtime.runFork(yield* Effect.runtime<never>())
      yield* Effect.promise(() =>
        pace(workload.ratePerSecond, plan, (from, to) => void fork(publish(plan.all.slice(from, to))))
      )
      yield* Effect.promise(() => meter.done)
      return watch.measured()
    }).pipe(
      // The defects are meant, and the measurement is what is written.
      Logger.withMinimumLogLevel(LogLevel.None),
      Effect.provide(Bus.layer("memory", job)),
      Effect.scoped
    )
  })

class Watch {
  givenUp = 0
  private readonly times: Array<number> = []
  /** By aggregate: its message that has died, and when. */
  private readonly defects = new Map<string, { readonly step: Step; readonly at: number }>()
  private readonly work: (step: Step) => Effect.Effect<void>

  constructor(
    private readonly workload: Sustained,
    private readonly plan: Plan,
    private readonly meter: Meter,
    private readonly warm: number
  ) {
    this.work = effectful(workload.work, meter)
  }

  readonly handle = (step: Step, { attempt }: { readonly attempt: number }): Effect.Effect<void> =>
    Effect.suspend(() => {
      const index = this.plan.indexOf(step)
      if (this.workload.times !== "defects") {
        const isMeant = this.workload.times === "all" || step.aggregate >= (this.workload.spread.hot ?? 0)
        if (isMeant && index >= this.warm) this.times.push(performance.now() - this.plan.publishedAt[index]!)
        return this.work(step)
      }
      if (index % diesEvery !== firstToDie) return this.work(step)
      const id = idOf(step.aggregate)
      if (attempt > 1) return Effect.map(this.work(step), () => this.over(id))
      this.defects.set(id, { step, at: performance.now() })
      return Effect.die("a defect")
    })

  private over(id: string): void {
    this.times.push(performance.now() - this.defects.get(id)!.at)
    this.defects.delete(id)
  }

  measured(): Measurement {
    const times = this.times.sort((a, b) => a - b)
    const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0
    const { handled, ...seen } = this.meter.read()
    return {
      ...nothing,
      ...seen,
      n: handled,
      p50Ms: at(0.5),
      p99Ms: at(0.99),
      p999Ms: at(0.999),
      givenUp: this.givenUp
    }
  }

  /** The failure policy has dropped the aggregate's message: for the meter it is handled. */
  dropped(id: string | undefined): void {
    const defect = id === undefined ? undefined : this.defects.get(id)
    if (id === undefined || defect === undefined) return
    const { aggregate, sequence } = defect.step
    this.givenUp++
    this.over(id)
    this.meter.start(aggregate, sequence)
    this.meter.finish(aggregate)
  }
}

/** Calls for what is due, several at once where the timer is late. */
const pace = (rate: number, { all, publishedAt }: Plan, publish: (from: number, to: number) => void): Promise<void> =>
  new Promise((resolve) => {
    const startAt = performance.now()
    let next = 0
    const timer = setInterval(() => {
      const now = performance.now()
      const due = Math.min(all.length, Math.floor((now - startAt) / 1_000 * rate))
      if (due > next) {
        publishedAt.fill(now, next, due)
        publish(next, due)
        next = due
      }
      if (next === all.length) {
        clearInterval(timer)
        resolve()
      }
    }, 1)
  })
