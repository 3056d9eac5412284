import * as TcpProxy from "@effect-eventbus/brokers/TcpProxy"
import type { StartFrom, SubscribeRequest, TopicSpec } from "@effect-eventbus/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { ConsumerConfig } from "nats"
import { Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { relay } from "./relay.js"
import { sharedServer } from "./sharedServer.js"

const after = (group: string): StartFrom => ({ group })

let relays = 0

/** Finishes what is below a number at once, and nothing else. */
const finishing = (below: number, capacity = 1_000) =>
  new T.TestConsumer({
    capacity,
    onMessage: (message, consumer) => {
      if (T.numberOf(message) >= below) return
      consumer.assignments.filter(({ partition }) => partition === message.partition).at(-1)!.finish(message)
    }
  })

describe.concurrent.each(T.versions)("A group that begins where another one has stopped, on %s", (version) => {
  const servers = sharedServer(version)

  const transport = (options = {}) => T.transport(servers(), { leaseDuration: "2 seconds", ...options })

  const request = (topic: TopicSpec, group: string, more: Partial<SubscribeRequest> = {}) =>
    T.request(topic, { group, ...more })

  const manager = Effect.flatMap(
    Effect.suspend(() => T.client(servers())),
    (nc) => Effect.map(Effect.promise(() => nc.jetstreamManager()), (jsm) => ({ jsm, nc }))
  )

  /** What is not settled of the old one comes to the new one, and nothing that is. */
  const takesOver = (topic: TopicSpec, more: Partial<SubscribeRequest> = {}) =>
    Effect.gen(function*() {
      const publisher = yield* transport()
      yield* T.publish(publisher, topic, T.messages(0, 100))
      const old = finishing(60)
      const former = yield* T.scoped(
        Effect.flatMap(transport(), (one) => one.subscribe(request(topic, "old", more), old))
      )
      yield* T.waitUntil("it has read", () => old.taken.length === 100)
      yield* former.close
      yield* T.publish(publisher, topic, T.messages(100, 150))
      const next = finishing(1_000)
      const one = yield* T.scoped(
        Effect.flatMap(
          transport(),
          (service) => service.subscribe(request(topic, "new", { ...more, startFrom: after("old") }), next)
        )
      )
      yield* T.waitUntil("the rest came", () => next.taken.length >= 90)
      T.assertNumbers(T.ascending(next.numbers), T.range(60, 150))
      for (const message of next.taken) assert.strictEqual(message.maybeDuplicate, T.numberOf(message) < 100)
      // It has a position now: the other one is not asked any more.
      yield* one.close
      yield* publisher.subscribe(request(topic, "old", more), finishing(1_000))
      yield* T.publish(publisher, topic, T.messages(150, 160))
      const again = finishing(1_000)
      yield* publisher.subscribe(request(topic, "new", { ...more, startFrom: after("old") }), again)
      yield* T.waitUntil("what is new came", () => again.taken.length >= 10)
      T.assertNumbers(T.ascending(again.numbers), T.range(150, 160))
    })

  it("gets what that has not settled, and nothing else", () => T.run(takesOver(T.topic())))

  it("does so in each partition", () => T.run(takesOver({ ...T.topic(), partitions: 3 })))

  it("is refused while that one is alive, with who it is", () =>
    T.run(Effect.gen(function*() {
      const topic = { ...T.topic(), partitions: 2 }
      const service = yield* transport()
      const former = yield* T.scoped(service.subscribe(request(topic, "old"), new T.TestConsumer()))
      const next = request(topic, "new", { startFrom: after("old") })
      const refused = yield* Effect.flip(service.subscribe(next, new T.TestConsumer()))
      assert.deepInclude(refused, { _tag: "TakeOverRefused", reason: "Alive", isRetryable: true, from: "old" })
      assert.match(refused.message, /alive \((process \d+ at|consumer "old@)/)
      const { jsm } = yield* manager
      const stream = Subject.toStream(topic.name)
      assert.lengthOf(yield* Effect.promise(() => jsm.consumers.list(stream).next()), 2)
      yield* former.close
      yield* service.subscribe(next, new T.TestConsumer())
    })))

  it("begins when a lease has passed since that one died", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const proxy = yield* TcpProxy.make({ port: Number(servers()[0]!.split(":")[1]) })
      const publisher = yield* transport()
      const old = finishing(50)
      const dead = yield* T.transport([proxy.address], { leaseDuration: "2 seconds", closeTimeout: "10 millis" })
      yield* dead.subscribe(request(topic, "old"), old)
      yield* T.publish(publisher, topic, T.messages(0, 100))
      yield* T.waitUntil("it has read", () => old.taken.length === 100)
      const { jsm } = yield* manager
      const floor = () =>
        jsm.consumers.info(Subject.toStream(topic.name), `old@${Subject.toStream(topic.name)}`).then(({ ack_floor }) =>
          ack_floor.stream_seq === 50
        )
      yield* T.waitUntil("it has acknowledged", floor)
      yield* proxy.refuse
      yield* proxy.cut
      const next = new T.TestConsumer()
      yield* publisher.subscribe(request(topic, "new", { startFrom: after("old") }), next)
      yield* T.waitUntil("the rest came", () => next.taken.length >= 50)
      T.assertNumbers(next.numbers, T.range(50, 100))
      assert.isTrue(next.taken.every(({ maybeDuplicate }) => maybeDuplicate))
    })))

  /** A group that is gone has settled a third of its messages before it handled any. */
  const settledBefore = Effect.gen(function*() {
    const topic = { ...T.topic("plain"), partitions: 2 }
    const semantics = "at-most-once" as const
    const service = yield* transport()
    const old = new T.TestConsumer({ onMessage: () => {} })
    const former = yield* T.scoped(
      Effect.flatMap(transport(), (one) => one.subscribe(request(topic, "old", { semantics }), old))
    )
    yield* T.publish(service, topic, T.messages(0, 100))
    yield* T.waitUntil("it has read", () => old.taken.length === 100)
    const settled = old.taken.filter(({ offset }) => offset % 3 === 0)
    for (const assignment of old.assignments) {
      yield* assignment.settle(settled.filter(({ partition }) => partition === assignment.partition))
    }
    yield* former.close
    return { semantics, service, settled, topic }
  })

  it("does not handle again what that had settled before handling it", () =>
    T.run(Effect.gen(function*() {
      const { semantics, service, settled, topic } = yield* settledBefore
      const next = new T.TestConsumer({ onMessage: () => {} })
      const begins = request(topic, "new", { semantics, startFrom: after("old") })
      yield* service.subscribe(begins, next)
      yield* T.waitUntil("the rest came", () => next.taken.length >= 100 - settled.length)
      T.assertNumbers(
        T.ascending([...next.numbers, ...settled.map(T.numberOf)]),
        T.range(0, 100)
      )
    })))

  it("two instances that begin at once share what is left", () =>
    T.run(Effect.gen(function*() {
      const topic = { ...T.topic(), partitions: 4 }
      const service = yield* transport()
      yield* T.publish(service, topic, T.messages(0, 200))
      const old = finishing(80)
      const former = yield* T.scoped(Effect.flatMap(transport(), (one) => one.subscribe(request(topic, "old"), old)))
      yield* T.waitUntil("it has read", () => old.taken.length === 200)
      yield* former.close
      const two = [finishing(1_000), finishing(1_000)]
      const begins = request(topic, "new", { startFrom: after("old") })
      yield* Effect.forEach(two, (one) => Effect.flatMap(transport(), (own) => own.subscribe(begins, one)), {
        concurrency: 2
      })
      const numbers = () => two.flatMap((one) => one.numbers)
      yield* T.waitUntil("the rest came", () => numbers().length >= 120)
      T.assertNumbers(T.ascending(Array.from(new Set(numbers()))), T.range(80, 200))
    })))

  it("a start that broke off in the middle is taken up by the next one, also what was settled before it was handled", () =>
    T.run(Effect.gen(function*() {
      const { semantics, service, settled, topic } = yield* settledBefore
      const begins = request(topic, "new", { semantics, startFrom: after("old") })
      // First what may have been handed over can't be said, then what was settled.
      for (const lost of [".partition.", "=settled.new."]) {
        const broken = yield* relay(
          servers(),
          `broken${relays++}`,
          (endpoint) => endpoint.startsWith("$KV.") && endpoint.includes(lost) ? "NoRoom" : "Served"
        )
        const failed = yield* Effect.flip(
          Effect.flatMap(transport(broken), (one) => one.subscribe(begins, new T.TestConsumer()))
        )
        assert.strictEqual(failed._tag, "SubscribeFailed")
      }
      const next = new T.TestConsumer({ onMessage: () => {} })
      yield* service.subscribe(begins, next)
      yield* T.waitUntil("the rest came", () => next.taken.length >= 100 - settled.length)
      T.assertNumbers(T.ascending([...next.numbers, ...settled.map(T.numberOf)]), T.range(0, 100))
      assert.isTrue(next.taken.every(({ maybeDuplicate }) => maybeDuplicate))
    })))

  it("begins with what comes from now on where that had begun at the latest, and read nothing", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const service = yield* transport()
      yield* T.publish(service, topic, T.messages(0, 10))
      const former = yield* T.scoped(
        service.subscribe(request(topic, "old", { startFrom: "latest" }), new T.TestConsumer())
      )
      yield* former.close
      yield* T.publish(service, topic, T.messages(10, 20))
      const next = new T.TestConsumer()
      yield* service.subscribe(request(topic, "new", { startFrom: after("old") }), next)
      yield* T.waitUntil("they came", () => next.taken.length >= 10)
      T.assertNumbers(next.numbers, T.range(10, 20))
      assert.isTrue(next.taken.every(({ maybeDuplicate }) => !maybeDuplicate))
    })))

  it("nor before where that had begun, if it has acknowledged nothing", () =>
    T.run(Effect.gen(function*() {
      const begins: ReadonlyArray<StartFrom> = ["latest", { offsets: { 0: 11 } }]
      yield* Effect.forEach(begins, (startFrom) =>
        Effect.gen(function*() {
          const topic = T.topic()
          const service = yield* transport()
          yield* T.publish(service, topic, T.messages(0, 10))
          const old = finishing(0)
          const former = yield* T.scoped(service.subscribe(request(topic, "old", { startFrom }), old))
          yield* T.publish(service, topic, T.messages(10, 20))
          yield* T.waitUntil("it has read", () => old.taken.length === 10)
          yield* former.close
          const next = finishing(1_000)
          yield* service.subscribe(request(topic, "new", { startFrom: after("old") }), next)
          yield* T.waitUntil("they came", () => next.taken.length >= 10)
          T.assertNumbers(next.numbers, T.range(10, 20))
          assert.isTrue(next.taken.every(({ maybeDuplicate }) => maybeDuplicate))
        }), { concurrency: "unbounded" })
    })))

  const foreign = (topic: TopicSpec, config: Partial<ConsumerConfig>) =>
    Effect.gen(function*() {
      const service = yield* transport()
      yield* T.publish(service, topic, T.messages(0, 100))
      const { jsm, nc } = yield* manager
      const stream = Subject.toStream(topic.name)
      yield* Effect.promise(() =>
        jsm.consumers.add(stream, { durable_name: "theirs", ack_policy: "explicit" as never, ...config })
      )
      return {
        js: nc.jetstream(),
        jsm,
        nc,
        service,
        stream,
        begins: request(topic, "new", { startFrom: after("theirs") })
      }
    })

  it("takes over from a consumer of others: behind its acknowledgements, and not while it is in use", () =>
    T.run(Effect.gen(function*() {
      const topic = { ...T.topic(), partitions: 2 }
      const { begins, js, service, stream } = yield* foreign(topic, { ack_wait: 3e9 })
      const theirs = yield* Effect.promise(() => js.consumers.get(stream, "theirs"))
      const batch = yield* Effect.promise(() => theirs.fetch({ max_messages: 40, expires: 2_000 }))
      let seen = 0
      yield* Effect.promise(async () => {
        for await (const message of batch) if (seen++ < 30) message.ack()
      })
      assert.strictEqual(seen, 40)
      // Ten are in its hands.
      const refused = yield* Effect.flip(service.subscribe(begins, new T.TestConsumer()))
      assert.deepInclude(refused, { _tag: "TakeOverRefused", reason: "Alive" })
      const reading = yield* Effect.promise(() => theirs.consume({ callback: () => {} }))
      const again = yield* Effect.flip(service.subscribe(begins, new T.TestConsumer()))
      assert.deepInclude(again, { _tag: "TakeOverRefused", reason: "Alive" })
      reading.stop()
      const next = new T.TestConsumer()
      const subscribed = Effect.either(service.subscribe(begins, next))
      yield* subscribed.pipe(
        Effect.repeat({ until: ({ _tag }) => _tag === "Right" }),
        Effect.timeoutFail({ duration: "30 seconds", onTimeout: () => new Error("it stays refused") })
      )
      yield* T.waitUntil("the rest came", () => next.taken.length >= 70)
      T.assertNumbers(T.ascending(next.numbers), T.range(30, 100))
      assert.isTrue(next.taken.every(({ maybeDuplicate }) => maybeDuplicate))
    })))

  it("takes over from a consumer without acknowledgements behind what was delivered, also a push consumer", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const { begins, nc, service } = yield* foreign(topic, {
        ack_policy: "none" as never,
        deliver_subject: `to.${topic.name}`
      })
      let seen = 0
      const subscription = nc.subscribe(`to.${topic.name}`, { callback: () => void seen++ })
      yield* T.waitUntil("it gets them", () => seen === 100)
      const refused = yield* Effect.flip(service.subscribe(begins, new T.TestConsumer()))
      assert.include(refused.message, "listens")
      subscription.unsubscribe()
      yield* Effect.promise(() => nc.flush())
      const next = new T.TestConsumer()
      yield* service.subscribe(begins, next)
      yield* T.publish(service, topic, T.messages(100, 110))
      yield* T.waitUntil("the rest came", () => next.taken.length >= 10)
      T.assertNumbers(next.numbers, T.range(100, 110))
    })))

  it("is refused where there is no such group, or it read something else; nothing is made", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const { begins, jsm, service, stream } = yield* foreign(topic, { filter_subject: `${topic.name}` })
      const unknown = yield* Effect.flip(
        service.subscribe(request(topic, "new", { startFrom: after("nobody") }), new T.TestConsumer())
      )
      assert.deepInclude(unknown, { _tag: "TakeOverRefused", reason: "Unknown", isRetryable: false })
      assert.include(unknown.message, `"nobody@${stream}"`)
      const itself = yield* Effect.flip(
        service.subscribe(request(topic, "new", { startFrom: after("new") }), new T.TestConsumer())
      )
      assert.strictEqual(itself._tag, "TakeOverRefused")
      yield* T.scoped(service.subscribe(request(T.topic(), "busy"), new T.TestConsumer()))
      const elsewhere = yield* Effect.flip(
        service.subscribe(request(topic, "new", { startFrom: after("busy") }), new T.TestConsumer())
      )
      assert.deepInclude(elsewhere, { _tag: "TakeOverRefused", reason: "OtherTopic" })
      assert.lengthOf(yield* Effect.promise(() => jsm.consumers.list(stream).next()), 1)
      yield* service.subscribe(begins, new T.TestConsumer())
      // Of a stream that several topics share it has read one.
      const shared = T.topic().name
      yield* Effect.promise(() => jsm.streams.add({ name: Subject.toStream(shared), subjects: [`${shared}.>`] }))
      yield* Effect.promise(() =>
        jsm.consumers.add(Subject.toStream(shared), {
          durable_name: "theirs",
          ack_policy: "explicit" as never,
          filter_subject: `${shared}.one`
        })
      )
      const narrow = yield* Effect.flip(
        service.subscribe(
          request({ name: `${shared}.two`, kind: "envelope" }, "new", { startFrom: after("theirs") }),
          new T.TestConsumer()
        )
      )
      assert.deepInclude(narrow, { _tag: "TakeOverRefused", reason: "OtherTopic" })
    })))
})
