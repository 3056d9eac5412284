import { EventBus, EventBusConfig, FailurePolicy, Topic } from "@effect-eventbus/core"
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Layer, Redacted, Schema, Stream } from "effect"
import { rmSync } from "node:fs"
import { join } from "node:path"
import { NatsTransport, Subject } from "../src/index.js"
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

describe("A handler that closes what it runs in", () => {
  const servers = sharedServer("2.15")

  it.each(["its subscription", "the bus"] as const)(
    "%s: it waits for itself until the deadline, is interrupted, and its message comes again",
    (what) =>
      T.run(Effect.gen(function*() {
        const topic = Topic.envelope(T.topic().name, Schema.Struct({ n: Schema.Int }), { eventType: () => "Order" })
        const layer = EventBus.layer.pipe(
          Layer.provide(NatsTransport.layer({ servers: servers() })),
          Layer.provide(EventBusConfig.layer({ closeDeadline: "1 second", group: "group" }))
        )
        const built = Effect.map(T.scoped(Layer.build(layer)), ({ close, value }) => ({
          close,
          bus: Context.get(value, EventBus.EventBus)
        }))
        const one = yield* built
        yield* one.bus.publish(topic, { aggregateId: "a", payload: { n: 1 } })
        const ready = yield* Deferred.make<Effect.Effect<unknown>>()
        const ended = yield* Deferred.make<Exit.Exit<unknown>>()
        const subscription = yield* T.scoped(one.bus.subscribe(
          topic,
          () =>
            Effect.flatten(Deferred.await(ready)).pipe(
              Effect.onExit((exit) => Deferred.succeed(ended, Exit.asVoid(exit)))
            ),
          { onExhausted: FailurePolicy.drop }
        ))
        yield* Deferred.succeed(ready, what === "the bus" ? one.close : subscription.value.close)
        // The close of a scope can't be interrupted: it goes on, and closing does without its handler 2 s after the deadline.
        const exit = yield* Effect.timeout(Deferred.await(ended), "10 seconds")
        assert.isTrue(Exit.isInterrupted(exit))
        yield* Effect.timeout(one.close, "5 seconds")
        const two = yield* built
        const again = yield* Deferred.make<number>()
        yield* T.scoped(two.bus.subscribe(topic, ({ n }) => Deferred.succeed(again, n), {
          onExhausted: FailurePolicy.drop
        }))
        assert.strictEqual(yield* Effect.timeout(Deferred.await(again), "15 seconds"), 1)
      })),
    60_000
  )
})
