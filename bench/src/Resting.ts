/** What subscriptions take while nothing comes: processor time, sockets and memory. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type Job, type Measurement, nothing, partitions } from "./Job.js"
import { Meter } from "./Meter.js"
import * as Bus from "./systems/Bus.js"
import * as KafkaRaw from "./systems/KafkaRaw.js"
import type { Resting } from "./Workload.js"

const mib = 1_048_576

export const run = (workload: Resting, job: Job): Effect.Effect<Measurement> => {
  const count = Math.min(workload.subscriptions, job.steps)
  const topics = Array.from({ length: count }, (_, i) => `${job.topic}-${i}`)
  const meter = new Meter({ aggregates: 1, total: 1, warmUpMs: Infinity, windowMs: Infinity })
  const begin = job.system === "ours"
    ? Effect.forEach(topics, (topic) => Bus.consume("ours", topic, "none", meter), { concurrency: 10, discard: true })
    : Effect.forEach(topics, (topic) => others(job, topic, meter), { concurrency: 10, discard: true })
  return Effect.scoped(Effect.zipRight(begin, rest(count, job))).pipe(
    Effect.provide(Bus.layer(workload.transport, job))
  )
}

const others = (job: Job, topic: string, meter: Meter): Effect.Effect<unknown, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      await KafkaRaw.createTopic(job.kafka, topic, partitions)
      return KafkaRaw.consume("kafkajs eachMessage", { kafka: job.kafka, topic }, "none", meter)
    }),
    (end) => Effect.promise(end)
  )

/** Joining, and what compiles at first, is not counted. */
const rest = (count: number, job: Job): Effect.Effect<Measurement> =>
  Effect.gen(function*() {
    yield* Effect.sleep(Math.max(1_000, job.seconds * 250))
    const from = process.cpuUsage()
    const since = performance.now()
    yield* Effect.sleep(job.seconds * 1_000)
    const { system, user } = process.cpuUsage(from)
    return {
      ...nothing,
      n: count,
      rssMb: process.memoryUsage.rss() / mib,
      cpuPercent: (user + system) / 10 / (performance.now() - since),
      sockets: process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length
    }
  })
