/**
 * The main job, `npm start`: thousands of events of hundreds of orders, with handlers that sometimes fail or throw.
 *
 *   npm start -- [--transport memory|kafka|nats] [--events N] [--aggregates N] [--json]
 *                [--dispatch STRATEGY] [--canary STRATEGY [--slow-canary MS]]
 *
 * `--dispatch` names the strategy of the bus: actor-per-aggregate, actor-pool or keyed-workers. `--canary` names another one, to which the bus is moved while
 * it runs: 20 % of the orders first, then half, then all. With `--slow-canary 50` its handlers take 50 ms longer, and it is rolled back.
 *
 * With `--transport kafka` or `nats` the broker is the one in `EVENTBUS_KAFKA_BROKERS` or
 * `EVENTBUS_NATS_SERVERS`, or, where there is none, one that is brought up for the run.
 */
import { Kafka, Nats } from "@effect-eventbus/brokers"
import { EventBus, MemoryTransport, Strategy, TransportConfig } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { NatsTransport } from "@effect-eventbus/nats"
import { NodeRuntime } from "@effect/platform-node"
import { ConfigProvider, Effect, Layer, Logger, LogLevel } from "effect"
import { parseArgs } from "node:util"
import { strategies } from "./orders/Canary.js"
import { Ledger } from "./orders/Ledger.js"
import { type Options, program } from "./orders/Program.js"

const usage = "usage: npm start -- [--transport memory|kafka|nats] [--events N] [--aggregates N] [--json]\n" +
  "                    [--dispatch STRATEGY] [--canary STRATEGY [--slow-canary MS]]\n" +
  `strategies: ${Object.keys(strategies).join(", ")}`

const options: Effect.Effect<Options & { readonly dispatch: Strategy.Name | undefined }, Error> = Effect.try({
  try: () => {
    const { values } = parseArgs({
      options: {
        transport: { type: "string", default: process.env.EVENTBUS_TRANSPORT ?? "memory" },
        events: { type: "string", default: "6000" },
        aggregates: { type: "string", default: "400" },
        json: { type: "boolean", default: false },
        dispatch: { type: "string" },
        canary: { type: "string" },
        "slow-canary": { type: "string" }
      }
    })
    const count = (text: string): number => {
      const number = Number(text)
      if (!Number.isSafeInteger(number) || number < 1) throw new Error(`"${text}" is no count`)
      return number
    }
    const strategy = (name: string | undefined): Strategy.Name | undefined => {
      if (name === undefined || name in strategies) return name as Strategy.Name | undefined
      throw new Error(`"${name}" is no strategy`)
    }
    const { aggregates, canary, dispatch, events, json, "slow-canary": slow, transport } = values
    return {
      transport,
      json,
      events: count(events),
      aggregates: count(aggregates),
      dispatch: strategy(dispatch),
      canary: strategy(canary),
      slowCanary: slow === undefined ? undefined : count(slow)
    }
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
  const { dispatch, transport } = yield* options
  const provider = yield* address(transport)
  const strategy = dispatch === undefined ? Layer.empty : Strategy.layer(strategies[dispatch])
  return EventBus.layer.pipe(
    Layer.provide(TransportConfig.layer({
      memory: MemoryTransport.driver,
      kafka: KafkaTransport.driver,
      nats: NatsTransport.driver
    })),
    Layer.provide(Layer.setConfigProvider(provider)),
    Layer.provide(strategy)
  )
}))

const main = Effect.flatMap(options, program).pipe(
  Effect.provide(Layer.merge(BusLive, Ledger.layer)),
  // The run provokes thousands of failures; the summary counts them.
  Logger.withMinimumLogLevel(process.env.LOG_LEVEL === "debug" ? LogLevel.Debug : LogLevel.None),
  Effect.tapErrorCause((cause) => Effect.logError("The run failed", cause))
)

NodeRuntime.runMain(main, { disableErrorReporting: false })
