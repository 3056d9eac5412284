import type { Transport } from "@effect-eventbus/core"
import { EventBus, EventBusConfig, FailurePolicy, Topic } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Layer, Schema, Scope } from "effect"
import { describe, expect } from "vitest"
import { driverName } from "./driver.js"
import {
  eventually,
  finishing,
  makeConsumer,
  message,
  numbered,
  published,
  request,
  shared,
  spec,
  topicName,
  transport,
  withAdmin
} from "./Harness.js"

const timing = { heartbeatInterval: Duration.millis(100), sessionTimeout: Duration.seconds(6) }
const joint = (more: Parameters<typeof transport>[0] = {}) => transport({ ...timing, groups: "shared", ...more })

/** A subscription that can be ended by itself. */
const subscribed = (
  service: Transport.Service,
  topic: Transport.TopicSpec,
  group: string,
  consumer: Transport.Consumer
) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope, { _tag: "Sequential" })
    yield* service.subscribe(request(topic, { group }), consumer).pipe(Scope.extend(scope))
    return Scope.close(scope, Exit.void)
  })

const partitionsOf = (consumer: ReturnType<typeof makeConsumer>) =>
  consumer.open().map(({ assignment }) => assignment.partition).sort()

/** What a group has committed of a topic, all partitions together. */
const committed = (group: string, topic: string) =>
  withAdmin(async (admin) => {
    const [found] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
    return found!.partitions.reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0)
  })

describe("a group that all topics share", () => {
  it.scopedLive(
    "is the configured one on the broker, and each topic goes on at its own commits",
    () =>
      Effect.gen(function*() {
        const service = yield* joint()
        const group = topicName()
        const [one, two] = [spec(topicName(), 3), spec(topicName(), 2)]
        const first = finishing()
        const second = finishing()
        yield* subscribed(service, one, group, first.consumer)
        const end = yield* subscribed(service, two, group, second.consumer)
        // A broker may not know at once that it leads a partition of a new topic.
        yield* eventually("they have all", () => first.open().length === 3 && second.open().length === 2)
        expect([partitionsOf(first), partitionsOf(second)]).toEqual([[0, 1, 2], [0, 1]])
        const members = yield* withAdmin(async (admin) =>
          (await admin.describeGroups([group])).groups[0]!.members.length
        )
        expect(members).toBe(2)
        yield* published(service, one, numbered(30, (i) => `k${i}`))
        yield* published(service, two, numbered(20, (i) => `k${i}`))
        yield* eventually("all arrive", () => first.all().length === 30 && second.all().length === 20)
        expect(first.all().every(({ topic }) => topic === one.name)).toBe(true)
        expect(second.all().every(({ topic }) => topic === two.name)).toBe(true)
        yield* end
        expect(yield* committed(group, two.name)).toBe(20)
        yield* published(service, two, numbered(5, (i) => `k${i}`))
        const again = finishing()
        yield* subscribed(service, two, group, again.consumer)
        yield* eventually("the rest arrives", () => again.all().length === 5)
        expect(again.all().some(({ maybeDuplicate }) => maybeDuplicate)).toBe(false)
        // The other one had its lanes all the time.
        expect(first.lanes).toHaveLength(3)
        expect(first.open()).toHaveLength(3)
      }),
    40_000
  )

  it.scopedLive(
    "processes with different topics share what they have in common, and the leader plans for all",
    () =>
      Effect.gen(function*() {
        const group = topicName()
        const own = { metadataMaxAge: Duration.millis(200) }
        const [left, both, right] = [spec(topicName(), 3), spec(topicName(), 4), spec(topicName(), 3)]
        const scope = yield* Scope.fork(yield* Effect.scope, { _tag: "Sequential" })
        // The first to come is the leader; it has nothing to do with the last topic.
        const p1 = yield* joint(own).pipe(Scope.extend(scope))
        const consumers = Array.from({ length: 4 }, finishing)
        const [l, b1, b2, r] = consumers as [
          typeof consumers[0],
          typeof consumers[0],
          typeof consumers[0],
          typeof consumers[0]
        ]
        yield* p1.subscribe(request(left, { group }), l.consumer).pipe(Scope.extend(scope))
        yield* p1.subscribe(request(both, { group }), b1.consumer).pipe(Scope.extend(scope))
        const p2 = yield* joint(own)
        yield* p2.subscribe(request(both, { group }), b2.consumer)
        yield* p2.subscribe(request(right, { group }), r.consumer)
        yield* eventually(
          "what they have in common is shared",
          () => partitionsOf(b1).length === 2 && partitionsOf(b2).length === 2
        )
        expect([...partitionsOf(b1), ...partitionsOf(b2)].sort()).toEqual([0, 1, 2, 3])
        yield* eventually("the others have all", () => l.open().length === 3 && r.open().length === 3)
        expect([partitionsOf(l), partitionsOf(r)]).toEqual([[0, 1, 2], [0, 1, 2]])
        yield* withAdmin((admin) => admin.createPartitions({ topicPartitions: [{ topic: right.name, count: 5 }] }))
        yield* eventually(
          "what is added is found by a leader that does not subscribe to it",
          () => partitionsOf(r).length === 5
        )
        for (const topic of [left, both, right]) {
          yield* published(p2, topic, Array.from({ length: 40 }, (_, i) => message(undefined, String(i))))
        }
        yield* eventually("all arrive", () => consumers.flatMap(({ all }) => all()).length === 120)
        yield* Scope.close(scope, Exit.void)
        yield* eventually("what it had in common is left to the other", () => partitionsOf(b2).length === 4)
        yield* published(p2, both, Array.from({ length: 8 }, (_, i) => message(undefined, String(i))))
        yield* eventually("and goes on", () => [...b1.all(), ...b2.all()].length === 48)
        const seen = [...b1.all(), ...b2.all()].map(({ offset, partition }) => `${partition}/${offset}`)
        expect(new Set(seen).size).toBe(48)
        // What was not in common moved nowhere.
        expect(r.lanes).toHaveLength(5)
      }),
    40_000
  )

  it.scopedLive(
    "while one topic is let go slowly, and another waits to join, the others are handled and committed",
    () =>
      Effect.gen(function*() {
        const group = topicName()
        const [busy, slow, late] = [spec(topicName(), 2), spec(topicName(), 2), spec(topicName(), 1)]
        const service = yield* joint({ commitInterval: Duration.millis(100) })
        const first = finishing()
        yield* subscribed(service, busy, group, first.consumer)
        const letGo = yield* Effect.makeLatch(false)
        const held = makeConsumer({ onClose: () => letGo.await })
        yield* subscribed(service, slow, group, held.consumer)
        // It gets one of the two, which the one before has to let go of.
        const other = yield* joint()
        const taker = finishing()
        yield* Effect.forkScoped(subscribed(other, slow, group, taker.consumer))
        yield* eventually("it is being let go", () => held.lanes.length === 2 && taker.open().length === 0)
        const third = finishing()
        const joining = yield* Effect.forkScoped(subscribed(other, late, group, third.consumer))
        for (let round = 1; round <= 3; round++) {
          yield* published(service, busy, numbered(10, (i) => `k${i}`))
          yield* eventually("it is handled", () => first.all().length === round * 10)
          let done = 0
          for (let i = 0; i < 200 && done < round * 10; i++) done = yield* committed(group, busy.name)
          expect(done).toBe(round * 10)
        }
        expect(taker.open()).toEqual([])
        yield* letGo.open
        yield* Fiber.join(joining)
        yield* eventually("all have their share", () => taker.open().length === 1 && third.open().length === 1)
        expect(first.lanes).toHaveLength(2)
        expect(first.open()).toHaveLength(2)
        expect(first.all().some(({ maybeDuplicate }) => maybeDuplicate)).toBe(false)
      }),
    40_000
  )

  it.scopedLive(
    "a topic that is deleted disturbs no other, and is read again when it is made anew",
    () =>
      Effect.gen(function*() {
        const group = topicName()
        const [gone, stays, late] = [spec(topicName(), 1), spec(topicName(), 1), spec(topicName(), 1)]
        const service = yield* joint({ metadataMaxAge: Duration.millis(200) })
        const first = finishing()
        const lost = finishing()
        yield* subscribed(service, stays, group, first.consumer)
        yield* subscribed(service, gone, group, lost.consumer)
        yield* withAdmin((admin) => admin.deleteTopics({ topics: [gone.name] }))
        // The group is balanced anew while the topic is not there.
        const other = yield* joint()
        const third = finishing()
        yield* subscribed(other, late, group, third.consumer)
        yield* eventually("it has its partition", () => third.open().length === 1)
        yield* published(service, stays, numbered(10))
        yield* eventually("it goes on", () => first.all().length === 10)
        expect(first.lanes).toHaveLength(1)
        yield* published(other, gone, numbered(3))
        yield* eventually("the new one is read", () => lost.all().length === 3)
      }),
    40_000
  )
})

class Event extends Schema.TaggedClass<Event>()("Event", { n: Schema.Number }) {}

describe("subscribing and leaving while others run", () => {
  for (const groups of ["per-topic", "shared"] as const) {
    it.scopedLive(`groups ${groups}: a subscription goes on without a gap, a duplicate or a new assignment`, () => {
      const topic = Topic.envelope(topicName(), Event, { partitions: 3 })
      const others = Array.from({ length: 3 }, () => Topic.envelope(topicName(), Event, { partitions: 2 }))
      return Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const seen = new Map<string, Array<number>>()
        const epochs = new Set<string>()
        let duplicates = 0
        let handled = 0
        let last = performance.now()
        let pause = 0
        yield* bus.subscribe(topic, ({ n }, { aggregateId, epoch, maybeDuplicate, partition }) =>
          Effect.sync(() => {
            seen.set(aggregateId, [...seen.get(aggregateId) ?? [], n])
            epochs.add(`${partition}/${epoch}`)
            if (maybeDuplicate) duplicates++
            handled++
            pause = Math.max(pause, performance.now() - last)
            last = performance.now()
          }), { onExhausted: FailurePolicy.drop })
        let n = 0
        let isOver = false
        const publisher = yield* Effect.fork(Effect.whileLoop({
          while: () => !isOver,
          body: () =>
            bus.publishAll(
              topic,
              Array.from({ length: 10 }, (_, i) => ({ aggregateId: `a${i}`, payload: new Event({ n }) }))
            ).pipe(Effect.zipRight(Effect.sleep("5 millis"))),
          step: () => void n++
        }))
        yield* eventually("it runs", () => handled > 50)
        for (let round = 0; round < 2; round++) {
          for (const other of others) {
            const before = handled
            let arrived = 0
            yield* Effect.scoped(Effect.gen(function*() {
              yield* bus.subscribe(other, () => Effect.sync(() => arrived++), { onExhausted: FailurePolicy.drop })
              yield* bus.publish(other, { aggregateId: "b", payload: new Event({ n: round }) })
              yield* eventually("the other one handles", () => arrived === 1)
            }))
            yield* eventually("this one has gone on", () => handled > before)
          }
        }
        isOver = true
        yield* Fiber.join(publisher)
        yield* eventually("all are handled", () => handled >= n * 10)
        console.log(`groups ${groups}: ${handled} handled, longest pause ${Math.round(pause)} ms`)
        expect(seen.size).toBe(10)
        for (const one of seen.values()) expect(one).toEqual(Array.from({ length: n }, (_, i) => i))
        expect(duplicates).toBe(0)
        expect(epochs.size).toBe(3)
      }).pipe(Effect.provide(EventBus.layer.pipe(
        Layer.provide(KafkaTransport.layer({ brokers: shared(), driver: driverName, groups, ...timing })),
        Layer.provide(EventBusConfig.layer({ group: topicName() }))
      )))
    }, 40_000)
  }
})
