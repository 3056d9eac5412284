import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either, Fiber } from "effect"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { wire } from "./wire.js"

describe.each(T.versions)("At most once, when the server of version %s dies", (version) => {
  it.each([["a topic without partitions", 0], ["a topic with partitions", 3]])(
    "what was settled is not offered again where the server has forgotten its acknowledgement and the owner is dead: %s",
    (_, partitions) =>
      T.run(Effect.gen(function*() {
        const server = yield* T.server(version)
        const { servers } = server
        const topic = { ...T.topic("plain"), partitions: partitions === 0 ? undefined : partitions }
        const count = 3_000
        const options = { plainStorage: "file", leaseDuration: "2 seconds" } as const
        const publisher = yield* T.transport(servers, options)
        yield* T.publish(publisher, topic, T.messages(0, count))
        const file = join(yield* T.folder, "settled")
        writeFileSync(file, "")
        const settled = () => readFileSync(file, "utf8").split("\n").slice(0, -1).map(Number)
        const child = yield* T.child("settling.ts", servers[0]!, topic.name, String(partitions), file)
        yield* T.waitUntil("it works", () => settled().length >= 500 || child.code() !== undefined)
        assert.strictEqual(child.errors(), "")
        yield* server.nodes[0]!.kill
        child.kill()
        yield* T.waitUntil("it is dead", () => child.code() !== undefined)
        yield* server.nodes[0]!.start
        const before = settled()
        assert.isBelow(before.length, count)
        const consumer = new T.TestConsumer()
        const service = yield* T.transport(servers, options)
        yield* service.subscribe(T.request(topic, { semantics: "at-most-once" }), consumer)
        // What was being settled just then may be lost: a hundred in each partition.
        const bound = count - before.length - 100 * Math.max(1, partitions)
        yield* T.waitUntil("the rest came", () => consumer.taken.length >= bound)
        yield* T.publish(publisher, topic, T.messages(count, count + 100))
        yield* T.waitUntil("new ones come", () => consumer.numbers.filter((n) => n >= count).length === 100)
        const known = new Set(before)
        T.assertNumbers(consumer.taken.map(({ offset }) => offset).filter((offset) => known.has(offset)), [])
        assert.strictEqual(new Set(consumer.numbers).size, consumer.numbers.length)
        T.assertNoViolations(consumer)
      }))
  )

  it("what may have been written is not published again to the stream that comes back empty", () =>
    T.run(Effect.gen(function*() {
      const server = yield* T.server(version)
      const way = yield* wire(server.servers[0]!)
      const topic = T.topic("plain")
      const consumer = new T.TestConsumer()
      const service = yield* T.transport(server.servers)
      yield* service.subscribe(T.request(topic, { semantics: "at-most-once" }), consumer)
      const publisher = yield* T.transport([way.address])
      yield* T.publish(publisher, topic, [T.message(0)])
      way.toClient = () => Buffer.alloc(0)
      const publishing = yield* Effect.fork(
        publisher.publish(topic, [T.message(1)], { timeout: Duration.seconds(10) })
      )
      yield* T.waitUntil("it is handled", () => consumer.taken.length === 2)
      yield* server.nodes[0]!.kill
      way.toClient = (chunk) => chunk
      yield* server.nodes[0]!.start
      const [result] = yield* Fiber.join(publishing)
      const error = Either.getOrThrow(Either.flip(result!))
      assert.include(error, { _tag: "PublishFailed", outcome: "unknown" })
      yield* T.publish(publisher, topic, [T.message(2)])
      yield* T.waitUntil("the next came", () => consumer.numbers.includes(2))
      T.assertNumbers(consumer.numbers, [0, 1, 2])
      const nc = yield* T.client(server.servers)
      const { state } = yield* Effect.promise(async () =>
        (await nc.jetstreamManager()).streams.info(Subject.toStream(topic.name))
      )
      assert.strictEqual(state.messages, 1)
    })))
})
