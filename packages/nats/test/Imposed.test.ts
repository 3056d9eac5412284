import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Stream } from "effect"
import { Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { sharedServer } from "./sharedServer.js"

/** So many messages are outstanding, and nobody reads any more. */
const outstanding = (service: Parameters<typeof T.publish>[0], topic: ReturnType<typeof T.topic>, count: number) =>
  Effect.gen(function*() {
    const consumer = new T.TestConsumer({ onMessage: () => {} })
    const { close } = yield* T.scoped(service.subscribe(T.request(topic), consumer))
    yield* T.waitUntil("they are in hand", () => consumer.taken.length === count)
    yield* close
  })

describe.each(T.versions)("A server that limits the batches of requests, on %s", (version) => {
  const servers = sharedServer(version, "jetstream { limits { max_request_batch: 50 } }")

  it.each(["update", "validate"] as const)(
    "is read in such batches, also what was outstanding (%s)",
    (consumers) =>
      T.runRemembering((lines) =>
        Effect.gen(function*() {
          const topic = T.topic()
          const service = yield* T.transport(servers(), { consumers })
          yield* T.publish(service, topic, T.messages(0, 300))
          yield* outstanding(service, topic, 300)
          const consumer = new T.TestConsumer()
          const source = yield* service.subscribe(T.request(topic), consumer)
          yield* T.publish(service, topic, T.messages(300, 600))
          yield* T.waitUntil("all came", () => consumer.taken.length === 600, 20_000)
          T.assertNumbers(consumer.numbers, T.range(0, 600))
          assert.deepStrictEqual((yield* source.status!).problems, [])
          assert.isFalse(lines.some((line) => line.includes("Exceeded MaxRequestBatch")))
        })
      )
  )

  it("is replayed in such batches", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const service = yield* T.transport(servers())
      yield* T.publish(service, topic, T.messages(0, 300))
      const [part] = yield* service.read!({ topic, from: "earliest", to: "now" })
      const read = yield* Stream.runCollect(part!.messages)
      T.assertNumbers(Chunk.toReadonlyArray(read).map(T.numberOf), T.range(0, 300))
    })))
})

describe("A stream that limits its consumers", () => {
  const servers = sharedServer("2.15")

  it("gives them what they can't be without, which is said, and is read", () =>
    T.runRemembering((lines) =>
      Effect.gen(function*() {
        const nc = yield* T.client(servers())
        const topic = T.topic()
        const name = Subject.toStream(topic.name)
        yield* Effect.promise(() =>
          nc.request(
            `$JS.API.STREAM.CREATE.${name}`,
            JSON.stringify({ name, subjects: [topic.name], consumer_limits: { inactive_threshold: 3_600e9 } })
          )
        )
        const service = yield* T.transport(servers())
        const consumer = new T.TestConsumer()
        yield* service.subscribe(T.request(topic), consumer)
        yield* T.publish(service, topic, T.messages(0, 10))
        yield* T.waitUntil("all came", () => consumer.taken.length === 10)
        const said = lines.filter((line) => line.includes("inactive_threshold 3600000000000 instead of none"))
        assert.lengthOf(said, 1)
        assert.include(said[0], "A limit of the server or of the stream")
      })
    ))
})
