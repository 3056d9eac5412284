/** What actors take, and whether the process stays as large as it is. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import { type Job, type Measurement, nothing } from "./Job.js"
import { idOf, step, steps } from "./Load.js"
import { Meter } from "./Meter.js"
import * as Bus from "./systems/Bus.js"
import * as Queues from "./systems/Queues.js"
import type { Idle, Steady } from "./Workload.js"

const mib = 1_048_576

/** The heap after what is garbage was collected, where Node runs with `--expose-gc`. */
const heap = Effect.sync(() => {
  for (let i = 0; i < 3; i++) globalThis.gc?.()
  return process.memoryUsage().heapUsed
})

export const idle = (workload: Idle, job: Job): Effect.Effect<Measurement> =>
  Effect.scoped(Effect.gen(function*() {
    const actors = Math.min(workload.actors, job.steps)
    const meter = new Meter({ aggregates: actors, total: actors, warmUpMs: Infinity, windowMs: Infinity })
    // A first one makes what all have in common.
    const begin = yield* job.system === "ours" ? Queues.open("ours", meter) : fibers(meter)
    begin(idOf(0), step(0, 0))
    yield* Effect.sleep(10)
    const before = yield* heap
    for (let i = 1; i < actors; i++) begin(idOf(i), step(i, 0))
    yield* Effect.promise(() => meter.done)
    yield* Effect.sleep(10)
    const after = yield* heap
    const { handled, ...seen } = meter.read()
    return { ...nothing, ...seen, n: handled, kibEach: (after - before) / 1_024 / (actors - 1) }
  }))

/** The least that an actor can be in Effect: a fiber that waits for a queue. */
const fibers = (meter: Meter) =>
  Effect.gen(function*() {
    const all: Array<Fiber.RuntimeFiber<never>> = []
    yield* Effect.addFinalizer(() => Fiber.interruptAll(all))
    return (_: string, { aggregate, sequence }: { readonly aggregate: number; readonly sequence: number }) => {
      const mailbox = Effect.runSync(Queue.bounded<number>(1_000))
      all.push(Effect.runFork(Effect.forever(Effect.map(Queue.take(mailbox), () => {
        meter.start(aggregate, sequence)
        meter.finish(aggregate)
      }))))
      mailbox.unsafeOffer(sequence)
    }
  })

/** Publishes in batches and handles, with little in the log, and asks for the size of the process after each batch. */
export const steady = (workload: Steady, job: Job): Effect.Effect<Measurement> =>
  Effect.gen(function*() {
    const total = Math.min(workload.steps, job.steps)
    const { aggregates, inTurn } = workload.spread
    const meter = new Meter({
      aggregates,
      total,
      most: inTurn === true ? Math.ceil(total / aggregates) : undefined,
      warmUpMs: 0,
      windowMs: Infinity
    })
    const publish = yield* Bus.publisher(job.topic)
    yield* Bus.consume("ours", job.topic, "none", meter)
    const next = steps(workload.spread)
    let largest = 0
    let warm = 0
    for (let published = 0; published < total; published += 1_000) {
      yield* publish(Array.from({ length: Math.min(1_000, total - published) }, () => {
        const { aggregate, sequence } = next()
        return [aggregate, sequence] as const
      }))
      largest = Math.max(largest, process.memoryUsage.rss())
      if (published * 10 <= total) warm = largest
    }
    yield* Effect.promise(() => meter.done)
    const { handled, ...seen } = meter.read()
    return { ...nothing, ...seen, n: handled, rssMb: largest / mib, grownMb: (largest - warm) / mib }
  }).pipe(Effect.provide(Bus.layer("memory", { ...job, steps: 10_000 })), Effect.scoped)
