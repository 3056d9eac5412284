/** Publishes from several loops, each with aggregates of its own, and reads back what was written. */
import * as Effect from "effect/Effect"
import { type Job, type Measurement, nothing, partitions } from "./Job.js"
import { Meter } from "./Meter.js"
import * as Bus from "./systems/Bus.js"
import * as KafkaRaw from "./systems/KafkaRaw.js"
import * as NatsRaw from "./systems/NatsRaw.js"
import type { Publish } from "./Workload.js"

const aggregates = 1_000

type Steps = Array<readonly [aggregate: number, sequence: number]>

/** The steps of a loop, one call after the other: aggregates in turn. */
const calls = (loop: number, loops: number, batch: number) => {
  const own = Math.floor(aggregates / loops)
  let position = 0
  return (): Steps =>
    Array.from({ length: batch }, () => {
      const at = position++
      return [loop + loops * (at % own), Math.floor(at / own)] as const
    })
}

/** Counts what was confirmed within the window, and how long each call took. */
const timed = (job: Job, limit: number) => {
  const startAt = performance.now()
  const warmAt = startAt + job.seconds * 250
  const endAt = warmAt + job.seconds * 1_000
  const times: Array<number> = []
  let published = 0
  let begun = 0
  let counted = 0
  let lastAt = startAt
  const cpu = process.cpuUsage()
  return {
    begin: (count: number): boolean => {
      if (begun + count > limit || performance.now() >= endAt) return false
      begun += count
      return true
    },
    end: (count: number, since: number): void => {
      lastAt = performance.now()
      published += count
      if (lastAt < warmAt || lastAt >= endAt) return
      counted += count
      times.push(lastAt - since)
    },
    read: () => {
      times.sort((a, b) => a - b)
      const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0
      const { system, user } = process.cpuUsage(cpu)
      return {
        n: published,
        cpuUs: (system + user) / Math.max(1, published),
        // One that reached the limit before it was warm counts as a whole.
        rate: lastAt < warmAt
          ? published / ((lastAt - startAt) / 1_000)
          : counted / ((Math.min(lastAt, endAt) - warmAt) / 1_000),
        p50Ms: at(0.5),
        p99Ms: at(0.99),
        p999Ms: at(0.999),
        rssMb: process.memoryUsage.rss() / 1_048_576
      }
    }
  }
}

export const run = (workload: Publish, job: Job): Effect.Effect<Measurement> =>
  Effect.gen(function*() {
    yield* Effect.promise(() =>
      workload.transport === "kafka"
        ? KafkaRaw.createTopic(job.kafka, job.topic, partitions)
        : NatsRaw.createStream(job.nats, job.topic)
    )
    const measured = yield* job.system === "ours" ? ours(workload, job) : others(workload, job)
    return { ...nothing, ...measured, ...(yield* readBack(workload, job, measured.n)) }
  })

const others = (workload: Publish, job: Job) =>
  Effect.promise(async () => {
    const publisher = workload.transport === "kafka"
      ? await KafkaRaw.publisher(job.kafka, job.topic)
      : await NatsRaw.publisher(job.nats, job.topic)
    const times = timed(job, job.steps)
    await Promise.all(Array.from({ length: workload.inFlight }, async (_, loop) => {
      const next = calls(loop, workload.inFlight, workload.batch)
      while (times.begin(workload.batch)) {
        const since = performance.now()
        await publisher.publish(next())
        times.end(workload.batch, since)
      }
    }))
    const read = times.read()
    await publisher.close()
    return read
  })

const ours = (workload: Publish, job: Job) =>
  Effect.gen(function*() {
    const publish = yield* Bus.publisher(job.topic)
    const times = timed(job, job.steps)
    const loop = (number: number) => {
      const next = calls(number, workload.inFlight, workload.batch)
      return Effect.whileLoop({
        while: () => times.begin(workload.batch),
        body: () => {
          const since = performance.now()
          return Effect.map(publish(next()), () => times.end(workload.batch, since))
        },
        step: () => {}
      })
    }
    yield* Effect.forEach(Array.from({ length: workload.inFlight }, (_, i) => i), loop, {
      concurrency: "unbounded",
      discard: true
    })
    return times.read()
  }).pipe(Effect.provide(Bus.layer(workload.transport, job)), Effect.scoped)

/** The other's client reads the topic: everything that was confirmed is there, once and in order. */
const readBack = (workload: Publish, job: Job, written: number) =>
  Effect.promise(async () => {
    const meter = new Meter({ aggregates, total: written, warmUpMs: Infinity, windowMs: Infinity })
    const end = workload.transport === "kafka"
      ? await KafkaRaw.consume("kafkajs eachBatch", job, "none", meter)
      : await NatsRaw.consume("nats one by one", job, "none", meter)
    const patience = new AbortController()
    const late = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, 60_000)
      patience.signal.addEventListener("abort", () => {
        clearTimeout(timer)
        resolve()
      })
    })
    await Promise.race([meter.done, late])
    patience.abort()
    await end()
    return { violations: meter.read().violations, lost: written - meter.finished }
  })
