import * as TcpProxy from "@effect-eventbus/brokers/TcpProxy"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import type { EventBusError, Transport } from "@effect-eventbus/core"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either, Fiber, Scope, Stream } from "effect"
import { inject } from "vitest"
import { NatsConfig, NatsConnection, NatsTransport } from "../src/index.js"
import * as T from "./fixture.js"

const servers = inject("natsServers")
const tenSeconds = Duration.seconds(10)

describe("A connection that the application has", () => {
  it("carries the bus beside what the application does with it, over a cut, and is open when the bus has ended", () =>
    T.run(Effect.gen(function*() {
      const proxy = yield* TcpProxy.make({ port: Number(servers[0]!.split(":")[1]) })
      const nc = yield* T.client([proxy.address])
      const heard: Array<string> = []
      const topic = T.topic()
      nc.subscribe(`own.${topic.name}`, {
        callback: (_, message) => heard.push(new TextDecoder().decode(message.data))
      })
      const before = subscriptions(nc)
      const states: Array<string> = []
      const bus = yield* T.scoped(NatsTransport.make({
        connection: nc,
        onConnectionState: ({ _tag }) => Effect.sync(() => states.push(_tag))
      }))
      const consumer = new T.TestConsumer()
      const source = yield* T.scoped(bus.value.subscribe(T.request(topic), consumer))
      yield* T.publish(bus.value, topic, T.messages(0, 100))
      yield* T.waitUntil("all came", () => consumer.taken.length === 100)
      yield* proxy.cut
      yield* T.publish(bus.value, topic, T.messages(100, 200))
      yield* T.waitUntil("the rest came", () => consumer.taken.length === 200)
      T.assertNumbers(consumer.numbers, T.range(0, 200))
      yield* T.waitUntil("the states were told", () => states.length >= 2)
      assert.deepStrictEqual(states.slice(0, 2), ["Disconnected", "Connected"])
      yield* source.close
      yield* bus.close
      assert.isFalse(nc.isClosed())
      assert.strictEqual(subscriptions(nc), before)
      nc.publish(`own.${topic.name}`, "still here")
      yield* T.waitUntil("it is used on", () => heard.includes("still here"))
      // What happens to it afterwards is not the bus's affair.
      const told = states.length
      yield* proxy.cut
      yield* T.waitUntil("it is back", () => nc.flush().then(() => true, () => false))
      assert.lengthOf(states, told)
    })))

  it("gives the layer, with the connection's state", () =>
    T.run(Effect.gen(function*() {
      const nc = yield* T.client(servers)
      const [first] = yield* Effect.flatMap(NatsConnection.NatsConnection, ({ changes }) =>
        Stream.runCollect(Stream.take(changes, 1))).pipe(Effect.provide(NatsTransport.layer({ connection: nc })))
      assert.deepStrictEqual(first, { _tag: "Connected", server: nc.getServer() })
      assert.isFalse(nc.isClosed())
    })))

  it("does not hold up the end of a subscription when the application has closed it", () =>
    T.run(Effect.gen(function*() {
      const nc = yield* T.client(servers)
      const service = yield* NatsTransport.make({ connection: nc })
      const topic = T.topic()
      const consumer = new T.TestConsumer({ onMessage: () => {} })
      const source = yield* T.scoped(service.subscribe(T.request(topic), consumer))
      yield* T.publish(service, topic, T.messages(0, 10))
      yield* T.waitUntil("all came", () => consumer.taken.length === 10)
      yield* Effect.promise(() => nc.close())
      for (const message of consumer.taken) consumer.finish(message)
      const start = performance.now()
      yield* source.close
      assert.isBelow(performance.now() - start, 3_000)
    })))

  it("ends all at once when the application has closed it for good", () =>
    T.run(Effect.gen(function*() {
      const nc = yield* T.client(servers)
      const scope = yield* Effect.scope
      const bus = yield* T.scoped(NatsTransport.make({ connection: nc }))
      const service = bus.value
      const topic = T.topic()
      const consumer = new T.TestConsumer()
      yield* T.publish(service, topic, T.messages(0, 10))
      const source = yield* service.subscribe(T.request(topic), consumer)
      const [replay] = yield* service.read!({ topic, from: "earliest", to: "now" })
      yield* Effect.promise(() => nc.close())
      /** None has to wait for its own timeout, of 10 s and more. */
      const quickly = <A, E>(effect: Effect.Effect<A, E>) =>
        Effect.timeoutFail(Effect.either(effect), { duration: "2 seconds", onTimeout: () => "late" as const })
      const publish = (topic: Transport.TopicSpec) =>
        Effect.gen(function*() {
          const results = yield* service.publish(topic, [T.message(0), T.message(1, "other")], { timeout: tenSeconds })
          for (const result of results) {
            assert.isTrue(Either.isLeft(result))
            const error = Either.getOrThrow(Either.flip(result)) as EventBusError.PublishFailed
            assert.deepStrictEqual([error._tag, error.reason, error.outcome], [
              "PublishFailed",
              "Unreachable",
              "not-written"
            ])
          }
        })
      yield* Effect.timeout(publish(topic), "2 seconds")
      yield* Effect.timeout(publish(T.topic()), "2 seconds")
      const ended = yield* quickly(source.failed!)
      assert.strictEqual(Either.isLeft(ended) && ended.left._tag, "BrokerUnreachable")
      const status = yield* source.status!
      assert.isFalse(status.isConnected)
      const subscribed = yield* quickly(Effect.provideService(
        service.subscribe(T.request(topic, { group: "late" }), new T.TestConsumer()),
        Scope.Scope,
        scope
      ))
      assert.strictEqual(Either.isLeft(subscribed) && subscribed.left._tag, "SubscribeFailed")
      const begun = yield* quickly(Stream.runCollect(replay!.messages))
      assert.strictEqual(Either.isLeft(begun) && begun.left._tag, "ReadFailed")
      const read = yield* quickly(
        Effect.provideService(service.read!({ topic, from: "earliest", to: "now" }), Scope.Scope, scope)
      )
      assert.strictEqual(Either.isLeft(read) && read.left._tag, "BrokerUnreachable")
      yield* Effect.timeout(bus.close, "2 seconds")
    })))

  it("that is closed while something is under way: what went out may be written, the rest is not", () =>
    T.run(Effect.gen(function*() {
      const nc = yield* T.client(servers)
      const service = yield* NatsTransport.make({ connection: nc, maxInFlight: 2 })
      const topic = T.topic()
      yield* T.publish(service, topic, [T.message(0)])
      const under = yield* Effect.fork(service.publish(topic, T.messages(1, 7, 100), { timeout: tenSeconds }))
      yield* Effect.yieldNow()
      yield* Effect.promise(() => nc.close())
      const results = yield* Effect.timeout(Fiber.join(under), "2 seconds")
      const outcomes = results.map((result) =>
        Either.isRight(result) ? "written" : (result.left as EventBusError.PublishFailed).outcome
      )
      assert.include(outcomes, "not-written")
      assert.isTrue(outcomes.slice(2).every((outcome) => outcome !== "written" || outcomes[0] === "written"))
    })))

  it("has to be open, and decides alone how it connects", () =>
    T.run(Effect.gen(function*() {
      const nc = yield* T.client(servers)
      const both = yield* Effect.flip(NatsTransport.make({ connection: nc, servers, user: "u" }))
      assert.strictEqual(both._tag, "InvalidConfiguration")
      assert.include(both.message, "connection is set, and decides what servers, user would")
      yield* Effect.promise(() => nc.close())
      const closed = yield* Effect.flip(NatsTransport.make({ connection: nc }))
      assert.strictEqual(closed._tag, "BrokerUnreachable")
      assert.isTrue(NatsConfig.resolve({})._tag === "Right")
    })))
})

/** How many subscriptions it has: the client counts them in a field of its own. */
const subscriptions = (nc: object): number =>
  (nc as { readonly protocol: { readonly subscriptions: { readonly size: () => number } } }).protocol.subscriptions
    .size()
