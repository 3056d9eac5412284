/**
 * What the programs of a run have in common. Their settings are in the environment: `EVENTBUS_…` as for any program on the
 * bus, `CHAOS_…` for the rest.
 */
import { EventBus, Observer, Strategy, TransportConfig } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { NatsTransport } from "@effect-eventbus/nats"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Schedule from "effect/Schedule"
import * as Log from "../Log.js"
import * as Strategies from "../Strategies.js"
import { topics } from "../Topics.js"

export const setting = (name: string): string => {
  const value = process.env[`CHAOS_${name}`]
  if (value === undefined) throw new Error(`CHAOS_${name} is not set`)
  return value
}

export const common = () => ({
  topics: topics(setting("RUN"), Number(setting("PARTITIONS"))),
  write: Log.writer(setting("LOG"))
})

const BusLive = EventBus.layer.pipe(
  Layer.provide(Layer.suspend(() => Strategy.layer(Strategies.named(setting("STRATEGY"))!))),
  Layer.provide(TransportConfig.layer({ kafka: KafkaTransport.driver, nats: NatsTransport.driver }))
)

/**
 * Runs on the bus until it ends or a signal comes. Where no broker can be reached at the start it begins again, as a supervisor of
 * services would have it. Warnings go to standard error, which the coordinator shows when something is wrong.
 */
export const run = <E extends Error>(
  program: Effect.Effect<unknown, E, EventBus.EventBus>,
  observer: Observer.Service = {}
): void =>
  NodeRuntime.runMain(program.pipe(
    Effect.provide(BusLive),
    Effect.provideService(Observer.Observer, observer),
    Effect.tapError((error) => Effect.logWarning(error.message)),
    Effect.retry(Schedule.spaced("200 millis")),
    Effect.provide(Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))),
    Logger.withMinimumLogLevel(process.env["CHAOS_LOG_LEVEL"] === "Info" ? LogLevel.Info : LogLevel.Warning)
  ))
