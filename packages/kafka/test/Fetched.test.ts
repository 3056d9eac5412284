import { expect, it } from "@effect/vitest"
import { Effect, FastCheck } from "effect"
import { crc32c } from "../src/internal/crc32c.js"
import { recordOf, sizeOf } from "../src/internal/outgoing.js"
import * as Produce from "../src/internal/produce.js"
import type { WireRecord } from "../src/internal/PublishQueue.js"
import { decodeRecords } from "../src/internal/records.js"

/** Record batches as a broker has them, one after the other from an offset on. */
const batchesOf = async (batches: ReadonlyArray<ReadonlyArray<WireRecord>>, from: number): Promise<Buffer> => {
  const encoded: Array<Buffer> = []
  for (const messages of batches) {
    const request = await Produce.encode({
      acks: -1,
      timeout: 0,
      compression: "none",
      codec: undefined,
      producerId: "0",
      producerEpoch: 0,
      topicData: [{ topic: "", partitions: [{ partition: 0, firstSequence: 0, messages }] }]
    })
    const batch = Buffer.from(request.subarray(26))
    batch.writeBigInt64BE(BigInt(from), 0)
    from += messages.length
    encoded.push(batch)
  }
  return Buffer.concat(encoded)
}

/** With the checksum of what it is now, so that only what it says is wrong. */
const sealed = (batch: Buffer): Buffer => {
  batch.writeUInt32BE(crc32c(batch, 21, batch.length), 17)
  return batch
}

const fetched = async (records: Buffer, from: number, duplicatesBelow = 0, checkCrcs = true) =>
  decodeRecords(
    {
      topic: "orders",
      partition: 3,
      errorCode: 0,
      highWatermark: 0,
      lastStableOffset: 0,
      aborted: [],
      records
    },
    from,
    duplicatesBelow,
    { checkCrcs, codecs: {}, fetchMaxUnpackedBytes: Infinity }
  )

const bytes = (maxLength: number) => FastCheck.uint8Array({ maxLength }).map((bytes) => Buffer.from(bytes))

const record: FastCheck.Arbitrary<WireRecord> = FastCheck.record({
  key: FastCheck.option(bytes(20)),
  value: FastCheck.option(FastCheck.oneof(bytes(200), FastCheck.constant(Buffer.alloc(9_000, 7)))),
  headers: FastCheck.dictionary(FastCheck.string({ maxLength: 20 }), bytes(20), { maxKeys: 2 }),
  timestamp: FastCheck.nat()
})

it.effect.prop(
  "all messages are there, however many are taken at a time",
  [
    FastCheck.array(FastCheck.array(record, { minLength: 1, maxLength: 40 }), { maxLength: 4 }),
    FastCheck.nat(60),
    FastCheck.integer({ min: 1, max: 50 })
  ],
  ([batches, skipped, atOnce]) =>
    Effect.promise(async () => {
      const first = 1_000
      const sent = batches.flat()
      const from = first + Math.min(skipped, sent.length)
      const subject = await fetched(await batchesOf(batches, first), from, first + 10)
      expect(subject.left).toBe(sent.length - (from - first))
      expect(subject.next).toBe(first + sent.length)
      const taken = []
      while (subject.left > 0) {
        const before = subject.left
        const some = subject.take(atOnce)
        expect(some.length).toBe(Math.min(before, atOnce))
        expect(subject.left).toBe(before - some.length)
        taken.push(...some)
      }
      expect(subject.take(atOnce)).toEqual([])
      expect(taken.map(({ headers, ...message }) => ({ ...message, headers: { ...headers } }))).toEqual(
        sent.map((message, i) => ({
          ...message,
          headers: { ...message.headers },
          topic: "orders",
          partition: 3,
          offset: first + i,
          maybeDuplicate: i < 10,
          deliveryCount: undefined
        })).slice(from - first)
      )
    }),
  { fastCheck: { numRuns: 20 } }
)

const small = (count: number): ReadonlyArray<WireRecord> =>
  Array.from({ length: count }, (_, i) => ({ key: null, value: Buffer.alloc(300, i), headers: {}, timestamp: 0 }))

it.effect("a message that is kept does not keep what came with it", () =>
  Effect.promise(async () => {
    const subject = await fetched(await batchesOf([small(1_000)], 0), 0)
    for (const { value } of subject.take(1_000)) expect(value!.buffer.byteLength).toBeLessThanOrEqual(8_192)
  }))

it.effect("a partition's records that are kept do not keep those of the others", () =>
  Effect.promise(async () => {
    const answer = await batchesOf([small(1_000)], 0)
    const part = (await batchesOf([small(10)], 0)).length
    const all = Buffer.concat([await batchesOf([small(10)], 0), answer])
    const subject = await fetched(all.subarray(0, part), 0)
    all.fill(0)
    expect(subject.take(10).map(({ value }) => value![0])).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  }))

it.effect("batches that are not what they say are refused before any of their records is taken", () =>
  Effect.promise(async () => {
    // One record of 300 bytes has a length of two bytes, then attributes, times, offset, key, value, headers.
    for (
      const [what, at, byte] of [
        ["a record that is longer than the batch", 61, 0xff],
        ["a record without bytes", 61, 0x00],
        ["more records than there are", 60, 11],
        ["fewer records than there are", 60, 9],
        ["less than no records", 57, 0xff],
        ["an offset below the first", 65, 0x01],
        ["an offset above the last", 65, 0x16],
        ["a key behind the record's end", 66, 0x7e],
        ["a value behind the record's end", 67, 0xda],
        ["headers that the record has no room for", 69 + 300, 0x02],
        ["less than no headers", 69 + 300, 0x01],
        ["a batch that ends before it begins", 8, 0xff],
        ["a format that does not exist", 16, 3]
      ] as const
    ) {
      const records = await batchesOf([small(10)], 0)
      records[at] = byte
      await expect(fetched(sealed(records), 0), what).rejects.toThrow("orders[3] at offset 0 is damaged")
    }
  }))

it.effect.prop(
  "the checksum is that of Castagnoli, wherever the bytes are in memory",
  [FastCheck.uint8Array({ maxLength: 200 }), FastCheck.nat(40), FastCheck.nat(40)],
  ([bytes, from, left]) =>
    Effect.sync(() => {
      const to = Math.max(from, bytes.length - left)
      let expected = 0xffffffff
      for (const byte of bytes.subarray(from, to)) {
        expected ^= byte
        for (let bit = 0; bit < 8; bit++) expected = (expected >>> 1) ^ (expected & 1 ? 0x82f63b78 : 0)
      }
      expect(crc32c(bytes, from, Math.min(to, bytes.length))).toBe(~expected >>> 0)
      const shifted = Buffer.alloc(bytes.length + 3)
      shifted.set(bytes, 3)
      expect(crc32c(shifted.subarray(3), from, Math.min(to, bytes.length))).toBe(~expected >>> 0)
      expect(crc32c(Buffer.from("123456789"), 0, 9)).toBe(0xe3069283)
    })
)

it.effect("a batch whose checksum is another is refused, also where its records could be read", () =>
  Effect.promise(async () => {
    const whole = await batchesOf([small(10)], 0)
    expect((await fetched(Buffer.from(whole), 0)).left).toBe(10)
    for (let at = 17; at < whole.length; at++) {
      const records = Buffer.from(whole)
      records[at]! ^= 1
      await expect(fetched(records, 0)).rejects.toThrow("orders[3] at offset 0 is damaged: its checksum is another")
    }
    whole[whole.length - 2]! ^= 1
    expect((await fetched(whole, 0, 0, false)).left).toBe(10)
    whole[61] = 0xff
    await expect(fetched(whole, 0, 0, false)).rejects.toThrow("is damaged: its records are longer than it is")
  }))

it.effect("what comes before a damaged batch is there, and the next fetch begins with that", () =>
  Effect.promise(async () => {
    const records = await batchesOf([small(10), small(10)], 100)
    const second = records.length / 2
    records[second + 65] = 0x01
    sealed(records.subarray(second))
    const subject = await fetched(records, 100)
    expect(subject.take(20).map(({ offset }) => offset)).toEqual(Array.from({ length: 10 }, (_, i) => 100 + i))
    expect(subject.next).toBe(110)
    await expect(fetched(records.subarray(second), 110)).rejects.toMatchObject({ name: "DamagedRecords" })
  }))

it.effect.prop(
  "whatever bytes of records are damaged: it is refused, or all messages are there in their order",
  [
    FastCheck.array(record, { minLength: 1, maxLength: 20 }),
    FastCheck.array(FastCheck.tuple(FastCheck.nat(), FastCheck.integer({ min: 0, max: 255 })), {
      minLength: 1,
      maxLength: 3
    })
  ],
  ([messages, changes]) =>
    Effect.promise(async () => {
      const records = await batchesOf([messages], 1_000)
      for (const [at, byte] of changes) records[61 + at % (records.length - 61)] = byte
      const subject = await fetched(sealed(records), 1_000).catch((error) => {
        expect(error).toMatchObject({ name: "DamagedRecords" })
      })
      if (subject === undefined) return
      const offsets = subject.take(Infinity).map(({ offset }) => offset)
      expect(offsets).toEqual(messages.map((_, i) => 1_000 + i))
    }),
  { fastCheck: { numRuns: 300 } }
)

it.effect("a header may be named as what objects inherit from", () =>
  Effect.promise(async () => {
    const headers = Object.fromEntries([["__proto__", "kept"], ["other", Buffer.from("too")]])
    const record = recordOf({ id: undefined, aggregateId: "a", key: null, value: null, headers, timestamp: 1 }, 0)
    expect(sizeOf(record)).toBeGreaterThan(100)
    const [message] = (await fetched(await batchesOf([[record]], 0), 0)).take(1)
    expect(Object.entries(message!.headers).map(([name, value]) => [name, String(value)])).toEqual([
      ["__proto__", "kept"],
      ["other", "too"]
    ])
  }))
