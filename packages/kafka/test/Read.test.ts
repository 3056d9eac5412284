import type { Transport } from "@effect-eventbus/core"
import { EventBus, FailurePolicy, Topic } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { it } from "@effect/vitest"
import { Chunk, Effect, Layer, Schema, Stream } from "effect"
import kafkajs from "kafkajs"
import { describe, expect } from "vitest"
import { driverName } from "./driver.js"
import {
  committed,
  eventually,
  kafka,
  message,
  numbered,
  published,
  shared,
  spec,
  text,
  topicName,
  transport,
  withAdmin
} from "./Harness.js"

/** All that a read brings, by partition. */
const readAll = (
  service: Transport.Service,
  request: Partial<Transport.ReadRequest> & { topic: Transport.TopicSpec }
) =>
  Effect.gen(function*() {
    const partitions = yield* service.read!({ from: "earliest", to: "now", ...request })
    return yield* Effect.forEach(partitions, ({ from, messages, partition, to }) =>
      Effect.map(
        Stream.runCollect(messages),
        (read) => ({ partition, from, to, messages: Chunk.toReadonlyArray(read) })
      ))
  }).pipe(Effect.scoped)

const offsetsOf = ({ messages }: { readonly messages: ReadonlyArray<Transport.IncomingMessage> }) =>
  messages.map(({ offset }) => offset)

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

describe("a bounded read", () => {
  it.scopedLive(
    "brings all of every partition in order, over many fetches, and nothing that is published after it began",
    () =>
      Effect.gen(function*() {
        const service = yield* transport({ fetchPartitionBytes: 4_096 })
        const topic = spec(topicName(), 3)
        yield* published(service, topic, numbered(3_000, (i) => `a${i % 30}`))
        yield* published(service, topic, [message("a0", "x".repeat(20_000))])
        const partitions = yield* service.read!({ topic, from: "earliest", to: "now" })
        yield* published(service, topic, numbered(100, (i) => `a${i % 30}`))
        expect(partitions.reduce((sum, { from, to }) => sum + to - from, 0)).toBe(3_001)
        for (const { messages, partition, to } of partitions) {
          const read = Chunk.toReadonlyArray(yield* Stream.runCollect(messages))
          expect(read.map(({ offset }) => offset)).toEqual(range(0, to))
          expect(read.every((one) => one.partition === partition && one.maybeDuplicate)).toBe(true)
        }
      }),
    30_000
  )

  it.scopedLive("begins and ends at offsets and times, within what there is", () =>
    Effect.gen(function*() {
      const service = yield* transport()
      const topic = spec(topicName(), 2)
      const at = (i: number) => message(undefined, String(i), { timestamp: 1_000_000 + i * 1_000 })
      for (let i = 0; i < 20; i++) yield* published(service, topic, [at(i)])
      const read = (from: Transport.ReadFrom, to: Transport.ReadTo) =>
        Effect.map(readAll(service, { topic, from, to }), (partitions) => partitions.map(offsetsOf))
      expect(yield* read("earliest", "now")).toEqual([range(0, 10), range(0, 10)])
      expect(yield* read({ offsets: { 0: 4 } }, { offsets: { 0: 7, 1: 2 } })).toEqual([range(4, 7), range(0, 2)])
      expect(yield* read({ offsets: { 0: 99, 1: 9 } }, { offsets: { 1: 99 } })).toEqual([[], [9]])
      expect(yield* read({ offsets: { 0: 5, 1: 5 } }, { offsets: { 0: 2, 1: 5 } })).toEqual([[], []])
      const time = (i: number) => ({ time: new Date(1_000_000 + i * 1_000) })
      const between = yield* readAll(service, { topic, from: time(5), to: time(11) })
      expect(between.flatMap(({ messages }) => messages.map(({ value }) => Number(text(value)))).sort((a, b) => a - b))
        .toEqual(range(5, 11))
      expect(yield* read(time(30), "now")).toEqual([[], []])
    }), 30_000)

  it.scopedLive(
    "ends where the last offsets are no messages, where a transaction is open, and where there is nothing",
    () =>
      Effect.gen(function*() {
        const service = yield* transport()
        const topic = spec()
        expect((yield* readAll(service, { topic })).map(offsetsOf)).toEqual([[]])
        yield* published(service, topic, numbered(1))
        const transactional = (id: string) =>
          kafka().producer({
            transactionalId: id,
            maxInFlightRequests: 1,
            idempotent: true,
            createPartitioner: kafkajs.Partitioners.DefaultPartitioner
          })
        const producer = transactional(topic.name)
        const open = yield* Effect.promise(async () => {
          await producer.connect()
          for (const commit of [true, false]) {
            const transaction = await producer.transaction()
            await transaction.send({ topic: topic.name, messages: [{ key: "a", value: String(commit) }] })
            await (commit ? transaction.commit() : transaction.abort())
          }
          return await producer.transaction()
        })
        // A message, one that is committed and its marker, one that is aborted and its marker, which the broker
        // writes after it has answered.
        let [closed] = yield* readAll(service, { topic })
        for (let i = 0; i < 200 && closed!.to < 5; i++) {
          yield* Effect.sleep("25 millis")
          ;[closed] = yield* readAll(service, { topic })
        }
        expect(closed).toMatchObject({ from: 0, to: 5 })
        expect(offsetsOf(closed!)).toEqual([0, 1])
        yield* Effect.promise(() => open.send({ topic: topic.name, messages: [{ key: "a", value: "open" }] }))
        const [during] = yield* readAll(service, { topic })
        expect(during).toMatchObject({ from: 0, to: 5 })
        yield* Effect.promise(async () => {
          await open.abort()
          await producer.disconnect()
        })
        // Only what is no message is between these.
        const offsets = { 0: 2 }
        expect((yield* readAll(service, { topic, from: { offsets } })).map(offsetsOf)).toEqual([[]])
      }),
    30_000
  )

  it.scopedLive("begins with what retention has left", () =>
    Effect.gen(function*() {
      const service = yield* transport()
      const topic = spec()
      const retain = (offset: string) =>
        withAdmin(async (admin) => {
          await admin.fetchTopicOffsets(topic.name)
          await admin.deleteTopicRecords({ topic: topic.name, partitions: [{ partition: 0, offset }] })
        })
      yield* published(service, topic, numbered(10))
      yield* retain("6")
      expect((yield* readAll(service, { topic })).map(offsetsOf)).toEqual([range(6, 10)])
      // Also where it goes on while it is read.
      yield* published(service, topic, numbered(10))
      const [partition] = yield* service.read!({ topic, from: { offsets: { 0: 7 } }, to: "now" })
      yield* retain("15")
      const read = Chunk.toReadonlyArray(yield* Stream.runCollect(partition!.messages))
      expect(read.map(({ offset }) => offset)).toEqual(range(15, 20))
    }), 30_000)

  it.scopedLive("of a topic that is not there, or is made anew meanwhile, fails typed", () =>
    Effect.gen(function*() {
      const strict = yield* transport({ topics: "skip" })
      expect(yield* Effect.flip(readAll(strict, { topic: spec() }))).toMatchObject({ _tag: "UnknownTopic" })
      const topic = spec()
      yield* published(yield* transport(), topic, numbered(10))
      const [partition] = yield* strict.read!({ topic, from: { offsets: { 0: 5 } }, to: "now" })
      yield* withAdmin(async (admin) => {
        await admin.deleteTopics({ topics: [topic.name] })
        await admin.createTopics({ topics: [{ topic: topic.name, numPartitions: 1 }] })
      })
      const failed = yield* Effect.flip(Stream.runCollect(partition!.messages))
      expect(failed).toMatchObject({ _tag: "ReadFailed", topic: topic.name, partition: 0 })
    }), 30_000)
})

class Event extends Schema.TaggedClass<Event>()("Event", { n: Schema.Number }) {}

describe("bus.replay", () => {
  it.scopedLive("replays a topic and one aggregate of it while a subscription of the topic goes on", () => {
    const topic = Topic.envelope(topicName(), Event, { partitions: 3 })
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const event = (i: number) => ({ aggregateId: `a${i % 7}`, payload: new Event({ n: Math.floor(i / 7) }) })
      const handled = new Map<string, Array<number>>()
      const note = (into: Map<string, Array<number>>) => ({ n }: Event, { aggregateId }: { aggregateId: string }) =>
        Effect.sync(() => void into.set(aggregateId, [...into.get(aggregateId) ?? [], n]))
      const subscription = yield* bus.subscribe(topic, note(handled), { onExhausted: FailurePolicy.drop })
      yield* bus.publishAll(topic, Array.from({ length: 700 }, (_, i) => event(i)))
      const replayed = new Map<string, Array<number>>()
      expect(yield* bus.replay(topic, note(replayed))).toEqual({
        read: 700,
        handled: 700,
        skipped: 0,
        undecodable: 0,
        unknownType: 0,
        tombstones: 0
      })
      expect(replayed.size).toBe(7)
      for (const one of replayed.values()) expect(one).toEqual(range(0, 100))
      const one = new Map<string, Array<number>>()
      expect(yield* bus.replay(topic, note(one), { aggregateId: "a3" })).toMatchObject({ handled: 100, skipped: 600 })
      expect([...one]).toEqual([["a3", range(0, 100)]])
      yield* bus.publishAll(topic, Array.from({ length: 70 }, (_, i) => event(700 + i)))
      yield* eventually(
        "the subscription has handled all",
        () => [...handled.values()].reduce((sum, { length }) => sum + length, 0) >= 770
      )
      for (const one of handled.values()) expect(one).toEqual(range(0, 110))
      yield* subscription.close
      // The group of a replay is nowhere on the broker.
      const groups = yield* withAdmin((admin) => admin.listGroups())
      expect(groups.groups.some(({ groupId }) => groupId.startsWith("replay"))).toBe(false)
      const ends = yield* Effect.forEach([0, 1, 2], (partition) => committed(topic.name, partition, "group"))
      expect(ends.reduce((sum, { offset }) => sum + offset, 0)).toBe(770)
    }).pipe(
      Effect.provide(
        EventBus.layer.pipe(Layer.provide(KafkaTransport.layer({ brokers: shared(), driver: driverName })))
      )
    )
  }, 30_000)
})
