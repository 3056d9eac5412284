/**
 * Does one job. What a system does before and after its window (connecting, joining, closing) is not counted.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { chains, promising } from "./Handlers.js"
import { type Job, type Measurement, nothing } from "./Job.js"
import { step, steps, wire } from "./Load.js"
import * as Memory from "./Memory.js"
import { Meter } from "./Meter.js"
import * as Bus from "./systems/Bus.js"
import * as Queues from "./systems/Queues.js"
import type { Consume, Dispatch } from "./Workload.js"
import { find } from "./Workload.js"

/** How long a measurement may take beyond its window. */
const patienceMs = 120_000

export const run = (job: Job): Effect.Effect<Measurement> => {
  const workload = find(job.workload)
  switch (workload.kind) {
    case "consume":
      return consume(workload, job)
    case "dispatch":
      return dispatch(workload, job)
    case "publish":
      return Effect.flatMap(Effect.promise(() => import("./Publishing.js")), ({ run }) => run(workload, job))
    case "latency":
      return Effect.flatMap(Effect.promise(() => import("./Latency.js")), ({ run }) => run(workload, job))
    case "sustained":
      return Effect.flatMap(Effect.promise(() => import("./Sustained.js")), ({ run }) => run(workload, job))
    case "idle":
      return Memory.idle(workload, job)
    case "resting":
      return Effect.flatMap(Effect.promise(() => import("./Resting.js")), ({ run }) => run(workload, job))
    case "steady":
      return Memory.steady(workload, job)
  }
}

const meterOf = (workload: Consume | Dispatch, job: Job) =>
  new Meter({
    aggregates: workload.spread.aggregates,
    total: job.steps,
    warmUpMs: job.seconds * 250,
    windowMs: job.seconds * 1_000
  })

/** What the meter saw when it was done. */
const reading = (meter: Meter, job: Job): Effect.Effect<Measurement> =>
  Effect.promise(() => meter.done).pipe(
    Effect.timeoutFail({
      duration: job.seconds * 1_250 + patienceMs,
      onTimeout: () => new Error(`${job.workload}, ${job.system}: ${meter.finished} of ${job.steps} were handled`)
    }),
    Effect.orDie,
    Effect.map(() => {
      const { handled, ...seen } = meter.read()
      return { ...nothing, ...seen, n: handled }
    })
  )

const consume = (workload: Consume, job: Job): Effect.Effect<Measurement> => {
  if (job.system === "hot ones alone") return hotAlone(workload, job)
  const meter = meterOf(workload, job)
  if (workload.transport === "memory") return inMemory(workload, job, meter)
  const seen = reading(meter, job)
  return Effect.scoped(
    job.system === "ours"
      ? Effect.provide(
        Effect.zipRight(Bus.consume(job.system, job.topic, workload.work, meter), seen),
        Bus.layer(workload.transport, job)
      )
      : Effect.zipRight(
        raw(async () => {
          const client = await (workload.transport === "kafka"
            ? import("./systems/KafkaRaw.js")
            : import("./systems/NatsRaw.js"))
          return client.consume(job.system, job, workload.work, meter)
        }),
        seen
      )
  )
}

/** The other's consumer, which the scope ends. */
const raw = (begin: () => Promise<() => Promise<void>>): Effect.Effect<unknown, never, Scope.Scope> =>
  Effect.acquireRelease(Effect.promise(begin), (end) => Effect.promise(end))

/**
 * What the hot aggregates allow: theirs one after the other and nothing else, on no broker; as they have half
 * of the steps, twice as many steps can be handled in all.
 */
const hotAlone = (workload: Consume, job: Job): Effect.Effect<Measurement> =>
  Effect.gen(function*() {
    const hot = workload.spread.hot ?? workload.spread.aggregates
    const meter = meterOf(workload, job)
    const handle = promising(workload.work, meter)
    const loops = Array.from({ length: hot }, async (_, aggregate) => {
      for (let sequence = 0; !meter.isOver && sequence * hot < job.steps; sequence++) {
        await handle(step(aggregate, sequence))
      }
    })
    const seen = yield* reading(meter, job)
    yield* Effect.promise(() => Promise.all(loops))
    return { ...seen, rate: 2 * seen.rate }
  })

/** Everything lies in memory before it begins. */
const inMemory = (workload: Consume, job: Job, meter: Meter): Effect.Effect<Measurement> => {
  const next = steps(workload.spread)
  if (job.system === "array chains") {
    return Effect.zipRight(
      Effect.sync(() => {
        const chain = chains(promising(workload.work, meter))
        const encoder = new TextEncoder()
        const decoder = new TextDecoder()
        const values = Array.from({ length: job.steps }, () => {
          const { aggregate, sequence } = next()
          return encoder.encode(wire(aggregate, sequence))
        })
        for (const value of values) {
          const { aggregate_id, payload } = JSON.parse(decoder.decode(value))
          void chain(aggregate_id, payload)
        }
      }),
      reading(meter, job)
    )
  }
  return Effect.scoped(Effect.provide(
    Effect.gen(function*() {
      const publish = yield* (job.system === "ours plain" ? Bus.plainPublisher : Bus.publisher)(job.topic)
      for (let left = job.steps; left > 0; left -= 1_000) {
        yield* publish(Array.from({ length: Math.min(1_000, left) }, () => {
          const { aggregate, sequence } = next()
          return [aggregate, sequence] as const
        }))
      }
      yield* Bus.consume(job.system, job.topic, workload.work, meter)
      return yield* reading(meter, job)
    }),
    Bus.layer("memory", job)
  ))
}

const dispatch = (workload: Dispatch, job: Job): Effect.Effect<Measurement> =>
  Effect.scoped(Effect.gen(function*() {
    const meter = meterOf(workload, job)
    const offer = yield* Queues.open(job.system, meter)
    yield* Effect.fork(Effect.promise(() => Queues.feed(offer, workload.spread, job.steps, meter)))
    return yield* reading(meter, job)
  }))

/** Fills a topic with a workload's steps. */
export const fill = (workload: Consume, job: Job): Effect.Effect<void> =>
  Effect.gen(function*() {
    const publish = yield* Bus.publisher(job.topic)
    const next = steps(workload.spread)
    for (let left = job.steps; left > 0; left -= 2_000) {
      yield* publish(Array.from({ length: Math.min(2_000, left) }, () => {
        const { aggregate, sequence } = next()
        return [aggregate, sequence] as const
      }))
    }
  }).pipe(Effect.provide(Bus.layer(workload.transport, job)), Effect.scoped)
