/**
 * The publisher: sends each aggregate's events in order, the next only when the one before it is confirmed, and keeps at it
 * while brokers go away. Never further ahead of the consumers than asked for: the coordinator tells it, on standard
 * input, how much they have handled; at the end of the input it stops.
 */
import { EventBus, MemoryTransport, Transport } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { NatsTransport } from "@effect-eventbus/nats"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Schedule from "effect/Schedule"
import { createInterface } from "node:readline"
import * as Log from "./Log.js"
import { Step, topics } from "./Topics.js"

const setting = (name: string): string => {
  const value = process.env[`CHAOS_${name}`]
  if (value === undefined) throw new Error(`CHAOS_${name} is not set`)
  return value
}

const write = Log.writer(setting("LOG"))
const aggregates = Number(setting("AGGREGATES"))
const ahead = Number(setting("AHEAD"))
const names = topics(setting("RUN"), Number(setting("PARTITIONS")))
let handled = 0
let published = 0
let clicks = 0
let stopped = false

const input = createInterface({ input: process.stdin })
input.on("line", (line) => {
  handled = Number(line)
})
input.on("close", () => {
  stopped = true
})

const room = Effect.suspend(() => published - handled < ahead || stopped ? Effect.void : Effect.fail("full" as const))
  .pipe(
    Effect.retry(Schedule.spaced("5 millis")),
    Effect.orDie
  )

/**
 * One aggregate of many, event after event. An outcome that is unknown is published again with the same event id, as a user
 * would; the aggregate's next event waits for it.
 */
const one = (aggregate: string) =>
  Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    let sequence = 0
    while (!stopped) {
      yield* room
      if (stopped) return
      published++
      const eventId = `${aggregate}/${sequence}`
      yield* bus.publish(names.orders, { aggregateId: aggregate, eventId, payload: new Step({ sequence }) }).pipe(
        Effect.tapError((error) =>
          Effect.sync(() => {
            if (error._tag === "PublishFailed" && error.outcome === "unknown") write("U", aggregate, sequence)
          })
        ),
        Effect.retry(Schedule.spaced("100 millis"))
      )
      write("P", aggregate, sequence)
      sequence++
      if (sequence % 10 === 0) {
        const click = clicks++
        yield* bus.publish(names.clicks, { body: `${click}` }).pipe(
          Effect.tap(() => Effect.sync(() => write("Q", "click", click))),
          Effect.catchAll(() => Effect.void)
        )
      }
    }
  })

const main = Effect.forEach(
  Array.from({ length: aggregates }, (_, i) => `order-${i}`),
  one,
  { concurrency: "unbounded", discard: true }
).pipe(
  Effect.provide(EventBus.layer.pipe(
    Layer.provide(Transport.layerConfig({
      memory: MemoryTransport.driver,
      kafka: KafkaTransport.driver,
      nats: NatsTransport.driver
    }))
  )),
  Effect.provide(Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))),
  Logger.withMinimumLogLevel(LogLevel.Warning)
)

NodeRuntime.runMain(main)
