// Settings from YAML: the example of docs/configuration.md.
import { EventBus, EventBusConfig, MemoryTransport, Topic, Transport } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { Console, Effect, Layer } from "effect"

const yaml = `
eventbus:
  transport: memory
  group: billing
  closeDeadline: 10 seconds
  memory:
    partitions: 8
`

const TransportLive = Transport.layerConfig({ memory: MemoryTransport.driver, kafka: KafkaTransport.driver })

const busFrom = (document: string) =>
  EventBus.layer.pipe(
    Layer.provide(TransportLive),
    Layer.provide(Layer.unwrapEffect(Effect.map(EventBusConfig.providerFromYaml(document), Layer.setConfigProvider)))
  )

const Clicks = Topic.plain("clicks")

const program = Effect.gen(function*() {
  const bus = yield* EventBus.EventBus
  const receipt = yield* bus.publish(Clicks, { body: "/", key: "user-1" })
  yield* Console.log(`published to ${receipt.topic}, one of 8 partitions`)
})

await Effect.runPromise(program.pipe(Effect.provide(busFrom(yaml))))

// A key that nobody knows, or that the chosen transport does not use, is an error with every key named.
await Effect.runPromise(
  program.pipe(
    Effect.provide(busFrom(`${yaml}\n  retryTime: 3\n`)),
    Effect.catchTag("InvalidConfiguration", (error) => Console.log(error.message))
  )
)
