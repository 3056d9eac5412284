// Settings from a YAML file, with the environment before them: the example of docs/configuration.md.
import { EventBus, MemoryTransport, Topic, TransportConfig } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { ConfigProvider, Console, Effect, Layer, Schema } from "effect"
import { parse } from "yaml"

const Document = Schema.Record({ key: Schema.String, value: Schema.Unknown })

// The application's own provider goes first (the environment, if it has no other), then the file. Only the bus looks
// into the file: the rest of the application reads its settings as before.
const transportFrom = (yaml: string) =>
  Layer.unwrapEffect(Effect.gen(function*() {
    // Without pretty errors, no error quotes the document, which may hold secrets.
    const document = yield* Effect.try(() => parse(yaml, { prettyErrors: false }) as unknown)
    const file = yield* Schema.decodeUnknown(Document)(document ?? {})
    const current = yield* Effect.configProviderWith(Effect.succeed)
    return TransportConfig.layer({ memory: MemoryTransport.driver, kafka: KafkaTransport.driver }, {
      provider: ConfigProvider.orElse(current, () => ConfigProvider.fromJson(file))
    })
  }))

const yaml = `
eventbus:
  transport: memory
  group: billing
  closeDeadline: 10 seconds
  memory:
    partitions: 8
`

const Clicks = Topic.plain("clicks")

const program = Effect.gen(function*() {
  const bus = yield* EventBus.EventBus
  const receipt = yield* bus.publish(Clicks, { body: "/", key: "user-1" })
  yield* Console.log(`published to ${receipt.topic}, one of 8 partitions`)
})

const busFrom = (yaml: string) => Layer.provide(EventBus.layer, transportFrom(yaml))

await Effect.runPromise(program.pipe(Effect.provide(busFrom(yaml))))

// A key that nobody knows is an error, as is a value that does not fit. The error names all of them.
await Effect.runPromise(
  program.pipe(
    Effect.provide(busFrom(`${yaml}    maxMessages: none\n  retryTime: 3\n`)),
    Effect.catchTag("InvalidConfiguration", (error) => Console.log(error.message))
  )
)
