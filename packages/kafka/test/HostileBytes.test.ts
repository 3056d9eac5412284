/** What no good broker sends: it neither loops, nor takes memory without bound, nor ends the process. */
import { expect, it } from "@effect/vitest"
import { Effect, Either, Fiber, Stream, TestClock } from "effect"
import { describe } from "vitest"
import * as Compression from "../src/Compression.js"
import * as Client from "../src/internal/Client.js"
import * as ErrorCode from "../src/internal/ErrorCode.js"
import * as GroupDriver from "../src/internal/GroupDriver.js"
import { Lineage } from "../src/internal/Lineage.js"
import type { EpochRequest } from "../src/internal/logApis.js"
import { Reader } from "../src/internal/Reader.js"
import type { ApiName, RequestOf, ResponseOf } from "../src/internal/requests.js"
import * as Truncation from "../src/internal/Truncation.js"
import * as KafkaConfig from "../src/KafkaConfig.js"
import * as KafkaReader from "../src/KafkaReader.js"
import * as KafkaTopics from "../src/KafkaTopics.js"
import { driver } from "./driver.js"
import { clientOf, fetched, poolOf, response, subscription, topicsOf } from "./fakeLog.js"
import { API_VERSIONS, serve, versions } from "./fakeServer.js"

describe("lengths", () => {
  const snappy = Compression.typeOf("snappy")
  /** It accepts whatever it is given, and counts. */
  const counting = () => {
    let calls = 0
    const codecs: Compression.Codecs = {
      snappy: {
        compress: (bytes) => bytes,
        decompress: () => {
          if (++calls > 100) throw new Error("it loops")
          return Buffer.alloc(0)
        }
      }
    }
    return { codecs, calls: () => calls }
  }
  const framed = (...lengths: ReadonlyArray<number>) => {
    const blocks = lengths.map((length) => {
      const block = Buffer.alloc(4)
      block.writeInt32BE(length)
      return block
    })
    return Buffer.concat([
      Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1]),
      ...blocks
    ])
  }

  it.effect("of blocks of snappy: one that is not positive, or longer than what is there, is damage", () =>
    Effect.gen(function*() {
      for (const length of [-4, -5, -1, 0, 1, 1_000, -0x80000000, 0x7fffffff]) {
        const { calls, codecs } = counting()
        const result = yield* Effect.either(
          Effect.tryPromise({
            try: () => Compression.decompress(codecs, snappy, framed(length)),
            catch: (error) => error as Error
          })
        )
        expect(Either.isLeft(result), String(length)).toBe(true)
        expect(calls(), String(length)).toBeLessThanOrEqual(1)
        expect(Either.getOrThrow(Either.flip(result)).message, String(length)).toContain("damaged")
      }
    }))

  it("of lists: nothing is made before it is read", () => {
    for (const count of [30_000_000, 0x7fffffff, 2 ** 34]) {
      const bytes: Array<number> = []
      let left = count + 1
      for (; left >= 0x80; left = Math.floor(left / 0x80)) bytes.push((left % 0x80) | 0x80)
      bytes.push(left)
      const before = process.memoryUsage()
      expect(() =>
        new Reader(Buffer.from(bytes)).compactArray(() => {
          throw new RangeError(`${process.memoryUsage().heapUsed - before.heapUsed}`)
        })
      ).toThrow(/^-?\d{1,8}$/)
    }
  })

  it.scoped("of topics: a partition with a number that none can have is a failure", () =>
    Effect.gen(function*() {
      for (const id of [-1, 5_000_000, 0x7fffffff]) {
        const partition = (id: number) => ({ errorCode: 0, id, leader: 1, replicas: [1], leaderEpoch: 0 })
        const client: Client.Client = {
          ...clientOf({ fetch: () => Effect.never }),
          metadata: () =>
            Effect.succeed({
              brokers: [],
              controller: 1,
              topics: [{ name: "orders", errorCode: 0, id: "1", partitions: [partition(0), partition(id)] }]
            })
        }
        const topics = yield* KafkaTopics.make(client, yield* KafkaConfig.resolve({ brokers: ["none:1"] }))
        const result = yield* Effect.either(topics.refresh("orders"))
        expect(Either.isLeft(result), String(id)).toBe(true)
      }
    }))
})

describe("answers", () => {
  const settled = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

  it.scoped("that nothing has come, at once and not when it should be waited for, are not asked for without a pause", () =>
    Effect.gen(function*() {
      for (const answer of [response([]), response([fetched(0, { highWatermark: 5 })], { sessionId: 0 })]) {
        let asked = 0
        const client = clientOf({ fetch: () => Effect.sync(() => (asked++, answer)), end: 5 })
        const topics = topicsOf(() => ({ name: "orders", id: undefined, leaders: [1], epochs: [0] }))
        const { fetcher } = yield* subscription(yield* poolOf(client), topics, 1)
        fetcher.wake()
        for (let i = 0; i < 100; i++) yield* settled
        yield* TestClock.adjust("1 second")
        expect(asked).toBeGreaterThan(10)
        expect(asked).toBeLessThan(100)
        yield* fetcher.stop
        asked = 0
        const reader = KafkaReader.make(client, topics, yield* KafkaConfig.resolve({ brokers: ["none:1"] }))
        const [partition] = yield* reader.read({
          topic: { name: "orders", kind: "plain", partitions: 1 },
          from: "earliest",
          to: "now"
        })
        const read = yield* Effect.fork(Stream.runDrain(partition!.messages))
        for (let i = 0; i < 100; i++) yield* settled
        yield* TestClock.adjust("1 second")
        expect(asked).toBeGreaterThan(10)
        expect(asked).toBeLessThan(100)
        yield* Fiber.interrupt(read)
      }
    }))

  it.effect("an epoch that is higher than the one asked for is a failure, and is not asked about again and again", () =>
    Effect.gen(function*() {
      let asked = 0
      const client = clientOf({
        fetch: () => Effect.never,
        epochs: ({ partitions }: EpochRequest) => {
          if (++asked > 100) throw new Error("it loops")
          return {
            partitions: partitions.map(({ leaderEpoch, partition }) => ({
              partition,
              errorCode: 0,
              leaderEpoch: leaderEpoch + 1,
              endOffset: 10
            }))
          }
        }
      })
      const lineage = new Lineage(-1)
      lineage.note(1, 0)
      lineage.note(3, 5)
      const topics = topicsOf(() => ({ name: "orders", id: undefined, leaders: [1], epochs: [9] }))
      const question = { partition: 0, position: 10, lineage }
      const result = yield* Effect.either(Truncation.find(client, topics, "role", "orders", question))
      expect(Either.isLeft(result)).toBe(true)
      expect(asked).toBe(1)
    }))

  it.effect("a member that has been given an id, or is given none, is not asked to come again at once", () =>
    Effect.gen(function*() {
      const driverOf = (named: string) =>
        GroupDriver.make({
          client: {
            ...clientOf({ fetch: () => Effect.never }),
            call: <Name extends ApiName>(_: unknown, __: unknown, _name: Name, _request: RequestOf<Name>) =>
              Effect.succeed({
                errorCode: ErrorCode.codeOf("MEMBER_ID_REQUIRED"),
                generation: -1,
                leaderId: "",
                memberId: named,
                members: []
              }) as unknown as Effect.Effect<ResponseOf<Name>>
          },
          group: "tests",
          instanceId: undefined,
          joinRole: "join"
        })
      const join = (memberId: string, named: string) =>
        driverOf(named).join(1, {
          memberId,
          sessionTimeoutMs: 1,
          rebalanceTimeoutMs: 1,
          protocol: "p",
          metadata: Buffer.alloc(0)
        }, 1_000).pipe(Effect.either)
      expect(yield* join("", "m")).toMatchObject({ right: { _tag: "Named", memberId: "m" } })
      expect(yield* join("m", "m")).toMatchObject({ left: { type: "MEMBER_ID_REQUIRED" } })
      expect(yield* join("m", "other")).toMatchObject({ left: { type: "MEMBER_ID_REQUIRED" } })
      expect(yield* join("", "")).toMatchObject({ left: { type: "MEMBER_ID_REQUIRED" } })
    }))
})

describe("frames", () => {
  const HEARTBEAT = 12
  const frames: Readonly<Record<string, ReadonlyArray<number>>> = {
    "of size 0": [0, 0, 0, 0, 0, 0, 0, 0],
    "that are too short for a number": [0, 0, 0, 2, 1, 1],
    "of size −4": [0xff, 0xff, 0xff, 0xfc, 0, 0, 0, 0],
    "of size −1": [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
    "to a request that nobody made": [0, 0, 0, 8, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]
  }
  for (const [name, bytes] of Object.entries(frames)) {
    it.scopedLive(`${name} end the connection, and nothing else`, () =>
      Effect.gen(function*() {
        const server = yield* serve(({ apiKey }) =>
          apiKey === API_VERSIONS ? versions({ [HEARTBEAT]: 1 }) : { raw: Buffer.from(bytes) }
        )
        const client = yield* Client.make({
          driver,
          brokers: [server.address],
          clientId: "test",
          connectionTimeoutMs: 5_000,
          requestTimeoutMs: 10_000,
          tls: undefined,
          sasl: undefined
        })
        const beat = client.call("any", "role", "Heartbeat", { group: "g", generation: 1, memberId: "m" }, 500)
        for (let i = 0; i < 2; i++) expect((yield* Effect.flip(beat)).isUnreachable).toBe(true)
      }), 10_000)
  }
})
