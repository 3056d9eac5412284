/**
 * The main job, `npm start`: thousands of events of hundreds of orders, with handlers that sometimes fail or throw.
 *
 *   npm start -- [--transport memory|kafka|nats] [--events N] [--aggregates N] [--json]
 *
 * With `--transport kafka` or `nats` the broker is the one in `EVENTBUS_KAFKA_BROKERS` or
 * `EVENTBUS_NATS_SERVERS`, or, where there is none, one that is brought up for the run.
 */
import { Kafka, Nats } from "@effect-eventbus/brokers"
import { EventBus, MemoryTransport, TransportConfig } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { NatsTransport } from "@effect-eventbus/nats"
import { NodeRuntime } from "@effect/platform-node"
import { ConfigProvider, Effect, Layer, Logger, LogLevel } from "effect"
import { parseArgs } from "node:util"
import { Ledger } from "./orders/Ledger.js"
import { type Options, program } from "./orders/Program.js"

const usage = "usage: npm start -- [--transport memory|kafka|nats] [--events N] [--aggregates N] [--json]"

const options: Effect.Effect<Options, Error> = Effect.try({
  try: () => {
    const { values } = parseArgs({
      options: {
        transport: { type: "string", default: process.env.EVENTBUS_TRANSPORT ?? "memory" },
        events: { type: "string", default: "6000" },
        aggregates: { type: "string", default: "400" },
        json: { type: "boolean", default: false }
      }
    })
    const count = (text: string): number => {
      const number = Number(text)
      if (!Number.isSafeInteger(number) || number < 1) throw new Error(`"${text}" is no count`)
      return number
    }
    return { ...values, events: count(values.events), aggregates: count(values.aggregates) }
  },
  catch: (cause) => new Error(`${cause instanceof Error ? cause.message : String(cause)}\n${usage}`)
})

/** The address of a broker: from the environment, or of one that lives as long as the scope. */
const address = Effect.fnUntraced(function*(transport: string) {
  const settings = new Map([["EVENTBUS_TRANSPORT", transport]])
  if (transport === "kafka" && process.env.EVENTBUS_KAFKA_BROKERS === undefined) {
    settings.set("EVENTBUS_KAFKA_BROKERS", (yield* Kafka.make()).bootstrap.join(","))
  }
  if (transport === "nats" && process.env.EVENTBUS_NATS_SERVERS === undefined) {
    settings.set("EVENTBUS_NATS_SERVERS", (yield* Nats.make()).servers.join(","))
  }
  return ConfigProvider.fromMap(settings, { pathDelim: "_" }).pipe(
    ConfigProvider.orElse(() => ConfigProvider.fromEnv())
  )
})

const BusLive = Layer.unwrapScoped(Effect.gen(function*() {
  const { transport } = yield* options
  const provider = yield* address(transport)
  return EventBus.layer.pipe(
    Layer.provide(TransportConfig.layer({
      memory: MemoryTransport.driver,
      kafka: KafkaTransport.driver,
      nats: NatsTransport.driver
    })),
    Layer.provide(Layer.setConfigProvider(provider))
  )
}))

const main = Effect.flatMap(options, program).pipe(
  Effect.provide(Layer.merge(BusLive, Ledger.layer)),
  // The run provokes thousands of failures; the summary counts them.
  Logger.withMinimumLogLevel(process.env.LOG_LEVEL === "debug" ? LogLevel.Debug : LogLevel.None),
  Effect.tapErrorCause((cause) => Effect.logError("The run failed", cause))
)

NodeRuntime.runMain(main, { disableErrorReporting: false })
