import * as TcpProxy from "@effect-eventbus/brokers/TcpProxy"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either, Fiber } from "effect"
import { DiscardPolicy, StorageType } from "nats"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { inject } from "vitest"
import { Subject } from "../src/index.js"
import * as StoredMessage from "../src/internal/StoredMessage.js"
import * as T from "./fixture.js"
import { wire } from "./wire.js"

const servers = inject("natsServers")
const timeout = Duration.seconds(10)
const portOf = (address: string) => Number(address.split(":")[1])

/** What the stream holds, in order. */
const stored = (nc: Effect.Effect.Success<ReturnType<typeof T.client>>, topic: string) =>
  Effect.promise(async () => {
    const name = await (await nc.jetstreamManager()).streams.find(topic)
    const consumer = await nc.jetstream().consumers.get(name)
    const count = (await consumer.info()).num_pending
    const all: Array<{ readonly aggregate: string; readonly n: number }> = []
    for await (const message of await consumer.fetch({ max_messages: count, expires: 10_000 })) {
      all.push({ aggregate: message.headers!.get("X-Aggregate-ID"), n: Number(message.string()) })
    }
    return all
  })

describe("Publishing", () => {
  it("is acknowledged by the stream, and answers at the same index", () =>
    T.run(Effect.gen(function*() {
      const service = yield* T.transport(servers)
      const topic = T.topic()
      const receipts = yield* T.publish(service, topic, T.messages(0, 2_000))
      assert.strictEqual(new Set(receipts.map(({ offset }) => offset)).size, 2_000)
      assert.deepStrictEqual(receipts[0], { topic: topic.name, partition: 0, offset: 1 })
      const nc = yield* T.client(servers)
      const written = yield* stored(nc, topic.name)
      receipts.forEach(({ offset }, n) => assert.strictEqual(written[offset - 1]!.n, n))
    })))

  it("keeps the order of each aggregate and of each key, whoever publishes at once", () =>
    T.run(Effect.gen(function*() {
      const service = yield* T.transport(servers, { maxInFlight: 50 })
      const topic = T.topic()
      const calls = Array.from({ length: 40 }, (_, call) => T.messages(call * 50, call * 50 + 50, 7))
      yield* Effect.all(calls.map((messages) => T.publish(service, topic, messages)), { concurrency: "unbounded" })
      const nc = yield* T.client(servers)
      const written = yield* stored(nc, topic.name)
      assert.lengthOf(written, 2_000)
      for (let aggregate = 0; aggregate < 7; aggregate++) {
        const numbers = written.filter((message) => message.aggregate === `a-${aggregate}`).map(({ n }) => n)
        T.assertNumbers(numbers, T.ascending(numbers))
      }
    })))

  it("through a connection that breaks: every acknowledged message is there, once, in order", () =>
    T.run(Effect.gen(function*() {
      const proxy = yield* TcpProxy.make({ port: portOf(servers[0]!) })
      const service = yield* T.transport([proxy.address])
      const topic = T.topic()
      const cutting = yield* proxy.cut.pipe(Effect.delay("150 millis"), Effect.repeatN(9), Effect.fork)
      let acknowledged = 0
      for (let n = 0; cutting.unsafePoll() === null || n < 4_000; n += 500) {
        acknowledged += (yield* T.publish(service, topic, T.messages(n, n + 500, 50))).length
      }
      yield* Fiber.join(cutting)
      const nc = yield* T.client(servers)
      const written = yield* stored(nc, topic.name)
      assert.strictEqual(written.length, acknowledged)
      for (let aggregate = 0; aggregate < 50; aggregate++) {
        const numbers = written.filter((message) => message.aggregate === `a-${aggregate}`).map(({ n }) => n)
        T.assertNumbers(numbers, T.range(0, acknowledged).filter((n) => n % 50 === aggregate))
      }
    })))

  it("a message that is stored already is answered with its place, and another one that has its id is an error", () =>
    T.run(Effect.gen(function*() {
      const service = yield* T.transport(servers)
      const [topic, other] = [T.topic(), T.topic()]
      yield* T.publish(service, topic, [T.message(0), T.message(1)])
      yield* T.publish(service, other, [T.message(1)])
      // As another process does it after an outcome that was unknown.
      const later = yield* T.transport(servers)
      const another = { ...T.message(1), value: T.message(7).value }
      const tombstone = { ...T.message(1), value: null }
      const results = yield* later.publish(topic, [T.message(1), another, tombstone, T.message(2)], { timeout })
      assert.deepStrictEqual(
        results.map((result) =>
          Either.isRight(result)
            ? [result.right.offset, result.right.wasStored]
            : result.left._tag === "PublishFailed" && [result.left.reason, result.left.outcome]
        ),
        [[2, true], ["Duplicate", "not-written"], ["Duplicate", "not-written"], [3, undefined]]
      )
      const nc = yield* T.client(servers)
      assert.deepStrictEqual((yield* stored(nc, topic.name)).map(({ n }) => n), [0, 1, 2])
      // What can't be compared is not known.
      yield* Effect.promise(async () =>
        (await nc.jetstreamManager()).streams.deleteMessage(Subject.toStream(topic.name), 2)
      )
      const [gone] = yield* later.publish(topic, [T.message(1)], { timeout })
      const error = Either.getOrThrow(Either.flip(gone!))
      assert.include(error, { _tag: "PublishFailed", reason: "Duplicate", outcome: "unknown" })
    })))

  it("an event that is made once more is the same but for its time and trace", () => {
    const encode = (value: object) => ({
      headers: new Uint8Array(0),
      value: new TextEncoder().encode(JSON.stringify(value))
    })
    const event = { event_id: "e", timestamp: "2026-11-28T08:00:00Z", payload: { timestamp: "now", n: 1 } }
    const isSame = (other: object) => StoredMessage.isSame("orders", encode(event), encode(other))
    assert.isTrue(isSame({ ...event, timestamp: "2026-11-28T08:00:01Z", trace_id: "t" }))
    assert.isFalse(isSame({ ...event, payload: { timestamp: "later", n: 1 } }))
    assert.isFalse(isSame({ ...event, payload: { timestamp: "now", n: 2 } }))
    const [one, two] = [`{"time":"1","n":9007199254740993}`, `{"time":"2","n":9007199254740992}`].map((text) => ({
      headers: new Uint8Array(0),
      value: new TextEncoder().encode(text)
    }))
    assert.isFalse(StoredMessage.isSame("orders", one!, two!))
  })

  it("a dead letter goes back to its topic within the duplicate window, once", () =>
    T.run(Effect.gen(function*() {
      const service = yield* T.transport(servers)
      const topic = T.topic()
      yield* T.publish(service, topic, [T.message(0)])
      const letter = (offset: number) => ({
        ...T.message(0),
        headers: {
          "X-Dead-Letter-Topic": topic.name,
          "X-Dead-Letter-Partition": "0",
          "X-Dead-Letter-Offset": String(offset),
          "X-Dead-Letter-Group": "billing"
        }
      })
      const offsets = (messages: ReturnType<typeof letter>) =>
        Effect.map(T.publish(service, topic, [messages]), ([receipt]) => [receipt!.offset, receipt!.wasStored])
      assert.deepStrictEqual(yield* offsets(letter(1)), [2, undefined])
      assert.deepStrictEqual(yield* offsets(letter(1)), [2, true])
      // It was given up once more.
      assert.deepStrictEqual(yield* offsets(letter(2)), [3, undefined])
    })))

  it("never hangs: without an answer the outcome is unknown, without a server nothing was written", () =>
    T.run(Effect.gen(function*() {
      const server = yield* T.server()
      const proxy = yield* TcpProxy.make({ port: portOf(server.servers[0]!) })
      const service = yield* T.transport([proxy.address], { ackTimeout: "200 millis" })
      const topic = T.topic()
      yield* T.publish(service, topic, [T.message(0)])
      yield* proxy.blackhole
      const start = performance.now()
      const results = yield* service.publish(topic, [T.message(1, "a"), T.message(2, "a"), T.message(3, "b")], {
        timeout: Duration.seconds(1)
      })
      assert.isBelow(performance.now() - start, 4_000)
      const errors = results.map((result) => Either.getOrThrow(Either.flip(result)))
      assert.deepStrictEqual(errors.map((error) => error._tag === "PublishFailed" && error.outcome), [
        "unknown",
        "not-written",
        "unknown"
      ])
      yield* proxy.flow
      // What timed out is out of the way.
      yield* T.publish(service, topic, [T.message(4, "a")])

      yield* server.nodes[0]!.stop
      const unreachable = yield* service.publish(topic, [T.message(5)], { timeout: Duration.millis(500) })
      const elsewhere = yield* service.publish(T.topic(), [T.message(5)], { timeout: Duration.millis(500) }).pipe(
        Effect.uninterruptible
      )
      for (const result of [...unreachable, ...elsewhere]) {
        assert.include(Either.getOrThrow(Either.flip(result)), { _tag: "PublishFailed", reason: "Unreachable" })
      }
    })))

  it("what waits behind a message that timed out fails with it, so that all can be published again in order", () =>
    T.run(Effect.gen(function*() {
      const proxy = yield* TcpProxy.make({ port: portOf(servers[0]!) })
      const service = yield* T.transport([proxy.address])
      const topic = T.topic()
      yield* T.publish(service, topic, [T.message(0, "a")])
      yield* proxy.blackhole
      const first = yield* Effect.fork(
        service.publish(topic, [T.message(1, "a")], { timeout: Duration.millis(300) })
      )
      yield* Effect.yieldNow()
      const others = yield* Effect.fork(service.publish(topic, [T.message(2, "a"), T.message(3, "a")], { timeout }))
      const start = performance.now()
      const results = [...(yield* Fiber.join(first)), ...(yield* Fiber.join(others))]
      assert.isBelow(performance.now() - start, 8_000)
      assert.deepStrictEqual(
        results.map((result) => Either.isLeft(result) && result.left._tag === "PublishFailed" && result.left.outcome),
        ["unknown", "not-written", "not-written"]
      )
      yield* proxy.flow
      // The first one is written by now, or is written now; the way is free.
      yield* service.publish(topic, [T.message(1, "a")], { timeout })
      yield* T.publish(service, topic, T.messages(2, 5, 1).map((message) => ({ ...message, aggregateId: "a" })))
      const nc = yield* T.client(servers)
      assert.deepStrictEqual((yield* stored(nc, topic.name)).map(({ n }) => n), [0, 1, 2, 3, 4])
    })))

  it("an interrupted publish leaves the way free", () =>
    T.run(Effect.gen(function*() {
      const proxy = yield* TcpProxy.make({ port: portOf(servers[0]!) })
      const service = yield* T.transport([proxy.address], { maxInFlight: 2 })
      const topic = T.topic()
      yield* T.publish(service, topic, [T.message(0)])
      yield* proxy.blackhole
      const fiber = yield* Effect.fork(T.publish(service, topic, T.messages(1, 100, 1)))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(fiber)
      yield* proxy.flow
      yield* T.publish(service, topic, T.messages(100, 110, 1))
    })))

  it("what is interrupted is written where it was sent, and not where it waited", () =>
    T.run(Effect.gen(function*() {
      const proxy = yield* TcpProxy.make({ port: portOf(servers[0]!) })
      const service = yield* T.transport([proxy.address])
      const topic = T.topic()
      yield* T.publish(service, topic, [T.message(0, "a")])
      yield* proxy.blackhole
      const sent = yield* Effect.fork(service.publish(topic, [T.message(1, "a")], { timeout }))
      yield* Effect.yieldNow()
      const waiting = yield* Effect.fork(service.publish(topic, [T.message(2, "a")], { timeout }))
      yield* Effect.yieldNow()
      yield* Fiber.interruptAll([sent, waiting])
      yield* proxy.flow
      yield* T.publish(service, topic, [T.message(3, "a")])
      const nc = yield* T.client(servers)
      assert.deepStrictEqual((yield* stored(nc, topic.name)).map(({ n }) => n), [0, 1, 3])
    })))

  it("a publish whose stream was missing is not written when it is interrupted before the stream is back", () =>
    T.run(Effect.gen(function*() {
      const way = yield* wire(servers[0]!)
      const service = yield* T.transport([way.address], { requestTimeout: "500 millis" })
      const topic = T.topic()
      yield* T.publish(service, topic, [T.message(0, "a")])
      const nc = yield* T.client(servers)
      let lost = 0
      way.toServer = (chunk) => {
        if (!chunk.includes("$JS.API.STREAM.")) return chunk
        lost++
        return Buffer.alloc(0)
      }
      yield* Effect.promise(async () => (await nc.jetstreamManager()).streams.delete(Subject.toStream(topic.name)))
      const fiber = yield* Effect.fork(service.publish(topic, [T.message(1, "a")], { timeout }))
      yield* T.waitUntil("the stream is asked for", () => lost > 0)
      yield* Fiber.interrupt(fiber)
      way.toServer = (chunk) => chunk
      yield* T.publish(service, topic, [T.message(2, "a")])
      assert.deepStrictEqual((yield* stored(nc, topic.name)).map(({ n }) => n), [2])
    })))

  it("a publish that was interrupted fails nobody behind it, also when its time is over", () =>
    T.run(Effect.gen(function*() {
      const proxy = yield* TcpProxy.make({ port: portOf(servers[0]!) })
      const service = yield* T.transport([proxy.address])
      const topic = T.topic()
      yield* T.publish(service, topic, [T.message(0, "a")])
      yield* proxy.blackhole
      const forgotten = yield* Effect.fork(
        service.publish(topic, [T.message(1, "a")], { timeout: Duration.millis(300) })
      )
      yield* Effect.yieldNow()
      const behind = yield* Effect.fork(T.publish(service, topic, [T.message(2, "a")]))
      yield* Effect.yieldNow()
      // It waits behind them, and its time is over later.
      const later = yield* Effect.fork(
        service.publish(topic, [T.message(3, "a")], { timeout: Duration.millis(300) })
      )
      yield* Fiber.interrupt(forgotten)
      const [expired] = yield* Fiber.join(later)
      assert.isTrue(Either.isLeft(expired!))
      yield* proxy.flow
      yield* Fiber.join(behind)
      const nc = yield* T.client(servers)
      assert.deepStrictEqual((yield* stored(nc, topic.name)).map(({ n }) => n), [0, 1, 2])
    })))

  it("refuses what the server would, before sending it", () =>
    T.run(Effect.gen(function*() {
      const service = yield* T.transport(servers)
      const topic = T.topic()
      const big = { ...T.message(1), value: new Uint8Array(1_048_577) }
      const largest = { ...T.message(2), value: new Uint8Array(service.capabilities.maxMessageBytes) }
      const bad = { ...T.message(3), headers: { "no name": "" } }
      const results = yield* service.publish(topic, [big, largest, bad, T.message(4)], { timeout })
      assert.deepStrictEqual(
        results.map((result) => Either.isRight(result) ? "written" : result.left._tag),
        ["MessageTooLarge", "written", "InvalidMessage", "written"]
      )
      const nowhere = yield* service.publish({ name: "a b", kind: "envelope" }, [T.message(1)], { timeout })
      assert.strictEqual(Either.getOrThrow(Either.flip(nowhere[0]!))._tag, "InvalidConfiguration")
    })))

  it("says when the stream is full, or takes no message of that size", () =>
    T.run(Effect.gen(function*() {
      const service = yield* T.transport(servers)
      const nc = yield* T.client(servers)
      const topic = T.topic()
      yield* Effect.promise(async () =>
        (await nc.jetstreamManager()).streams.add({
          name: Subject.toStream(topic.name),
          subjects: [topic.name],
          storage: StorageType.Memory,
          discard: DiscardPolicy.New,
          max_msgs: 1,
          max_msg_size: 1_000
        })
      )
      const results = yield* service.publish(topic, [
        { ...T.message(0), value: new Uint8Array(2_000) },
        T.message(1),
        T.message(2)
      ], { timeout })
      assert.deepStrictEqual(
        results.map((result) =>
          Either.isRight(result) ? "written" : "reason" in result.left ? result.left.reason : result.left._tag
        ),
        ["MessageTooLarge", "written", "StorageFull"]
      )
    })))
})

describe("Streams", () => {
  it("are made once, however many ask at once, and remembered", () =>
    T.run(Effect.gen(function*() {
      const nc = yield* T.client(servers)
      const topic = T.topic("plain")
      const asked: Array<string> = []
      nc.subscribe("$JS.API.STREAM.>", { callback: (_, message) => asked.push(message.subject) })
      yield* Effect.promise(() => nc.flush())
      const service = yield* T.transport(servers)
      yield* Effect.all(T.range(0, 100).map((n) => T.publish(service, topic, [T.message(n)])), {
        concurrency: "unbounded"
      })
      yield* T.publish(service, topic, [T.message(100)])
      yield* Effect.promise(() => nc.flush())
      const stream = Subject.toStream(topic.name)
      const ours = asked.filter((subject) => subject.endsWith(`.${stream}`))
      assert.deepStrictEqual(ours, [`$JS.API.STREAM.INFO.${stream}`, `$JS.API.STREAM.CREATE.${stream}`])
      const { config } = yield* Effect.promise(async () => (await nc.jetstreamManager()).streams.info(stream))
      assert.deepInclude({ ...config } as object, {
        storage: "memory",
        retention: "limits",
        duplicate_window: 120e9,
        max_age: 0,
        max_msgs: -1
      })
    })))

  it("that others made under another name are used", () =>
    T.run(Effect.gen(function*() {
      const nc = yield* T.client(servers)
      const topic = T.topic()
      const name = `FOREIGN-${topic.name.replaceAll(".", "-")}`
      yield* Effect.promise(async () =>
        (await nc.jetstreamManager()).streams.add({ name, subjects: [`${topic.name}`, `${topic.name}.more`] })
      )
      const service = yield* T.transport(servers)
      yield* T.publish(service, topic, T.messages(0, 10))
      const consumer = new T.TestConsumer()
      yield* service.subscribe(T.request(topic), consumer)
      yield* T.waitUntil("all came", () => consumer.taken.length === 10)
    })))

  it("validate finds differences and missing streams, skip only missing ones", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const unknown = T.topic()
      const creating = yield* T.transport(servers)
      yield* T.publish(creating, topic, [T.message(0)])
      const validating = yield* T.transport(servers, { streams: "validate", storage: "memory", maxMessages: 5 })
      const [different] = yield* validating.publish(topic, [T.message(1)], { timeout })
      const error = Either.getOrThrow(Either.flip(different!))
      assert.strictEqual(error._tag, "InvalidConfiguration")
      assert.match(error.message, /storage file, but memory/)
      assert.match(error.message, /max_msgs -1, but 5/)
      const skipping = yield* T.transport(servers, { streams: "skip", storage: "memory" })
      yield* T.publish(skipping, topic, [T.message(2)])
      for (const service of [validating, skipping]) {
        const [missing] = yield* service.publish(unknown, [T.message(1)], { timeout })
        const unknownTopic = Either.getOrThrow(Either.flip(missing!))
        assert.strictEqual(unknownTopic._tag, "UnknownTopic")
        assert.match(String((unknownTopic as { readonly cause?: unknown }).cause), /nats\.streams/)
        const subscribed = yield* Effect.either(service.subscribe(T.request(unknown), new T.TestConsumer()))
        assert.strictEqual(Either.getOrThrow(Either.flip(subscribed))._tag, "UnknownTopic")
      }
    })))

  it("that were deleted from outside are made again, or missed", () =>
    T.run(Effect.gen(function*() {
      const nc = yield* T.client(servers)
      const topic = T.topic()
      const creating = yield* T.transport(servers)
      const skipping = yield* T.transport(servers, { streams: "skip" })
      yield* T.publish(creating, topic, T.messages(0, 10))
      yield* T.publish(skipping, topic, T.messages(10, 20))
      const remove = Effect.promise(async () =>
        (await nc.jetstreamManager()).streams.delete(Subject.toStream(topic.name))
      )
      yield* remove
      const missing = yield* skipping.publish(topic, T.messages(20, 25), { timeout })
      assert.deepStrictEqual(
        missing.map((result) => Either.isLeft(result) && result.left._tag),
        Array(5).fill("UnknownTopic")
      )
      const receipts = yield* T.publish(creating, topic, T.messages(30, 80, 3))
      assert.deepStrictEqual(T.ascending(receipts.map(({ offset }) => offset)), T.range(1, 51))
    })))
})
