import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Redacted, Stream } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll } from "vitest"
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

/** A second block of settings replaces the first one, which says where things are stored. */
const limited = (limits: string) => {
  const folder = mkdtempSync(join(tmpdir(), "eventbus-nats-test-"))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  return `jetstream { store_dir: "${folder}", limits { ${limits} } }`
}

describe.each(T.versions)("A server that limits the batches of requests, on %s", (version) => {
  const servers = sharedServer(version, limited("max_request_batch: 50"))

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

describe("A server that limits how much a consumer may have outstanding", () => {
  const servers = sharedServer(
    "2.15",
    "accounts { A { jetstream { max_ack_pending: 500 }, users: [{ user: a, password: p }] } }"
  )

  it("refuses a consumer with an error that names the two settings to lower, and takes it when they are", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const user = { user: "a", password: Redacted.make("p") }
      const service = yield* T.transport(servers(), user)
      const consumer = new T.TestConsumer()
      const error = yield* Effect.flip(service.subscribe(T.request(topic), consumer))
      assert.strictEqual(error._tag, "InvalidConfiguration")
      assert.match(error.message, /limit.* 500.*maxUnfinished.*1000.*prefetchMessages.*500.*2000/)
      const modest = yield* T.transport(servers(), { ...user, prefetchMessages: 100 })
      yield* modest.subscribe(T.request(topic, { maxUnfinished: 300 }), consumer)
      yield* T.publish(modest, topic, T.messages(0, 1_000))
      yield* T.waitUntil("all came", () => consumer.taken.length === 1_000)
      // The consumer is there, and would have to be changed.
      const changed = yield* Effect.flip(service.subscribe(T.request(topic), consumer))
      assert.match(changed.message, /prefetchMessages/)
    })))
})

describe.each(T.versions)("A server that limits the duplicate window, on %s", (version) => {
  const servers = sharedServer(version, limited(`duplicate_window: "30s"`))

  it("has the bucket of the leases with that window", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const service = yield* T.transport(servers(), { duplicateWindow: "20 seconds" })
      const consumer = new T.TestConsumer()
      yield* service.subscribe(T.request(topic), consumer)
      yield* T.publish(service, topic, T.messages(0, 10))
      yield* T.waitUntil("all came", () => consumer.taken.length === 10)
      const nc = yield* T.client(servers())
      const bucket = yield* Effect.promise(async () => (await nc.jetstreamManager()).streams.info("KV_eventbus-leases"))
      assert.strictEqual(bucket.config.duplicate_window, 30e9)
    })))

  it("has streams with that window, where none was set", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const service = yield* T.transport(servers())
      yield* T.publish(service, topic, T.messages(0, 10))
      const set = yield* T.transport(servers(), { duplicateWindow: "40 seconds" })
      const error = yield* Effect.flip(T.publish(set, T.topic(), T.messages(0, 1)))
      assert.strictEqual(error._tag, "InvalidConfiguration")
      assert.match(error.message, /window/)
    })))
})
