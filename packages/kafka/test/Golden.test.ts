import { EnvelopeCodec, Partitioner } from "@effect-eventbus/core"
import { Either } from "effect"
import { readFileSync } from "node:fs"
import { describe, expect, it } from "vitest"

/** The keys of golden/Murmur2.java and golden/sarama/main.go, which have printed the partitions of 12. */
const key = (i: number): string => {
  switch (i % 5) {
    case 0:
      return `order-${i}`
    case 1:
      return `tenant-${i % 37}:customer/${i * 7_919}`
    case 2:
      return (i * 40_503).toString(16)
    case 3:
      return `kü€-${i}`
    default:
      return "x".repeat(i % 67) + i
  }
}

const golden = (file: string): ReadonlyArray<number> =>
  readFileSync(new URL(`golden/${file}`, import.meta.url), "utf8").trim().split(/\s+/).map(Number)

describe("the partitions of 10,000 keys", () => {
  it.each(
    [
      ["murmur2", "murmur2.txt", "kafka-clients 4.1.0"],
      ["sarama-fnv1a", "sarama-fnv1a.txt", "github.com/IBM/sarama 1.61.1"]
    ] as const
  )("%s: as in %s, by %s", (partitioner, file, _program) => {
    const expected = golden(file)
    expect(expected).toHaveLength(10_000)
    expect(expected.map((_, i) => Partitioner.partition(partitioner, Buffer.from(key(i)), 12))).toEqual(expected)
  })
})

describe("the Go event bus's bytes", () => {
  const bytes = readFileSync(new URL("golden/envelope.json", import.meta.url))

  it("are read with every field, and written again as they were", () => {
    const envelope = Either.getOrThrow(EnvelopeCodec.json.decode(bytes, {}))
    expect(envelope).toMatchObject({
      eventId: "0192f0c1-2b3c-7d4e-8f50-0123456789ab",
      aggregateId: "order-1",
      eventType: "OrderPlaced",
      eventVersion: 2,
      timestamp: "2026-11-21T10:11:12.123456789Z",
      traceId: "t-1",
      correlationId: "c-1",
      tenantId: 7,
      payloadJson: "{\"total\":12.50,\"id\":9007199254740993,\"note\":\"\\u003cü\\u003e \\u0026\"}"
    })
    expect(Buffer.from(EnvelopeCodec.json.encode(envelope).value).toString()).toBe(bytes.toString())
  })
})
