import type { Headers } from "@effect-eventbus/core"
import { EventBus, EventBusConfig, FailurePolicy, Topic } from "@effect-eventbus/core"
import { assert, describe, it } from "@effect/vitest"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { Effect, Either, Layer, Logger, LogLevel, Schema } from "effect"
import { connect } from "node:net"
import { inject } from "vitest"
import { Expected, type NatsConfig, NatsTransport, Subject } from "../src/index.js"
import * as T from "./fixture.js"

const servers = inject("natsServers")

const Order = Schema.Struct({ n: Schema.Int })
const orders = (name = T.topic().name) => Topic.envelope(name, Order, { eventType: () => "Order" })

const withBus = <A, E>(
  options: NatsConfig.Options,
  program: Effect.Effect<A, E, EventBus.EventBus | import("effect").Scope.Scope>
) =>
  Effect.runPromise(
    Effect.scoped(program).pipe(
      Effect.provide(EventBus.layer.pipe(
        Layer.provide(NatsTransport.layer({ servers, ...options })),
        Layer.provide(EventBusConfig.layer({ retryBase: "1 millis", retryCap: "5 millis", restartBase: "1 millis" }))
      )),
      Logger.withMinimumLogLevel(process.env["LOGS"] === undefined ? LogLevel.None : LogLevel.Debug)
    )
  )

it("a stream that is made, and a group that is joined, are one line of the log each", () => {
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    if (logLevel.label === "INFO") lines.push(String(message))
  })
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    yield* bus.subscribe(orders(), () => Effect.void, { onExhausted: FailurePolicy.drop })
    assert.deepStrictEqual(lines.filter((line) => !line.includes("bucket")), [
      "Created a JetStream stream",
      "Joined the group"
    ])
  }).pipe(
    Effect.scoped,
    Effect.provide(EventBus.layer.pipe(Layer.provide(NatsTransport.layer({ servers, partitions: 4 })))),
    Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
    Effect.runPromise
  )
})

describe("A pattern, through the bus", () => {
  it("is refused where it covers the topic of its dead letters, with partitions or without", () =>
    withBus(
      {},
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const base = T.topic().name
        const subscribe = (pattern: string, dead: ReturnType<typeof orders>) =>
          Effect.either(Effect.scoped(
            bus.subscribe(orders(`${base}.${pattern}`), () => Effect.void, {
              onExhausted: FailurePolicy.deadLetter(dead)
            })
          ))
        const dead = orders(`${base}.orders.dead`)
        const partitioned = Topic.envelope(`${base}.orders.dead`, Order, { eventType: () => "Order", partitions: 2 })
        for (const [pattern, topic] of [["orders.>", dead], ["*.dead", dead], ["orders.>", partitioned]] as const) {
          const error = Either.getOrThrow(Either.flip(yield* subscribe(pattern, topic)))
          assert.strictEqual(error._tag, "InvalidConfiguration")
          assert.include(error.message, dead.name)
        }
        for (const [pattern, topic] of [["others.>", dead], ["orders.*", partitioned]] as const) {
          assert.isTrue(Either.isRight(yield* subscribe(pattern, topic)))
        }
      })
    ))
})

describe("Expected last sequences, through the bus", () => {
  it("reach the server: the right one is written, a wrong one is a typed error", () =>
    withBus(
      {},
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = orders()
        const publish = (n: number, headers: Record<string, string>) =>
          bus.publish(topic, { aggregateId: "order-1", eventId: `e-${n}`, payload: { n }, headers })
        const wrong = (n: number, headers: Record<string, string>) =>
          Effect.map(Effect.flip(publish(n, headers)), (error) => {
            assert.include(error, { _tag: "PublishFailed", reason: "WrongLastSequence", outcome: "not-written" })
            assert.isFalse(error.isRetryable)
            return error.message
          })
        const first = yield* publish(0, { ...Expected.lastSubjectSequence(0) } as Record<string, string>)
        assert.include(
          yield* wrong(1, Expected.lastSubjectSequence(0) as Record<string, string>),
          "wrong last sequence"
        )
        const second = yield* publish(1, Expected.lastSubjectSequence(first.offset) as Record<string, string>)
        // However they are written.
        yield* wrong(2, { "nats-expected-last-sequence": String(first.offset) })
        const third = yield* publish(2, Expected.lastSequence(second.offset) as Record<string, string>)
        yield* wrong(3, Expected.lastEvent(topic.name, "e-1") as Record<string, string>)
        const fourth = yield* publish(3, Expected.lastEvent(topic.name, "e-2") as Record<string, string>)
        assert.deepStrictEqual([first, second, third, fourth].map(({ offset }) => offset), [1, 2, 3, 4])
        const garbled = yield* Effect.flip(publish(4, { "Nats-Expected-Last-Sequence": "four" }))
        assert.strictEqual(garbled._tag, "InvalidMessage")
      })
    ))

  it("of a topic with partitions the last event is named by its aggregate's subject", () =>
    withBus(
      {},
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const { name } = T.topic()
        const topic = Topic.envelope(name, Order, { eventType: () => "Order", partitions: 4 })
        const publish = (n: number, headers?: Record<string, string>) =>
          bus.publish(topic, { aggregateId: `order-${n}`, eventId: `e-${n}`, payload: { n }, headers })
        const first = yield* publish(0)
        const subject = Subject.ofAggregate(name, first.partition, "order-0")
        const second = yield* publish(1, Expected.lastEvent(subject, "e-0") as Record<string, string>)
        assert.strictEqual(second.offset, 2)
        const error = yield* Effect.flip(publish(2, Expected.lastEvent(subject, "e-0") as Record<string, string>))
        assert.include(error, { _tag: "PublishFailed", reason: "WrongLastSequence" })
      })
    ))

  it("are not seen by readers, so that a dead letter expects nothing", () =>
    withBus(
      {},
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const [topic, dead] = [orders(), orders()]
        const letters: Array<ReadonlyArray<string>> = []
        yield* bus.subscribe(topic, () => Effect.fail("poison"), { onExhausted: FailurePolicy.deadLetter(dead) })
        yield* bus.subscribe(dead, (_, delivery) => Effect.sync(() => letters.push(Object.keys(delivery.headers))), {
          onExhausted: FailurePolicy.drop
        })
        for (const n of [0, 1]) {
          yield* bus.publish(topic, { aggregateId: "a", payload: { n }, headers: Expected.lastSubjectSequence(n) })
        }
        yield* T.waitUntil("both are dead letters", () => letters.length === 2)
        assert.isFalse(letters.flat().some((name) => /^Nats-Expected/i.test(name)))
      })
    ))
})

/** Lines of the protocol as somebody writes them who uses no client. */
const written = (lines: string) =>
  Effect.promise(() =>
    new Promise<void>((resolve, reject) => {
      const port = Number(servers[0]!.split(":")[1])
      const socket = connect(
        port,
        "127.0.0.1",
        () => socket.end(`CONNECT {"verbose":false,"headers":true}\r\n${lines}`)
      )
      socket.on("error", reject).on("close", () => resolve()).resume()
    })
  )

describe("A foreign message", () => {
  it("whose header names no client writes is dead-lettered all the same, and its followers go on", () =>
    withBus(
      {},
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const [topic, dead] = [orders(), orders()]
        const letters: Array<Headers.Headers> = []
        const handled: Array<number> = []
        yield* bus.subscribe(
          topic,
          ({ n }) => n === 0 ? Effect.fail("poison") : Effect.sync(() => handled.push(n)),
          { onExhausted: FailurePolicy.deadLetter(dead) }
        )
        yield* bus.subscribe(dead, (_, { headers }) => Effect.sync(() => letters.push(headers)), {
          onExhausted: FailurePolicy.drop
        })
        const block = "NATS/1.0\r\nFoo Bar: baz\r\n\r\n"
        const envelope =
          "{\"event_id\":\"e\",\"aggregate_id\":\"a\",\"event_type\":\"Order\",\"event_version\":1,\"timestamp\":\"2026-11-21T09:30:00Z\",\"payload\":{\"n\":0}}"
        yield* written(
          `HPUB ${topic.name} ${block.length} ${block.length + envelope.length}\r\n${block}${envelope}\r\n`
        )
        yield* T.waitUntil("it is a dead letter", () => letters.length === 1)
        yield* bus.publish(topic, { aggregateId: "a", payload: { n: 1 } })
        yield* T.waitUntil("its follower is handled", () => handled.length === 1)
        assert.strictEqual(letters[0]!["X-Dead-Letter-Headers"], "[[\"Foo Bar\",\"baz\"]]")
      })
    ))
})

describe.each(["file", "memory"] as const)("Failing handlers, storage %s", (storage) => {
  it("envelopes come again, cost their retries and no more, and end in a stream of their own; plain ones never", () =>
    withBus(
      { storage, plainStorage: storage },
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const [topic, dead, plain] = [orders(), orders(), Topic.plain(T.topic("plain").name)]
        const attempts = new Map<number, number>()
        const handled: Array<number> = []
        const letters: Array<string> = []
        const seen: Array<string> = []
        const subscription = yield* bus.subscribe(
          topic,
          ({ n }) =>
            Effect.suspend(() => {
              const attempt = (attempts.get(n) ?? 0) + 1
              attempts.set(n, attempt)
              // The first is poison; the second fails twice.
              if (n === 0 || n === 1 && attempt < 3) return Effect.fail("broken")
              return Effect.sync(() => handled.push(n))
            }),
          { onExhausted: FailurePolicy.deadLetter(dead) }
        )
        yield* bus.subscribe(
          dead,
          (_, delivery) => Effect.sync(() => letters.push(String(delivery.headers["X-Dead-Letter-Topic"]))),
          { onExhausted: FailurePolicy.drop }
        )
        const failing = yield* bus.subscribe(plain, (body) => {
          seen.push(new TextDecoder().decode(body))
          return Effect.fail("broken")
        })
        yield* bus.publishAll(topic, T.range(0, 5).map((n) => ({ aggregateId: "order-1", payload: { n } })))
        yield* bus.publishAll(plain, T.range(0, 20).map((n) => ({ body: String(n), key: "k" })))
        yield* T.waitUntil("all have ended", () => handled.length === 4 && letters.length === 1 && seen.length === 20)
        yield* T.waitUntil(
          "the failures are counted",
          async () => (await Effect.runPromise(failing.stats)).failed === 20
        )
        assert.deepStrictEqual(handled, [1, 2, 3, 4])
        assert.deepStrictEqual([...attempts.values()], [9, 3, 1, 1, 1])
        assert.deepStrictEqual(letters, [topic.name])
        yield* subscription.close
        yield* failing.close
        const nc = yield* T.client(servers)
        const jsm = yield* Effect.promise(() => nc.jetstreamManager())
        for (const { name } of [topic, plain]) {
          const stream = yield* Effect.promise(() => jsm.streams.info(Subject.toStream(name)))
          assert.strictEqual(stream.config.storage, storage)
          const info = yield* T.consumerInfo(nc, Subject.toStream(name), `group@${Subject.toStream(name)}`)
          assert.deepStrictEqual([info.num_ack_pending, info.num_pending, info.num_redelivered], [0, 0, 0])
        }
        // Again from a new start: nothing is left of either.
        yield* bus.subscribe(plain, (body) => Effect.sync(() => seen.push(new TextDecoder().decode(body))))
        yield* bus.publish(plain, { body: "last" })
        yield* T.waitUntil("the last one came", () => seen.includes("last"))
        assert.lengthOf(seen, 21)
      })
    ))
})

describe("Wildcards, through the bus", () => {
  it("the order of an aggregate holds over the topics of a pattern, and failures say the topic", () => {
    const base = T.topic().name
    return withBus(
      { sharedStreams: [`${base}.>`] },
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const handled: Array<string> = []
        const failed: Array<string> = []
        yield* bus.subscribe(
          orders(`${base}.>`),
          ({ n }, delivery) =>
            n === 2 ? Effect.fail("no") : Effect.sync(() => handled.push(`${delivery.topic.slice(base.length)} ${n}`)),
          {
            onExhausted: FailurePolicy.drop,
            onFailure: (failure) => Effect.sync(() => failed.push(failure.position.topic.slice(base.length)))
          }
        )
        for (const n of T.range(0, 5)) {
          const name = n % 2 === 0 ? "created" : "eu.shipped"
          yield* bus.publish(orders(`${base}.${name}`), { aggregateId: "order-1", payload: { n } })
        }
        yield* T.waitUntil("all have ended", () => handled.length === 4)
        assert.deepStrictEqual(handled, [".created 0", ".eu.shipped 1", ".eu.shipped 3", ".created 4"])
        assert.deepStrictEqual(failed, [".created"])
      })
    )
  })
})
