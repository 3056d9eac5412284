import { expect, it } from "@effect/vitest"
import { Duration, Effect, HashMap, Logger, TestClock } from "effect"
import { gunzipSync } from "node:zlib"
import { describe } from "vitest"
import * as Compression from "../src/Compression.js"
import * as ErrorCode from "../src/internal/ErrorCode.js"
import type { FetchRequest } from "../src/internal/logApis.js"
import type { Partition, PartitionOptions } from "../src/internal/Partition.js"
import { batch, clientOf, fetched, poolOf, response, subscription, topicsOf } from "./fakeLog.js"

const topicOf = (count: number, epoch = 0) => () => ({
  name: "orders",
  id: undefined,
  leaders: Array.from({ length: count }, () => 1),
  epochs: Array.from({ length: count }, () => epoch)
})

const wanted = ({ topics }: FetchRequest) =>
  topics.flatMap(({ partitions, topic }) => partitions.map(({ partition }) => `${topic}/${partition}`)).sort()
const forgotten = ({ forgottenTopics }: FetchRequest) =>
  forgottenTopics.flatMap(({ partitions, topic }) => partitions.map((partition) => `${topic}/${partition}`)).sort()

const settled = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

it.scoped("a partition that has room again is fetched from at once, while the others wait for what comes", () =>
  Effect.gen(function*() {
    const asked: Array<{ readonly role: string; readonly request: FetchRequest }> = []
    const records = yield* Effect.promise(() => batch(0, ["0", "1", "2"]))
    const pool = yield* poolOf(clientOf({
      fetch: (request, role) =>
        Effect.suspend(() => {
          asked.push({ role, request })
          const of = request.topics.flatMap(({ partitions }) => partitions)
          const hot = of.find(({ fetchOffset, partition }) => partition === 0 && fetchOffset === 0)
          return hot !== undefined
            ? Effect.succeed(response([fetched(0, { records })]))
            : Effect.delay(Effect.succeed(response([])), request.maxWaitTime)
        })
    }))
    const { fetcher, full, resume, taken } = yield* subscription(pool, topicsOf(topicOf(4)), 4)
    full.add(0)
    fetcher.wake()
    yield* settled
    yield* settled
    // The lane of one is full: the others wait at the broker.
    expect(asked.map(({ request }) => wanted(request))).toEqual([
      ["orders/0", "orders/1", "orders/2", "orders/3"],
      []
    ])
    expect(asked[1]!.request).toMatchObject({ sessionEpoch: 1, sessionId: 1, maxWaitTime: 300 })
    expect(forgotten(asked[1]!.request)).toEqual(["orders/0"])
    resume(0)
    yield* settled
    yield* settled
    expect(taken.map(({ offset }) => offset)).toEqual([0, 1, 2])
    expect(asked).toHaveLength(3)
    expect(wanted(asked[2]!.request)).toEqual(["orders/0"])
    expect(asked[2]!.role).not.toBe(asked[1]!.role)
    expect(asked[2]!.request.maxWaitTime).toBeLessThanOrEqual(20)
    // As nothing more comes, all wait together again, on one connection.
    yield* TestClock.adjust("2 seconds")
    const last = asked.slice(-3)
    expect(new Set(last.map(({ role }) => role)).size).toBe(1)
    expect(last.every(({ request }) => request.maxWaitTime === 300 && wanted(request).length === 0)).toBe(true)
    expect(asked.length).toBeLessThan(40)
  }))

/** One partition has more than the subscription keeps, the other is to be fetched as soon as there is room. */
const crowded = (partition: Partial<PartitionOptions> = {}) =>
  Effect.gen(function*() {
    const asked: Array<string> = []
    const big = yield* Effect.promise(() => batch(0, Array.from({ length: 40 }, () => Buffer.alloc(1_000))))
    const small = yield* Effect.promise(() => batch(0, ["0"]))
    const pool = yield* poolOf(clientOf({
      fetch: (request) =>
        Effect.suspend(() => {
          const of = request.topics.flatMap(({ partitions }) => partitions)
          asked.push(...of.map(({ partition }) => String(partition)))
          const hot = of.find(({ fetchOffset, partition }) => partition === 0 && fetchOffset === 0)
          if (hot !== undefined) return Effect.succeed(response([fetched(0, { records: big })], { sessionId: 0 }))
          const cold = of.find(({ fetchOffset, partition }) => partition === 1 && fetchOffset === 0)
          return cold !== undefined
            ? Effect.succeed(response([fetched(1, { records: small })], { sessionId: 0 }))
            : Effect.delay(Effect.succeed(response([], { sessionId: 0 })), request.maxWaitTime)
        })
    }))
    return {
      ...yield* subscription(pool, topicsOf(topicOf(2)), 2, { options: { fetchBytes: 20_000 }, partition }),
      asked
    }
  })

for (
  const [what, maxAboveWatermark, isSo] of [
    // It takes thirty, and waits for the first of them to finish: its bytes count for its share only.
    ["begins to stand still, the others are fetched that waited for room", 30, (one) => one.standsStill],
    ["has given away all that it had, and may not fetch, the others are fetched", 40, (one) => !one.canFetch]
  ] as ReadonlyArray<[string, number, (partition: Partition) => boolean]>
) {
  it.scoped(`where a partition ${what}`, () =>
    Effect.gen(function*() {
      const { fetcher, full, partitions, resume, taken } = yield* crowded({ maxAboveWatermark })
      full.add(0)
      fetcher.wake()
      yield* TestClock.adjust("1 second")
      expect(taken).toEqual([])
      resume(0)
      yield* settled
      yield* TestClock.adjust("1 second")
      expect(isSo(partitions.get(0)!)).toBe(true)
      expect(taken.filter(({ partition }) => partition === 1)).toHaveLength(1)
    }))
}

it.scoped("where a partition is taken away, the others are fetched that waited for room", () =>
  Effect.gen(function*() {
    const { fetcher, full, partitions, taken } = yield* crowded()
    full.add(0)
    fetcher.wake()
    yield* TestClock.adjust("1 second")
    expect(taken).toEqual([])
    const gone = partitions.get(0)!
    gone.end()
    partitions.delete(0)
    fetcher.forget(gone)
    yield* TestClock.adjust("1 second")
    expect(taken.filter(({ partition }) => partition === 1)).toHaveLength(1)
  }))

it.scoped("subscriptions of one broker are fetched for together, those of one topic beside each other", () =>
  Effect.gen(function*() {
    const roles = new Map<string, Set<string>>()
    const pool = yield* poolOf(clientOf({
      fetch: (request, role) =>
        Effect.suspend(() => {
          for (const name of wanted(request)) {
            roles.set(name, (roles.get(name) ?? new Set()).add(role))
          }
          return Effect.delay(Effect.succeed(response([])), request.maxWaitTime)
        })
    }))
    for (const topic of ["orders", "orders", "invoices", "letters"]) {
      const { fetcher } = yield* subscription(pool, topicsOf(topicOf(1)), 1, { topic })
      fetcher.wake()
    }
    yield* TestClock.adjust("5 seconds")
    expect([...roles.keys()].sort()).toEqual(["invoices/0", "letters/0", "orders/0"])
    const all = new Set([...roles.values()].flatMap((own) => [...own]))
    expect([...all].every((role) => role.startsWith("fetch-0-") || role.startsWith("fetch-1-"))).toBe(true)
    expect([...roles.get("invoices/0")!].every((role) => role.startsWith("fetch-0-"))).toBe(true)
  }))

it.scoped("a session that the broker has lost is begun again, and nobody waits for it", () =>
  Effect.gen(function*() {
    const asked: Array<FetchRequest> = []
    const pool = yield* poolOf(clientOf({
      fetch: (request) =>
        Effect.suspend(() => {
          asked.push(request)
          return asked.length === 2
            ? Effect.succeed(response([], { errorCode: 70, sessionId: 0 }))
            : Effect.delay(Effect.succeed(response([])), request.maxWaitTime)
        })
    }))
    const { fetcher, partitions } = yield* subscription(pool, topicsOf(topicOf(2)), 2)
    fetcher.wake()
    yield* TestClock.adjust("400 millis")
    expect(asked.map(({ sessionEpoch, sessionId }) => [sessionId, sessionEpoch])).toEqual([[0, 0], [1, 1], [0, 0]])
    expect(wanted(asked[2]!)).toEqual(["orders/0", "orders/1"])
    expect(partitions.get(0)!.failures).toBe(0)
  }))

it.scoped("a broker that holds us to a quota is asked for nothing until its time is over", () =>
  Effect.gen(function*() {
    let asked = 0
    const pool = yield* poolOf(clientOf({
      fetch: () =>
        Effect.sync(() => {
          asked++
          return response([], { throttleMs: 5_000 })
        })
    }))
    const { fetcher } = yield* subscription(pool, topicsOf(topicOf(1)), 1)
    fetcher.wake()
    yield* TestClock.adjust("4 seconds")
    expect(asked).toBe(1)
    yield* TestClock.adjust("2 seconds")
    expect(asked).toBe(2)
  }))

it.scoped("a mistake in one subscription is said, and ends the fetching of no other, however often it comes", () => {
  const said: Array<string> = []
  const logger = Logger.make<unknown, void>(({ annotations, logLevel }) => {
    if (logLevel._tag === "Error") said.push(String(HashMap.unsafeGet(annotations, "topic")))
  })
  return Effect.gen(function*() {
    const asked: Array<string> = []
    const pool = yield* poolOf(clientOf({
      fetch: (request) =>
        Effect.suspend(() => {
          asked.push(...wanted(request))
          return Effect.delay(Effect.succeed(response([], { sessionId: 0 })), request.maxWaitTime)
        })
    }))
    let mistakes = 0
    const broken = pool.join({
      topic: "invoices",
      ready: () => {
        mistakes++
        throw new Error("a mistake")
      },
      received: () => {},
      worked: () => {},
      failed: () => {}
    })
    broken.wake(1)
    const { fetcher } = yield* subscription(pool, topicsOf(topicOf(1)), 1)
    fetcher.wake()
    yield* TestClock.adjust("3 seconds")
    expect(mistakes).toBeGreaterThan(1)
    expect(mistakes).toBeLessThan(6)
    expect(asked.length).toBeGreaterThan(6)
    expect(new Set(asked)).toEqual(new Set(["orders/0"]))
    expect(said).toEqual(["invoices"])
    yield* broken.leave
    const before = mistakes
    yield* TestClock.adjust("2 seconds")
    expect(mistakes).toBe(before)
  }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
})

it.scoped("what throws while it takes an answer is asked again after a while, and the others take theirs", () =>
  Effect.gen(function*() {
    let answers = 0
    const records = yield* Effect.promise(() => batch(0, ["0", "1", "2"]))
    const pool = yield* poolOf(clientOf({
      fetch: ({ maxWaitTime, topics }) =>
        Effect.suspend(() => {
          answers++
          const all = topics.flatMap(({ partitions, topic }) =>
            partitions.filter(({ fetchOffset }) => fetchOffset === 0).map(({ partition }) =>
              fetched(partition, { topic, records })
            )
          )
          const answer = Effect.succeed(response(all, { sessionId: 0 }))
          return all.length > 0 ? answer : Effect.delay(answer, maxWaitTime)
        })
    }))
    const bad = yield* subscription(pool, topicsOf(topicOf(1)), 1, { topic: "invoices" })
    const good = yield* subscription(pool, topicsOf(topicOf(1)), 1)
    let isBroken = true
    Object.defineProperty(bad.partitions.get(0)!, "logEnd", {
      set: () => {
        if (isBroken) throw new Error("a mistake")
      }
    })
    bad.fetcher.wake()
    good.fetcher.wake()
    yield* TestClock.adjust("5 seconds")
    expect(good.taken).toHaveLength(3)
    expect(bad.taken).toEqual([])
    expect(answers).toBeLessThan(60)
    isBroken = false
    yield* TestClock.adjust("2 seconds")
    expect(bad.taken).toHaveLength(3)
  }))

describe("what lasts is said, and when it is over", () => {
  for (const code of [-1, 2, 3, 5, 6, 9, 29, 56, 74, 75, 76, 78, 100, 103]) {
    it.effect(`Fetch with ${ErrorCode.nameOf(code)}`, () => {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ annotations, logLevel, message }) => {
        if (logLevel._tag === "Warning" && HashMap.has(annotations, "what")) lines.push(String([message].flat()[0]))
      })
      return Effect.gen(function*() {
        let isBad = true
        const records = yield* Effect.promise(() => batch(0, ["0"]))
        const pool = yield* poolOf(clientOf({
          fetch: (request) =>
            Effect.suspend(() =>
              request.topics[0]?.partitions[0]?.fetchOffset !== 0
                ? Effect.delay(Effect.succeed(response([])), request.maxWaitTime)
                : Effect.succeed(response([fetched(0, isBad ? { errorCode: code } : { records })], { sessionId: 0 }))
            )
        }))
        const { fetcher, taken } = yield* subscription(pool, topicsOf(topicOf(1)), 1)
        fetcher.wake()
        yield* TestClock.adjust("9 seconds")
        expect(lines).toEqual([])
        expect(fetcher.problems()).toHaveLength(1)
        yield* TestClock.adjust("3 seconds")
        expect(lines).toHaveLength(1)
        expect(lines[0]).toContain("Nothing can be fetched from orders, partition 0, and its messages wait")
        isBad = false
        yield* TestClock.adjust("1200 millis")
        expect(taken.map(({ offset }) => offset)).toContain(0)
        expect(lines).toHaveLength(2)
        expect(lines[1]).toMatch(/^It is over/)
        expect(fetcher.problems()).toEqual([])
      }).pipe(Effect.scoped, Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
    })
  }
})

describe("a batch that unpacks to more than is allowed", () => {
  const run = (kind: "envelope" | "plain") =>
    Effect.gen(function*() {
      const bomb = yield* Effect.promise(() => batch(1, [Buffer.alloc(80 * 1024 * 1024)], { gzip: true }))
      expect(bomb.length).toBeLessThan(100_000)
      const log = [
        yield* Effect.promise(() => batch(0, ["before"], { gzip: true })),
        bomb,
        yield* Effect.promise(() => batch(2, ["after"], { gzip: true }))
      ]
      const pool = yield* poolOf(clientOf({
        fetch: (request) =>
          Effect.suspend(() => {
            const [one] = request.topics.flatMap(({ partitions }) => partitions)
            const rest = one === undefined ? [] : log.slice(one.fetchOffset)
            return rest.length === 0
              ? Effect.delay(Effect.succeed(response([], { sessionId: 0 })), request.maxWaitTime)
              : Effect.succeed(response([fetched(0, { records: Buffer.concat(rest) })], { sessionId: 0 }))
          })
      }))
      const { fetcher, taken } = yield* subscription(pool, topicsOf(topicOf(1)), 1, {
        kind,
        options: { fetchMaxUnpackedBytes: 16 * 1024 * 1024 }
      })
      const memory = process.memoryUsage().arrayBuffers
      fetcher.wake()
      for (let i = 0; i < 500 && taken.at(-1)?.offset !== 2; i++) yield* Effect.sleep(Duration.millis(10))
      expect(process.memoryUsage().arrayBuffers - memory).toBeLessThan(64 * 1024 * 1024)
      return { taken, bomb }
    })

  it.scopedLive("goes the way of what can't be read, as it lies in the log, and the partition goes on", () =>
    Effect.gen(function*() {
      const { bomb, taken } = yield* run("envelope")
      expect(taken.map(({ offset }) => offset)).toEqual([0, 1, 2])
      expect(Buffer.compare(Buffer.from(taken[1]!.value!), bomb)).toBe(0)
      expect(taken[1]!.headers["X-Unreadable-Batch"]).toContain("kafka.fetchMaxUnpackedBytes")
      expect(taken[1]).toMatchObject({ key: null, partition: 0 })
    }))

  it.scopedLive("is passed over where messages are plain", () =>
    Effect.gen(function*() {
      const { taken } = yield* run("plain")
      expect(taken.map(({ offset }) => offset)).toEqual([0, 2])
    }))
})

it.scopedLive("many batches that unpack to more than is allowed together are read one after the other", () =>
  Effect.gen(function*() {
    const mib = 1024 * 1024
    const log = yield* Effect.forEach(
      Array.from({ length: 8 }, (_, i) => i),
      (i) => Effect.promise(() => batch(i, [Buffer.alloc(mib, i)], { gzip: true }))
    )
    const pool = yield* poolOf(clientOf({
      fetch: (request) =>
        Effect.suspend(() => {
          const [one] = request.topics.flatMap(({ partitions }) => partitions)
          const rest = one === undefined ? [] : log.slice(one.fetchOffset)
          return rest.length === 0
            ? Effect.delay(Effect.succeed(response([], { sessionId: 0 })), request.maxWaitTime)
            : Effect.succeed(response([fetched(0, { records: Buffer.concat(rest) })], { sessionId: 0 }))
        })
    }))
    const { fetcher, taken } = yield* subscription(pool, topicsOf(topicOf(1)), 1, {
      options: { fetchMaxUnpackedBytes: 3 * mib }
    })
    fetcher.wake()
    for (let i = 0; i < 500 && taken.length < 8; i++) yield* Effect.sleep(Duration.millis(10))
    expect(taken.map(({ offset, value }) => [offset, value?.[0], value?.length])).toEqual(
      log.map((_, i) => [i, i, mib])
    )
  }))

it.scoped("a codec that never answers is asked again, which is said, and the partition goes on when it answers", () => {
  const errors: Array<string> = []
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    if (logLevel._tag === "Error") errors.push([message].flat().join(" "))
  })
  return Effect.gen(function*() {
    const records = yield* Effect.promise(() => batch(0, ["0", "1"], { gzip: true }))
    const pool = yield* poolOf(clientOf({
      fetch: (request) =>
        Effect.suspend(() =>
          request.topics[0]?.partitions[0]?.fetchOffset === 0
            ? Effect.succeed(response([fetched(0, { records })], { sessionId: 0 }))
            : Effect.delay(Effect.succeed(response([], { sessionId: 0 })), request.maxWaitTime)
        )
    }))
    let asked = 0
    const gzip = Compression.builtIn.gzip!
    const { fetcher, taken } = yield* subscription(pool, topicsOf(topicOf(1)), 1, {
      options: {
        codecs: {
          gzip: {
            ...gzip,
            decompress: (bytes) => asked++ === 0 ? new Promise(() => {}) : gunzipSync(bytes)
          }
        }
      }
    })
    fetcher.wake()
    yield* TestClock.adjust("50 seconds")
    expect(errors).toEqual([])
    for (let i = 0; i < 5; i++) {
      yield* TestClock.adjust("10 seconds")
      yield* settled
    }
    expect(errors.join()).toContain("Records can't be read, and the partition stands still")
    expect(errors.join()).toContain("codec")
    expect(taken.map(({ offset }) => offset)).toEqual([0, 1])
  }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
})

it.scopedLive("a record format of before Kafka 0.11 is called what it is", () =>
  Effect.gen(function*() {
    const old = Buffer.alloc(40)
    old.writeInt32BE(28, 8)
    old[16] = 1
    let error: unknown
    const pool = yield* poolOf(clientOf({
      fetch: () => Effect.succeed(response([fetched(0, { records: old })], { sessionId: 0 }))
    }))
    const { fetcher } = yield* subscription(pool, topicsOf(topicOf(1)), 1)
    const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
      if (logLevel._tag === "Error") error = [message].flat()[1]
    })
    const again = yield* Effect.provide(
      subscription(pool, topicsOf(topicOf(1)), 1, { topic: "orders" }),
      Logger.replace(Logger.defaultLogger, logger)
    )
    fetcher.wake()
    again.fetcher.wake()
    for (let i = 0; i < 200 && error === undefined; i++) yield* Effect.sleep("10 millis")
    expect(error).toContain("A message of orders[0] at offset 0 is in record format 1, which is older than Kafka 0.11")
  }))
