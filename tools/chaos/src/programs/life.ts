/** One life of a consumer, for the tests of messages that end the process. It says what it does on its standard output, without a buffer. */
import {
  EventBus,
  EventBusConfig,
  EventBusError,
  FailurePolicy,
  Observer,
  Topic,
  type Transport
} from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { NatsTransport } from "@effect-eventbus/nats"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { writeSync } from "node:fs"

process.stdin.on("end", () => process.exit(1)).resume()

const [, , transport, servers, name, probation, work] = process.argv
const say = (line: string) => writeSync(1, `${line}\n`)

const transports: Record<string, () => Layer.Layer<Transport.Transport, unknown>> = {
  kafka: () =>
    KafkaTransport.layer({ brokers: servers!.split(","), sessionTimeout: Duration.seconds(3), partitions: 1 }),
  nats: () => NatsTransport.layer({ servers: servers!.split(","), leaseDuration: Duration.seconds(3) })
}

const topic = Topic.plain(name!, { partitions: 1 })

const program = Effect.gen(function*() {
  const bus = yield* EventBus.EventBus
  yield* bus.subscribe(topic, (body, { offset }) =>
    Effect.suspend(() => {
      if (new TextDecoder().decode(body ?? new Uint8Array()) === "poison") {
        say(`poison ${offset}`)
        process.abort()
      }
      return Effect.map(Effect.sleep(Number(work)), () => say(`handled ${offset}`))
    }), {
    group: "lives",
    semantics: "at-least-once",
    onExhausted: FailurePolicy.drop,
    poison: { probation: Duration.millis(Number(probation)) },
    onFailure: ({ cause, position }) =>
      Effect.sync(() => {
        const guilty = Array.from(Cause.defects(cause)).find((defect) => defect instanceof EventBusError.KilledProcess)
        if (guilty !== undefined) say(`given ${position.offset} ${(guilty as Error).message}`)
      })
  })
  return yield* Effect.never
}).pipe(
  Effect.provide(EventBus.layer.pipe(
    Layer.provide(transports[transport!]!()),
    Layer.provide(Observer.layer({ event: ({ _tag }) => void (_tag === "Assigned" && say("assigned")) })),
    Layer.provide(EventBusConfig.layer({ group: "lives" }))
  ))
)

void Effect.runPromise(Effect.scoped(program))
