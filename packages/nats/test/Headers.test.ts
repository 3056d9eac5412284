import type { OutgoingMessage } from "@effect-eventbus/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import * as HeaderCodec from "../src/internal/HeaderCodec.js"

const outgoing = (overrides: Partial<OutgoingMessage>): OutgoingMessage => ({
  id: undefined,
  aggregateId: undefined,
  key: null,
  value: new Uint8Array(0),
  headers: {},
  timestamp: undefined,
  ...overrides
})

const encode = (message: OutgoingMessage, id = "t/1"): Uint8Array => {
  const encoded = HeaderCodec.encode(id, message)
  if (typeof encoded === "string") throw new Error(encoded)
  const block = new TextEncoder().encode(encoded.block)
  assert.strictEqual(block.length, encoded.size)
  return block
}

const throughWire = (overrides: Partial<OutgoingMessage>) => HeaderCodec.decode(encode(outgoing(overrides)), "t")

const bytes = (...values: Array<number>) => Uint8Array.from(values)
const text = (value: string) => new TextEncoder().encode(value)

describe("HeaderCodec", () => {
  const name = fc.stringMatching(/^[!-9;-~]{1,20}$/)
  // A text of lone surrogates is none, on any wire.
  const value = fc.oneof(fc.fullUnicodeString(), fc.constantFrom("=?UTF-8?B?YQ==?=", " a ", "\r\nX: 1", "", "\ufeff"))

  it.prop("text comes back as it was, whatever is in it", [
    fc.uniqueArray(name, { selector: (name) => name.toLowerCase() }),
    fc.infiniteStream(value)
  ], ([
    names,
    values
  ]) => {
    const headers = Object.fromEntries(
      names.filter((name) => !/^(x-eventbus-(key|tombstone|timestamp)|nats-msg-id|__proto__)$/i.test(name))
        .map((name) => [name, values.next().value])
    )
    assert.deepStrictEqual({ ...throughWire({ headers }).headers }, headers)
  })

  it.prop("bytes come back as text where they are text, and else as bytes", [fc.uint8Array()], ([value]) => {
    const received = throughWire({ headers: { h: value } }).headers["h"]
    assert.deepStrictEqual(typeof received === "string" ? text(received) : received, value)
  })

  it.prop("keys come back byte for byte", [fc.uint8Array()], ([key]) => {
    assert.deepStrictEqual(throughWire({ key }).key, key)
    assert.deepStrictEqual(throughWire({ key, aggregateId: "a" }).key, key)
  })

  it("the aggregate id is the key where none is given, as in Kafka", () => {
    assert.deepStrictEqual(throughWire({ aggregateId: "order-1" }).key, text("order-1"))
    assert.strictEqual(throughWire({ aggregateId: "order-1" }).headers["X-Aggregate-ID"], "order-1")
    assert.strictEqual(throughWire({}).key, null)
  })

  it("a header with several values keeps them in order", () => {
    assert.deepStrictEqual(throughWire({ headers: { h: ["a", bytes(255), "b"] } }).headers["h"], ["a", bytes(255), "b"])
  })

  it("a tombstone is no empty value, and a timestamp is kept", () => {
    assert.isTrue(throughWire({ value: null }).tombstone)
    assert.isFalse(throughWire({}).tombstone)
    assert.strictEqual(throughWire({ timestamp: 1_700_000_000_123 }).timestamp, 1_700_000_000_123)
  })

  it("an application's Nats- headers are data, and don't command the server", () => {
    const headers: Record<string, string> = {
      "Nats-Rollup": "all",
      "nats-msg-id": "theirs",
      "X-Eventbus-Header-Nats-TTL": "1"
    }
    const block = new TextDecoder().decode(encode(outgoing({ headers })))
    assert.deepStrictEqual(block.match(/^Nats-[^\r]*/gmi), ["Nats-Msg-Id: t/1"])
    assert.deepStrictEqual({ ...throughWire({ headers }).headers }, headers)
  })

  it("a header of the transport's own name gives way to what the message says", () => {
    const headers = { "x-aggregate-id": "old", "X-Eventbus-Tombstone": "true" }
    const decoded = throughWire({ headers, aggregateId: "new" })
    assert.deepStrictEqual({ ...decoded.headers }, { "X-Aggregate-ID": "new" })
    assert.isFalse(decoded.tombstone)
    assert.deepStrictEqual({ ...throughWire({ headers: { "x-aggregate-id": "kept" } }).headers }, {
      "x-aggregate-id": "kept"
    })
  })

  it("names that NATS can't carry, and too many bytes, are refused with the reason", () => {
    assert.match(HeaderCodec.encode("t/1", outgoing({ headers: { "a b": "" } })) as string, /header name "a b"/)
    assert.match(HeaderCodec.encode("t/1", outgoing({ headers: { "": "" } })) as string, /header name/)
    assert.match(HeaderCodec.encode("t/1", outgoing({ headers: { a: "x".repeat(70_000) } })) as string, /65535/)
  })

  it("a foreign header block is read as far as it can be", () => {
    const block = text(
      "NATS/1.0\r\nX-Aggregate-ID: a-1\r\nFoo Bar: x\r\nno colon\r\n: empty\r\nh:1\r\nh: 2\r\nNats-Msg-Id: abc\r\n__proto__: p\r\n\r\n"
    )
    const { headers } = HeaderCodec.decode(block, "t")
    assert.deepStrictEqual(Object.entries(headers), [
      ["X-Aggregate-ID", "a-1"],
      ["Foo Bar", "x"],
      ["h", ["1", "2"]],
      ["Nats-Msg-Id", "abc"],
      ["__proto__", "p"]
    ])
  })
})
