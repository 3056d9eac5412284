import { it } from "@effect/vitest"
import { Effect } from "effect"
import kafkajs from "kafkajs"
import { describe, expect } from "vitest"
import { codecs } from "./codecs.js"
import {
  eventually,
  finishing,
  kafka,
  message,
  published,
  request,
  spec,
  text,
  throughout,
  topicName,
  transport
} from "./Harness.js"

const values = Array.from({ length: 500 }, (_, i) => `value ${i} ${"x".repeat(200)}`)

describe("compression", () => {
  it.scopedLive(
    "gzip: the broker takes it, another client and ours read it, and small batches stay in order",
    () =>
      Effect.gen(function*() {
        const service = yield* transport({ compression: "gzip", topics: "create" })
        const topic = spec()
        const receipts = yield* published(service, topic, values.map((value) => message("a", value)))
        expect(receipts.map(({ offset }) => offset)).toEqual(values.map((_, i) => i))
        const ours = finishing()
        yield* service.subscribe(request(topic), ours.consumer)
        yield* eventually("all arrive", () => ours.all().length === values.length)
        expect(ours.values()).toEqual(values)
        const theirs: Array<string> = []
        yield* Effect.acquireRelease(
          Effect.promise(async () => {
            const consumer = kafka().consumer({ groupId: topicName() })
            await consumer.connect()
            await consumer.subscribe({ topic: topic.name, fromBeginning: true })
            await consumer.run({
              eachMessage: ({ message }) => {
                theirs.push(text(message.value))
                return Promise.resolve()
              }
            })
            return consumer
          }),
          (consumer) => Effect.promise(() => consumer.disconnect())
        )
        yield* eventually("kafkajs reads all", () => theirs.length === values.length)
        expect(theirs).toEqual(values)
      }),
    30_000
  )

  it.scopedLive(
    "without the codec that a batch needs the partition stands still, and nothing is skipped",
    () =>
      Effect.gen(function*() {
        const service = yield* transport({ compression: "zstd", codecs })
        const topic = spec()
        yield* published(service, topic, values.map((value) => message("a", value)))
        const { consumer, values: seen } = finishing()
        yield* service.subscribe(request(topic), consumer)
        yield* eventually("all arrive", () => seen().length === values.length)
        expect(seen()).toEqual(values)
        const without = yield* transport({ codecs: { zstd: undefined } })
        const other = finishing()
        yield* without.subscribe(request(topic, { group: "others" }), other.consumer)
        yield* published(yield* transport(), topic, [message("a", "plain")])
        yield* throughout("nothing arrives", () => other.all().length === 0, "500 millis")
      }),
    30_000
  )

  it.scopedLive("one that can't be written is a typed error, before anything is connected", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(transport({ compression: "snappy" }))
      expect(error).toMatchObject({ _tag: "InvalidConfiguration" })
      expect(error.message).toContain("snappy")
    }))

  it("kafkajs's own table of codecs is left as it is", () => {
    expect(Object.keys(kafkajs.CompressionCodecs).sort()).toEqual(["1", "2", "3", "4"])
  })
})
