/**
 * One instance of the consumer: handles for 0 to 5 ms, fails now and then, and writes down what it sees.
 * Its settings are in the environment (`EVENTBUS_…` as for any program on the bus, `CHAOS_…` for the rest).
 */
import { type Delivery, EventBus, FailurePolicy, MemoryTransport, Transport } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { NatsTransport } from "@effect-eventbus/nats"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Log from "./Log.js"
import { type Step, topics } from "./Topics.js"

const setting = (name: string): string => {
  const value = process.env[`CHAOS_${name}`]
  if (value === undefined) throw new Error(`CHAOS_${name} is not set`)
  return value
}

const write = Log.writer(setting("LOG"))
const maxWork = Number(setting("MAX_WORK_MS"))
const failureRate = Number(setting("FAILURE_RATE"))
const names = topics(setting("RUN"), Number(setting("PARTITIONS")))

const handle = ({ sequence }: Step, { aggregateId, epoch, maybeDuplicate }: Delivery.EnvelopeDelivery) =>
  Effect.suspend(() => {
    write("S", aggregateId, sequence, epoch, maybeDuplicate)
    const work = Math.random() * (maxWork + 1)
    return Effect.zipRight(
      work < 1 ? Effect.void : Effect.sleep(work),
      Effect.suspend((): Effect.Effect<void, "failed"> => {
        const luck = Math.random()
        if (luck < failureRate) {
          write("T", aggregateId, sequence, epoch)
          return luck < failureRate / 10 ? Effect.die("died") : Effect.fail("failed")
        }
        write("F", aggregateId, sequence, epoch)
        return Effect.void
      })
    )
  }).pipe(Effect.onInterrupt(() => Effect.sync(() => write("I", aggregateId, sequence, epoch))))

const OrdersLive = names.orders.toLayer(handle, {
  onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop })
})

const ClicksLive = names.clicks.toLayer((body, { epoch }) =>
  Effect.sync(() => write("O", "click", Number(new TextDecoder().decode(body)), epoch))
)

const BusLive = EventBus.layer.pipe(
  Layer.provide(Transport.layerConfig({
    memory: MemoryTransport.driver,
    kafka: KafkaTransport.driver,
    nats: NatsTransport.driver
  }))
)

NodeRuntime.runMain(
  Layer.launch(Layer.mergeAll(OrdersLive, ClicksLive).pipe(Layer.provide(BusLive))).pipe(
    Effect.provide(Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))),
    Logger.withMinimumLogLevel(LogLevel.Warning)
  )
)
