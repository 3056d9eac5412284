import { expect, it } from "@effect/vitest"
import { Effect, FastCheck } from "effect"
import protocol from "kafkajs/src/protocol/requests/index.js"
import * as Compression from "../src/Compression.js"
import { crc32c } from "../src/internal/crc32c.js"
import * as Produce from "../src/internal/produce.js"

const bytes = FastCheck.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes))
const text = FastCheck.string({ maxLength: 70, unit: "grapheme" })
const header = FastCheck.oneof(text, bytes)

const record = FastCheck.record({
  key: FastCheck.option(bytes),
  value: FastCheck.option(bytes),
  headers: FastCheck.dictionary(
    text,
    FastCheck.oneof(header, FastCheck.array(header, { minLength: 1, maxLength: 3 })),
    {
      maxKeys: 3
    }
  ),
  // Of as many digits each: kafkajs sorts them as texts.
  timestamp: FastCheck.integer({ min: 1_000_000_000_000, max: 1_999_999_999_999 })
})

const request = FastCheck.record({
  acks: FastCheck.constantFrom(-1, 1),
  timeout: FastCheck.nat(),
  producerId: FastCheck.constantFrom("0", "1000", "4611686018427387904"),
  producerEpoch: FastCheck.nat(0x7fff),
  topicData: FastCheck.array(
    FastCheck.record({
      topic: FastCheck.constantFrom("orders", "höhe"),
      partitions: FastCheck.array(
        FastCheck.record({
          partition: FastCheck.nat(),
          firstSequence: FastCheck.nat(0x7fffffff),
          messages: FastCheck.array(record, { minLength: 1, maxLength: 80 })
        }),
        { minLength: 1, maxLength: 3 }
      )
    }),
    { minLength: 1, maxLength: 2 }
  )
})

it.effect.prop("a request has the bytes that kafkajs gives it", [request], ([request]) =>
  Effect.promise(async () => {
    const ours = await Produce.encode({ ...request, compression: "none", codec: undefined })
    const theirs = await protocol.requests["Produce"]!.protocol({ version: 7 })({ ...request, compression: 0 }).request
      .encode()
    expect(ours.equals((theirs as { readonly buffer: Buffer }).buffer)).toBe(true)
  }))

it.effect("records are compressed by the codec, and the batch says how", () =>
  Effect.promise(async () => {
    const topicData = [{
      topic: "orders",
      partitions: [{
        partition: 0,
        firstSequence: 0,
        messages: [{ key: null, value: Buffer.alloc(1_000), headers: {}, timestamp: 1 }]
      }]
    }]
    const common = { acks: -1, timeout: 1, producerId: "1", producerEpoch: 0, topicData } as const
    const plain = await Produce.encode({ ...common, compression: "none", codec: undefined })
    const packed = await Produce.encode({ ...common, compression: "gzip", codec: Compression.builtIn.gzip })
    const batchAt = plain.length - 1_000 - 9 - 61
    expect(packed.readInt16BE(batchAt + 21)).toBe(1)
    expect(await Compression.builtIn.gzip!.decompress(packed.subarray(batchAt + 61))).toEqual(
      plain.subarray(batchAt + 61)
    )
    expect(packed.readInt32BE(batchAt + 8)).toBe(packed.length - batchAt - 12)
  }))

it("the checksum is the one of RFC 3720", () => {
  const ascending = Uint8Array.from({ length: 32 }, (_, i) => i)
  expect(crc32c(ascending, 0, 32)).toBe(0x46dd794e)
  expect(crc32c(new TextEncoder().encode("x123456789x"), 1, 10)).toBe(0xe3069283)
})
