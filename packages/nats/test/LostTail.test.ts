import * as Docker from "@effect-eventbus/brokers/Docker"
import * as TcpProxy from "@effect-eventbus/brokers/TcpProxy"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either } from "effect"
import { cpSync, rmSync } from "node:fs"
import { join } from "node:path"
import { Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { wire } from "./wire.js"

const durableOf = (topic: string) => Either.getOrThrow(Subject.toDurable("group", topic))

/** A server whose data a test can put back, as a machine does that lost its power before it had written all. */
const losing = (version: "2.15" | "2.9") =>
  Effect.gen(function*() {
    const folder = yield* T.folder
    const data = join(folder, "data")
    const server = yield* T.server(version, `jetstream { store_dir: "${data}" }`)
    const node = server.nodes[0]!
    return {
      servers: server.servers,
      keep: Effect.sync(() => cpSync(data, join(folder, "kept"), { recursive: true })),
      lose: Effect.gen(function*() {
        yield* node.kill
        rmSync(data, { recursive: true })
        cpSync(join(folder, "kept"), data, { recursive: true })
        yield* node.start
      })
    }
  })

describe.each(T.versions)("A stream that lost its last messages on %s", (version) => {
  for (const semantics of ["at-least-once", "at-most-once"] as const) {
    it(
      `others that have their sequences are handed over, whatever was known of those: ${semantics}`,
      (test) =>
        T.run(Effect.gen(function*() {
          // There the data is within a container.
          if (yield* Docker.available) return test.skip()
          const server = yield* losing(version)
          const topic = T.topic()
          const publisher = yield* T.transport(server.servers)
          yield* T.publish(publisher, topic, T.messages(0, 200))
          const consumer = new T.TestConsumer({ onMessage: () => {} })
          const proxy = yield* TcpProxy.make({ port: Number(server.servers[0]!.split(":")[1]) })
          const service = yield* T.transport([proxy.address])
          yield* service.subscribe(T.request(topic, { semantics }), consumer)
          const handle = Effect.suspend(() => {
            const open = [...consumer.unfinished.values()]
            if (open.length === 0) return Effect.void
            if (semantics === "at-least-once") {
              for (const message of open) consumer.finish(message)
              return Effect.void
            }
            return Effect.ignore(Effect.tap(consumer.assignment.settle(open), () => {
              for (const { offset } of open) consumer.unfinished.delete(offset)
            }))
          })
          const nc = yield* T.client(server.servers)
          const stream = Subject.toStream(topic.name)
          const isSettled = async () => {
            await Effect.runPromise(handle)
            const info = await Effect.runPromise(T.consumerInfo(nc, stream, durableOf(topic.name)))
            return info.num_ack_pending === 0 && info.num_pending === 0
          }
          yield* T.waitUntil("the first are settled", () => consumer.taken.length === 200 ? isSettled() : false)
          // What the server has written by now is all that it will have.
          yield* Effect.sleep("500 millis")
          yield* server.keep
          yield* T.publish(publisher, topic, T.messages(200, 300))
          yield* T.waitUntil("the next are settled", () => consumer.taken.length === 300 ? isSettled() : false)
          yield* proxy.refuse
          yield* server.lose
          // More than were lost, before reading begins again: the stream is no shorter than it was.
          yield* T.publish(publisher, topic, T.messages(300, 450))
          yield* proxy.accept
          yield* T.waitUntil("all that is there was handed over", async () => {
            await Effect.runPromise(handle)
            return T.range(300, 450).every((n) => consumer.numbers.includes(n))
          })
          // Nothing comes twice unannounced.
          const numbers = consumer.numbers
          const again = consumer.taken.filter((_, i) => numbers.indexOf(numbers[i]!) < i)
          if (semantics === "at-most-once") assert.lengthOf(again, 0)
          assert.isTrue(again.every(({ maybeDuplicate }) => maybeDuplicate))
          assert.isAbove(consumer.assignments.at(-1)!.epoch, consumer.assignments[0]!.epoch)
          T.assertNoViolations(consumer)
        })),
      60_000
    )
  }

  it("reading begins again also where that fails halfway, and the stream is as long as before by then", (test) =>
    T.run(Effect.gen(function*() {
      if (yield* Docker.available) return test.skip()
      const server = yield* losing(version)
      const topic = T.topic()
      const publisher = yield* T.transport(server.servers)
      yield* T.publish(publisher, topic, T.messages(0, 20))
      const way = yield* wire(server.servers[0]!)
      const consumer = new T.TestConsumer()
      const service = yield* T.transport([way.address], { requestTimeout: "700 millis" })
      yield* service.subscribe(T.request(topic), consumer)
      yield* T.waitUntil("the first came", () => consumer.taken.length === 20)
      yield* server.keep
      yield* T.publish(publisher, topic, T.messages(20, 30))
      yield* T.waitUntil("the next came", () => consumer.taken.length === 30)
      let lost = 0
      way.toServer = (chunk) => {
        if (lost > 0 || !/PUB \$KV\.\S+\.partition\.0 /.test(chunk.toString("latin1"))) return chunk
        lost++
        return Buffer.alloc(0)
      }
      yield* server.lose
      yield* T.waitUntil("the new epoch got lost", () => lost === 1)
      yield* T.publish(publisher, topic, T.messages(30, 45))
      yield* T.waitUntil(
        "all that is there was handed over",
        () => T.range(30, 45).every((n) => consumer.numbers.includes(n))
      )
      assert.lengthOf(consumer.assignments, 2)
      T.assertNoViolations(consumer)
    })))

  it("a leader that knows less for a moment has lost nothing", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = T.topic()
      const publisher = yield* T.transport(servers)
      yield* T.publish(publisher, topic, T.messages(0, 30))
      const way = yield* wire(servers[0]!)
      const consumer = new T.TestConsumer()
      const service = yield* T.transport([way.address])
      yield* service.subscribe(T.request(topic), consumer)
      yield* T.waitUntil("all came", () => consumer.taken.length === 30)
      let lies = 0
      way.toClient = (chunk) => {
        const text = chunk.toString("latin1")
        if (lies > 1 || !text.includes(`"last_seq":30`)) return chunk
        lies++
        return Buffer.from(text.replace(`"last_seq":30`, `"last_seq":12`), "latin1")
      }
      way.cut()
      yield* T.waitUntil("it was told", () => lies > 0)
      yield* T.publish(publisher, topic, T.messages(30, 40))
      yield* T.waitUntil("the next came", () => consumer.taken.length === 40)
      assert.lengthOf(consumer.assignments, 1)
      T.assertNoViolations(consumer)
    })))
})
