/** The store on a real broker. Its laws are in the conformance suite; here is what is Kafka's own. */
import type { Transport } from "@effect-eventbus/core"
import { KafkaStore } from "@effect-eventbus/kafka"
import { it } from "@effect/vitest"
import { Chunk, Duration, Effect, Either, Stream } from "effect"
import { describe, expect } from "vitest"
import * as Client from "../src/internal/Client.js"
import { driver } from "./driver.js"
import { message, published, shared, spec, text, topicName, transport, withAdmin } from "./Harness.js"

const timeout = Duration.seconds(15)

const requestOf = (name = topicName(), partitions = 2) => ({
  topic: spec(name, partitions),
  group: "owners",
  name: "letters"
})
type Request = ReturnType<typeof requestOf>
const nameOf = ({ group, name, topic }: Request) => KafkaStore.topicOf({ topic: topic.name, group, name })

const change = (key: string, value: string | null): Transport.StoreChange => ({
  key,
  value: value === null ? null : Buffer.from(value)
})
const written = (store: Transport.Store, partition: number, ...changes: ReadonlyArray<Transport.StoreChange>) =>
  Effect.flatMap(store.write(partition, changes, { timeout }), Either.all)
const read = (store: Transport.Store, partition: number, after?: number) =>
  Effect.map(
    Stream.runCollect(store.read(partition, { after })),
    (entries) => Chunk.toReadonlyArray(entries).map(({ key, revision, value }) => `${revision} ${key}=${text(value)}`)
  )

const configOf = (topic: string) =>
  withAdmin(async (admin) => {
    const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type: 2, name: topic }] })
    return Object.fromEntries(
      resources[0]!.configEntries.map(({ configName, configValue }) => [configName, configValue])
    )
  })
const partitionsOf = (topic: string) =>
  withAdmin(async (admin) => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0]!.partitions.length)
const make = (topic: string, numPartitions: number, policy?: string) =>
  withAdmin((admin) =>
    admin.createTopics({
      topics: [{
        topic,
        numPartitions,
        configEntries: policy === undefined ? [] : [{ name: "cleanup.policy", value: policy }]
      }]
    })
  )

describe("the name of a store's topic", () => {
  it("is readable, allowed, and of one store only", () => {
    const orders = KafkaStore.topicOf({ topic: "orders", group: "billing", name: "parked" })
    expect(orders).toMatch(/^eventbus-store\.orders\.billing\.parked\.[0-9a-f]{24}$/)
    const parts = ["orders", "orders.", "", ".", "or.ders", "or_ders", "ü", "\ud800", "x".repeat(249), "x".repeat(300)]
    const names = new Set<string>()
    for (const topic of parts) {
      for (const group of parts) {
        for (const name of parts) {
          const found = KafkaStore.topicOf({ topic, group, name })
          expect(found).toMatch(/^[A-Za-z0-9._-]{1,249}$/)
          // Kafka does not tell dots from underscores here.
          names.add(found.replaceAll("_", "."))
        }
      }
    }
    expect(names.size).toBe(parts.length ** 3)
  })
})

describe("the topic of a store", () => {
  it.scopedLive("is compacted, and has the source's partitions and number of replicas in sync", () =>
    Effect.gen(function*() {
      const request = requestOf(undefined, 3)
      const name = nameOf(request)
      const service = yield* transport({
        topicDefaults: { retention: "1 hour", minInsyncReplicas: 1, config: { "max.message.bytes": "700000" } },
        topicSettings: { [name]: { config: { "segment.ms": "60000", "cleanup.policy": "delete" } } }
      })
      yield* service.store!(request)
      expect(yield* partitionsOf(name)).toBe(3)
      expect(yield* configOf(name)).toMatchObject({
        "cleanup.policy": "compact",
        "min.insync.replicas": "1",
        "max.message.bytes": "700000",
        "segment.ms": "60000",
        "segment.bytes": String(64 * 1024 * 1024)
      })
    }))

  it.scopedLive(
    "gets more partitions when the source has got more, also while it is open",
    () =>
      Effect.gen(function*() {
        const request = requestOf()
        const service = yield* transport()
        const store = yield* service.store!(request)
        yield* written(store, 1, change("a", "1"))
        const add = (count: number) =>
          withAdmin((admin) => admin.createPartitions({ topicPartitions: [{ topic: request.topic.name, count }] }))
        yield* add(4)
        expect(yield* written(store, 3, change("b", "1"))).toHaveLength(1)
        expect(yield* partitionsOf(nameOf(request))).toBe(4)
        expect(yield* read(store, 2)).toEqual([])
        yield* add(5)
        expect(yield* read(store, 4)).toEqual([])
        const later = yield* (yield* transport()).store!(request)
        expect(yield* read(later, 3)).toEqual(["0 b=1"])
        for (const partition of [5, -1, 0.5, NaN]) {
          const results = yield* store.write(partition, [change("a", "1")], { timeout })
          expect(results).toMatchObject([{ left: { _tag: "InvalidMessage" } }])
        }
        expect(yield* Effect.flip(read(store, -1))).toMatchObject({ _tag: "ReadFailed" })
      }),
    30_000
  )

  it.scopedLive("from which the broker deletes what is old is refused, with what to do", () =>
    Effect.gen(function*() {
      const service = yield* transport({ topics: "create-or-update" })
      for (const policy of ["delete", "compact,delete"]) {
        const request = requestOf()
        yield* make(nameOf(request), 2, policy)
        const error = yield* Effect.flip(service.store!(request))
        expect(error).toMatchObject({ _tag: "InvalidConfiguration", topic: nameOf(request) })
        expect(error.message).toMatch(/kafka-configs\.sh .* --add-config cleanup\.policy=compact/)
        // Nobody has changed it.
        expect((yield* configOf(nameOf(request)))["cleanup.policy"]).toBe(policy)
      }
    }))

  it.scopedLive(
    "is not made or grown where topics have to exist: the error says what to do by hand",
    () =>
      Effect.gen(function*() {
        const request = requestOf()
        const name = nameOf(request)
        yield* make(request.topic.name, 2)
        for (const topics of ["validate", "skip"] as const) {
          const strict = yield* transport({ topics })
          const missing = yield* Effect.flip(strict.store!(request))
          expect(missing).toMatchObject({ _tag: "UnknownTopic", topic: name })
          expect(missing.message).toContain(`--create --topic ${name} --partitions 2 --config cleanup.policy=compact`)
        }
        yield* make(name, 1, "compact")
        const strict = yield* transport({ topics: "validate" })
        const fewer = yield* Effect.flip(strict.store!(request))
        expect(fewer).toMatchObject({ _tag: "InvalidConfiguration", topic: name })
        expect(fewer.message).toContain("it has 1 partitions")
        expect(fewer.message).toContain(`--alter --topic ${name} --partitions 2`)
        yield* withAdmin((admin) => admin.createPartitions({ topicPartitions: [{ topic: name, count: 2 }] }))
        const store = yield* strict.store!(request)
        yield* written(store, 1, change("a", "1"))
        expect(yield* read(store, 1)).toEqual(["0 a=1"])
      }),
    30_000
  )

  it.scopedLive("many who open it at once make one", () =>
    Effect.gen(function*() {
      const request = requestOf()
      const services = yield* Effect.all([transport(), transport(), transport()])
      const stores = yield* Effect.forEach(
        [...services, ...services],
        (service) => service.store!(request),
        { concurrency: "unbounded" }
      )
      for (const store of stores) yield* written(store, 0, change("a", "1"))
      expect(yield* partitionsOf(nameOf(request))).toBe(2)
    }))
})

describe("the records of a store", () => {
  it.scopedLive("are in the partition that is asked for, with the change's key", () =>
    Effect.gen(function*() {
      const request = requestOf(undefined, 4)
      const service = yield* transport({ topicPartitioners: { [nameOf(request)]: "sarama-fnv1a" } })
      const store = yield* service.store!(request)
      yield* Effect.forEach([0, 1, 2, 3], (partition) => written(store, partition, change("same", `${partition}`)))
      yield* written(store, 2, change("same", null))
      const partitions = yield* service.read!({ topic: spec(nameOf(request), 4), from: "earliest", to: "now" })
      const found = yield* Effect.forEach(partitions, ({ messages }) => Stream.runCollect(messages))
      expect(found.map((all) => Chunk.toReadonlyArray(all).map(({ key, value }) => [text(key), value && text(value)])))
        .toEqual([[["same", "0"]], [["same", "1"]], [["same", "2"], ["same", null]], [["same", "3"]]])
    }))

  it.scopedLive("that are gone are gaps; a log that was cut below what was read is said", () =>
    Effect.gen(function*() {
      const request = requestOf()
      const service = yield* transport()
      const store = yield* service.store!(request)
      yield* written(store, 0, ...Array.from({ length: 10 }, (_, i) => change(`${i}`, "x")))
      // Kafka takes no records out of a compacted topic, save by compaction, which comes when it likes.
      const setPolicy = (value: string) =>
        withAdmin((admin) =>
          admin.alterConfigs({
            validateOnly: false,
            resources: [{ type: 2, name: nameOf(request), configEntries: [{ name: "cleanup.policy", value }] }]
          })
        )
      yield* setPolicy("delete")
      yield* withAdmin(async (admin) => {
        await admin.fetchTopicMetadata({ topics: [nameOf(request)] })
        await admin.fetchTopicOffsets(nameOf(request))
        await admin.deleteTopicRecords({ topic: nameOf(request), partitions: [{ partition: 0, offset: "7" }] })
      })
      yield* setPolicy("compact")
      expect(yield* read(store, 0)).toEqual(["7 7=x", "8 8=x", "9 9=x"])
      expect(yield* read(store, 0, 3)).toEqual(["7 7=x", "8 8=x", "9 9=x"])
      // What only says how far the log is confirmed is no change.
      expect(yield* written(store, 0, change("a", "1"))).toEqual([12])
      expect(yield* read(store, 0, 9)).toEqual(["12 a=1"])
      expect(yield* Effect.flip(read(store, 0, 1_000))).toMatchObject({ _tag: "ReadFailed", partition: 0 })
    }))

  it.scopedLive("can be read and written as long as the scope in which it was opened", () =>
    Effect.gen(function*() {
      const service = yield* transport()
      const store = yield* Effect.scoped(service.store!(requestOf()))
      expect(yield* store.write(0, [change("a", "1")], { timeout })).toMatchObject([{ left: { _tag: "BusClosed" } }])
      expect(yield* Effect.flip(read(store, 0))).toMatchObject({ _tag: "ReadFailed" })
    }))
})

/** It stands for a request that was stuck in the socket of a broker that stood still. */
it.scopedLive("a broker that has seen the next epoch of a producer refuses what still comes of the old one", () =>
  Effect.gen(function*() {
    const topic = spec()
    yield* published(yield* transport(), topic, [message("a", "0")])
    const client = yield* Client.make({
      driver,
      brokers: shared(),
      clientId: "test",
      connectionTimeoutMs: 5_000,
      requestTimeoutMs: 5_000,
      tls: undefined,
      sasl: undefined
    })
    const { topics } = yield* client.metadata([topic.name])
    const { leader } = topics[0]!.partitions[0]!
    const { producerId } = yield* client.call("any", "produce", "InitProducerId", {})
    const produce = (producerEpoch: number, firstSequence: number, value: string) =>
      Effect.map(
        client.call(leader, "produce", "Produce", {
          acks: -1,
          timeout: 5_000,
          compression: "none",
          codec: undefined,
          producerId,
          producerEpoch,
          topicData: [{
            topic: topic.name,
            partitions: [{
              partition: 0,
              firstSequence,
              messages: [{ key: Buffer.from("k"), value: Buffer.from(value), headers: {}, timestamp: 1 }]
            }]
          }]
        }),
        ({ topics }) => topics[0]!.partitions[0]!.errorCode
      )
    expect(yield* produce(0, 0, "1")).toBe(0)
    expect(yield* produce(1, 0, "3")).toBe(0)
    const INVALID_PRODUCER_EPOCH = 47
    expect(yield* produce(0, 1, "2")).toBe(INVALID_PRODUCER_EPOCH)
    expect(yield* produce(1, 1, "4")).toBe(0)
  }))
