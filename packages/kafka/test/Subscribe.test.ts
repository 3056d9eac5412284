import type { Transport } from "@effect-eventbus/core"
import { it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Scope } from "effect"
import kafkajs from "kafkajs"
import { describe, expect } from "vitest"
import type { Held } from "./Harness.js"
import {
  committed,
  eventually,
  eventuallyCommitted,
  finishing,
  kafka,
  makeConsumer,
  message,
  numbered,
  published,
  request,
  shared,
  spec,
  text,
  throughout,
  topicName,
  transport,
  withAdmin
} from "./Harness.js"

/** Finishes a message of a lane by its value. */
const finish = ({ assignment, taken }: Held, ...values: ReadonlyArray<number>) => {
  for (const value of values) assignment.finish(taken.find((one) => text(one.value) === String(value))!)
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => String(from + i))

/** A subscription that can be ended by itself. */
const subscribed = (
  service: Transport.Service,
  subscription: Transport.SubscribeRequest,
  consumer: Transport.Consumer
) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope, { _tag: "Sequential" })
    const source = yield* service.subscribe(subscription, consumer).pipe(Scope.extend(scope))
    return { source, end: Scope.close(scope, Exit.void) }
  })

describe("a subscription", () => {
  it.scopedLive("gets all messages of all partitions in order, as they were published", () =>
    Effect.gen(function*() {
      const service = yield* transport()
      const topic = spec(topicName(), 3)
      yield* published(service, topic, [
        message("a", "1", {
          headers: { "x-bin": Uint8Array.of(0, 255), many: ["1", "2"], text: "ü" },
          timestamp: 5_000
        }),
        message("a", null),
        message(undefined, "3")
      ])
      yield* published(service, topic, numbered(3_000, (i) => `agg-${i % 30}`))
      const { all, consumer, lanes } = finishing()
      yield* service.subscribe(request(topic), consumer)
      yield* eventually("all arrive", () => all().length === 3_003)
      expect(lanes.map(({ assignment }) => assignment.partition).sort()).toEqual([0, 1, 2])
      for (const { assignment, taken } of lanes) {
        expect(taken.map(({ offset }) => offset)).toEqual(taken.map((_, i) => i))
        expect(taken.every(({ partition, topic: name }) => partition === assignment.partition && name === topic.name))
          .toBe(true)
      }
      const [first, second] = all().filter(({ key, offset }) => text(key) === "a" && offset < 3)
      expect(first).toMatchObject({ timestamp: 5_000, maybeDuplicate: false, deliveryCount: undefined })
      expect({ ...first!.headers }).toEqual({
        "x-bin": Buffer.from([0, 255]),
        many: [Buffer.from("1"), Buffer.from("2")],
        text: Buffer.from("ü")
      })
      expect(second!.value).toBe(null)
      // No message keeps what it was fetched with: a small one keeps a part of Node's pool at most.
      for (const { value } of all()) {
        if (value !== null) expect(value.buffer.byteLength).toBeLessThanOrEqual(Buffer.poolSize)
      }
    }), 30_000)

  it.scopedLive(
    "commits only up to the watermark, and one that starts anew handles exactly the rest",
    () =>
      Effect.gen(function*() {
        const service = yield* transport()
        const topic = spec()
        yield* published(service, topic, numbered(10))
        const first = makeConsumer()
        const { end } = yield* subscribed(service, request(topic), first.consumer)
        yield* eventually("all arrive", () => first.all().length === 10)
        finish(first.lanes[0]!, 0, 1, 2, 4, 5, 8)
        yield* eventuallyCommitted(topic.name, 3)
        // After the subscription has ended a late finish does nothing.
        yield* end
        finish(first.lanes[0]!, 3)
        const second = finishing()
        yield* service.subscribe(request(topic), second.consumer)
        yield* eventually("the rest arrives", () => second.all().length >= 4)
        expect(second.values()).toEqual(["3", "6", "7", "9"])
        expect(second.all().map(({ maybeDuplicate }) => maybeDuplicate)).toEqual([true, true, true, true])
        expect(second.lanes[0]!.assignment.epoch).toBeGreaterThan(first.lanes[0]!.assignment.epoch)
      }),
    30_000
  )

  it.scopedLive(
    "after a clean end nothing is called a duplicate; after any other end what was fetched may be one",
    () =>
      Effect.gen(function*() {
        const service = yield* transport()
        const topic = spec()
        yield* published(service, topic, numbered(4))
        const first = finishing()
        const clean = yield* subscribed(service, request(topic), first.consumer)
        yield* eventually("all arrive", () => first.all().length === 4)
        yield* clean.end
        expect((yield* committed(topic.name)).offset).toBe(4)
        yield* published(service, topic, numbered(4))
        const second = makeConsumer()
        const unclean = yield* subscribed(service, request(topic), second.consumer)
        yield* eventually("all arrive", () => second.all().length === 4)
        expect(second.all().some(({ maybeDuplicate }) => maybeDuplicate)).toBe(false)
        yield* unclean.end
        const third = makeConsumer()
        yield* service.subscribe(request(topic), third.consumer)
        yield* eventually("all arrive", () => third.all().length === 4)
        yield* published(service, topic, numbered(1))
        yield* eventually("the new one arrives", () => third.all().length === 5)
        expect(third.all().map(({ maybeDuplicate }) => maybeDuplicate)).toEqual([true, true, true, true, false])
      }),
    30_000
  )

  it.scopedLive(
    "one that begins at the latest gets all that is published once it stands, and its beginning survives",
    () =>
      Effect.gen(function*() {
        const service = yield* transport()
        const topic = spec(topicName(), 2)
        yield* published(service, topic, numbered(10, (i) => `k${i}`))
        const first = makeConsumer()
        const { end } = yield* subscribed(service, request(topic, { startFrom: "latest" }), first.consumer)
        // Also a process that is killed now has begun here.
        const begun = yield* Effect.forEach([0, 1], (partition) => committed(topic.name, partition))
        expect(begun.reduce((sum, { offset }) => sum + offset, 0)).toBe(10)
        yield* published(service, topic, [message("k1", "new")])
        yield* eventually("it arrives", () => first.all().length === 1)
        yield* end
        const second = finishing()
        yield* service.subscribe(request(topic, { startFrom: "latest" }), second.consumer)
        yield* eventually("it comes again", () => second.all().length === 1)
        expect(second.values()).toEqual(["new"])
      }),
    30_000
  )

  it.scopedLive(
    "a lane that is full stops its partition and no other, and goes on when it has room",
    () =>
      Effect.gen(function*() {
        const service = yield* transport()
        const topic = spec(topicName(), 2)
        const bulk = Array.from({ length: 3_000 }, (_, i) => message(undefined, String(i).padEnd(2_000)))
        let room = 10
        const { consumer, lane } = makeConsumer({
          room: ({ assignment, taken }) => assignment.partition === 0 ? room - taken.length : Infinity,
          onTake: ({ assignment }, one) => assignment.partition === 1 && assignment.finish(one)
        })
        yield* service.subscribe(request(topic), consumer)
        yield* published(service, topic, bulk)
        yield* eventually("the other partition is done", () => lane(1).taken.length === 1_500)
        expect(lane(0).taken.length).toBe(10)
        // It has room for 15 more; then it is full again.
        room = 25
        lane(0).assignment.resume()
        yield* eventually("it goes on", () => lane(0).taken.length === 25)
        yield* published(service, topic, bulk.slice(0, 100))
        yield* eventually("the other one goes on, too", () => lane(1).taken.length === 1_550)
        expect(lane(0).taken.length).toBe(25)
        room = Infinity
        lane(0).assignment.resume()
        yield* eventually("it gets the rest", () => lane(0).taken.length === 1_550)
        expect(lane(0).taken.map(({ offset }) => offset)).toEqual(Array.from({ length: 1_550 }, (_, i) => i))
      }),
    30_000
  )

  it.scopedLive(
    "nothing is offered further above the watermark than allowed, and finishing the oldest lets it go on",
    () =>
      Effect.gen(function*() {
        const service = yield* transport()
        const topic = spec()
        yield* published(service, topic, numbered(500))
        const { all, consumer, lane } = makeConsumer({
          onTake: ({ assignment }, one) => one.offset !== 0 && assignment.finish(one)
        })
        yield* service.subscribe(request(topic, { maxAboveWatermark: 100 }), consumer)
        yield* eventually("the bound is reached", () => all().length === 100)
        yield* eventuallyCommitted(topic.name, 0)
        yield* throughout("the bound holds", () => all().length === 100, "200 millis")
        finish(lane(0), 0)
        yield* eventually("all arrive", () => all().length === 500)
        yield* eventuallyCommitted(topic.name, 500)
      }),
    30_000
  )

  it.scopedLive(
    "at-most-once: settled is committed, for several partitions at once, and never comes again",
    () =>
      Effect.gen(function*() {
        const service = yield* transport()
        const topic = spec(topicName(), 4)
        yield* published(service, topic, Array.from({ length: 40 }, (_, i) => message(undefined, String(i))))
        const first = makeConsumer()
        const plain = request(topic, { semantics: "at-most-once" })
        const { end } = yield* subscribed(service, plain, first.consumer)
        yield* eventually("all arrive", () => first.all().length === 40)
        yield* Effect.forEach(
          first.lanes,
          ({ assignment, taken }) => assignment.settle(taken.slice(0, 7)),
          { concurrency: "unbounded" }
        )
        for (const partition of [0, 1, 2, 3]) {
          expect((yield* committed(topic.name, partition)).offset).toBe(7)
        }
        // Out of order: the message before is not settled, so it is the metadata that says it.
        yield* first.lane(0).assignment.settle(first.lane(0).taken.slice(8, 9))
        const lane = first.lane(0)
        yield* end
        const late = yield* Effect.flip(lane.assignment.settle(lane.taken.slice(9)))
        expect(late).toMatchObject({ _tag: "SettlementFailed", isRetryable: false })
        const second = finishing()
        yield* service.subscribe(plain, second.consumer)
        yield* eventually("the rest arrives", () => second.all().length >= 11)
        expect(second.lanes.map(({ assignment, taken }) => [assignment.partition, taken.map(({ offset }) => offset)]))
          .toEqual([[0, [7, 9]], [1, [7, 8, 9]], [2, [7, 8, 9]], [3, [7, 8, 9]]])
      }),
    30_000
  )

  it.scopedLive("at-most-once: what somebody began to settle and gave up is not settled", () =>
    Effect.gen(function*() {
      const service = yield* transport()
      const topic = spec()
      yield* published(service, topic, numbered(10))
      const plain = request(topic, { semantics: "at-most-once" })
      const first = makeConsumer()
      const { end } = yield* subscribed(service, plain, first.consumer)
      yield* eventually("all arrive", () => first.all().length === 10)
      const { assignment, taken } = first.lane(0)
      yield* assignment.settle(taken.slice(0, 2))
      // Before the commit is sent, and while it is under way; unless the broker was quicker.
      let isSettled = false
      for (let wait = 0; wait < 6 && !isSettled; wait++) {
        const settling = yield* Effect.fork(assignment.settle(taken.slice(2, 5)))
        yield* Effect.sleep(wait)
        isSettled = Exit.isSuccess(yield* Fiber.interrupt(settling))
      }
      yield* end
      const second = finishing()
      yield* service.subscribe(plain, second.consumer)
      yield* eventually("the rest arrives", () => second.all().at(-1)?.offset === 9)
      expect(second.all()[0]!.offset).toBe(isSettled ? 5 : 2)
    }), 30_000)

  it.scopedLive("at-most-once: what a commit has no room for is not called settled", () =>
    Effect.gen(function*() {
      const service = yield* transport({ requestTimeout: Duration.seconds(2) })
      const topic = spec()
      yield* published(service, topic, numbered(6_000))
      const { all, consumer, lane } = makeConsumer()
      yield* service.subscribe(request(topic, { semantics: "at-most-once" }), consumer)
      yield* eventually("all arrive", () => all().length === 6_000)
      const odd = all().filter(({ offset }) => offset % 2 === 1)
      yield* lane(0).assignment.settle(odd.slice(0, 500))
      const tooMuch = yield* Effect.flip(lane(0).assignment.settle(odd))
      expect(tooMuch).toMatchObject({ _tag: "SettlementFailed", isRetryable: true })
      yield* lane(0).assignment.settle(all())
      expect((yield* committed(topic.name)).offset).toBe(6_000)
    }), 30_000)

  it.scopedLive("commits come after an interval, and sooner after a number of messages", () =>
    Effect.gen(function*() {
      const topic = spec()
      const service = yield* transport({ commitInterval: Duration.minutes(5), commitMessages: 100 })
      yield* published(service, topic, numbered(150))
      const { all, consumer } = finishing()
      yield* service.subscribe(request(topic), consumer)
      yield* eventuallyCommitted(topic.name, 150)
      yield* published(service, topic, numbered(10))
      yield* throughout("it is handled, and not committed yet", () => all().length <= 160, "300 millis")
      expect((yield* committed(topic.name)).offset).toBe(150)
    }), 30_000)

  it.scopedLive("gaps are no obstacle: aborted transactions and control records", () =>
    Effect.gen(function*() {
      const service = yield* transport()
      const topic = spec()
      yield* published(service, topic, numbered(1))
      yield* Effect.promise(async () => {
        const producer = kafka().producer({
          transactionalId: topic.name,
          maxInFlightRequests: 1,
          idempotent: true,
          createPartitioner: kafkajs.Partitioners.DefaultPartitioner
        })
        await producer.connect()
        for (const [value, commit] of [["in", true], ["out", false], ["in too", true], ["out", false]] as const) {
          const transaction = await producer.transaction()
          await transaction.send({ topic: topic.name, messages: [{ key: "a", value }, { key: "a", value }] })
          await (commit ? transaction.commit() : transaction.abort())
        }
        await producer.disconnect()
      })
      const { consumer, values } = finishing()
      yield* service.subscribe(request(topic), consumer)
      yield* eventually("what was committed arrives", () => values().length === 5)
      expect(values()).toEqual(["0", "in", "in", "in too", "in too"])
      // 1 + 4 × (2 messages and a marker)
      yield* eventuallyCommitted(topic.name, 13)
      yield* published(service, topic, numbered(1))
      yield* eventually("it goes on", () => values().length === 6)
      yield* eventuallyCommitted(topic.name, 14)
    }), 30_000)

  it.scopedLive("messages that were deleted before they were read are passed over", () =>
    Effect.gen(function*() {
      const service = yield* transport()
      const topic = spec()
      yield* published(service, topic, numbered(10))
      const first = makeConsumer({ room: () => 0 })
      const { end } = yield* subscribed(service, request(topic), first.consumer)
      yield* end
      yield* withAdmin(async (admin) => {
        await admin.fetchTopicOffsets(topic.name)
        await admin.deleteTopicRecords({ topic: topic.name, partitions: [{ partition: 0, offset: "6" }] })
      })
      const second = finishing()
      yield* service.subscribe(request(topic), second.consumer)
      yield* eventually("what is left arrives", () => second.all().length === 4)
      expect(second.values()).toEqual(range(6, 10))
      yield* eventuallyCommitted(topic.name, 10)
    }), 30_000)

  it.scopedLive("what can't stand is a typed error", () =>
    Effect.gen(function*() {
      const service = yield* transport({ topics: "skip" })
      const unknown = yield* Effect.flip(service.subscribe(request(spec()), finishing().consumer))
      expect(unknown).toMatchObject({ _tag: "UnknownTopic", transport: "kafka" })
      const topic = spec()
      const tooShort = yield* transport({ sessionTimeout: Duration.millis(500) })
      const refused = yield* Effect.flip(tooShort.subscribe(request(topic), finishing().consumer))
      expect(refused).toMatchObject({ _tag: "InvalidConfiguration" })
      expect(refused.message).toContain("kafka.sessionTimeout")
    }), 30_000)

  it.scopedLive("a group that others use in their own way is a typed error", () =>
    Effect.gen(function*() {
      const service = yield* transport()
      const topic = spec()
      yield* published(service, topic, numbered(1))
      yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const consumer = kafka().consumer({ groupId: `tests.${topic.name}`, maxWaitTimeInMs: 100 })
          await consumer.connect()
          await consumer.subscribe({ topic: topic.name })
          const joined = new Promise((resolve) => consumer.on(consumer.events.GROUP_JOIN, resolve))
          await consumer.run({ eachMessage: () => Promise.resolve() })
          await joined
          return consumer
        }),
        (consumer) => Effect.promise(() => consumer.disconnect())
      )
      const refused = yield* Effect.flip(service.subscribe(request(topic), finishing().consumer))
      expect(refused).toMatchObject({ _tag: "InvalidConfiguration" })
    }), 30_000)

  it.scopedLive("an interrupted subscribe leaves nothing behind", () =>
    Effect.gen(function*() {
      const service = yield* transport()
      const topic = spec()
      yield* published(service, topic, numbered(1))
      const fiber = yield* Effect.fork(Effect.scoped(Effect.zipRight(
        service.subscribe(request(topic), finishing().consumer),
        Effect.never
      )))
      yield* Effect.sleep("20 millis")
      yield* Fiber.interrupt(fiber)
      const members = yield* withAdmin(async (admin) =>
        (await admin.describeGroups([`tests.${topic.name}`])).groups[0]!.members.length
      )
      expect(members).toBe(0)
      const { consumer, values } = finishing()
      yield* service.subscribe(request(topic), consumer)
      yield* eventually("it arrives", () => values().length === 1)
    }), 30_000)

  it.scopedLive("an idle one does not spin", () =>
    Effect.gen(function*() {
      const service = yield* transport()
      const topic = spec()
      yield* published(service, topic, numbered(1))
      const { all, consumer } = finishing()
      yield* service.subscribe(request(topic), consumer)
      yield* eventually("it arrives", () => all().length === 1)
      const { setTimeout } = globalThis
      let timers = 0
      const counting = Object.assign((...args: Parameters<typeof setTimeout>) => {
        timers++
        return setTimeout(...args)
      }, setTimeout)
      globalThis.setTimeout = counting
      yield* Effect.sleep("1 second").pipe(Effect.ensuring(Effect.sync(() => {
        globalThis.setTimeout = setTimeout
      })))
      expect(timers).toBeLessThan(50)
    }), 30_000)

  it.scopedLive(
    "stopping ends the offers and nothing else: what was taken is finished and committed",
    () =>
      Effect.gen(function*() {
        const service = yield* transport({ brokers: shared() })
        const topic = spec()
        yield* published(service, topic, numbered(5))
        const { all, consumer, lane } = makeConsumer()
        const { end, source } = yield* subscribed(service, request(topic), consumer)
        yield* eventually("all arrive", () => all().length === 5)
        yield* source.stop
        yield* published(service, topic, numbered(5))
        yield* throughout("nothing more is offered", () => all().length === 5, "500 millis")
        finish(lane(0), 0, 1, 2, 3)
        yield* end
        expect((yield* committed(topic.name)).offset).toBe(4)
      }),
    30_000
  )

  it.scopedLive(
    "a partition that stands still behind one message keeps no other from being fetched",
    () =>
      Effect.gen(function*() {
        const service = yield* transport({ fetchBytes: 50_000, fetchPartitionBytes: 50_000 })
        const topic = spec(topicName(), 2)
        const large = "x".repeat(500)
        yield* published(service, topic, Array.from({ length: 1_000 }, () => message(undefined, large)))
        const { consumer, lanes } = makeConsumer({
          onTake: ({ assignment }, one) => one.partition === 1 && assignment.finish(one)
        })
        yield* service.subscribe(request(topic, { maxAboveWatermark: 10 }), consumer)
        const taken = (partition: number) =>
          lanes.find(({ assignment }) => assignment.partition === partition)?.taken.length
        yield* eventually("the one stands still", () => taken(0) === 10)
        yield* eventually("the other comes to its end", () => taken(1) === 500)
      }),
    30_000
  )
})
