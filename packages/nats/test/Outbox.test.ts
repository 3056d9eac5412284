import { afterEach, assert, beforeEach, describe, it, vi } from "@effect/vitest"
import { Duration, Effect, Either, Exit, Fiber, TestClock } from "effect"
import { encode } from "../src/internal/HeaderCodec.js"
import * as NatsPublisher from "../src/internal/NatsPublisher.js"
import type { NatsStreams, Stream } from "../src/internal/NatsStreams.js"
import { Outbox } from "../src/internal/Outbox.js"
import { Call, Entry, TopicQueue } from "../src/internal/Outgoing.js"
import { resolve } from "../src/NatsConfig.js"
import { fakeConnection, reconnect } from "./fakeConnection.js"
import * as T from "./fixture.js"

const settings = Either.getOrThrow(resolve({}))

const stream = {
  name: "orders",
  created: "now",
  last: 0,
  lastAt: 0,
  replicas: 1,
  forgets: false,
  duplicateWindow: 120_000
}

const scene = (given: Partial<Stream> = {}) => {
  const fake = fakeConnection()
  const { answer, connection, sent } = fake
  const asked: Array<TopicQueue> = []
  const outbox = new Outbox(connection, settings, {
    onMissing: () => {},
    onDoubt: (topic) => asked.push(topic),
    onDuplicate: () => {}
  })
  const topic = new TopicQueue({ name: "orders", kind: "envelope" }, () => "", { ...stream, ...given })
  /** A call with messages of these aggregates, and what it is answered. */
  const call = (...aggregates: ReadonlyArray<string>) => {
    const call = new Call(aggregates.length, performance.now() + 10_000, undefined, outbox.onReply)
    aggregates.forEach((aggregate, index) => {
      const message = T.message(index, aggregate)
      const headers = encode("id", message)
      if (typeof headers === "string") throw new Error(headers)
      call.entries.push(new Entry(call, index, topic, "orders", 0, headers, message))
    })
    let answers = 0
    call.resume = () => answers++
    return { call, answers: () => answers, results: () => call.answers.map(inWords) }
  }
  return { answer, asked, call, fake, outbox, sent, topic }
}

/** The sequence, or what went wrong. */
const inWords = (result: Call["answers"][number]) =>
  Either.match(result, {
    onLeft: (error) =>
      error._tag === "PublishFailed" ? `${error.reason}, ${error.outcome}: ${String(error.cause)}` : error._tag,
    onRight: ({ offset }) => offset
  })

/** Everybody gets as far as possible without time. */
const turn = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

const closed = "Unreachable, not-written: the transport was closed"

describe("Outbox", () => {
  beforeEach(() =>
    void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance"] })
  )
  afterEach(() => void vi.useRealTimers())

  it("sends nothing after it was closed: what comes later fails as unwritten at once, and leaves no timer", () => {
    const { call, outbox, sent } = scene()
    assert.isTrue(Exit.isSuccess(Effect.runSyncExit(outbox.close)))
    const late = call("a", "a", "b")
    outbox.send(late.call)
    assert.deepStrictEqual(late.results(), [closed, closed, closed])
    assert.strictEqual(late.answers(), 1)
    assert.lengthOf(sent, 0)
    assert.strictEqual(vi.getTimerCount(), 0)
  })

  it("takes nothing more while it gives what is in flight a last chance", async () => {
    const { answer, call, outbox, sent } = scene()
    const early = call("a")
    outbox.send(early.call)
    const closing = Effect.runFork(outbox.close)
    await Promise.resolve()
    const late = call("a", "b")
    outbox.send(late.call)
    assert.deepStrictEqual(late.results(), [closed, closed])
    assert.lengthOf(sent, 1)
    answer(sent[0]!.reply, { stream: "orders", seq: 7 })
    await Effect.runPromise(Fiber.join(closing))
    assert.deepStrictEqual(early.results(), [7])
    assert.lengthOf(sent, 1)
    assert.strictEqual(vi.getTimerCount(), 0)
  })

  it("a second answer to a message is ignored: it answers no other one, nor changes the first", () => {
    const { answer, call, outbox, sent } = scene()
    const both = call("a", "a")
    outbox.send(both.call)
    const again = [0, 1].map((index) => both.call.entries[index]!)
    answer(sent[0]!.reply, { stream: "orders", seq: 7 })
    assert.lengthOf(sent, 2)
    answer(sent[0]!.reply, { stream: "orders", seq: 8, duplicate: true })
    again[0]!.onReply({ data: Buffer.from(`{"stream":"orders","seq":9}`) } as never)
    assert.strictEqual(both.answers(), 0)
    answer(sent[1]!.reply, { stream: "orders", seq: 10 })
    for (const entry of again) entry.onReply(undefined)
    assert.strictEqual(both.answers(), 1)
    assert.deepStrictEqual(both.results(), [7, 10])
  })

  it("a message that can't be sent fails once, also where no answers can come any more", async () => {
    const { call, fake, outbox } = scene()
    fake.connection.replies.end()
    fake.closed = new Error("too large")
    // The client takes none of them, although it is open.
    Object.assign(fake.connection.client, { isClosed: () => false })
    const one = call("a", "b")
    outbox.send(one.call)
    const failed = ["Rejected, not-written: Error: too large", "Rejected, not-written: Error: too large"]
    assert.deepStrictEqual(one.results(), failed)
    // Now everybody is told who expected an answer.
    await Promise.resolve()
    assert.deepStrictEqual(one.results(), failed)
    assert.strictEqual(one.answers(), 1)
  })
})

describe("What may have been written", () => {
  beforeEach(() =>
    void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance"] })
  )
  afterEach(() => void vi.useRealTimers())

  /** Whoever waits behind it would pass it. */
  const behind = /^Unreachable, not-written: the message before it/
  const unknown = /^Unreachable, unknown: .*could be written twice/

  it("is not sent again after a reconnect where the stream forgets ids; what waits behind it is not written", () => {
    const { answer, call, fake, outbox, sent } = scene({ forgets: true })
    const both = call("a", "a", "b")
    outbox.send(both.call)
    assert.lengthOf(sent, 2)
    answer(sent[1]!.reply, { stream: "orders", seq: 1 })
    fake.isUp = false
    reconnect(fake)
    assert.lengthOf(sent, 2)
    const [first, second, third] = both.results()
    assert.match(String(first), unknown)
    assert.match(String(second), behind)
    assert.strictEqual(third, 1)
    // The way of the aggregate is free.
    const next = call("a")
    outbox.send(next.call)
    answer(sent[2]!.reply, { stream: "orders", seq: 2 })
    assert.deepStrictEqual(next.results(), [2])
  })

  it("waits for a late answer where the stream forgets ids, and is unknown when its time is over", () => {
    const { answer, call, outbox, sent } = scene({ forgets: true })
    const [early, late] = [call("a"), call("b")]
    outbox.send(early.call)
    outbox.send(late.call)
    vi.advanceTimersByTime(settings.ackTimeout * 2)
    assert.lengthOf(sent, 2)
    answer(sent[1]!.reply, { stream: "orders", seq: 1 })
    assert.deepStrictEqual(late.results(), [1])
    vi.advanceTimersByTime(10_000)
    assert.lengthOf(sent, 2)
    assert.match(String(early.results()[0]), /^Timeout, unknown/)
  })

  it("is sent again when the stream was looked at, as long as it knows the id, and not later", () => {
    const { asked, call, fake, outbox, sent, topic } = scene({ duplicateWindow: 5_000 })
    const one = call("a")
    outbox.send(one.call)
    vi.advanceTimersByTime(4_000)
    assert.deepStrictEqual(asked, [topic])
    assert.lengthOf(sent, 1)
    outbox.decide(topic, true)
    assert.lengthOf(sent, 2)
    vi.advanceTimersByTime(1_000)
    reconnect(fake)
    outbox.decide(topic, true)
    assert.lengthOf(sent, 2)
    assert.match(String(one.results()[0]), unknown)
  })

  it("is not sent again where the stream can't be looked at, and waits for its late answer as long as one can come", () => {
    const { answer, asked, call, fake, outbox, sent, topic } = scene()
    const [early, late] = [call("a"), call("b")]
    outbox.send(early.call)
    outbox.send(late.call)
    vi.advanceTimersByTime(4_000)
    // The answer can also come while the stream is looked at.
    answer(sent[1]!.reply, { stream: "orders", seq: 1 })
    outbox.decide(topic, false)
    vi.advanceTimersByTime(4_000)
    assert.lengthOf(asked, 1)
    assert.lengthOf(sent, 2)
    assert.deepStrictEqual(late.results(), [1])
    reconnect(fake)
    assert.match(String(early.results()[0]), unknown)
  })

  it("is looked at again when the connection is lost meanwhile", () => {
    const { answer, asked, call, fake, outbox, sent, topic } = scene()
    const one = call("a")
    outbox.send(one.call)
    reconnect(fake)
    fake.isUp = false
    outbox.decide(topic, false)
    reconnect(fake)
    assert.lengthOf(asked, 2)
    outbox.decide(topic, true)
    answer(sent[1]!.reply, { stream: "orders", seq: 1, duplicate: true })
    assert.deepStrictEqual(one.results(), [1])
  })

  it("is not sent to another stream of the same name; what certainly was not written is", () => {
    const { answer, call, fake, outbox, sent, topic } = scene()
    const [maybe, never] = [call("a"), call("b")]
    outbox.send(maybe.call)
    fake.isUp = false
    reconnect(fake)
    outbox.decide(topic, true)
    outbox.send(never.call)
    assert.lengthOf(sent, 3)
    // Nobody answers for the stream.
    for (const frame of sent.slice(1)) fake.noResponders(frame.reply)
    topic.stream = { ...stream, created: "later" }
    outbox.release(topic)
    assert.lengthOf(sent, 4)
    assert.match(String(maybe.results()[0]), unknown)
    answer(sent[3]!.reply, { stream: "orders", seq: 1 })
    assert.deepStrictEqual(never.results(), [1])
  })
})

describe("Closing without a connection", () => {
  /** The transport's `publish`, and how to close it. */
  const publisher = Effect.gen(function*() {
    const fake = fakeConnection()
    const streams = {
      get: () => Effect.succeed(stream),
      look: () => Effect.succeed(stream),
      refresh: () => Effect.succeed(stream)
    } as unknown as NatsStreams
    const { close, value } = yield* T.scoped(NatsPublisher.make(fake.connection, streams, settings))
    const publish = (...aggregates: ReadonlyArray<string>) =>
      Effect.map(
        value(
          { name: "orders", kind: "envelope" },
          aggregates.map((aggregate, n) => T.message(n, aggregate)),
          { timeout: Duration.minutes(1) }
        ),
        (results) => results.map(inWords)
      )
    return { close, fake, publish }
  })

  it.scoped("does not wait for what nobody waits for any more, and sends nothing of it", () =>
    Effect.gen(function*() {
      const { close, fake, publish } = yield* publisher
      // One is sent, the other one waits for it.
      const sent = yield* Effect.fork(publish("a"))
      yield* turn
      const waiting = yield* Effect.fork(publish("a", "a"))
      yield* turn
      fake.isUp = false
      yield* Fiber.interruptAll([sent, waiting])
      // The clock stands still: this would wait for ever.
      yield* close
      reconnect(fake)
      assert.lengthOf(fake.sent, 1)
      assert.strictEqual(fake.listeners.size, 0)
    }))

  it.scoped("fails at once what was not sent, as unwritten", () =>
    Effect.gen(function*() {
      const { close, fake, publish } = yield* publisher
      fake.isUp = false
      const waiting = yield* Effect.fork(publish("a", "a", "b"))
      yield* turn
      yield* close
      assert.deepStrictEqual(yield* Fiber.join(waiting), [closed, closed, closed])
      assert.lengthOf(fake.sent, 0)
    }))

  it.scoped("waits no longer than the close timeout for what was sent and somebody waits for, which fails as unknown", () =>
    Effect.gen(function*() {
      const { close, fake, publish } = yield* publisher
      const first = yield* Effect.fork(publish("a"))
      yield* turn
      const behind = yield* Effect.fork(publish("a"))
      yield* turn
      fake.isUp = false
      const closing = yield* Effect.fork(close)
      yield* TestClock.adjust(settings.closeTimeout - 1)
      assert.isNull(closing.unsafePoll())
      yield* TestClock.adjust(1)
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* Fiber.join(first), ["Unreachable, unknown: the transport was closed"])
      assert.deepStrictEqual(yield* Fiber.join(behind), [closed])
      assert.lengthOf(fake.sent, 1)
    }))

  it.scoped("sends again what somebody waits for, and is done as soon as it is acknowledged, where the connection comes back", () =>
    Effect.gen(function*() {
      const { close, fake, publish } = yield* publisher
      const first = yield* Effect.fork(publish("a"))
      yield* turn
      fake.isUp = false
      const closing = yield* Effect.fork(close)
      yield* turn
      reconnect(fake)
      assert.lengthOf(fake.sent, 2)
      fake.answer(fake.sent[1]!.reply, { stream: "orders", seq: 3 })
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* Fiber.join(first), [3])
    }))
})
