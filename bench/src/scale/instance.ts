/** One instance of the group, in a process of its own: subscribes, and tells its parent what it has whenever it is asked. */
import { EventBus, EventBusConfig, FailurePolicy, Topic } from "@effect-eventbus/core"
import { NatsTransport } from "@effect-eventbus/nats"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"

export interface Job {
  readonly servers: ReadonlyArray<string>
  readonly topic: string
  readonly partitions: number
  readonly semantics: "at-least-once" | "at-most-once"
  /** In seconds. */
  readonly lease: number
}

export interface Report {
  readonly question: number
  /** The partitions that it owns. */
  readonly owned: number
  readonly handled: number
  readonly cpu: number
  readonly rssMb: number
  /** When the first subscription stood, after the start of the process, in milliseconds. */
  readonly stoodAfter: number
}

const job = JSON.parse(process.argv[2]!) as Job

const main = Effect.gen(function*() {
  const bus = yield* EventBus.EventBus
  let handled = 0
  const options = job.semantics === "at-least-once"
    ? { semantics: job.semantics, onExhausted: FailurePolicy.drop } as const
    : { semantics: job.semantics } as const
  const subscription = yield* bus.subscribe(
    Topic.plain(job.topic, { partitions: job.partitions }),
    () =>
      Effect.sync(() => {
        handled++
      }),
    options
  )
  const stoodAfter = performance.now()
  process.on("message", (question: number) => {
    const status = Effect.runSync(subscription.status)
    const { system, user } = process.cpuUsage()
    const report: Report = {
      question,
      owned: status?.partitions.length ?? 0,
      handled,
      cpu: (user + system) / 1_000,
      rssMb: process.memoryUsage.rss() / 1_048_576,
      stoodAfter
    }
    process.send!(report)
  })
  return yield* Effect.never
}).pipe(
  Effect.scoped,
  Effect.provide(EventBus.layer.pipe(
    Layer.provide(NatsTransport.layer({
      servers: job.servers,
      preflight: "off",
      plainStorage: "file",
      leaseDuration: `${job.lease} seconds`
    })),
    Layer.provide(EventBusConfig.layer({ group: "scale" }))
  )),
  Logger.withMinimumLogLevel(LogLevel.Warning)
)

Effect.runFork(main)
