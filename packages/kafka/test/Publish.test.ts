import { Partitioner } from "@effect-eventbus/core"
import { it } from "@effect/vitest"
import { Chunk, Duration, Effect, Either, Fiber, Stream } from "effect"
import kafkajs from "kafkajs"
import { describe, expect } from "vitest"
import {
  eventually,
  finishing,
  kafka,
  message,
  numbered,
  published,
  request,
  shared,
  spec,
  text,
  topicName,
  transport,
  withAdmin
} from "./Harness.js"

/** Everything in a topic, as kafkajs's own consumer reads it. */
const readAll = (topic: string, count: number) =>
  Stream.async<kafkajs.EachMessagePayload>((emit) => {
    const consumer = kafka().consumer({ groupId: topicName() })
    void (async () => {
      await consumer.connect()
      await consumer.subscribe({ topic, fromBeginning: true })
      await consumer.run({ eachMessage: (payload) => emit(Effect.succeed(Chunk.of(payload))).then(() => undefined) })
    })()
    return Effect.promise(() => consumer.disconnect())
  }).pipe(Stream.take(count), Stream.runCollect, Effect.timeout("20 seconds"), Effect.map(Chunk.toReadonlyArray))

const createTopic = (topic: string, config: Record<string, string>, numPartitions = 1) =>
  withAdmin((admin) =>
    admin.createTopics({
      topics: [{
        topic,
        numPartitions,
        configEntries: Object.entries(config).map(([name, value]) => ({ name, value }))
      }]
    })
  )

describe("publishing", () => {
  it.scopedLive(
    "receipts say where each message is, and another client reads key, bytes, headers and timestamp there",
    () =>
      Effect.gen(function*() {
        const service = yield* transport()
        const topic = spec(topicName(), 3)
        const receipts = yield* published(service, topic, [
          message("order-1", "one", { headers: { "x-a": "b", "x-bin": Uint8Array.of(0, 255), many: ["1", "2"] } }),
          message("order-1", null, { timestamp: 1_700_000_000_000 }),
          message("ignored", "three", { key: Uint8Array.of(1, 2, 254) }),
          message("order-1", new Uint8Array(0))
        ])
        const found = yield* readAll(topic.name, 4)
        receipts.forEach((receipt, i) => {
          const there = found.find((one) =>
            one.partition === receipt.partition && Number(one.message.offset) === receipt.offset
          )!
          expect(there.message.key).toEqual(i === 2 ? Buffer.from([1, 2, 254]) : Buffer.from("order-1"))
          expect(there.message.value).toEqual([Buffer.from("one"), null, Buffer.from("three"), Buffer.alloc(0)][i])
          if (i === 0) {
            expect(there.message.headers).toEqual({
              "x-a": Buffer.from("b"),
              "x-bin": Buffer.from([0, 255]),
              many: [Buffer.from("1"), Buffer.from("2")]
            })
          }
          if (i === 1) expect(there.message.timestamp).toBe("1700000000000")
        })
        expect(receipts[0]!.partition).toBe(receipts[1]!.partition)
        expect(receipts[3]!.offset).toBe(receipts[1]!.offset + 1)
      }),
    30_000
  )

  it.scopedLive(
    "1,000 concurrent publishes are coalesced, each with its own result, in order per aggregate",
    () =>
      Effect.gen(function*() {
        const service = yield* transport()
        const topic = spec(topicName(), 4)
        const receipts = yield* Effect.forEach(
          Array.from({ length: 1_000 }, (_, i) => message(`agg-${i % 20}`, String(i))),
          (one) => Effect.map(published(service, topic, [one]), ([receipt]) => receipt!),
          { concurrency: "unbounded" }
        )
        expect(new Set(receipts.map(({ offset, partition }) => `${partition}/${offset}`)).size).toBe(1_000)
        for (let aggregate = 0; aggregate < 20; aggregate++) {
          const own = receipts.filter((_, i) => i % 20 === aggregate)
          expect(new Set(own.map(({ partition }) => partition)).size).toBe(1)
          own.forEach(({ offset }, i) => {
            if (i > 0) expect(offset).toBeGreaterThan(own[i - 1]!.offset)
          })
        }
      }),
    30_000
  )

  it.scopedLive(
    "the partition is the one of the topic's partitioner; without a key partitions take turns",
    () =>
      Effect.gen(function*() {
        const sarama = spec(topicName(), 7)
        const murmur = spec(topicName(), 7)
        const service = yield* transport({ topicPartitioners: { [sarama.name]: "sarama-fnv1a" } })
        const keys = Array.from({ length: 100 }, (_, i) => `key-${i}`)
        for (const [topic, partitioner] of [[sarama, "sarama-fnv1a"], [murmur, "murmur2"]] as const) {
          const receipts = yield* published(service, topic, keys.map((key) => message(key, key)))
          expect(receipts.map(({ partition }) => partition)).toEqual(
            keys.map((key) => Partitioner.partition(partitioner, Buffer.from(key), 7))
          )
        }
        const metadata = Array.from({ length: 7 }, (_, partitionId) => ({
          partitionId,
          partitionErrorCode: 0,
          leader: 1,
          replicas: [1],
          isr: [1]
        }))
        const theirs = kafkajs.Partitioners.DefaultPartitioner()
        const receipts = yield* published(service, murmur, keys.map((key) => message(key, key)))
        expect(receipts.map(({ partition }) => partition)).toEqual(
          keys.map((key) => theirs({ topic: murmur.name, partitionMetadata: metadata, message: { key, value: null } }))
        )
        const turns = yield* published(service, murmur, Array.from({ length: 70 }, () => message(undefined, "x")))
        const counts = new Map<number, number>()
        for (const { partition } of turns) counts.set(partition, (counts.get(partition) ?? 0) + 1)
        expect([...counts.values()]).toEqual([10, 10, 10, 10, 10, 10, 10])
      }),
    30_000
  )

  it.scopedLive(
    "a message over the limit is refused, by us or by the broker, and its batch mates are written in order",
    () =>
      Effect.gen(function*() {
        const service = yield* transport()
        const topic = spec()
        yield* createTopic(topic.name, { "max.message.bytes": "10000" })
        const results = yield* service.publish(topic, [
          message("a", "1"),
          message("a", new Uint8Array(2_000_000)),
          message("a", "2"),
          message("a", new Uint8Array(20_000)),
          message("a", new Uint8Array(6_000)),
          message("a", new Uint8Array(6_000)),
          message("a", "3")
        ], { timeout: Duration.seconds(10) })
        expect(results.map((result) => Either.isRight(result) ? result.right.offset : result.left._tag)).toEqual(
          [0, "MessageTooLarge", 1, "MessageTooLarge", 2, 3, 4]
        )
        const limits = results.flatMap((result) =>
          Either.isLeft(result) && result.left._tag === "MessageTooLarge" ? [result.left.limit] : []
        )
        expect(limits).toEqual([1_048_576, undefined])
        // The sequence of the producer goes on.
        expect((yield* published(service, topic, [message("a", "4")]))[0]!.offset).toBe(5)
      }),
    30_000
  )

  it.scopedLive(
    "the largest message that the capabilities promise passes, and a consumer gets it",
    () =>
      Effect.gen(function*() {
        const service = yield* transport()
        const topic = spec()
        const size = service.capabilities.maxMessageBytes
        yield* published(service, topic, [message("a", new Uint8Array(size)), message("a", "after")])
        const { all, consumer } = finishing()
        yield* service.subscribe(request(topic), consumer)
        yield* eventually("both arrive", () => all().length === 2)
        expect(all().map(({ value }) => value!.length)).toEqual([size, 5])
      }),
    30_000
  )

  it.scopedLive(
    "a topic that does not exist is a typed error where topics are not created",
    () =>
      Effect.gen(function*() {
        const service = yield* transport({ topics: "validate" })
        const [result] = yield* service.publish(spec(), [message("a", "1")], { timeout: Duration.seconds(5) })
        expect(result).toMatchObject({ _tag: "Left", left: { _tag: "UnknownTopic", transport: "kafka" } })
        const [invalid] = yield* (yield* transport()).publish(spec("no/such name"), [message("a", "1")], {
          timeout: Duration.seconds(5)
        })
        expect(invalid).toMatchObject({ _tag: "Left", left: { _tag: "InvalidConfiguration", topic: "no/such name" } })
      }),
    30_000
  )

  it.scopedLive(
    "a topic is created once, however many ask at once, and an existing one is left alone",
    () =>
      Effect.gen(function*() {
        const service = yield* transport({ partitions: 5 })
        const topic = { ...spec(), partitions: undefined }
        yield* Effect.forEach(Array.from({ length: 50 }), () => published(service, topic, [message("a", "x")]), {
          concurrency: "unbounded"
        })
        yield* published(yield* transport({ partitions: 9 }), topic, [message("a", "x")])
        const found = yield* withAdmin((admin) => admin.fetchTopicMetadata({ topics: [topic.name] }))
        expect(found.topics[0]!.partitions).toHaveLength(5)
      }),
    30_000
  )

  it.scopedLive("demanding another number of partitions than there are is a typed error", () =>
    Effect.gen(function*() {
      const topic = spec(topicName(), 2)
      yield* published(yield* transport(), topic, [message("a", "x")])
      const strict = yield* transport({ topics: "validate" })
      const [result] = yield* strict.publish({ ...topic, partitions: 3 }, [message("a", "x")], {
        timeout: Duration.seconds(5)
      })
      expect(result).toMatchObject({ _tag: "Left", left: { _tag: "InvalidConfiguration", topic: topic.name } })
      const error = yield* Effect.flip(strict.subscribe(request({ ...topic, partitions: 3 }), finishing().consumer))
      expect(error._tag).toBe("InvalidConfiguration")
    }), 30_000)

  it.scopedLive(
    "a full queue makes publishers wait, and nothing is lost or out of order",
    () =>
      Effect.gen(function*() {
        const service = yield* transport({ maxQueuedBytes: 20_000 })
        const topic = spec()
        const receipts = yield* Effect.forEach(
          Array.from({ length: 200 }, (_, i) => message("a", String(i).padEnd(1_000))),
          (one) => published(service, topic, [one]),
          { concurrency: "unbounded" }
        )
        expect(receipts.flat().map(({ offset }) => offset)).toEqual(Array.from({ length: 200 }, (_, i) => i))
      }),
    30_000
  )

  it.scopedLive("an interrupted publisher leaves the others alone", () =>
    Effect.gen(function*() {
      const service = yield* transport({ maxQueuedBytes: 20_000 })
      const topic = spec()
      yield* published(service, topic, [message("a", "first")])
      const fibers = yield* Effect.forEach(
        Array.from({ length: 300 }, (_, i) => message("a", String(i).padEnd(1_000))),
        (one) => Effect.fork(published(service, topic, [one]))
      )
      yield* Effect.yieldNow()
      yield* Fiber.interruptAll(fibers.filter((_, i) => i % 3 === 0))
      const offsets = (yield* Fiber.joinAll(fibers.filter((_, i) => i % 3 !== 0))).map(([receipt]) => receipt!.offset)
      expect(offsets).toHaveLength(200)
      offsets.forEach((offset, i) => i > 0 && expect(offset).toBeGreaterThan(offsets[i - 1]!))
      expect((yield* published(service, topic, [message("a", "last")]))[0]!.offset).toBeGreaterThan(offsets[199]!)
    }), 30_000)

  it.live("closing sends what is under way, and publishing after it is a typed error", () =>
    Effect.gen(function*() {
      const topic = spec()
      const { fibers, service } = yield* Effect.scoped(Effect.gen(function*() {
        const service = yield* transport()
        yield* published(service, topic, [message("a", "first")])
        const fibers = yield* Effect.forEach(
          numbered(500),
          (one) => Effect.forkDaemon(published(service, topic, [one]))
        )
        yield* Effect.yieldNow()
        return { service, fibers }
      }))
      const receipts = yield* Fiber.joinAll(fibers)
      expect(receipts.flat().map(({ offset }) => offset)).toEqual(Array.from({ length: 500 }, (_, i) => i + 1))
      const [result] = yield* service.publish(topic, [message("a", "x")], { timeout: Duration.seconds(1) })
      expect(result).toMatchObject({ _tag: "Left", left: { _tag: "BusClosed" } })
    }), 30_000)

  it.live("an address where nobody answers is a typed error, soon", () =>
    Effect.gen(function*() {
      const started = Date.now()
      const error = yield* Effect.flip(Effect.scoped(transport({ brokers: ["127.0.0.1:1", "127.0.0.1:2"] })))
      expect(error).toMatchObject({ _tag: "BrokerUnreachable", addresses: ["127.0.0.1:1", "127.0.0.1:2"] })
      expect(error.message).toMatch(
        /^No kafka broker answers at 127\.0\.0\.1:1, 127\.0\.0\.1:2: Connection: connect ECONNREFUSED 127\.0\.0\.1:[12]$/
      )
      expect(Date.now() - started).toBeLessThan(3_000)
      // One that answers is enough.
      yield* Effect.scoped(transport({ brokers: ["127.0.0.1:1", ...shared()] }))
    }), 30_000)

  it.scopedLive("what kafkajs compressed is read", () =>
    Effect.gen(function*() {
      const topic = spec()
      yield* createTopic(topic.name, {})
      yield* Effect.promise(async () => {
        const producer = kafka().producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner })
        await producer.connect()
        await producer.send({
          topic: topic.name,
          compression: kafkajs.CompressionTypes.GZIP,
          messages: Array.from({ length: 100 }, (_, i) => ({ key: "a", value: `value-${i}` }))
        })
        await producer.disconnect()
      })
      const { all, consumer } = finishing()
      const service = yield* transport()
      yield* service.subscribe(request(topic), consumer)
      yield* eventually("all arrive", () => all().length === 100)
      expect(all().map(({ value }) => text(value))).toEqual(Array.from({ length: 100 }, (_, i) => `value-${i}`))
    }), 30_000)
})
