import {
  EventBus,
  EventBusConfig,
  FailurePolicy,
  Headers,
  MemoryBroker,
  MemoryTransport,
  Topic,
  type Transport
} from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import {
  Context,
  Deferred,
  Duration,
  Effect,
  Either,
  Exit,
  Fiber,
  Layer,
  Logger,
  Schema,
  Scope,
  TestClock
} from "effect"
import { eventually, settle } from "./Eventually.js"

const encoder = new TextEncoder()

/** A consumer that takes what it has room for and finishes when it is told to. */
class Consumer implements Transport.Consumer {
  readonly taken: Array<Transport.IncomingMessage> = []
  readonly assignments = new Map<number, Transport.Assignment>()
  readonly log: Array<string> = []
  /** The first message that was refused, each time. */
  readonly refused: Array<Transport.IncomingMessage> = []
  room = Number.POSITIVE_INFINITY
  autoFinish = false
  closing: Effect.Effect<void> = Effect.void

  readonly assigned = (assignment: Transport.Assignment): Transport.Lane => {
    this.assignments.set(assignment.partition, assignment)
    this.log.push(`assigned ${assignment.partition}`)
    return {
      offer: (messages) => {
        const count = Math.min(this.room, messages.length)
        this.room -= count
        for (const message of messages.slice(0, count)) {
          this.taken.push(message)
          if (this.autoFinish) assignment.finish(message)
        }
        if (count < messages.length) this.refused.push(messages[count]!)
        return count
      },
      close: () =>
        Effect.map(this.closing, () => {
          this.assignments.delete(assignment.partition)
          this.log.push(`closed ${assignment.partition}`)
          return { unfinished: 0, lost: 0 }
        })
    }
  }

  get values(): ReadonlyArray<string> {
    return this.taken.map(({ value }) => new TextDecoder().decode(value!))
  }

  finish(...values: ReadonlyArray<string>): void {
    this.taken.forEach((message, i) => {
      if (values.includes(this.values[i]!)) this.assignments.get(message.partition)?.finish(message)
    })
  }

  resume(): void {
    for (const assignment of this.assignments.values()) assignment.resume()
  }
}

const outgoing = (value: string, given: Partial<Transport.OutgoingMessage> = {}): Transport.OutgoingMessage => ({
  id: undefined,
  aggregateId: undefined,
  key: null,
  value: encoder.encode(value),
  headers: {},
  timestamp: undefined,
  ...given
})

const topic = (partitions?: number): Transport.TopicSpec => ({ name: "t", kind: "envelope", partitions })

const request = (given: Partial<Transport.SubscribeRequest> = {}): Transport.SubscribeRequest => ({
  topic: topic(),
  group: "g",
  semantics: "at-least-once",
  startFrom: "earliest",
  maxAboveWatermark: 10_000,
  maxUnfinished: 1_000,
  drainDeadline: Duration.seconds(1),
  ...given
})

const setup = (options: MemoryBroker.Options = {}) =>
  Effect.gen(function*() {
    const broker = yield* MemoryBroker.make({ partitions: 1, journal: 1_000, ...options })
    const transport = yield* Effect.provideService(MemoryTransport.make, MemoryBroker.MemoryBroker, broker)
    const publish = (...values: ReadonlyArray<string | Transport.OutgoingMessage>) =>
      transport.publish(topic(), values.map((value) => typeof value === "string" ? outgoing(value) : value), {
        timeout: Duration.seconds(10)
      })
    const join = (consumer: Consumer, given: Partial<Transport.SubscribeRequest> = {}) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
        const source = yield* Scope.extend(transport.subscribe(request(given), consumer), scope)
        return { source, leave: Scope.close(scope, Exit.void) }
      })
    return { broker, transport, publish, join }
  })

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => String(from + i))

describe("MemoryTransport", () => {
  it.scoped("copies what is published, large or small, a Buffer too, and mixes up no two messages", () =>
    Effect.gen(function*() {
      const { join, publish } = yield* setup()
      const consumer = new Consumer()
      yield* join(consumer)
      const lengths = [0, 1, 300, 4_000, 4_095, 4_096, 4_097, 9_000, 300, 3_000, 2_000, 8_192, 50]
      const key = Buffer.from("k")
      const values = lengths.map((length, i) => Buffer.alloc(length, i))
      yield* publish(...values.map((value) => outgoing("", { key, value })))
      key.fill(255)
      for (const value of values) value.fill(255)
      expect(consumer.taken.map((message) => message.key)).toEqual(lengths.map(() => Uint8Array.of(107)))
      expect(consumer.taken.map((message) => message.value!.length)).toEqual(lengths)
      expect(consumer.taken.map((message, i) => message.value!.findIndex((byte) => byte !== i))).toEqual(
        lengths.map(() => -1)
      )
      // A handler that keeps a message keeps no more than a block.
      for (const { value } of consumer.taken) {
        expect(value!.buffer.byteLength).toBeLessThanOrEqual(Math.max(8_192, value!.length + 1))
      }
    }))

  it.scoped("keeps bytes, keys, tombstones, headers and timestamps as they were published", () =>
    Effect.gen(function*() {
      const { join, publish } = yield* setup()
      const consumer = new Consumer()
      yield* join(consumer)
      const value = Uint8Array.of(0, 255, 1)
      const key = Uint8Array.of(254)
      yield* TestClock.adjust("3 seconds")
      yield* publish(
        outgoing("", { value, key, headers: { "X-Bytes": Uint8Array.of(255), Text: ["a", "b"] }, timestamp: 5 }),
        outgoing("", { value: null }),
        outgoing("", { value: new Uint8Array(0), aggregateId: "a" })
      )
      value.fill(7)
      key.fill(7)
      expect(consumer.taken[0]).toMatchObject({
        offset: 0,
        timestamp: 5,
        maybeDuplicate: false,
        deliveryCount: undefined
      })
      expect([Array.from(consumer.taken[0]!.value!), Array.from(consumer.taken[0]!.key!)]).toEqual([[0, 255, 1], [254]])
      expect(consumer.taken[0]!.headers).toEqual({ "X-Bytes": Uint8Array.of(255), Text: ["a", "b"] })
      expect(Headers.get(consumer.taken[0]!.headers, "text")).toBe("a")
      expect(consumer.taken[1]).toMatchObject({ value: null, key: null, timestamp: 3_000 })
      expect(consumer.taken[2]!.value).toHaveLength(0)
      expect(consumer.taken[2]!.key).toEqual(encoder.encode("a"))
    }))

  it.scoped("keeps headers as they were, whatever the publisher does to its object, and shares those that can't change", () =>
    Effect.gen(function*() {
      const { join, publish } = yield* setup()
      const consumer = new Consumer()
      yield* join(consumer)
      let asked = 0
      const getter = Object.freeze({
        get moving() {
          return String(asked++)
        }
      })
      const own = { a: "1" }
      const bytes = Object.freeze({ b: Uint8Array.of(1) })
      const shared = Object.freeze({ c: "1" })
      yield* publish(...[getter, own, bytes, shared, shared].map((headers) => outgoing("", { headers })))
      own.a = "2"
      bytes.b[0] = 2
      const [first, second, third, fourth, fifth] = consumer.taken.map(({ headers }) => headers)
      expect(first!["moving"]).toBe(first!["moving"])
      expect(second).toEqual({ a: "1" })
      expect(third).toEqual({ b: Uint8Array.of(1) })
      expect([fourth, fifth]).toEqual([{ c: "1" }, { c: "1" }])
      expect(fourth).toBe(fifth)
    }))

  it.scoped("puts a key always into the same partition, and spreads what has none", () =>
    Effect.gen(function*() {
      const { join, publish } = yield* setup({ partitions: 4 })
      const consumer = new Consumer()
      yield* join(consumer)
      for (let i = 0; i < 5; i++) yield* publish(...numbers(0, 40).map((n) => outgoing(n, { aggregateId: `a${n}` })))
      for (const value of numbers(0, 40)) {
        expect(
          new Set(consumer.taken.filter((_, i) => consumer.values[i] === value).map(({ partition }) => partition)).size
        ).toBe(1)
      }
      const before = consumer.taken.length
      yield* publish(...numbers(0, 40))
      const counts = [0, 0, 0, 0]
      for (const { partition } of consumer.taken.slice(before)) counts[partition]!++
      expect(counts).toEqual([10, 10, 10, 10])
    }))

  it.scoped("has positions of their own for several groups, which start at the end they asked for", () =>
    Effect.gen(function*() {
      const { broker, join, publish } = yield* setup()
      const [early, late, other] = [new Consumer(), new Consumer(), new Consumer()]
      early.autoFinish = true
      yield* publish("0", "1")
      yield* join(early, { group: "early" })
      yield* join(late, { group: "late", startFrom: "latest" })
      yield* publish("2")
      yield* join(other, { group: "other" })
      expect([early.values, late.values, other.values]).toEqual([["0", "1", "2"], ["2"], ["0", "1", "2"]])
      late.finish("2")
      expect(yield* broker.positions("t", "early")).toEqual([{ watermark: 3, end: 3 }])
      expect(yield* broker.positions("t", "late")).toEqual([{ watermark: 3, end: 3 }])
      expect(yield* broker.positions("t", "other")).toEqual([{ watermark: 0, end: 3 }])
      expect(yield* broker.positions("t", "none")).toEqual([])
    }))

  it.scoped("delivers exactly what is unfinished to the next member, marked as a possible duplicate where it was delivered", () =>
    Effect.gen(function*() {
      const { join, publish } = yield* setup()
      const first = new Consumer()
      const { leave } = yield* join(first)
      yield* publish(...numbers(0, 6))
      first.finish("0", "2", "4")
      const stale = Array.from(first.assignments.values())
      yield* leave
      // The assignment has ended: it does nothing any more.
      for (const one of stale) one.finish(first.taken[1]!)
      expect(yield* Effect.flip(stale[0]!.settle([first.taken[1]!]))).toMatchObject({
        _tag: "SettlementFailed",
        isRetryable: false
      })
      yield* publish("6")
      const second = new Consumer()
      yield* join(second, { startFrom: "latest" })
      expect(second.values).toEqual(["1", "3", "5", "6"])
      expect(second.taken.map(({ maybeDuplicate }) => maybeDuplicate)).toEqual([true, true, true, false])
      expect(Array.from(second.assignments.values())[0]!.epoch).toBe(2)
    }))

  it.scoped("stops offering at a refusal and goes on in order, with the same messages, when it is resumed", () =>
    Effect.gen(function*() {
      const { join, publish } = yield* setup()
      const consumer = new Consumer()
      consumer.room = 3
      yield* join(consumer)
      yield* publish(...numbers(0, 600))
      expect(consumer.values).toEqual(numbers(0, 3))
      consumer.room = 300
      yield* publish("600")
      expect(consumer.taken).toHaveLength(3)
      consumer.resume()
      yield* eventually("it goes on", () => consumer.taken.length >= 303)
      expect(consumer.values).toEqual(numbers(0, 303))
      consumer.room = Number.POSITIVE_INFINITY
      consumer.resume()
      yield* eventually("it goes on", () => consumer.taken.length >= 601)
      // By the object a lane knows what it has routed before.
      expect(consumer.refused.map(({ offset }) => offset)).toEqual([3, 303])
      for (const one of consumer.refused) expect(consumer.taken[one.offset]).toBe(one)
      expect(consumer.values).toEqual(numbers(0, 601))
    }))

  it.scoped("stops offering at the bound above the watermark, exactly, and goes on when the oldest is finished", () =>
    Effect.gen(function*() {
      const { join, publish } = yield* setup()
      const consumer = new Consumer()
      yield* join(consumer, { maxAboveWatermark: 10 })
      yield* publish(...numbers(0, 50))
      expect(consumer.values).toEqual(numbers(0, 10))
      consumer.finish(...numbers(1, 10))
      expect(consumer.taken).toHaveLength(10)
      consumer.finish("0")
      expect(consumer.values).toEqual(numbers(0, 20))
    }))

  it.scoped("moves partitions when a member joins or leaves, after their lanes were closed, without loss or overlap", () =>
    Effect.gen(function*() {
      const { join, publish } = yield* setup({ partitions: 4 })
      const [first, second] = [new Consumer(), new Consumer()]
      const gate = yield* Deferred.make<void>()
      first.closing = Deferred.await(gate)
      yield* join(first)
      const spread = (from: number, to: number) =>
        numbers(from, to).map((n) => outgoing(n, { key: encoder.encode(`k${Number(n) % 16}`) }))
      yield* publish(...spread(0, 64))
      first.finish(...numbers(0, 32))
      const joining = yield* Effect.fork(join(second))
      yield* settle
      // Nobody has the two partitions before their lanes are closed.
      expect(second.log).toEqual([])
      yield* Deferred.succeed(gate, undefined)
      const { leave } = yield* Fiber.join(joining)
      expect(first.assignments.size).toBe(2)
      expect(second.assignments.size).toBe(2)
      // What was not finished comes again, and nothing else.
      expect(second.values.slice().sort()).toEqual(
        first.values.filter((value, i) => Number(value) >= 32 && second.assignments.has(first.taken[i]!.partition))
          .sort()
      )
      yield* publish(...spread(64, 128))
      first.autoFinish = true
      second.finish(...numbers(32, 128))
      first.finish(...numbers(32, 128))
      yield* leave
      expect(first.assignments.size).toBe(4)
      yield* publish(...spread(128, 192))
      const all = [...first.values, ...second.values]
      expect(new Set(all)).toEqual(new Set(numbers(0, 192)))
      expect(first.taken.slice(-64).map(({ maybeDuplicate }) => maybeDuplicate)).not.toContain(true)
    }))

  it.scoped("offers nothing more after it was told to stop, and still takes what is finished", () =>
    Effect.gen(function*() {
      const { broker, join, publish } = yield* setup()
      const consumer = new Consumer()
      const { source } = yield* join(consumer)
      yield* publish("0")
      yield* source.stop
      yield* publish("1")
      consumer.resume()
      consumer.finish("0")
      yield* settle
      expect(consumer.values).toEqual(["0"])
      expect(yield* broker.positions("t", "g")).toEqual([{ watermark: 1, end: 2 }])
    }))

  it.scoped("lets the oldest go beyond its retention, and no more than an eighth of what it keeps", () =>
    Effect.gen(function*() {
      const { join, publish } = yield* setup({ maxMessages: 80 })
      yield* publish(...numbers(0, 81))
      const consumer = new Consumer()
      yield* join(consumer)
      expect(consumer.values).toEqual(numbers(10, 81))
      expect(consumer.taken[0]!.offset).toBe(10)
    }))

  it.scoped("keeps what a group has not settled: publishing waits for room, in turn, and fails as not written at its timeout", () =>
    Effect.gen(function*() {
      const { broker, join, publish } = yield* setup({ maxMessages: 4 })
      const consumer = new Consumer()
      yield* join(consumer)
      yield* publish(...numbers(0, 4))
      const [late, never] = yield* Effect.all([
        Effect.fork(publish("4", "5")),
        Effect.fork(Effect.zipRight(Effect.sleep("1 seconds"), publish("6")))
      ])
      yield* TestClock.adjust("2 seconds")
      consumer.finish("1")
      yield* settle
      expect([late.unsafePoll(), consumer.values.length]).toEqual([null, 4])
      consumer.finish("0")
      yield* settle
      expect((yield* Fiber.join(late)).map(Either.isRight)).toEqual([true, true])
      expect(consumer.values).toEqual(numbers(0, 6))
      expect(never.unsafePoll()).toBeNull()
      yield* TestClock.adjust("10 seconds")
      const [result] = yield* Fiber.join(never)
      expect(Either.isLeft(result!) && result.left).toMatchObject({
        _tag: "PublishFailed",
        reason: "StorageFull",
        outcome: "not-written",
        isRetryable: true
      })
      expect(yield* broker.positions("t", "g")).toEqual([{ watermark: 2, end: 6 }])
      // Whoever gave up does not stand in the way of the next one.
      consumer.finish(...numbers(0, 6))
      expect((yield* publish("7")).map(Either.isRight)).toEqual([true])
    }))

  it.scoped("answers for each message at its index when only some fit", () =>
    Effect.gen(function*() {
      const { join, publish } = yield* setup({ maxMessages: 2, maxMessageBytes: 5 })
      yield* join(new Consumer())
      const publishing = yield* Effect.fork(publish("0", "too large", "1", "2", "3"))
      yield* TestClock.adjust("10 seconds")
      expect((yield* Fiber.join(publishing)).map(Either.match({
        onLeft: (error) => error._tag,
        onRight: ({ offset }) => offset
      })))
        .toEqual([0, "MessageTooLarge", 1, "PublishFailed", "PublishFailed"])
    }))

  it.scoped("takes a value of exactly the largest size, whatever its headers", () =>
    Effect.gen(function*() {
      const { publish, transport } = yield* setup({ maxMessageBytes: 100 })
      const largest = {
        value: new Uint8Array(transport.capabilities.maxMessageBytes),
        aggregateId: "a",
        headers: { h: "x".repeat(50) }
      }
      expect((yield* publish(outgoing("", largest))).map(Either.isRight)).toEqual([true])
    }))

  it.scoped("keeps a journal of the newest entries only", () =>
    Effect.gen(function*() {
      const { broker, join, publish } = yield* setup({ journal: 10 })
      const consumer = new Consumer()
      consumer.autoFinish = true
      yield* join(consumer)
      for (let i = 0; i < 30; i++) yield* publish(String(i))
      const journal = yield* broker.journal
      expect(journal).toHaveLength(10)
      expect(journal.map(({ offset, type }) => `${type} ${offset}`).slice(-3)).toEqual([
        "published 29",
        "delivered 29",
        "finished 29"
      ])
      expect(journal[9]).toMatchObject({ topic: "t", partition: 0, group: "g", epoch: 1 })
      const silent = yield* MemoryBroker.make()
      yield* silent.createTopic("t")
      expect(yield* silent.journal).toEqual([])
    }))

  it.scoped("makes topics or knows them, as it is set, and tells a number of partitions that does not fit", () =>
    Effect.gen(function*() {
      const { broker, join, publish, transport } = yield* setup({ topics: "validate" })
      const [unknown] = yield* publish("0")
      expect(Either.isLeft(unknown!) && unknown.left).toMatchObject({
        _tag: "UnknownTopic",
        topic: "t",
        transport: "memory"
      })
      expect(yield* Effect.flip(join(new Consumer()))).toMatchObject({ _tag: "UnknownTopic" })
      yield* broker.createTopic("t", 2)
      expect((yield* publish("0")).map(Either.isRight)).toEqual([true])
      for (const partitions of [3, 0, 1.5, Number.NaN]) {
        const results = yield* transport.publish(topic(partitions), [outgoing("0")], { timeout: Duration.seconds(1) })
        expect(Either.isLeft(results[0]!) && results[0].left).toMatchObject({
          _tag: "InvalidConfiguration",
          topic: "t"
        })
        expect(yield* Effect.flip(join(new Consumer(), { topic: topic(partitions) }))).toMatchObject({
          _tag: "InvalidConfiguration"
        })
      }
      const creating = yield* setup()
      const results = yield* creating.transport.publish(topic(0), [outgoing("0")], { timeout: Duration.seconds(1) })
      expect(Either.isLeft(results[0]!) && results[0].left).toMatchObject({ _tag: "InvalidConfiguration" })
    }))

  it.effect("refuses options that make no sense, all at once", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        MemoryBroker.make({ partitions: 0, maxMessages: 1.5, maxMessageBytes: -1, journal: -1 })
      )
      expect(error.issues).toHaveLength(4)
    }))
})

class Counted extends Schema.TaggedClass<Counted>()("Counted", { n: Schema.Number }) {}
const Numbers = Topic.envelope("numbers", Counted, { partitions: 8 })

describe("several buses on one memory broker", () => {
  it.scoped("share the partitions of a group: members that come and go lose nothing, and no aggregate has two handlers", () =>
    Effect.gen(function*() {
      const broker = yield* MemoryBroker.make()
      const running = new Map<string, number>()
      const seen = new Map<string, Array<number>>()
      const overlaps: Array<string> = []
      let handled = 0
      const member = Effect.gen(function*() {
        const scope = yield* Scope.make()
        const live = EventBus.layer.pipe(
          Layer.provide(MemoryTransport.layerBroker),
          Layer.provide(Layer.succeed(MemoryBroker.MemoryBroker, broker)),
          Layer.provide(EventBusConfig.layer({ maxUnfinished: 20 }))
        )
        const bus = Context.get(yield* Layer.buildWithScope(live, scope), EventBus.EventBus)
        yield* Scope.extend(
          bus.subscribe(Numbers, ({ n }, { aggregateId }) =>
            Effect.acquireUseRelease(
              Effect.sync(() => {
                const now = (running.get(aggregateId) ?? 0) + 1
                running.set(aggregateId, now)
                if (now > 1) overlaps.push(aggregateId)
                seen.set(aggregateId, [...seen.get(aggregateId) ?? [], n])
              }),
              () => Effect.yieldNow(),
              () => Effect.sync(() => running.set(aggregateId, running.get(aggregateId)! - 1))
            ).pipe(Effect.tap(() => Effect.sync(() => handled++))), { onExhausted: FailurePolicy.drop }),
          scope
        )
        return { bus, leave: Scope.close(scope, Exit.void) }
      })
      const first = yield* member
      const publisher = yield* Effect.fork(Effect.forEach(numbers(0, 200), (n) =>
        Effect.zipRight(
          first.bus.publishAll(
            Numbers,
            numbers(0, 10).map((key) => ({ aggregateId: `a${key}`, payload: new Counted({ n: Number(n) }) }))
          ),
          Effect.yieldNow()
        )))
      for (let round = 0; round < 6; round++) {
        const one = yield* member
        yield* settle
        const other = yield* member
        yield* settle
        yield* one.leave
        yield* settle
        yield* other.leave
      }
      yield* Fiber.join(publisher)
      yield* eventually("all are handled", () => Array.from(seen.values()).every((one) => one[one.length - 1] === 199))
      yield* settle
      expect(overlaps).toEqual([])
      for (const one of seen.values()) {
        // A take-over may step back once, and never skips.
        expect(new Set(one).size).toBe(200)
        for (let i = 1; i < one.length; i++) expect(one[i]!).toBeLessThanOrEqual(one[i - 1]! + 1)
      }
      expect(yield* broker.positions("numbers", "group")).toEqual(
        (yield* broker.positions("numbers", "group")).map(({ end }) => ({ watermark: end, end }))
      )
      yield* first.leave
    }))
})

it.scoped("a subscription says what it owns, how far it is, and how full its fullest mailbox is", () =>
  Effect.gen(function*() {
    const topic = Topic.envelope("status", Schema.TaggedStruct("Placed", {}), { partitions: 2 })
    const bus = yield* EventBus.EventBus
    const gate = yield* Deferred.make<void>()
    const subscription = yield* bus.subscribe(topic, () => Deferred.await(gate), { onExhausted: FailurePolicy.drop })
    yield* TestClock.adjust("1 second")
    const publish = Effect.map(
      bus.publish(topic, { aggregateId: "a", payload: { _tag: "Placed" } }),
      ({ partition }) => partition
    )
    const partition = yield* publish
    for (let i = 0; i < 3; i++) yield* publish
    const own = Effect.map(subscription.status, (status) => status?.partitions[partition])
    expect(yield* own).toEqual({
      topic: "status",
      partition,
      epoch: 1,
      position: 4,
      watermark: 0,
      end: 4,
      movedAt: 1000
    })
    expect(yield* subscription.stats).toMatchObject({ actors: 1, endedActors: 0, fullestMailbox: 0.4 })
    yield* TestClock.adjust("1 second")
    yield* Deferred.succeed(gate, undefined)
    yield* eventually("all is handled", () => Effect.runSync(subscription.stats).handled === 4)
    expect(yield* own).toMatchObject({ watermark: 4, movedAt: 2000 })
    expect(yield* subscription.status).toMatchObject({ isConnected: true, problems: [], partitions: { length: 2 } })
    yield* TestClock.adjust("10 minutes")
    yield* eventually(
      "the actor has ended",
      () => Effect.runSync(subscription.stats).endedActors === 1
    )
    expect(yield* subscription.stats).toMatchObject({ actors: 0, fullestMailbox: 0 })
    yield* subscription.close
    expect(yield* subscription.status).toMatchObject({ partitions: [] })
  }).pipe(Effect.provide(EventBus.layer.pipe(
    Layer.provide(MemoryTransport.layer()),
    Layer.provide(EventBusConfig.layer({ mailboxCapacity: 10 }))
  ))))

it.scopedLive("a topic that messages are published to and nobody subscribes to is said once; read ones are not", () => {
  const lines: Array<string> = []
  const logger = Logger.make(({ message }) => void lines.push(String(message)))
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const broker = yield* MemoryBroker.MemoryBroker
    const publish = (name: string) => bus.publish(Topic.plain(name), { body: "one" })
    yield* Effect.forEach(["unheard", "replayed"], publish)
    yield* bus.replay(Topic.plain("replayed"), () => Effect.void)
    yield* bus.subscribe(Topic.plain("heard"), () => Effect.void)
    yield* publish("heard")
    const said = () => lines.filter((line) => line.includes("nobody"))
    yield* eventually("it is said", () => said().length > 0)
    yield* publish("unheard")
    expect(yield* Effect.replicateEffect(broker.unheard, 3)).toEqual([[], [], []])
    expect(said()).toEqual([expect.stringContaining("\"unheard\"")])
  }).pipe(
    Effect.provide(EventBus.layer.pipe(
      Layer.provide(MemoryTransport.layerBroker),
      Layer.provideMerge(MemoryBroker.layer())
    )),
    Effect.provide(Logger.replace(Logger.defaultLogger, logger))
  )
})
