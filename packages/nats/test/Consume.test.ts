import * as TcpProxy from "@effect-eventbus/brokers/TcpProxy"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Fiber } from "effect"
import type { NatsConnection } from "nats"
import type { NatsConfig } from "../src/index.js"
import { Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { wire } from "./wire.js"

const portOf = (address: string) => Number(address.split(":")[1])
const durableOf = (topic: string) => Either.getOrThrow(Subject.toDurable("group", topic))

describe.each(T.versions)("Consuming on %s", (version) => {
  const subscribed = (
    servers: ReadonlyArray<string>,
    topic: ReturnType<typeof T.topic>,
    consumer: T.TestConsumer,
    options: NatsConfig.Options = {},
    overrides: Parameters<typeof T.request>[1] = {}
  ) =>
    T.scoped(Effect.gen(function*() {
      const service = yield* T.transport(servers, options)
      return yield* service.subscribe(T.request(topic, overrides), consumer)
    }))

  it("a second start handles exactly what was not finished, in order", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = T.topic()
      const publisher = yield* T.transport(servers)
      yield* T.publish(publisher, topic, T.messages(0, 3_000))
      const nc = yield* T.client(servers)

      // Takes 800, finishes every third of them, and closes.
      const first = new T.TestConsumer({
        capacity: 800,
        onMessage: (message, consumer) => {
          if (message.offset % 3 === 0 && message.offset < 800) setImmediate(() => consumer.finish(message))
        }
      })
      const one = yield* subscribed(servers, topic, first)
      yield* T.waitUntil("800 are unfinished", () => first.unfinished.size === 800)
      const open = T.ascending([...first.unfinished.values()].map(T.numberOf))
      const handled = first.numbers.filter((n) => !open.includes(n))
      assert.isAbove(handled.length, 200)
      yield* one.close
      const info = yield* T.consumerInfo(nc, Subject.toStream(topic.name), durableOf(topic.name))
      assert.strictEqual(info.delivered.stream_seq - info.num_ack_pending, handled.length)

      const second = new T.TestConsumer()
      const start = performance.now()
      const two = yield* subscribed(servers, topic, second)
      yield* T.waitUntil("the rest came", () => second.taken.length >= 3_000 - handled.length)
      const millis = performance.now() - start
      yield* two.close
      T.assertNumbers(second.numbers, T.range(0, 3_000).filter((n) => !handled.includes(n)))
      T.assertNoViolations(first, second)
      assert.isTrue(second.taken[0]!.maybeDuplicate)
      assert.isFalse(second.taken[second.taken.length - 1]!.maybeDuplicate)
      assert.strictEqual(second.taken[0]!.deliveryCount, 2)
      assert.isBelow(millis, 15_000)
      console.log(`restart with ${open.length} outstanding on ${version}: ${Math.round(millis)} ms`)

      const third = new T.TestConsumer()
      yield* subscribed(servers, topic, third)
      yield* T.publish(publisher, topic, [T.message(3_000)])
      yield* T.waitUntil("only the new one came", () => third.taken.length === 1)
      T.assertNumbers(third.numbers, [3_000])
    })))

  it("a handler that outlives the ack wait is not delivered again, nor is what waits behind it", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = T.topic()
      const publisher = yield* T.transport(servers)
      yield* T.publish(publisher, topic, T.messages(0, 300))
      const consumer = new T.TestConsumer({ capacity: 100, onMessage: () => {} })
      const way = yield* wire(servers[0]!)
      let signals = 0
      way.toServer = (chunk) => {
        signals += chunk.toString("latin1").match(/\+WPI/g)?.length ?? 0
        return chunk
      }
      yield* subscribed([way.address], topic, consumer, { ackWait: "2 seconds" })
      yield* T.waitUntil("100 are in hand", () => consumer.unfinished.size === 100)
      const nc = yield* T.client(servers)
      const info = T.consumerInfo(nc, Subject.toStream(topic.name), durableOf(topic.name))
      // A hundred every third of the ack wait: more than two of these.
      yield* T.waitUntil("signs of life were sent for long", () => signals >= 700)
      assert.strictEqual((yield* info).num_redelivered, 0)
      yield* T.waitUntil("all is finished", () => {
        for (const message of [...consumer.unfinished.values()]) consumer.finish(message)
        return consumer.taken.length === 300 && consumer.unfinished.size === 0
      })
      yield* T.waitUntil("all is acknowledged", async () => (await Effect.runPromise(info)).num_ack_pending === 0)
      T.assertNumbers(consumer.numbers, T.range(0, 300))
      T.assertNoViolations(consumer)
      assert.strictEqual((yield* info).num_redelivered, 0)
    })))

  it("a lane that refuses stops the fetching, in messages and in bytes, and goes on when it has room", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = T.topic()
      const publisher = yield* T.transport(servers)
      const big = T.messages(0, 200).map((message) => ({
        ...message,
        headers: {},
        value: T.filled(message.value!, 100_000)
      }))
      yield* T.publish(publisher, topic, big)
      yield* T.publish(publisher, topic, T.messages(200, 5_000))
      const consumer = new T.TestConsumer({ capacity: 10, onMessage: () => {} })
      yield* subscribed(servers, topic, consumer, { prefetchBytes: 2_200_000, prefetchMessages: 60 })
      yield* T.waitUntil("10 are in hand", () => consumer.unfinished.size === 10)
      const nc = yield* T.client(servers)
      const info = T.consumerInfo(nc, Subject.toStream(topic.name), durableOf(topic.name))
      const hasStopped = T.waitUntil(
        "the fetching has stopped",
        async () => consumer.unfinished.size === 10 && (await Effect.runPromise(info)).num_waiting === 0
      )
      yield* hasStopped
      const outstanding = (yield* info).num_ack_pending
      assert.isAtMost(outstanding, 10 + 23)
      const finishUntil = (count: number) =>
        T.waitUntil(`${count} have come`, async () => {
          // As soon as there are some.
          for (const until = performance.now() + 1_000; performance.now() < until && consumer.taken.length < count;) {
            for (const message of [...consumer.unfinished.values()]) consumer.finish(message)
            await new Promise(setImmediate)
          }
          return consumer.taken.length >= count
        })
      yield* finishUntil(205)
      yield* hasStopped
      assert.isAtMost((yield* info).num_ack_pending, 10 + 60)
      yield* finishUntil(5_000)
      T.assertNumbers(consumer.numbers.slice(200), T.range(200, 5_000))
      T.assertNoViolations(consumer)
    })))

  it("settling before handling is confirmed by the server, and what was settled never comes again", () =>
    T.run(Effect.gen(function*() {
      const server = yield* T.server(version)
      const { servers } = server
      const topic = T.topic("plain")
      const publisher = yield* T.transport(servers)
      yield* T.publish(publisher, topic, T.messages(0, 200))
      const nc = yield* T.client(servers)
      const info = T.consumerInfo(nc, Subject.toStream(topic.name), durableOf(topic.name))
      const first = new T.TestConsumer({ capacity: 100, onMessage: () => {} })
      const one = yield* subscribed(servers, topic, first, {}, { semantics: "at-most-once" })
      yield* T.waitUntil("100 are in hand", () => first.unfinished.size === 100)
      const settled = first.taken.slice(0, 40)
      const before = (yield* info).num_ack_pending
      yield* first.assignment.settle(settled)
      yield* T.waitUntil(
        "the server knows",
        async () => (await Effect.runPromise(info)).num_ack_pending === before - 40
      )
      // Again is no harm, and neither is finishing afterwards.
      yield* first.assignment.settle(settled)
      first.assignment.finish(settled[0]!)
      yield* one.close

      const second = new T.TestConsumer()
      yield* subscribed(servers, topic, second, {}, { semantics: "at-most-once" })
      yield* T.waitUntil("the rest came", () => second.taken.length >= 160)
      T.assertNumbers(second.numbers, T.range(40, 200))

      yield* T.publish(publisher, topic, [T.message(200)])
      yield* T.waitUntil("the last came", () => second.taken.length === 161)
      const foreign = { ...second.taken[0]!, offset: 9_999 }
      const refused = yield* Effect.either(second.assignment.settle([foreign]))
      assert.include(Either.getOrThrow(Either.flip(refused)), { _tag: "SettlementFailed", isRetryable: false })
    })))

  it.runIf(version === "2.15")(
    "a settlement without an answer fails, and can be tried again",
    () =>
      T.run(Effect.gen(function*() {
        const { servers } = yield* T.server(version)
        const proxy = yield* TcpProxy.make({ port: portOf(servers[0]!) })
        const topic = T.topic("plain")
        const publisher = yield* T.transport(servers)
        yield* T.publish(publisher, topic, T.messages(0, 10))
        const consumer = new T.TestConsumer({ onMessage: () => {} })
        yield* subscribed([proxy.address], topic, consumer, {}, { semantics: "at-most-once" })
        yield* T.waitUntil("all are in hand", () => consumer.unfinished.size === 10)
        yield* proxy.blackhole
        const start = performance.now()
        const failed = yield* Effect.either(consumer.assignment.settle(consumer.taken))
        assert.isBelow(performance.now() - start, 15_000)
        assert.include(Either.getOrThrow(Either.flip(failed)), { _tag: "SettlementFailed", isRetryable: true })
        yield* proxy.flow
        yield* consumer.assignment.settle(consumer.taken)
        const nc = yield* T.client(servers)
        const info = yield* T.consumerInfo(nc, Subject.toStream(topic.name), durableOf(topic.name))
        assert.strictEqual(info.num_ack_pending, 0)
      }))
  )

  it("goes on over restarts of the server, in order, without a loss", () =>
    T.run(Effect.gen(function*() {
      const server = yield* T.server(version)
      const topic = T.topic()
      const publisher = yield* T.transport(server.servers)
      const consumer = new T.TestConsumer({
        onMessage: (message, consumer) => void setTimeout(() => consumer.finish(message), Math.random() * 20)
      })
      const one = yield* subscribed(server.servers, topic, consumer)
      let published = 0
      const publishing = yield* Effect.suspend(() =>
        Effect.tap(T.publish(publisher, topic, T.messages(published, published + 100, 30)), () => {
          published += 100
        })
      ).pipe(Effect.delay("5 millis"), Effect.forever, Effect.fork)
      const more = Effect.suspend(() => {
        const before = consumer.taken.length
        return T.waitUntil("more came", () => consumer.taken.length >= before + 500)
      })
      for (const end of [server.nodes[0]!.stop, server.nodes[0]!.kill]) {
        yield* more
        yield* end
        yield* server.nodes[0]!.start
      }
      yield* more
      yield* Fiber.interrupt(publishing)
      const nc = yield* T.client(server.servers)
      const info = T.consumerInfo(nc, Subject.toStream(topic.name), durableOf(topic.name))
      yield* T.waitUntil("all is finished", async () => {
        const { num_ack_pending, num_pending } = await Effect.runPromise(info)
        return consumer.taken.length >= published && num_ack_pending === 0 && num_pending === 0
      })
      yield* one.close
      const came = new Set(consumer.numbers)
      const missing = T.range(0, published).filter((n) => !came.has(n))
      T.assertNumbers(missing, [])
      T.assertNoViolations(consumer)
    })))

  it("goes on over cut connections: what was lost on the way comes first, what is in hand not again", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const proxy = yield* TcpProxy.make({ port: portOf(servers[0]!) })
      const topic = T.topic()
      const publisher = yield* T.transport(servers)
      const consumer = new T.TestConsumer({
        capacity: 700,
        onMessage: (message, consumer) => void setTimeout(() => consumer.finish(message), Math.random() * 50)
      })
      yield* subscribed([proxy.address], topic, consumer)
      const publishing = yield* Effect.forEach(
        T.range(0, 40),
        (i) => T.publish(publisher, topic, T.messages(i * 500, i * 500 + 500, 40)),
        { discard: true }
      ).pipe(Effect.fork)
      for (let i = 0; i < 8; i++) {
        yield* T.waitUntil("more came", () => consumer.taken.length >= 400 * (i + 1))
        yield* proxy.cut
      }
      yield* Fiber.join(publishing)
      yield* T.waitUntil("all came", () => consumer.taken.length >= 20_000, 20_000)
      T.assertNoViolations(consumer)
      assert.lengthOf(consumer.taken, 20_000)
    })))

  it("a deleted consumer is made again where it was, a deleted stream from its beginning", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = T.topic()
      const publisher = yield* T.transport(servers)
      yield* T.publish(publisher, topic, T.messages(0, 100))
      const consumer = new T.TestConsumer({
        onMessage: (message, consumer) => {
          if (T.numberOf(message) !== 90) consumer.finish(message)
        }
      })
      yield* subscribed(servers, topic, consumer)
      yield* T.waitUntil("the first came", () => consumer.taken.length === 100)
      const nc = yield* T.client(servers)
      const jsm = yield* Effect.promise(() => nc.jetstreamManager())
      yield* Effect.promise(() => jsm.consumers.delete(Subject.toStream(topic.name), durableOf(topic.name)))
      yield* T.publish(publisher, topic, T.messages(100, 200))
      yield* T.waitUntil("the next came", () => consumer.taken.length >= 200)
      T.assertNumbers(consumer.numbers, T.range(0, 200))

      yield* Effect.promise(() => jsm.streams.delete(Subject.toStream(topic.name)))
      yield* T.publish(publisher, topic, T.messages(200, 300))
      yield* T.waitUntil("those of the new stream came", () => consumer.taken.length >= 300)
      // The subscription can make the stream while the first ones are refused: aggregates then overtake each other.
      T.assertNumbers(T.ascending(consumer.numbers), T.range(0, 300))
      T.assertNoViolations(consumer)
      assert.lengthOf(consumer.assignments, 2)
      assert.isAbove(consumer.assignments[1]!.epoch, consumer.assignments[0]!.epoch)
    })))

  /**
   * A domain whose requests go to the server over a client of the test. As long as it swallows, pull requests are taken, and messages go
   * to nobody: so 2.9 behaves after two have made the stream at once, and so does a consumer that stalls.
   */
  const swallowing = (nc: NatsConnection, isOver: (deleted: number, swallowed: number) => boolean) => {
    const seen = { deleted: 0, swallowed: 0 }
    const prefix = "$JS.relay.API."
    nc.subscribe(`${prefix}>`, {
      callback: (_, { data, headers, reply, subject }) => {
        const endpoint = subject.slice(prefix.length)
        if (endpoint.startsWith("CONSUMER.DELETE.")) seen.deleted++
        const isLost = endpoint.startsWith("CONSUMER.MSG.NEXT.") && !isOver(seen.deleted, seen.swallowed)
        if (isLost) seen.swallowed++
        const to = endpoint.startsWith("$KV.") ? endpoint : `$JS.API.${endpoint}`
        nc.publish(to, data, {
          ...(reply === undefined ? {} : { reply: isLost ? `nobody.${reply}` : reply }),
          ...(headers === undefined ? {} : { headers })
        })
      }
    })
    return seen
  }

  it.runIf(version === "2.9")(
    "a consumer that answers nothing is made anew, and nothing is missing",
    () =>
      T.run(Effect.gen(function*() {
        const { servers } = yield* T.server(version)
        const topic = T.topic()
        const publisher = yield* T.transport(servers)
        yield* T.publish(publisher, topic, T.messages(0, 100))
        const seen = swallowing(yield* T.client(servers), (deleted) => deleted > 0)
        const consumer = new T.TestConsumer()
        yield* subscribed(servers, topic, consumer, { domain: "relay", leaseDuration: "2 seconds" })
        yield* T.waitUntil("all came", () => consumer.taken.length >= 100)
        T.assertNumbers(consumer.numbers, T.range(0, 100))
        T.assertNoViolations(consumer)
        assert.isAtLeast(seen.swallowed, 2)
        yield* T.publish(publisher, topic, T.messages(100, 200))
        yield* T.waitUntil("the next came", () => consumer.taken.length >= 200)
        T.assertNumbers(consumer.numbers, T.range(0, 200))
      }))
  )

  it.each(version === "2.9" ? ["interest", "workqueue"] as const : ["limits", "interest", "workqueue"] as const)(
    "a consumer that stalls is never deleted, and goes on when it answers; retention %s",
    (retention) =>
      T.run(Effect.gen(function*() {
        const { servers } = yield* T.server(version)
        const topic = T.topic()
        const seen = swallowing(yield* T.client(servers), (_, swallowed) => swallowed >= 4)
        const consumer = new T.TestConsumer()
        const service = yield* T.transport(servers, { domain: "relay", leaseDuration: "2 seconds", retention })
        yield* service.subscribe(T.request(topic), consumer)
        yield* T.publish(service, topic, T.messages(0, 100))
        yield* T.waitUntil("all came", () => consumer.taken.length >= 100)
        T.assertNumbers(consumer.numbers, T.range(0, 100))
        T.assertNoViolations(consumer)
        assert.deepStrictEqual(seen, { deleted: 0, swallowed: 4 })
      }))
  )

  it("a stream in memory that a restart has emptied is read on with what comes after it", () =>
    T.run(Effect.gen(function*() {
      const server = yield* T.server(version)
      const topic = T.topic("plain")
      const publisher = yield* T.transport(server.servers)
      const consumer = new T.TestConsumer()
      yield* subscribed(server.servers, topic, consumer)
      yield* T.publish(publisher, topic, T.messages(0, 100))
      yield* T.waitUntil("the first came", () => consumer.taken.length === 100)
      for (const [end, n] of [[server.nodes[0]!.stop, 100], [server.nodes[0]!.kill, 300]] as const) {
        yield* end
        yield* server.nodes[0]!.start
        yield* T.publish(publisher, topic, T.messages(n, n + 200))
        yield* T.waitUntil("those after the restart came", () => consumer.taken.length >= n + 200)
      }
      T.assertNumbers(consumer.numbers, T.range(0, 500))
      T.assertNoViolations(consumer)
    })))

  it("the largest message passes a subscription that may fetch one byte ahead", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = T.topic()
      const publisher = yield* T.transport(servers)
      const largest = T.filled(T.message(0).value!, publisher.capabilities.maxMessageBytes)
      yield* T.publish(publisher, topic, T.messages(0, 5).map((message) => ({ ...message, value: largest })))
      const consumer = new T.TestConsumer()
      yield* subscribed(servers, topic, consumer, { prefetchBytes: 1 })
      yield* T.waitUntil("all came", () => consumer.taken.length === 5)
      assert.lengthOf(consumer.taken[4]!.value!, largest.length)
    })))

  it("begins with what is published from now on where that is asked for", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = T.topic()
      const publisher = yield* T.transport(servers)
      yield* T.publish(publisher, topic, T.messages(0, 50))
      const consumer = new T.TestConsumer()
      yield* subscribed(servers, topic, consumer, {}, { startFrom: "latest" })
      yield* T.publish(publisher, topic, T.messages(50, 60))
      yield* T.waitUntil("the new ones came", () => consumer.taken.length >= 10)
      T.assertNumbers(consumer.numbers, T.range(50, 60))
    })))

  it("a consumer with other settings is changed, or refused with the differences", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = T.topic()
      const publisher = yield* T.transport(servers)
      yield* T.publish(publisher, topic, T.messages(0, 10))
      const nc = yield* T.client(servers)
      const jsm = yield* Effect.promise(() => nc.jetstreamManager())
      const stream = Subject.toStream(topic.name)
      yield* Effect.promise(() =>
        jsm.consumers.add(stream, {
          durable_name: durableOf(topic.name),
          ack_policy: "explicit" as never,
          ack_wait: 5e9,
          max_deliver: 3,
          filter_subject: topic.name
        })
      )
      const refused = yield* Effect.either(subscribed(servers, topic, new T.TestConsumer(), { consumers: "validate" }))
      const error = Either.getOrThrow(Either.flip(refused))
      assert.strictEqual(error._tag, "InvalidConfiguration")
      assert.match(error.message, /max_deliver 3 instead of -1/)
      const consumer = new T.TestConsumer()
      yield* subscribed(servers, topic, consumer)
      yield* T.waitUntil("all came", () => consumer.taken.length === 10)
      const { config } = yield* T.consumerInfo(nc, stream, durableOf(topic.name))
      assert.deepInclude({ ...config } as object, { ack_wait: 30e9, max_deliver: -1, ack_policy: "explicit" })
    })))

  it("after stop nothing more is offered, what is in hand can still be finished, and the durable stays", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = T.topic()
      const publisher = yield* T.transport(servers)
      yield* T.publish(publisher, topic, T.messages(0, 100))
      const consumer = new T.TestConsumer({ capacity: 50, onMessage: () => {} })
      const one = yield* subscribed(servers, topic, consumer)
      yield* T.waitUntil("50 are in hand", () => consumer.unfinished.size === 50)
      yield* one.value.stop
      consumer.isClosed = true
      for (const message of [...consumer.unfinished.values()]) consumer.finish(message)
      yield* T.publish(publisher, topic, T.messages(100, 150))
      const nc = yield* T.client(servers)
      const info = T.consumerInfo(nc, Subject.toStream(topic.name), durableOf(topic.name))
      yield* T.waitUntil("what was in hand is acknowledged", async () => {
        const { num_ack_pending, num_pending } = await Effect.runPromise(info)
        return num_ack_pending + num_pending === 100
      })
      yield* one.close
      assert.lengthOf(consumer.taken, 50)
      const { delivered, num_ack_pending } = yield* info
      assert.strictEqual(delivered.stream_seq - num_ack_pending, 50)
      T.assertNoViolations(consumer)
    })))

  it("closing returns when the server has confirmed what was finished", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const proxy = yield* TcpProxy.make({ port: portOf(servers[0]!) })
      const topic = T.topic()
      const service = yield* T.transport([proxy.address])
      yield* T.publish(service, topic, T.messages(0, 100))
      const consumer = new T.TestConsumer({ onMessage: () => {} })
      const one = yield* T.scoped(service.subscribe(T.request(topic), consumer))
      yield* T.waitUntil("all came", () => consumer.taken.length === 100)
      yield* proxy.delay(150)
      for (const message of consumer.taken) consumer.finish(message)
      yield* one.close
      const nc = yield* T.client(servers)
      const info = yield* T.consumerInfo(nc, Subject.toStream(topic.name), durableOf(topic.name))
      assert.strictEqual(info.num_ack_pending, 0)
    })))
})
