import { AggregateId, Headers, Partitioner, type Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Effect, FastCheck } from "effect"
import { eventually } from "./Eventually.js"
import { setup } from "./LaneProbe.js"

const encoder = new TextEncoder()
const bytes = (text: string) => encoder.encode(text)

const message = (given: Partial<Transport.IncomingMessage>): Transport.IncomingMessage => ({
  topic: "orders",
  partition: 0,
  offset: 0,
  key: null,
  value: bytes("x"),
  headers: {},
  timestamp: 0,
  maybeDuplicate: false,
  deliveryCount: undefined,
  ...given
})

describe("AggregateId", () => {
  it.prop("is 1 to 256 of the allowed characters and nothing else", [
    FastCheck.string({ unit: "binary", maxLength: 300 })
  ], ([text]) => {
    expect(AggregateId.isValid(text)).toBe(
      /^[A-Za-z0-9:_\-./]+$/.test(text) && text.length <= 256 && !text.endsWith("\n")
    )
  })

  for (
    const name of [
      "X-Aggregate-ID",
      "x-aggregate-id",
      "X-AGGREGATE-ID",
      "Aggregate-ID",
      "aggregate-id",
      "aggregateID",
      "AGGREGATEID",
      "aggregateid"
    ]
  ) {
    it(`is found in the header ${name}`, () => {
      expect(AggregateId.fromHeaders({ [name]: "a-1" })).toBe("a-1")
      expect(AggregateId.fromHeaders({ other: "b", [name]: bytes("a-1") })).toBe("a-1")
      expect(AggregateId.fromHeaders({ [name]: ["a-1", "a-2"] })).toBe("a-1")
    })
  }

  it("is taken from the first of the three headers that holds a valid one, wherever it stands", () => {
    expect(AggregateId.fromHeaders({ aggregateID: "c", "aggregate-id": "b", "x-aggregate-id": "a" })).toBe("a")
    expect(AggregateId.fromHeaders({ "x-aggregate-id": "not valid", aggregateID: "c", "Aggregate-ID": "b" })).toBe("b")
    expect(AggregateId.fromHeaders({ "x-aggregate-id": "", aggregateID: [] })).toBeUndefined()
    expect(AggregateId.fromHeaders({ "x-aggregate-ids": "a", "aggregate_id": "b" })).toBeUndefined()
  })

  it("is a key only where the whole key is one", () => {
    expect(AggregateId.fromKey(bytes("order-1"))).toBe("order-1")
    expect(AggregateId.fromKey(bytes("order 1"))).toBeUndefined()
    expect(AggregateId.fromKey(Uint8Array.of(0xff))).toBeUndefined()
    expect(AggregateId.fromKey(new Uint8Array(0))).toBeUndefined()
    expect(AggregateId.fromKey(new Uint8Array(257).fill(97))).toBeUndefined()
    expect(AggregateId.fromKey(null)).toBeUndefined()
  })

  it("is the last valid token of a subject", () => {
    expect(AggregateId.fromSubject("orders.eu.order-1")).toBe("order-1")
    expect(AggregateId.fromSubject("orders.order-1.a$b")).toBe("order-1")
    expect(AggregateId.fromSubject("$.*")).toBeUndefined()
  })
})

describe("Headers", () => {
  it("prefers the exact name and finds it in any letter case", () => {
    expect(Headers.get({ "X-A": "1", "x-a": "2" }, "x-a")).toBe("2")
    expect(Headers.get({ "X-A": "1" }, "x-a")).toBe("1")
    expect(Headers.get({ "X-A": [bytes("1"), "2"] }, "x-a")).toBe("1")
    expect(Headers.get({ "X-A": [] }, "x-a")).toBeUndefined()
    expect(Headers.get({ "X-A": undefined }, "x-a")).toBeUndefined()
  })

  it("finds nothing that is not a header of the message", () => {
    for (const name of ["constructor", "toString", "__proto__", "hasOwnProperty"]) {
      expect(Headers.get({}, name)).toBeUndefined()
    }
  })

  it("replaces a name that is set again in another letter case", () => {
    expect(Headers.merge({ "X-A": "1", b: "2" }, { "x-a": "3" })).toEqual({ "x-a": "3", b: "2" })
  })

  it("keeps a header whose name is __proto__ as a header", () => {
    const headers: Headers.Headers = JSON.parse("{\"__proto__\":\"1\",\"a\":\"2\"}")
    const merged = Headers.merge(headers, { b: "3" })
    expect(Object.keys(merged).sort()).toEqual(["__proto__", "a", "b"])
  })
})

describe("messages without a key", () => {
  it.scoped("go to idle slots first, and evenly to 256 mailboxes that no aggregate can have", () =>
    Effect.gen(function*() {
      const { assign, mailboxes, probe } = yield* setup("at-least-once", { maxUnfinished: 10_000 })
      const used = new Map<string, number>()
      probe.handle = (flight) => {
        used.set(flight.mailbox!.key, (used.get(flight.mailbox!.key) ?? 0) + 1)
        return Effect.never
      }
      const one = assign()
      one.append(...Array.from({ length: 256 }, (_, offset) => message({ offset })))
      yield* eventually("all are in hand", () => used.size === 256)
      expect(new Set(used.values())).toEqual(new Set([1]))
      expect(Array.from(used.keys()).filter(AggregateId.isValid)).toEqual([])
      one.append(...Array.from({ length: 512 }, (_, offset) => message({ offset: offset + 256 })))
      expect(new Set(mailboxes.slots().map(({ size }) => size))).toEqual(new Set([3]))
    }))
})

describe("Partitioner", () => {
  // org.apache.kafka.common.utils.UtilsTest.testMurmur2
  for (
    const [text, hash] of [
      ["21", -973932308],
      ["foobar", -790332482],
      ["a-little-bit-long-string", -985981536],
      ["a-little-bit-longer-string", -1486304829],
      ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971]
    ] as const
  ) it(`murmur2 of ${text} is Java's`, () => expect(Partitioner.murmur2(bytes(text))).toBe(hash))

  // draft-eastlake-fnv, appendix C
  for (const [text, hash] of [["", 0x811c9dc5], ["a", 0xe40c292c], ["foobar", 0xbf9cf968]] as const) {
    it(`FNV-1a of "${text}" is the draft's`, () => expect(Partitioner.fnv1a(bytes(text))).toBe(hash))
  }

  it("takes the remainder as Sarama does: of the signed hash, made positive", () => {
    // hash 0xbf9cf968 is -1080231576 as int32.
    expect(Partitioner.partition("sarama-fnv1a", bytes("foobar"), 7)).toBe(1080231576 % 7)
  })

  it.prop("gives every key a partition that exists, and always the same", [
    FastCheck.uint8Array(),
    FastCheck.integer({ min: 1, max: 64 })
  ], ([key, partitions]) => {
    for (const partitioner of ["murmur2", "sarama-fnv1a"] as const) {
      const partition = Partitioner.partition(partitioner, key, partitions)
      expect(Number.isInteger(partition) && partition >= 0 && partition < partitions).toBe(true)
      expect(Partitioner.partition(partitioner, key.slice(), partitions)).toBe(partition)
    }
  })
})
