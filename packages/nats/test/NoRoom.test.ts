import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, type Scope } from "effect"
import type { NatsConnection } from "nats"
import type { NatsConfig } from "../src/index.js"
import * as T from "./fixture.js"

/** A server whose account has room for a few megabytes in files. */
const scene = (version: "2.15" | "2.9") =>
  Effect.gen(function*() {
    const { servers } = yield* T.server(
      version,
      "accounts { A { jetstream { max_file: 8000000, max_mem: 8000000 }, users: [{ user: a, password: p }] } }"
    )
    const nc = yield* T.client(servers, { user: "a", pass: "p" })
    const jsm = yield* Effect.promise(() => nc.jetstreamManager())
    yield* Effect.promise(() => jsm.streams.add({ name: "filler", subjects: ["filler"] }))
    return {
      // Without room a lease is proven for half of its duration, less a second: a busy machine needs that.
      transport: (options: NatsConfig.Options = {}) =>
        T.transport(servers, { user: "a", password: Redacted.make("p"), leaseDuration: "6 seconds", ...options }),
      fill: fill(nc),
      makeRoom: Effect.promise(() => jsm.streams.purge("filler"))
    }
  })

/** What is too large for the rest is refused sooner than what is small. */
const fill = (nc: NatsConnection): Effect.Effect<void, never, Scope.Scope> =>
  Effect.forEach(
    [100_000, 1_000, 0],
    (size) =>
      T.waitUntil("there is no room", () =>
        nc.jetstream().publish("filler", new Uint8Array(size)).then(
          () => false,
          ({ message }: Error) => /resource|storage/.test(message)
        )),
    { discard: true }
  )

/** 2.9 lets a key be written again without room, and counts what was purged as if it were there. */
const needsRoom = (version: string) => version !== "2.9"

/** Holds what comes until it is let go, and from a number on always. */
const holder = (from: number) => {
  let isFree = false
  const consumer = new T.TestConsumer({
    capacity: 10,
    onMessage: (message, consumer) => {
      // Within an offer it would ask for more before it has refused any.
      if (isFree && T.numberOf(message) < from) setImmediate(() => consumer.finish(message))
    }
  })
  const letGo = Effect.sync(() => {
    isFree = true
    for (const message of [...consumer.unfinished.values()]) consumer.finish(message)
  })
  return { consumer, letGo }
}

describe.each(T.versions)("Without room for what has to be written, on %s", (version) => {
  it("there is no limit to what is read, and whoever reads next is told that all may have been handed over", () =>
    T.runRemembering((lines) =>
      Effect.gen(function*() {
        const { fill, makeRoom, transport } = yield* scene(version)
        const topic = T.topic()
        const publisher = yield* transport()
        const first = holder(5_000)
        const one = yield* T.scoped(
          Effect.flatMap(transport(), (service) => service.subscribe(T.request(topic), first.consumer))
        )
        yield* T.publish(publisher, topic, T.messages(0, 6_000))
        yield* T.waitUntil("it reads", () => first.consumer.taken.length === 10)
        yield* fill
        yield* first.letGo
        yield* T.waitUntil("all but what is held is read", () => first.consumer.taken.length === 5_010, 20_000)
        assert.strictEqual(lines.some((line) => line.includes("no room for the limit")), needsRoom(version))
        // What it would tell the next one finds no room either.
        yield* one.close
        yield* makeRoom
        const second = new T.TestConsumer()
        yield* publisher.subscribe(T.request(topic), second)
        yield* T.waitUntil("the rest came", () => second.taken.length >= 1_000)
        T.assertNumbers(second.numbers, T.range(5_000, 6_000))
        assert.isTrue(second.taken.slice(0, 10).every(({ maybeDuplicate }) => maybeDuplicate))
        T.assertNoViolations(first.consumer, second)
      })
    ))

  it("the limit is back when there is room", () =>
    T.runRemembering((lines) =>
      Effect.gen(function*() {
        const { fill, makeRoom, transport } = yield* scene(version)
        const topic = T.topic()
        const service = yield* transport()
        const { consumer, letGo } = holder(5_000)
        yield* service.subscribe(T.request(topic), consumer)
        yield* T.publish(service, topic, T.messages(0, 4_000))
        yield* T.waitUntil("it reads", () => consumer.taken.length === 10)
        yield* fill
        yield* letGo
        yield* T.waitUntil("all is read", () => consumer.taken.length === 4_000, 20_000)
        yield* makeRoom
        const isSaid = () => lines.some((line) => line.includes("has room for the limit"))
        yield* T.waitUntil("it is said", () => isSaid() || !needsRoom(version))
        yield* T.publish(service, topic, T.messages(4_000, 4_100))
        yield* T.waitUntil("it reads on", () => consumer.taken.length === 4_100)
        T.assertNumbers(consumer.numbers, T.range(0, 4_100))
      })
    ))

  it("plain messages of a stream in memory are settled by acknowledgements, and handled once", () =>
    T.run(Effect.gen(function*() {
      const { fill, makeRoom, transport } = yield* scene(version)
      const topic = T.topic("plain")
      const service = yield* transport()
      const settled: Array<number> = []
      const consumer = new T.TestConsumer({ onMessage: () => {} })
      const one = yield* T.scoped(
        Effect.flatMap(
          transport(),
          (service) => service.subscribe(T.request(topic, { semantics: "at-most-once" }), consumer)
        )
      )
      yield* fill
      yield* T.publish(service, topic, T.messages(0, 500))
      yield* T.waitUntil("all came", () => consumer.taken.length === 500)
      yield* consumer.assignment.settle(consumer.taken.slice(0, 400))
      settled.push(...consumer.numbers.slice(0, 400))
      yield* one.close
      yield* makeRoom
      const second = new T.TestConsumer()
      yield* service.subscribe(T.request(topic, { semantics: "at-most-once" }), second)
      yield* T.waitUntil("the rest came", () => second.taken.length >= 100)
      T.assertNumbers(T.ascending([...settled, ...second.numbers]), T.range(0, 500))
    })))

  it("a subscription that begins stands by, says why, and reads when there is room", () =>
    T.run(Effect.gen(function*() {
      const { fill, makeRoom, transport } = yield* scene(version)
      const topic = T.topic()
      const service = yield* transport()
      yield* T.scoped(service.subscribe(T.request(topic, { group: "other" }), new T.TestConsumer()))
      yield* T.publish(service, topic, T.messages(0, 10))
      yield* fill
      const consumer = new T.TestConsumer()
      const source = yield* service.subscribe(T.request(topic), consumer)
      const status = yield* source.status!
      assert.lengthOf(status.problems, 1)
      assert.include(status.problems[0]!.message, "no room")
      yield* makeRoom
      yield* T.waitUntil("all came", () => consumer.taken.length === 10)
      assert.deepStrictEqual((yield* source.status!).problems, [])
    })))
})

describe("Without room", () => {
  it("who leaves makes it for whoever comes", () =>
    T.run(Effect.gen(function*() {
      const { fill, transport } = yield* scene("2.15")
      const topic = { ...T.topic(), partitions: 3 }
      const publisher = yield* transport()
      yield* T.publish(publisher, topic, T.messages(0, 300))
      const first = new T.TestConsumer({ capacity: 10, onMessage: () => {} })
      const one = yield* T.scoped(Effect.flatMap(transport(), (service) => service.subscribe(T.request(topic), first)))
      yield* T.waitUntil("it reads", () => first.taken.length === 10)
      yield* fill
      yield* one.close
      const second = new T.TestConsumer()
      yield* (yield* transport()).subscribe(T.request(topic), second)
      yield* T.waitUntil("all came", () => second.taken.length === 300)
    })))
})
