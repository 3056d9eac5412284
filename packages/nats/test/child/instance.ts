/** An instance of a group: handles each message for a moment, and notes in a file what it does. */
import { EventBus, EventBusConfig, FailurePolicy, Topic } from "@effect-eventbus/core"
import { Effect, Layer } from "effect"
import { openSync, writeSync } from "node:fs"
import { NatsTransport } from "../../src/index.js"

const [, , server, name, partitions, file] = process.argv
const notes = openSync(file!, "a")
const note = (...words: ReadonlyArray<string | number | undefined>) => writeSync(notes, `${words.join(" ")}\n`)

const topic = Topic.plain(name!, { partitions: Number(partitions) })

const Handler = topic.toLayer(
  (body, { aggregateId, epoch, partition }) => {
    const number = new TextDecoder().decode(body)
    return Effect.sync(() => note("start", partition, epoch, aggregateId, number)).pipe(
      Effect.zipRight(Effect.sleep("5 millis")),
      Effect.zipRight(Effect.sync(() => note("end", partition, epoch, aggregateId, number))),
      Effect.onInterrupt(() => Effect.sync(() => note("interrupted", partition, epoch, aggregateId, number)))
    )
  },
  { semantics: "at-least-once", onExhausted: FailurePolicy.drop }
)

Effect.runFork(Layer.launch(Handler.pipe(
  Layer.provide(EventBus.layer),
  Layer.provide(NatsTransport.layer({ servers: [server!], leaseDuration: "2 seconds" })),
  Layer.provide(EventBusConfig.layer({ drainDeadline: "500 millis" }))
)))
