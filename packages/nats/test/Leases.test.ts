import type { IncomingMessage } from "@effect-eventbus/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either, Redacted } from "effect"
import type { NatsConnection, StreamConfig } from "nats"
import { Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { sharedServer } from "./sharedServer.js"
import { wire } from "./wire.js"

/** The revision of the only instance's key. */
const memberRevision = (nc: NatsConnection, topic: string) =>
  Effect.promise(async () => {
    const kv = await nc.jetstream().views.kv("eventbus-leases")
    for await (const key of await kv.keys(`${Subject.toLease("group", topic)}.member.*`)) {
      return (await kv.get(key))?.revision ?? 0
    }
    return 0
  })

describe.each(T.versions)("The leases on %s", (version) => {
  it("one renewal that gets lost is repeated before the lease ends", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const proxy = yield* wire(servers[0]!)
      const nc = yield* T.client(servers)
      const topic = T.topic()
      const service = yield* T.transport([proxy.address], { leaseDuration: "5 seconds" })
      const consumer = new T.TestConsumer()
      yield* service.subscribe(T.request(topic), consumer)
      let isLost = false
      proxy.toServer = (chunk) => {
        if (isLost || !/^HPUB \$KV\.eventbus-leases\.group\..*\.member\./.test(chunk.toString("latin1"))) return chunk
        isLost = true
        return Buffer.alloc(0)
      }
      yield* T.waitUntil("one is lost", () => isLost)
      for (let renewals = 0, last = yield* memberRevision(nc, topic.name); renewals < 2; renewals++) {
        yield* T.waitUntil("it is renewed", async () => {
          const now = await Effect.runPromise(memberRevision(nc, topic.name))
          return now > last && (last = now) > 0
        })
      }
      assert.lengthOf(consumer.assignments, 1)
      yield* T.publish(service, topic, T.messages(0, 10))
      yield* T.waitUntil("it reads on", () => consumer.taken.length === 10)
      assert.lengthOf(consumer.assignments, 1)
    })))

  it("a bucket that was made anew gives nobody a partition before the others' leases have ended", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const nc = yield* T.client(servers)
      const topic = T.topic()
      const service = yield* T.transport(servers, { leaseDuration: "2 seconds", storage: "memory" })
      const consumer = new T.TestConsumer()
      yield* service.subscribe(T.request(topic), consumer)
      const jsm = yield* Effect.promise(() => nc.jetstreamManager())
      const bucket = yield* Effect.promise(() => jsm.streams.info("KV_eventbus-leases"))
      assert.strictEqual(bucket.config.storage, "file")
      const lostAt = performance.now()
      yield* Effect.promise(() => jsm.streams.delete("KV_eventbus-leases"))
      yield* T.waitUntil("it has it again", () => consumer.assignments.length === 2)
      assert.isAbove(performance.now() - lostAt, 2_000)
      yield* T.publish(service, topic, T.messages(0, 10))
      yield* T.waitUntil("it reads on", () => consumer.taken.length === 10)
    })))
})

describe.each(T.versions)("A server without room, on %s", (version) => {
  it(
    "the partitions stay where they are and are read, and all goes on when there is room",
    () =>
      T.runRemembering((lines) =>
        Effect.gen(function*() {
          const limit = 4_000_000
          const { servers } = yield* T.server(
            version,
            `accounts { A { jetstream { max_file: ${limit} }, users: [{ user: a, password: p }] } }`
          )
          // Without room it is proven for half of that, less a second: a busy machine needs it.
          const login = { user: "a", password: Redacted.make("p"), leaseDuration: "5 seconds" } as const
          const nc = yield* T.client(servers, { user: "a", pass: "p" })
          const jsm = yield* Effect.promise(() => nc.jetstreamManager())
          const topic = { ...T.topic(), partitions: 4 }
          const consumers = [0, 1].map(() => new T.TestConsumer({ capacity: 10, onMessage: () => {} }))
          const [service] = yield* Effect.forEach(
            consumers,
            (consumer) =>
              Effect.tap(T.transport(servers, login), (service) => service.subscribe(T.request(topic), consumer))
          )
          yield* T.waitUntil("they share", () => consumers.every(({ assignments }) => assignments.length >= 2))
          yield* T.publish(service!, topic, T.messages(0, 200))
          yield* Effect.promise(() => jsm.streams.add({ name: "filler", subjects: ["filler"] }))
          const js = nc.jetstream()
          // What is too large for the rest is refused sooner than what is small.
          for (const size of [100_000, 1_000, 0]) {
            yield* T.waitUntil("there is no room", () =>
              js.publish("filler", new Uint8Array(size)).then(() => false, ({ message }: Error) =>
                /resource|storage/.test(message)))
          }
          const before = consumers.map(({ assignments }) =>
            assignments.length
          )
          const start = performance.now()
          const finish = () => {
            for (const consumer of consumers) {
              for (const message of [...consumer.unfinished.values()]) finishOf(consumer, message)
            }
          }
          const handled = () => consumers.reduce((sum, { taken }) => sum + taken.length, 0)
          const untilHandled = (count: number) =>
            T.waitUntil(`${count} are handled`, () => {
              if (performance.now() - start > 6_000) finish()
              return handled() === count
            })
          // Longer than a lease nothing is written, and then there is something to be read.
          yield* untilHandled(200)
          assert.deepStrictEqual(consumers.map(({ assignments }) => assignments.length), before)
          const [failed] = yield* service!.publish(topic, [T.message(200)], { timeout: Duration.seconds(5) })
          const error = Either.getOrThrow(Either.flip(failed!))
          assert.deepInclude({ ...error }, { _tag: "PublishFailed", reason: "StorageFull" })
          yield* Effect.promise(() => jsm.streams.purge("filler"))
          yield* T.publish(service!, topic, T.messages(200, 300))
          yield* untilHandled(300)
          T.assertNumbers(T.ascending(consumers.flatMap(({ numbers }) => numbers)), T.range(0, 300))
          assert.deepStrictEqual(consumers.map(({ assignments }) => assignments.length), before)
          assert.isEmpty(lines.filter((line) => line.includes("has ended")))
        })
      ),
    90_000
  )
})

describe("A bucket that was made before", () => {
  const servers = sharedServer("2.15")

  it.each([
    [{ max_age: 3_600e9 }, "max_age 3600 s (a TTL)"],
    [{ max_bytes: 1_000_000, discard: "old" }, "max_bytes 1000000 with discard old"],
    [{ no_ack: true }, "no_ack"],
    [{ discard_new_per_subject: true }, "discard_new_per_subject"],
    [{ max_msg_size: 1_024 }, "max_msg_size 1024"],
    [{ deny_purge: true, allow_rollup_hdrs: false }, "deny_purge"]
  ])(
    "is refused with %j, and that is noticed where it is changed later",
    (change, reason) =>
      T.runRemembering((lines) =>
        Effect.gen(function*() {
          const nc = yield* T.client(servers())
          const jsm = yield* Effect.promise(() => nc.jetstreamManager())
          const leaseBucket = `bucket-${String(Object.keys(change)[0])}`
          const name = `KV_${leaseBucket}`
          const good = {
            name,
            subjects: [`$KV.${leaseBucket}.>`],
            max_msgs_per_subject: 1,
            discard: "new",
            allow_rollup_hdrs: true
          } as Partial<StreamConfig>
          const first = yield* T.transport(servers(), { leaseBucket, leaseDuration: "1 seconds" })
          const consumer = new T.TestConsumer()
          yield* Effect.promise(() => jsm.streams.add(good))
          yield* first.subscribe(T.request(T.topic()), consumer)
          yield* Effect.promise(() => jsm.streams.update(name, { ...good, ...change } as Partial<StreamConfig>))
          yield* T.waitUntil("it is noticed", () => lines.some((line) => line.includes(reason)))
          const second = yield* T.transport(servers(), { leaseBucket })
          const error = yield* Effect.flip(second.subscribe(T.request(T.topic()), new T.TestConsumer()))
          assert.strictEqual(error._tag, "InvalidConfiguration")
          assert.include(error.message, `bucket "${leaseBucket}" has ${reason}`)
        })
      )
  )
})

const finishOf = (consumer: T.TestConsumer, message: IncomingMessage): void => {
  consumer.unfinished.delete(message.offset)
  for (const assignment of consumer.assignments) {
    if (assignment.partition === message.partition) assignment.finish(message)
  }
  for (const assignment of consumer.assignments) assignment.resume()
}
