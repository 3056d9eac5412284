import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, Stream } from "effect"
import { rmSync } from "node:fs"
import { join } from "node:path"
import { Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { sharedServer } from "./sharedServer.js"

describe("An account's limits that are reached while it runs", () => {
  const servers = sharedServer(
    "2.15",
    "accounts { A { jetstream { max_streams: 3, max_consumers: 2 }, users: [{ user: a, password: p }] } }"
  )

  it("are named by the errors of whoever needs another stream or consumer; all others go on", () =>
    T.run(Effect.gen(function*() {
      const service = yield* T.transport(servers(), { user: "a", password: Redacted.make("p") })
      const nc = yield* T.client(servers(), { user: "a", pass: "p" })
      const jsm = yield* Effect.promise(() => nc.jetstreamManager())
      const [one, two, three] = [T.topic(), T.topic(), T.topic()]
      const consumer = new T.TestConsumer()
      yield* service.subscribe(T.request(one), consumer)
      yield* T.publish(service, two, [T.message(0)])
      const streams = yield* Effect.flip(T.publish(service, three, [T.message(0)]))
      assert.strictEqual(streams._tag, "InvalidConfiguration")
      assert.include(streams.message, "maximum number of streams")
      yield* service.subscribe(T.request(one, { group: "second" }), new T.TestConsumer())
      const third = service.subscribe(T.request(one, { group: "third" }), new T.TestConsumer())
      const consumers = yield* Effect.flip(third)
      assert.strictEqual(consumers._tag, "InvalidConfiguration")
      assert.include(consumers.message, "maximum consumers limit")
      yield* T.publish(service, one, T.messages(0, 10))
      const [part] = yield* service.read!({ topic: one, from: "earliest", to: "now" })
      const replay = yield* Effect.flip(Stream.runDrain(part!.messages))
      assert.include(replay.message, "maximum consumers limit")
      yield* T.waitUntil("it is read", () => consumer.taken.length === 10)
      // Somebody makes room, and it is used up by another one.
      yield* Effect.promise(() => jsm.streams.delete(Subject.toStream(two.name)))
      yield* T.publish(service, three, [T.message(0)])
      const gone = yield* Effect.flip(T.publish(service, two, [T.message(1)]))
      assert.include(gone.message, "maximum number of streams")
      yield* Effect.promise(() => jsm.streams.delete(Subject.toStream(three.name)))
      yield* T.publish(service, two, [T.message(1)])
    })))
})

describe("A server that comes back with an empty store", () => {
  it.each([undefined, 3])(
    "is published to and read from on (partitions: %s)",
    (partitions) =>
      T.run(
        Effect.gen(function*() {
          const store = yield* T.folder
          const { nodes: [node], servers } = yield* T.server("2.15", `jetstream { store_dir: "${store}" }`)
          const topic = { ...T.topic(), ...(partitions === undefined ? {} : { partitions }) }
          const plain = T.topic("plain")
          const options = { leaseDuration: "2 seconds", requestTimeout: "1 second" } as const
          const service = yield* T.transport(servers, options)
          const [consumer, other] = [new T.TestConsumer(), new T.TestConsumer()]
          const source = yield* service.subscribe(T.request(topic), consumer)
          yield* service.subscribe(T.request(plain, { semantics: "at-most-once" }), other)
          yield* T.publish(service, topic, T.messages(0, 500))
          yield* T.publish(service, plain, T.messages(0, 5))
          yield* T.waitUntil("all came", () => consumer.taken.length === 500 && other.taken.length === 5)
          yield* node!.kill
          rmSync(join(store, "jetstream"), { recursive: true, force: true })
          yield* node!.start
          yield* T.publish(service, topic, T.messages(500, 600))
          yield* T.publish(service, plain, T.messages(5, 10))
          yield* T.waitUntil("the rest came", () => consumer.taken.length >= 600 && other.taken.length >= 10, 20_000)
          T.assertNumbers(T.ascending(consumer.numbers), T.range(0, 600))
          T.assertNumbers(T.ascending(other.numbers), T.range(0, 10))
          T.assertNoViolations(consumer, other)
          yield* T.waitUntil("its state is well", async () =>
            (await Effect.runPromise(source.status!)).problems.length === 0)
        })
      ),
    60_000
  )
})
