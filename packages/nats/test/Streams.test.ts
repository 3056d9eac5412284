import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either } from "effect"
import type { ConsumerConfig, StreamConfig } from "nats"
import type { NatsConfig } from "../src/index.js"
import { Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { sharedServer } from "./sharedServer.js"

const timeout = Duration.seconds(10)

const durableOf = (topic: string) => Either.getOrThrow(Subject.toDurable("group", topic))

describe.each(T.versions)("Streams on %s", (version) => {
  const servers = sharedServer(version)

  const manager = Effect.flatMap(
    Effect.suspend(() => T.client(servers())),
    (nc) => Effect.promise(() => nc.jetstreamManager())
  )

  const configOf = (topic: string) =>
    Effect.flatMap(
      manager,
      (jsm) => Effect.promise(async () => ({ ...(await jsm.streams.info(Subject.toStream(topic))).config }) as object)
    )

  const publishOnce = (options: NatsConfig.Options, topic = T.topic()) =>
    Effect.gen(function*() {
      const service = yield* T.transport(servers(), options)
      const [result] = yield* service.publish(topic, [{ ...T.message(0), id: undefined }], { timeout })
      return { topic, result: result! }
    })

  it("are made with every setting", () =>
    T.run(Effect.gen(function*() {
      const { topic } = yield* publishOnce({
        storage: "memory",
        retention: "interest",
        discard: "new",
        maxAge: "10 seconds",
        maxBytes: 1_000_000,
        maxMessages: 1_000,
        replicas: 1,
        duplicateWindow: "1 minute",
        compression: "s2"
      })
      assert.deepInclude(yield* configOf(topic.name), {
        storage: "memory",
        retention: "interest",
        discard: "new",
        max_age: 10e9,
        max_bytes: 1_000_000,
        max_msgs: 1_000,
        num_replicas: 1,
        duplicate_window: 10e9,
        // An older server has no such setting, and the stream is made without it.
        ...(version === "2.9" ? {} : { compression: "s2" })
      })
    })))

  it("update changes what is set and differs, and leaves other settings alone", () =>
    T.run(Effect.gen(function*() {
      const jsm = yield* manager
      const topic = T.topic()
      const theirs: Partial<StreamConfig> = {
        name: Subject.toStream(topic.name),
        subjects: [topic.name, `${topic.name}.more`],
        description: "theirs",
        max_msgs_per_subject: 7,
        max_msg_size: 5_000
      }
      yield* Effect.promise(() => jsm.streams.add({ ...theirs } as StreamConfig))
      const created = yield* publishOnce({ maxMessages: 50 }, topic)
      assert.isTrue(Either.isRight(created.result))
      assert.deepInclude(yield* configOf(topic.name), { max_msgs: -1 })
      const updated = yield* publishOnce({
        streams: "update",
        maxMessages: 50,
        maxAge: "30 seconds",
        discard: "new",
        compression: "s2"
      }, topic)
      assert.isTrue(Either.isRight(updated.result))
      assert.deepInclude(yield* configOf(topic.name), {
        ...theirs,
        max_msgs: 50,
        max_age: 30e9,
        discard: "new",
        duplicate_window: 30e9,
        ...(version === "2.9" ? {} : { compression: "s2" })
      })
      // One that is missing is made.
      const fresh = yield* publishOnce({ streams: "update" })
      assert.isTrue(Either.isRight(fresh.result))
    })))

  it("what the server refuses to change is an error with the differences", () =>
    T.run(Effect.gen(function*() {
      const { topic } = yield* publishOnce({})
      const refused = yield* publishOnce({ streams: "update", storage: "memory", maxMessages: 9 }, topic)
      const error = Either.getOrThrow(Either.flip(refused.result))
      assert.strictEqual(error._tag, "InvalidConfiguration")
      assert.match(error.message, /storage file, but memory/)
      assert.match(error.message, /max_msgs -1, but 9/)
      assert.match(error.message, /does not change that/)
      const queue = yield* publishOnce({ streams: "update", retention: "workqueue" }, topic)
      const second = Either.getOrThrow(Either.flip(queue.result))
      assert.strictEqual(second._tag, "InvalidConfiguration")
      assert.match(second.message, /retention limits, but workqueue/)
      const validated = yield* publishOnce({ streams: "validate", retention: "interest", discard: "new" }, topic)
      const third = Either.getOrThrow(Either.flip(validated.result))
      assert.match(third.message, /retention limits, but interest[^]*discard old, but new/)
      assert.deepInclude(yield* configOf(topic.name), { storage: "file", retention: "limits", max_msgs: -1 })
      // Only a cluster has replicas.
      const replicated = yield* publishOnce({ replicas: 3 })
      assert.strictEqual(Either.getOrThrow(Either.flip(replicated.result))._tag, "InvalidConfiguration")
    })))

  it("a work queue keeps what is not finished, and is read from its start", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const service = yield* T.transport(servers(), { retention: "workqueue" })
      yield* T.publish(service, topic, T.messages(0, 50))
      for (const startFrom of ["latest", { offsets: { 0: 10 } }, { time: new Date(0) }] as const) {
        const refused = yield* Effect.either(
          Effect.scoped(service.subscribe(T.request(topic, { startFrom }), new T.TestConsumer()))
        )
        const error = Either.getOrThrow(Either.flip(refused))
        assert.strictEqual(error._tag, "InvalidConfiguration")
        assert.match(error.message, /startFrom "earliest"/)
      }
      const consumer = new T.TestConsumer({
        onMessage: (message, consumer) => {
          if (T.numberOf(message) % 10 !== 0) consumer.finish(message)
        }
      })
      yield* service.subscribe(T.request(topic), consumer)
      yield* T.waitUntil("all came", () => consumer.taken.length === 50)
      const jsm = yield* manager
      const info = () => jsm.streams.info(Subject.toStream(topic.name))
      yield* T.waitUntil("only the unfinished ones are kept", async () => (await info()).state.messages === 5)
      const other = yield* Effect.either(
        Effect.scoped(service.subscribe(T.request(topic, { group: "other" }), new T.TestConsumer()))
      )
      assert.match(Either.getOrThrow(Either.flip(other)).message, /one group/)
      // Deleted from outside: it is made again, and what is in hand is not handed over twice.
      // A server of 2.9 sometimes answers that a folder is not empty, because it writes the consumer's state meanwhile.
      yield* T.waitUntil("the consumer is deleted", () =>
        jsm.consumers.delete(Subject.toStream(topic.name), durableOf(topic.name)).catch((
          error: { readonly message: string }
        ) =>
          /directory not empty/.test(error.message) ? false : Promise.reject(error)
        ))
      yield* T.publish(service, topic, T.messages(50, 60))
      yield* T.waitUntil("the new ones came", () => consumer.taken.length >= 60)
      for (const message of [...consumer.unfinished.values()]) consumer.finish(message)
      yield* T.waitUntil("the queue is empty", async () => (await info()).state.messages === 0)
      T.assertNumbers(consumer.numbers, T.range(0, 60))
      T.assertNoViolations(consumer)
    })))

  it("with retention by interest a message goes when every group has finished it", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const service = yield* T.transport(servers(), { retention: "interest" })
      yield* T.publish(service, topic, [T.message(0)])
      const [quick, slow] = [new T.TestConsumer(), new T.TestConsumer({ onMessage: () => {} })]
      yield* service.subscribe(T.request(topic, { group: "quick" }), quick)
      yield* service.subscribe(T.request(topic, { group: "slow" }), slow)
      yield* T.publish(service, topic, T.messages(1, 21))
      yield* T.waitUntil("both have them", () => quick.taken.length === 20 && slow.taken.length === 20)
      T.assertNumbers(quick.numbers, T.range(1, 21))
      const jsm = yield* manager
      const info = () => jsm.streams.info(Subject.toStream(topic.name))
      assert.strictEqual((yield* Effect.promise(info)).state.messages, 20)
      for (const message of [...slow.unfinished.values()]) slow.finish(message)
      yield* T.waitUntil("the stream is empty", async () => (await info()).state.messages === 0)
    })))

  it("topics that share a stream are read with wildcards; a delivery's topic is its subject", () =>
    T.run(Effect.gen(function*() {
      const base = T.topic().name
      const service = yield* T.transport(servers(), { sharedStreams: [`${base}.>`] })
      const topicOf = (name: string) => ({ name: `${base}.${name}`, kind: "envelope" as const })
      const [all, created] = [new T.TestConsumer(), new T.TestConsumer()]
      yield* service.subscribe(T.request(topicOf(">")), all)
      yield* service.subscribe(T.request(topicOf("*.created")), created)
      const names = ["eu.created", "us.created", "eu.shipped", "a.b.c"]
      for (const [n, name] of names.entries()) yield* T.publish(service, topicOf(name), [T.message(n)])
      yield* T.waitUntil("all came", () => all.taken.length === 4 && created.taken.length === 2)
      assert.deepStrictEqual(all.taken.map(({ topic }) => topic), names.map((name) => `${base}.${name}`))
      assert.deepStrictEqual(created.taken.map(({ topic }) => topic), [`${base}.eu.created`, `${base}.us.created`])
      const jsm = yield* manager
      const info = yield* Effect.promise(() => jsm.streams.info(Subject.toStream(`${base}.>`)))
      assert.deepStrictEqual(info.config.subjects, [`${base}.>`])
      assert.strictEqual(Subject.fromStream(info.config.name), `${base}.>`)
    })))

  it("in a stream that holds other topics, too, all who use a topic mean the same partitions", () =>
    T.run(Effect.gen(function*() {
      const base = T.topic().name
      const options = { sharedStreams: [`${base}.>`], leaseBucket: "counts" } as const
      const first = yield* T.transport(servers(), options)
      const topic = { name: `${base}.orders`, kind: "envelope", partitions: 4 } as const
      yield* T.publish(first, topic, [T.message(0)])
      yield* T.publish(first, { ...topic, name: `${base}.other`, partitions: 5 }, [T.message(0)])
      const others = [
        [{ ...topic, partitions: 5 }, options, /partitions=4 .*partitions=5/],
        [{ ...topic, partitions: undefined }, options, /partitions=4 .*no partitions/],
        [topic, { ...options, partitioner: "sarama-fnv1a" }, /murmur2.*sarama-fnv1a/]
      ] as const
      for (const [other, options, message] of others) {
        const service = yield* T.transport(servers(), options)
        const published = yield* Effect.flip(T.publish(service, other, [T.message(1)]))
        assert.strictEqual(published._tag, "InvalidConfiguration")
        assert.match(published.message, message)
        const subscribed = yield* Effect.flip(Effect.scoped(service.subscribe(T.request(other), new T.TestConsumer())))
        assert.strictEqual(subscribed._tag, "InvalidConfiguration")
      }
      const second = yield* T.transport(servers(), options)
      const consumer = new T.TestConsumer()
      yield* second.subscribe(T.request(topic), consumer)
      yield* T.waitUntil("it came", () => consumer.taken.length === 1)
      // What was recorded of another stream is forgotten with it.
      const jsm = yield* manager
      yield* Effect.promise(() => jsm.streams.delete(Subject.toStream(`${base}.>`)))
      const third = yield* T.transport(servers(), options)
      yield* T.publish(third, { ...topic, name: `${base}.other`, partitions: 7 }, [T.message(0)])
    })))

  it("a wildcard that names topics with partitions, but not their subjects, is refused; > at its end reads them", () =>
    T.run(Effect.gen(function*() {
      const base = T.topic().name
      for (const options of [{ sharedStreams: [`${base}.shared.>`] }, {}] as const) {
        const kind = "envelope" as const
        const name = "sharedStreams" in options ? `${base}.shared` : `${base}.own`
        const service = yield* T.transport(servers(), options)
        yield* T.publish(service, { name: `${name}.eu`, kind, partitions: 3 }, [T.message(1)])
        const pattern = { name: `${name}.*`, kind }
        const subscribed = yield* Effect.flip(
          Effect.scoped(service.subscribe(T.request(pattern), new T.TestConsumer()))
        )
        const read = yield* Effect.flip(
          Effect.scoped(service.read!({ topic: pattern, from: "earliest", to: "now" }))
        )
        for (const error of [subscribed, read]) {
          assert.strictEqual(error._tag, "InvalidConfiguration")
          assert.include(error.message, `"${name}.eu"`)
        }
        const consumer = new T.TestConsumer()
        if (!("sharedStreams" in options)) continue
        yield* service.subscribe(T.request({ name: `${name}.>`, kind }), consumer)
        yield* T.waitUntil("it came", () => consumer.taken.length === 1)
        assert.deepStrictEqual(Subject.toAggregate(`${name}.eu`, consumer.taken[0]!.topic)?.aggregateId, "a-1")
      }
      const service = yield* T.transport(servers(), { partitions: 3 })
      const pattern = { name: `${base}.*.x`, kind: "envelope" } as const
      const error = yield* Effect.flip(Effect.scoped(service.subscribe(T.request(pattern), new T.TestConsumer())))
      assert.match(error.message, /nats\.partitions/)
    })))

  it("a wildcard over streams of their own is refused with their names", () =>
    T.run(Effect.gen(function*() {
      const base = T.topic().name
      const service = yield* T.transport(servers())
      for (const expected of [["a"], ["a", "b"]]) {
        const name = expected[expected.length - 1]!
        yield* T.publish(service, { name: `${base}.${name}`, kind: "envelope" }, [T.message(0)])
        const refused = yield* Effect.either(
          Effect.scoped(
            service.subscribe(T.request({ name: `${base}.*`, kind: "envelope" }), new T.TestConsumer())
          )
        )
        const error = Either.getOrThrow(Either.flip(refused))
        assert.strictEqual(error._tag, "InvalidConfiguration")
        for (const one of expected) assert.include(error.message, Subject.toStream(`${base}.${one}`))
      }
      const [published] = yield* service.publish({ name: `${base}.*`, kind: "envelope" }, [T.message(0)], { timeout })
      assert.strictEqual(Either.getOrThrow(Either.flip(published!))._tag, "InvalidConfiguration")
    })))
})

describe.each(T.versions)("Where a group begins on %s", (version) => {
  const servers = sharedServer(version)

  it("at a time, at a sequence, at the last message; what is not there yet is the end", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const service = yield* T.transport(servers())
      assert.isTrue(service.capabilities.startAt)
      yield* T.publish(service, topic, T.messages(0, 10))
      const nc = yield* T.client(servers())
      const jsm = yield* Effect.promise(() => nc.jetstreamManager())
      const sixth = yield* Effect.promise(() => jsm.streams.getMessage(Subject.toStream(topic.name), { seq: 6 }))
      yield* T.publish(service, topic, T.messages(10, 20))
      const lastOne = yield* T.transport(servers(), { latest: "last" })
      const cases = [
        { startFrom: { offsets: { 0: 15 } }, first: 14 },
        { startFrom: { offsets: {} }, first: 0 },
        { startFrom: { offsets: { 0: 0 } }, first: 0 },
        { startFrom: { offsets: { 0: 1_000 } }, first: 20 },
        { startFrom: { time: new Date(0) }, first: 0 },
        { startFrom: { time: new Date("2100-01-01") }, first: 20 },
        { startFrom: "latest", first: 20 },
        { startFrom: "latest", first: 19, service: lastOne },
        { startFrom: { time: sixth.time }, first: undefined }
      ] as const
      const consumers = yield* Effect.forEach(cases, (one, i) =>
        Effect.gen(function*() {
          const consumer = new T.TestConsumer()
          const by = "service" in one ? one.service : service
          yield* by.subscribe(T.request(topic, { startFrom: one.startFrom, group: `g${i}` }), consumer)
          return consumer
        }))
      yield* T.publish(service, topic, T.messages(20, 25))
      for (const [i, consumer] of consumers.entries()) {
        yield* T.waitUntil(`group ${i} has the last one`, () => consumer.numbers.includes(24))
        const { first } = cases[i]!
        if (first !== undefined) T.assertNumbers(consumer.numbers, T.range(first, 25))
      }
      // A date counts milliseconds: those before it in the same one come, too, and nothing older.
      const byTime = consumers[consumers.length - 1]!
      assert.isTrue(byTime.numbers.includes(5))
      assert.isTrue(byTime.taken.every(({ timestamp }) => timestamp >= sixth.time.getTime()))
    })))

  it("a consumer has the inactive threshold that is set; closing deletes it only where that is asked for", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const nc = yield* T.client(servers())
      const jsm = yield* Effect.promise(() => nc.jetstreamManager())
      const names = Effect.promise(async () =>
        (await jsm.consumers.list(Subject.toStream(topic.name)).next()).map(({ name }) => name)
      )
      const once = (options: NatsConfig.Options) =>
        Effect.scoped(Effect.gen(function*() {
          const service = yield* T.transport(servers(), options)
          yield* service.subscribe(T.request(topic), new T.TestConsumer())
          const info = yield* T.consumerInfo(nc, Subject.toStream(topic.name), durableOf(topic.name))
          return { ...info.config } as ConsumerConfig
        }))
      assert.isUndefined((yield* once({})).inactive_threshold)
      assert.strictEqual((yield* once({ inactiveThreshold: "1 hour" })).inactive_threshold, 3_600e9)
      const refused = yield* Effect.either(once({ consumers: "validate" }))
      assert.match(
        Either.getOrThrow(Either.flip(refused)).message,
        /inactive_threshold 3600000000000 instead of none/
      )
      assert.strictEqual((yield* once({})).inactive_threshold ?? 0, 0)
      assert.deepStrictEqual(yield* names, [durableOf(topic.name)])
      yield* once({ deleteConsumers: true })
      assert.deepStrictEqual(yield* names, [])
    })))
})
