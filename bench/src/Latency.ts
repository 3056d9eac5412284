/**
 * From the call of publish to the start of the handler, at a steady rate, in one
 * process. It is the call that counts, not the moment at which it was due: a late timer is not the bus's.
 */
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import { type Job, type Measurement, nothing, partitions } from "./Job.js"
import { Meter } from "./Meter.js"
import * as Bus from "./systems/Bus.js"
import * as KafkaRaw from "./systems/KafkaRaw.js"
import * as NatsRaw from "./systems/NatsRaw.js"
import type { Latency } from "./Workload.js"

const aggregates = 1_000

/** A meter that also knows when each step was published. */
class LatencyMeter extends Meter {
  readonly publishedAt: Float64Array
  readonly times: Array<number> = []

  constructor(total: number, private readonly warm: number) {
    super({ aggregates, total, warmUpMs: 0, windowMs: Infinity })
    this.publishedAt = new Float64Array(total)
  }

  override start(aggregate: number, sequence: number): void {
    super.start(aggregate, sequence)
    const index = sequence * aggregates + aggregate
    if (index >= this.warm) this.times.push(performance.now() - this.publishedAt[index]!)
  }
}

export const run = (workload: Latency, job: Job): Effect.Effect<Measurement> =>
  Effect.suspend(() => {
    const warm = Math.floor(job.seconds * 0.25 * workload.ratePerSecond)
    const total = Math.min(job.steps, warm + Math.floor(job.seconds * workload.ratePerSecond))
    const meter = new LatencyMeter(total, Math.min(warm, total >> 2))
    return Effect.map(
      job.system === "ours" ? ours(workload, job, meter, total) : others(workload, job, meter, total),
      () => {
        const times = meter.times.sort((a, b) => a - b)
        const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0
        const { handled, ...seen } = meter.read()
        return { ...nothing, ...seen, n: handled, p50Ms: at(0.5), p99Ms: at(0.99), p999Ms: at(0.999) }
      }
    )
  })

/** Calls for each step when it is due; several at once where the timer is late. */
const pace = (rate: number, total: number, meter: LatencyMeter, publish: (index: number) => void): Promise<void> =>
  new Promise((resolve) => {
    const startAt = performance.now()
    let next = 0
    const timer = setInterval(() => {
      const due = Math.min(total, Math.floor((performance.now() - startAt) / 1_000 * rate))
      for (; next < due; next++) {
        meter.publishedAt[next] = performance.now()
        publish(next)
      }
      if (next === total) {
        clearInterval(timer)
        resolve()
      }
    }, 1)
  })

const stepOf = (index: number) => [index % aggregates, Math.floor(index / aggregates)] as const

const others = (workload: Latency, job: Job, meter: LatencyMeter, total: number) =>
  Effect.promise(async () => {
    const isKafka = workload.transport === "kafka"
    if (isKafka) await KafkaRaw.createTopic(job.kafka, job.topic, partitions)
    else await NatsRaw.createStream(job.nats, job.topic)
    const publisher =
      await (isKafka ? KafkaRaw.publisher(job.kafka, job.topic) : NatsRaw.publisher(job.nats, job.topic))
    const end = isKafka
      ? await KafkaRaw.consume("kafkajs eachMessage", job, "none", meter)
      : await NatsRaw.consume("nats one by one", job, "none", meter)
    const pending: Array<Promise<void>> = []
    await pace(workload.ratePerSecond, total, meter, (index) => pending.push(publisher.publish([stepOf(index)])))
    await Promise.all(pending)
    await meter.done
    await end()
    await publisher.close()
  })

const ours = (workload: Latency, job: Job, meter: LatencyMeter, total: number) =>
  Effect.gen(function*() {
    const publish = yield* Bus.publisher(job.topic)
    yield* Bus.consume("ours", job.topic, "none", meter)
    const fork = Runtime.runFork(yield* Effect.runtime<never>())
    yield* Effect.promise(() =>
      pace(workload.ratePerSecond, total, meter, (index) => void fork(publish([stepOf(index)])))
    )
    yield* Effect.promise(() => meter.done)
  }).pipe(Effect.provide(Bus.layer(workload.transport, job)), Effect.scoped)
