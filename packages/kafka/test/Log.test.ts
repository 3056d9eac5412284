import type { Transport } from "@effect-eventbus/core"
import { EventBus, EventBusConfig, FailurePolicy, Topic } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { it } from "@effect/vitest"
import { Chunk, Context, Duration, Effect, Exit, Layer, Schema, Scope, Stream } from "effect"
import kafkajs from "kafkajs"
import { describe, expect } from "vitest"
import { driverName } from "./driver.js"
import {
  committed,
  eventually,
  finishing,
  kafka,
  makeConsumer,
  message,
  numbered,
  ownCluster,
  published,
  request,
  spec,
  throughout,
  topicName,
  transport,
  withAdmin
} from "./Harness.js"

describe("what happens to a log", () => {
  const cluster = ownCluster({
    config: {
      "log.cleaner.backoff.ms": "100",
      "log.cleaner.dedupe.buffer.size": "8388608",
      "file.delete.delay.ms": "500"
    }
  })

  const connect = (more = {}) =>
    transport({ brokers: cluster().bootstrap, metadataMaxAge: Duration.seconds(1), ...more })
  const admin = <A>(use: (admin: kafkajs.Admin) => Promise<A>) => withAdmin(use, cluster().bootstrap)
  const commitOf = (topic: string) =>
    Effect.map(committed(topic, 0, "tests", cluster().bootstrap), ({ offset }) => offset)
  const eventuallyCommitted = (topic: string, offset: number) =>
    Effect.gen(function*() {
      let last = -1
      for (let i = 0; i < 200 && last !== offset; i++) {
        last = yield* commitOf(topic)
        yield* Effect.sleep("25 millis")
      }
      expect(last).toBe(offset)
    })

  const compacted = (topic: string) =>
    admin((admin) =>
      admin.createTopics({
        topics: [{
          topic,
          numPartitions: 1,
          configEntries: [
            { name: "cleanup.policy", value: "compact" },
            { name: "segment.ms", value: "200" },
            { name: "min.cleanable.dirty.ratio", value: "0.01" },
            { name: "delete.retention.ms", value: "0" }
          ]
        }]
      })
    )

  /** What is left of a topic, as kafkajs's consumer reads it. */
  const size = (topic: string) =>
    Effect.promise(async () => {
      const consumer = kafka(cluster().bootstrap).consumer({ groupId: topicName(), maxWaitTimeInMs: 50 })
      let count = 0
      await consumer.connect()
      await consumer.subscribe({ topic, fromBeginning: true })
      const end = new Promise<void>((resolve) => {
        consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload: { highWatermark, lastOffset } }) =>
          Number(lastOffset) === Number(highWatermark) - 1 && resolve())
      })
      await consumer.run({
        eachBatchAutoResolve: true,
        eachBatch: ({ batch }) => {
          count += batch.messages.length
          return Promise.resolve()
        }
      })
      await Promise.race([
        end,
        new Promise((resolve) =>
          setTimeout(resolve, 20_000)
        )
      ])
      await consumer.disconnect()
      return count
    })

  it.scopedLive(
    "compaction: gaps and emptied batches are passed, from the beginning and from a commit that fell into a gap",
    () =>
      Effect.gen(function*() {
        const topic = spec()
        yield* compacted(topic.name)
        const service = yield* connect()
        // One that stands at offset 3, which will be compacted away.
        const first = makeConsumer({
          onTake: ({ assignment }, one) => one.offset < 3 && assignment.finish(one)
        })
        const own = yield* Scope.fork(yield* Effect.scope, { _tag: "Sequential" })
        yield* service.subscribe(request(topic), first.consumer).pipe(Scope.extend(own))
        // Batches of which nothing will be left, save the last.
        for (let round = 0; round < 10; round++) {
          yield* published(service, topic, numbered(40, (i) => `key-${i % 4}`))
          yield* Effect.sleep("60 millis")
        }
        yield* eventually("all arrive", () => first.all().length === 400)
        yield* Scope.close(own, Exit.void)
        expect(yield* commitOf(topic.name)).toBe(3)
        let left = 400
        // However late the broker's cleaner is.
        for (let i = 0; i < 80 && left > 100; i++) {
          // A segment is closed by what is written after its time.
          yield* published(service, topic, [message("tick", "tick"), message("tick", null)])
          yield* Effect.sleep("250 millis")
          left = yield* size(topic.name)
        }
        const end = Number((yield* admin((admin) => admin.fetchTopicOffsets(topic.name)))[0]!.high)
        console.log(`compacted: ${left} of ${end} offsets are left`)
        expect(left).toBeLessThanOrEqual(100)
        for (const [group, consumer] of [["tests", finishing()], ["anew", finishing()]] as const) {
          yield* service.subscribe(request(topic, { group }), consumer.consumer)
          yield* eventually("the last of each key arrives", () =>
            [36, 37, 38, 39].every((n) => consumer.values().includes(String(n))) && consumer.all().length >= 4)
          expect(
            new Set(
              consumer.all().map(({ offset }) =>
                offset
              )
            ).size
          ).toBe(consumer.all().length)
          yield* published(service, topic, [message("key-0", `last-${group}`)])
          yield* eventually("and it goes on", () => consumer.values().at(-1) === `last-${group}`)
        }
        yield* eventuallyCommitted(topic.name, end + 2)
        // A bounded read ends, too, and brings what is left.
        const [whole] = yield* service.read!({ topic, from: "earliest", to: "now" })
        expect(whole!.to).toBe(end + 2)
        const read = Chunk.toReadonlyArray(yield* Stream.runCollect(whole!.messages)).map(({ offset }) => offset)
        expect(read.at(-1)).toBe(end + 1)
        expect(read.length).toBeLessThanOrEqual(102)
        const offsets = { 0: 100 }
        const [gap] = yield* service.read!({ topic, from: { offsets: { 0: 20 } }, to: { offsets } })
        expect(yield* Stream.runCount(gap!.messages)).toBeLessThan(80)
      }),
    60_000
  )

  it.scopedLive(
    "transactions: nothing passes one that is open, what was aborted is not seen, and the commit passes the markers",
    () =>
      Effect.gen(function*() {
        const topic = spec()
        const service = yield* connect()
        yield* published(service, topic, numbered(1))
        const { consumer, values } = finishing()
        yield* service.subscribe(request(topic), consumer)
        const producers = yield* Effect.forEach(["a", "b"], (name) =>
          Effect.acquireRelease(
            Effect.promise(async () => {
              const producer = kafka(cluster().bootstrap).producer({
                transactionalId: `${topic.name}-${name}`,
                maxInFlightRequests: 1,
                idempotent: true,
                createPartitioner: kafkajs.Partitioners.DefaultPartitioner
              })
              await producer.connect()
              return producer
            }),
            (producer) => Effect.promise(() => producer.disconnect())
          ))
        const begin = (i: number) => Effect.promise(() => producers[i]!.transaction())
        const send = (transaction: kafkajs.Transaction, value: string) =>
          Effect.promise(() => transaction.send({ topic: topic.name, messages: [{ key: "a", value }] }))
        const open = yield* begin(0)
        yield* send(open, "open 1")
        const other = yield* begin(1)
        yield* send(other, "aborted 1")
        yield* send(open, "open 2")
        yield* Effect.promise(() => other.abort())
        yield* published(service, topic, [message("a", "behind")])
        yield* throughout("it waits for the open one", () => values().length <= 1, "500 millis")
        yield* Effect.promise(() => open.commit())
        yield* eventually("then all come in order", () => values().length === 4)
        expect(values()).toEqual(["0", "open 1", "open 2", "behind"])
        const last = yield* begin(1)
        yield* send(last, "aborted 2")
        yield* Effect.promise(() => last.abort())
        // 4 messages, 2 aborted, 3 markers; the last offsets are no message of ours.
        yield* eventuallyCommitted(topic.name, 9)
      }),
    60_000
  )

  const makeAgain = (topic: string, numPartitions: number) =>
    admin(async (admin) => {
      await admin.deleteTopics({ topics: [topic] })
      for (let i = 0; i < 100 && (await admin.listTopics()).includes(topic); i++) {
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
      await admin.createTopics({ topics: [{ topic, numPartitions }] })
    })

  for (const kind of ["shorter than", "longer than", "made while nothing was fetched, and longer than"] as const) {
    it.scopedLive(
      `a topic that is deleted and made again is read from its beginning: ${kind} before`,
      () =>
        Effect.gen(function*() {
          const topic = spec()
          const service = yield* connect()
          yield* published(service, topic, numbered(20))
          let isFull = false
          const { consumer, lanes, values } = makeConsumer({
            onTake: ({ assignment }, one) => assignment.finish(one),
            room: () => isFull ? 0 : Infinity
          })
          yield* service.subscribe(request(topic), consumer)
          yield* eventually("all arrive", () => values().length === 20)
          yield* eventuallyCommitted(topic.name, 20)
          if (kind.startsWith("made")) {
            isFull = true
            yield* published(service, topic, numbered(1))
          }
          const count = kind === "shorter than" ? 5 : 50
          yield* makeAgain(topic.name, 1)
          const other = yield* connect()
          const fresh = Array.from({ length: count }, (_, i) => `new ${i}`)
          yield* published(other, topic, fresh.map((value) => message("a", value)))
          isFull = false
          lanes[0]!.assignment.resume()
          yield* eventually("all new ones arrive", () => fresh.every((value) => values().includes(value)))
          expect(values().slice(values().indexOf("new 0"))).toEqual(fresh)
          yield* eventuallyCommitted(topic.name, count)
          // The producer that knew the old one goes on, too.
          yield* published(service, topic, [message("a", "same producer")])
          yield* eventually("it arrives", () => values().at(-1) === "same producer")
          expect(lanes.filter(({ isClosed }) => !isClosed)).toHaveLength(1)
        }),
      60_000
    )
  }

  it.scopedLive(
    "a replay of a topic that is made again with less in it ends with an error",
    () =>
      Effect.gen(function*() {
        const topic = spec()
        const service = yield* connect({ subscribeTimeout: Duration.seconds(5) })
        yield* published(service, topic, numbered(20))
        const [whole] = yield* service.read!({ topic, from: "earliest", to: "now" })
        yield* makeAgain(topic.name, 1)
        const read = yield* Effect.either(Effect.timeout(Stream.runDrain(whole!.messages), "15 seconds"))
        expect(read).toMatchObject({ _tag: "Left", left: { _tag: "ReadFailed" } })
      }),
    40_000
  )

  it.scopedLive(
    "a topic that is made again: what still runs of one partition does not keep the others waiting",
    () =>
      Effect.gen(function*() {
        const topic = spec(topicName(), 2)
        const service = yield* connect()
        const gate = yield* Effect.makeLatch()
        yield* published(service, topic, Array.from({ length: 10 }, (_, i) => message(undefined, String(i))))
        const { consumer, lanes, values } = makeConsumer({
          onTake: ({ assignment }, one) => assignment.finish(one),
          onClose: ({ assignment }) => assignment.partition === 0 ? gate.await : Effect.void
        })
        yield* service.subscribe(request(topic), consumer)
        // Also where this test fails.
        yield* Effect.addFinalizer(() => gate.open)
        yield* eventually("all arrive", () => values().length === 10)
        yield* makeAgain(topic.name, 2)
        const other = yield* connect()
        yield* published(other, topic, Array.from({ length: 10 }, (_, i) => message(undefined, `new ${i}`)))
        yield* eventually("those of the other partition arrive", () => values().length === 15)
        yield* published(other, topic, Array.from({ length: 10 }, (_, i) => message(undefined, `more ${i}`)))
        yield* eventually("and more of them", () => values().length === 20)
        expect(lanes.filter(({ assignment }) => assignment.partition === 0)).toHaveLength(1)
        yield* gate.open
        yield* eventually("then all", () => values().length === 30)
      }),
    30_000
  )

  it.scopedLive(
    "a partition does not begin once the group is lost again, while what ran of it before is still ending",
    () =>
      Effect.gen(function*() {
        const [node] = cluster().nodes
        const topic = spec()
        const sessionTimeout = Duration.seconds(3)
        const service = yield* connect({
          sessionTimeout,
          // The group is lost before any request is given up.
          requestTimeout: Duration.seconds(3),
          metadataMaxAge: Duration.millis(200)
        })
        const gate = yield* Effect.makeLatch()
        yield* published(service, topic, numbered(3))
        const { all, consumer, lanes, open } = makeConsumer({
          onTake: ({ assignment }, one) => assignment.finish(one),
          onClose: () => gate.await
        })
        yield* service.subscribe(request(topic, { drainDeadline: Duration.seconds(1) }), consumer)
        yield* Effect.addFinalizer(() => gate.open)
        yield* eventually("all arrive", () => all().length === 3)
        const suspended = Effect.acquireRelease(node!.suspend, () => Effect.orDie(node!.resume))
        yield* suspended
        yield* eventually("the group is lost", () => open().length === 0)
        yield* node!.resume
        // A reason to join again, and the sign that it has.
        yield* admin((admin) => admin.createPartitions({ topicPartitions: [{ topic: topic.name, count: 2 }] }))
        yield* eventually("it has joined again", () => open().length === 1)
        expect(open()[0]!.assignment.partition).toBe(1)
        yield* suspended
        const since = performance.now()
        yield* eventually("the session is over", () => performance.now() - since > Duration.toMillis(sessionTimeout))
        yield* gate.open
        yield* throughout("the partition does not begin", () => lanes.length === 2, "500 millis")
        yield* node!.resume
        yield* eventually("both begin when the group is back", () => open().length === 2)
        yield* published(service, topic, [message(undefined, "last"), message(undefined, "last")])
        yield* eventually("and go on", () => all().filter(({ value }) => String(value) === "last").length === 2)
      }),
    40_000
  )

  it.scopedLive(
    "a new group begins at a time, or at given offsets; one that has a position stays there",
    () =>
      Effect.gen(function*() {
        const topic = spec(topicName(), 2)
        const service = yield* connect()
        yield* published(
          service,
          topic,
          Array.from({ length: 20 }, (_, i) => message(undefined, String(i), { timestamp: 1_000_000 + i * 1_000 }))
        )
        const begun = (group: string, startFrom: Transport.StartFrom, count: number) =>
          Effect.scoped(Effect.gen(function*() {
            const { all, consumer, values } = finishing()
            yield* service.subscribe(request(topic, { group, startFrom }), consumer)
            yield* eventually(`${group} gets its messages`, () => all().length >= count)
            return values().map(Number).sort((a, b) => a - b)
          }))
        const after = { time: new Date(1_000_000 + 14_500) }
        expect(yield* begun("time", after, 5)).toEqual([15, 16, 17, 18, 19])
        // Partition 0 has the even ones.
        const offsets = { offsets: { 0: 8, 1: 1_000 } }
        expect(yield* begun("offsets", offsets, 2)).toEqual([16, 18])
        yield* published(service, topic, [message(undefined, "20"), message(undefined, "21")])
        expect(yield* begun("time", after, 2)).toEqual([20, 21])
        expect(yield* begun("offsets", offsets, 2)).toEqual([20, 21])
        expect(yield* begun("future", { time: new Date("2100-01-01") }, 0)).toEqual([])
      }),
    30_000
  )

  it.scopedLive(
    "partitions that are added are read from their beginning, also by who began at the latest",
    () =>
      Effect.gen(function*() {
        const topic = spec()
        const service = yield* connect()
        yield* published(service, topic, numbered(3))
        const { consumer, values } = finishing()
        yield* service.subscribe(request(topic, { startFrom: "latest" }), consumer)
        yield* admin((admin) => admin.createPartitions({ topicPartitions: [{ topic: topic.name, count: 3 }] }))
        const other = yield* connect()
        const added = Array.from({ length: 9 }, (_, i) => `added ${i}`)
        yield* published(other, topic, added.map((value) => message(undefined, value)))
        yield* eventually("all arrive", () => values().length >= 9)
        expect([...values()].sort()).toEqual(added)
      }),
    30_000
  )

  it.scopedLive(
    "a slow aggregate holds up none of 300 fast ones in its partition, up to the bound; then all go on",
    () =>
      Effect.gen(function*() {
        const Orders = Topic.envelope(topicName(), Schema.Struct({ n: Schema.Number }), {
          partitions: 1,
          eventType: () => "order"
        })
        const layer = EventBus.layer.pipe(
          Layer.provide(EventBusConfig.layer({ maxAboveWatermark: 3_000 })),
          Layer.provide(KafkaTransport.layer({ brokers: cluster().bootstrap, driver: driverName }))
        )
        const bus = Context.get(yield* Layer.build(layer), EventBus.EventBus)
        const handled: Array<{ readonly aggregate: string; readonly n: number; readonly at: number }> = []
        // It stands for one that takes 10 s, whatever else this machine is doing.
        const slow = yield* Effect.makeLatch()
        yield* bus.subscribe(Orders, ({ n }, { envelope }) =>
          Effect.gen(function*() {
            if (envelope.aggregateId === "slow") yield* slow.await
            handled.push({ aggregate: envelope.aggregateId, n, at: performance.now() })
          }), { onExhausted: FailurePolicy.drop })
        const started = performance.now()
        yield* bus.publish(Orders, { aggregateId: "slow", payload: { n: 0 } })
        yield* Effect.forEach(
          Array.from({ length: 6_000 }, (_, i) => i),
          (i) => bus.publish(Orders, { aggregateId: `fast-${i % 300}`, payload: { n: i } }),
          { concurrency: 500, discard: true }
        )
        yield* eventually("the fast ones reach the bound", () => handled.length === 2_999)
        const fast = performance.now() - started
        yield* throughout("and not more", () => handled.length === 2_999, "300 millis")
        yield* slow.open
        yield* eventually("all are handled", () => handled.length === 6_001)
        console.log(
          `slow aggregate: 2,999 fast ones in ${Math.round(fast)} ms (${Math.round(2_999_000 / fast)}/s) while it holds`
        )
        for (let key = 0; key < 300; key++) {
          const own = handled.filter(({ aggregate }) => aggregate === `fast-${key}`).map(({ n }) => n)
          expect(own).toEqual([...own].sort((a, b) => a - b))
          expect(own).toHaveLength(20)
        }
      }),
    60_000
  )
})
