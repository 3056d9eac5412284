import { Compression } from "@effect-eventbus/kafka"
import { it } from "@effect/vitest"
import { Clock, Duration, Effect, Either, Fiber } from "effect"
import { describe, expect } from "vitest"
import {
  eventually,
  finishing,
  message,
  numbered,
  ownCluster,
  published,
  request,
  spec,
  topicName,
  transport,
  withAdmin
} from "./Harness.js"

/** A clock that somebody sets. */
const makeClock = () => {
  const clock = Clock.make()
  const set = { by: 0 }
  return {
    set,
    clock: Object.assign(Object.create(clock) as Clock.Clock, {
      unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + set.by,
      currentTimeMillis: Effect.sync(() => clock.unsafeCurrentTimeMillis() + set.by)
    })
  }
}

describe("what becomes of a publish", () => {
  const cluster = ownCluster({ proxied: true })

  const connect = (more: Parameters<typeof transport>[0] = {}) => transport({ brokers: cluster().bootstrap, ...more })
  const suspended = Effect.suspend(() =>
    Effect.acquireRelease(cluster().nodes[0]!.suspend, () => Effect.orDie(cluster().nodes[0]!.resume))
  )

  it.scopedLive("its timeout also covers the first check of a topic", () =>
    Effect.gen(function*() {
      const topic = { ...spec(), partitions: 2 }
      yield* published(yield* connect(), topic, numbered(1))
      const strict = yield* connect({ topics: "validate", requestTimeout: Duration.seconds(20) })
      const timeout = Duration.seconds(1)
      // The topic is known then, and was not found to be as it should.
      const misfit = yield* strict.publish({ ...topic, partitions: 3 }, [message("a", "1")], {
        timeout: Duration.seconds(10)
      })
      expect(misfit).toMatchObject([{ left: { _tag: "InvalidConfiguration" } }])
      yield* suspended
      const started = performance.now()
      const results = yield* strict.publish(topic, [message("a", "1")], { timeout })
      expect(performance.now() - started).toBeLessThan(4_000)
      expect(results).toMatchObject([{ left: { _tag: "PublishFailed", outcome: "not-written", isRetryable: true } }])
    }), 30_000)

  it.scopedLive("somebody who sets the clock neither ends its time nor prolongs it", () =>
    Effect.gen(function*() {
      const { clock, set } = makeClock()
      const service = yield* Effect.withClock(connect(), clock)
      const topic = spec()
      yield* published(service, topic, numbered(1))
      yield* suspended
      const publish = (timeout: Duration.DurationInput) =>
        service.publish(topic, [message("a", "1")], { timeout: Duration.decode(timeout) })
      const patient = yield* Effect.fork(publish("30 seconds"))
      yield* Effect.yieldNow()
      set.by = 3_600_000
      const quick = yield* Effect.fork(publish("500 millis"))
      yield* Effect.yieldNow()
      set.by = -3_600_000
      expect(yield* Effect.timeout(Fiber.join(quick), "10 seconds")).toMatchObject([{
        left: { _tag: "PublishFailed" }
      }])
      set.by = 3_600_000
      expect(yield* Effect.timeoutOption(Fiber.await(patient), "200 millis")).toMatchObject({ _tag: "None" })
      yield* cluster().nodes[0]!.resume
      expect(yield* Fiber.join(patient)).toMatchObject([{ _tag: "Right" }])
    }), 60_000)

  it.scopedLive(
    "a codec that throws fails the messages that it throws for, and no others",
    () =>
      Effect.gen(function*() {
        const gzip = Compression.builtIn.gzip!
        const service = yield* connect({
          compression: "gzip",
          codecs: {
            gzip: {
              ...gzip,
              compress: (bytes) => {
                if (Buffer.from(bytes).includes("poison")) throw new Error("it does not taste")
                return gzip.compress(bytes)
              }
            }
          }
        })
        const topic = spec(topicName(), 2)
        const values = ["0", "1", "poison", "3", "4", "5", "6", "7"]
        const results = yield* service.publish(topic, values.map((value) => message(undefined, value)), {
          timeout: Duration.seconds(15)
        })
        expect(results.map((result) => Either.isRight(result) ? "written" : result.left._tag)).toEqual(
          values.map((value) => value === "poison" ? "InvalidMessage" : "written")
        )
        expect(Either.isLeft(results[2]!) && results[2].left.message).toContain("it does not taste")
        yield* published(service, topic, [message(undefined, "8"), message(undefined, "9")])
        const { consumer, lanes } = finishing()
        yield* service.subscribe(request(topic), consumer)
        const valuesOf = (partition: number) =>
          lanes.filter(({ assignment }) => assignment.partition === partition)
            .flatMap(({ taken }) => taken.map(({ value }) => Buffer.from(value!).toString()))
        yield* eventually("all others arrive", () => lanes.flatMap(({ taken }) => taken).length === 9)
        expect([valuesOf(0), valuesOf(1)]).toEqual([["0", "4", "6", "8"], ["1", "3", "5", "7", "9"]])
      }),
    30_000
  )

  it.scopedLive(
    "a codec that never answers fails its message within the request's time, and what comes behind goes on",
    () =>
      Effect.gen(function*() {
        const gzip = Compression.builtIn.gzip!
        const service = yield* connect({
          compression: "gzip",
          requestTimeout: Duration.seconds(1),
          codecs: {
            gzip: {
              ...gzip,
              compress: (bytes) => Buffer.from(bytes).includes("poison") ? new Promise(() => {}) : gzip.compress(bytes)
            }
          }
        })
        const topic = spec(topicName(), 2)
        const values = ["0", "1", "poison", "3"]
        const results = yield* service.publish(topic, values.map((value) => message(undefined, value)), {
          timeout: Duration.seconds(15)
        })
        expect(results.map((result) => Either.isRight(result) ? "written" : result.left._tag)).toEqual(
          values.map((value) => value === "poison" ? "InvalidMessage" : "written")
        )
        expect(Either.isLeft(results[2]!) && results[2].left.message).toContain(
          "the codec has not answered within 1000 ms"
        )
      }),
    30_000
  )

  it.scopedLive("a message of 1970 keeps its time", () =>
    Effect.gen(function*() {
      const service = yield* connect()
      const topic = spec()
      const times = [0, 5, 0, 1_700_000_000_000, 0, 10]
      yield* published(service, topic, times.map((timestamp) => message("a", "x", { timestamp })))
      const { all, consumer } = finishing()
      yield* service.subscribe(request(topic), consumer)
      yield* eventually("all arrive", () => all().length === times.length)
      expect(all().map(({ timestamp }) => timestamp)).toEqual(times)
    }), 30_000)

  it.scopedLive(
    "refused at its second attempt, it may have been written; and what comes next is not taken for it",
    () =>
      Effect.gen(function*() {
        const proxy = cluster().proxies[0]!
        const topic = spec()
        const service = yield* connect({ requestTimeout: Duration.seconds(3) })
        const admin = yield* connect()
        yield* published(service, topic, [message("a", "first")])
        const large = "x".repeat(20_000)
        const limit = (bytes: number) =>
          withAdmin((admin) =>
            admin.alterConfigs({
              validateOnly: false,
              resources: [{
                type: 2,
                name: topic.name,
                configEntries: [{ name: "max.message.bytes", value: String(bytes) }]
              }]
            }), cluster().bootstrap)
        const takesLarge = Effect.map(
          admin.publish(topic, [message("a", `probe${large}`)], { timeout: Duration.seconds(5) }),
          ([result]) => Either.isRight(result!)
        )
        // The first attempt is held up in the network, the second is refused.
        yield* proxy.freeze
        const publishing = yield* Effect.fork(
          service.publish(topic, [message("a", large)], { timeout: Duration.seconds(30) })
        )
        yield* Effect.yieldNow()
        yield* limit(10_000)
        while (yield* takesLarge) yield* Effect.sleep("20 millis")
        expect(yield* Fiber.join(publishing)).toMatchObject([
          { left: { _tag: "PublishFailed", reason: "Rejected", outcome: "unknown" } }
        ])
        // Now the first one arrives, and is written.
        yield* limit(1_000_000)
        while (!(yield* takesLarge)) yield* Effect.sleep("20 millis")
        const { consumer, values } = finishing()
        yield* admin.subscribe(request(topic), consumer)
        yield* proxy.flow
        yield* eventually("it is there after all", () => values().includes(large))
        yield* published(service, topic, [message("a", "next")])
        yield* eventually("the next one is there, too", () => values().at(-1) === "next")
        expect(values().filter((value) => !value.startsWith("probe"))).toEqual(["first", large, "next"])
      }),
    60_000
  )
})
