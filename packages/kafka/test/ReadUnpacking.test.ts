/** What a replay makes of batches that unpack to more than is allowed, before a broker that the test plays. */
import { expect, it } from "@effect/vitest"
import { Chunk, Effect, HashMap, Logger, Option, Stream } from "effect"
import { describe } from "vitest"
import * as KafkaConfig from "../src/KafkaConfig.js"
import * as KafkaReader from "../src/KafkaReader.js"
import { batch, clientOf, fetched, response, topicsOf } from "./fakeLog.js"

const MIB = 1024 * 1024

const errorsOf = () => {
  const lines: Array<string> = []
  const layer = Logger.replace(
    Logger.defaultLogger,
    Logger.make<unknown, void>(({ annotations, logLevel, message }) => {
      if (logLevel._tag !== "Error") return
      const where = Option.getOrElse(HashMap.get(annotations, "offset"), () => "?")
      lines.push(`${String([message].flat()[0])} (${String(where)})`)
    })
  )
  return { lines, layer }
}

/** All of a topic of one partition with these batches, of a message each. */
const replay = (log: ReadonlyArray<Buffer>, kind: "envelope" | "plain", fetchMaxUnpackedBytes: number) =>
  Effect.gen(function*() {
    const client = clientOf({
      end: log.length,
      fetch: (request) =>
        Effect.sync(() => {
          const [one] = request.topics.flatMap(({ partitions }) => partitions)
          const records = Buffer.concat(log.slice(one!.fetchOffset))
          return response([fetched(0, { records, highWatermark: log.length, lastStableOffset: log.length })], {
            sessionId: 0
          })
        })
    })
    const topics = topicsOf(() => ({ name: "orders", id: undefined, leaders: [1], epochs: [0] }))
    const settings = yield* KafkaConfig.resolve({ brokers: ["none:1"], fetchMaxUnpackedBytes })
    const reader = KafkaReader.make(client, topics, settings)
    const [partition] = yield* reader.read({
      topic: { name: "orders", kind, partitions: 1 },
      from: "earliest",
      to: "now"
    })
    return Chunk.toReadonlyArray(yield* Stream.runCollect(partition!.messages))
  })

describe("a batch that unpacks to more than is allowed", () => {
  const bombed = Effect.promise(async () => [
    await batch(0, ["before"], { gzip: true }),
    await batch(1, [Buffer.alloc(40 * MIB)], { gzip: true }),
    await batch(2, ["after"], { gzip: true })
  ])

  it.scopedLive("goes the way of what can't be read, as it lies in the log, and the replay goes on", () => {
    const { layer, lines } = errorsOf()
    return Effect.gen(function*() {
      const log = yield* bombed
      const memory = process.memoryUsage().arrayBuffers
      const read = yield* replay(log, "envelope", 4 * MIB)
      expect(process.memoryUsage().arrayBuffers - memory).toBeLessThan(32 * MIB)
      expect(read.map(({ offset }) => offset)).toEqual([0, 1, 2])
      expect(Buffer.compare(Buffer.from(read[1]!.value!), log[1]!)).toBe(0)
      expect(read[1]).toMatchObject({ key: null, partition: 0, maybeDuplicate: true })
      expect(read[1]!.headers["X-Unreadable-Batch"]).toContain("kafka.fetchMaxUnpackedBytes")
      expect(lines).toEqual([
        expect.stringMatching(/^A record batch is not unpacked: .* as one message that can.t be decoded \(1\)$/)
      ])
    }).pipe(Effect.provide(layer))
  })

  it.scopedLive("is passed over where messages are plain, and that is said", () => {
    const { layer, lines } = errorsOf()
    return Effect.gen(function*() {
      const read = yield* replay(yield* bombed, "plain", 4 * MIB)
      expect(read.map(({ offset }) => offset)).toEqual([0, 2])
      expect(lines).toEqual(["A record batch is not unpacked, and is passed over (1)"])
    }).pipe(Effect.provide(layer))
  })
})

it.scopedLive("many batches that unpack to more than is allowed together are replayed one after the other", () =>
  Effect.gen(function*() {
    const log = yield* Effect.forEach(
      Array.from({ length: 8 }, (_, i) => i),
      (i) => Effect.promise(() => batch(i, [Buffer.alloc(MIB, i)], { gzip: true }))
    )
    const read = yield* replay(log, "envelope", 3 * MIB)
    expect(read.map(({ offset, value }) => [offset, value?.[0], value?.length])).toEqual(log.map((_, i) => [i, i, MIB]))
  }))
