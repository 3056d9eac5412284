import { Envelope, EnvelopeCodec } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { DateTime, Either, FastCheck } from "effect"
import { jsonMember } from "../src/internal/jsonMember.js"

const encoder = new TextEncoder()
const codec = EnvelopeCodec.json

const wire = {
  event_id: "0190b6a4-8f1e-7c3a-9d2b-1a2b3c4d5e6f",
  aggregate_id: "order-42",
  event_type: "OrderPlaced",
  event_version: 1,
  timestamp: "2026-11-21T09:30:00.123456789+01:00",
  payload: { total: 12 }
}

const decodeText = (text: string) => codec.decode(encoder.encode(text), {})
const decode = (fields: object) => decodeText(JSON.stringify({ ...wire, ...fields }))

const aggregateId = FastCheck.stringMatching(/^[A-Za-z0-9:_\-./]{1,40}$/)
const notBlank = FastCheck.string({ minLength: 1, unit: "grapheme" }).filter((text) => text.trim() !== "")

/**
 * No key of an object in these tests has a backslash: once Node 24's `JSON.parse` has read the key `"\\\\"`, it reads other keys that begin with an
 * escape as a backslash, too, in objects of the same shape (nodejs/node#63785).
 */
const hasBackslash = (jsonOfKey: string) => (JSON.parse(jsonOfKey) as string).includes("\\")
const payloads = FastCheck.jsonValue().filter((value) => !JSON.stringify(value).includes("\\\\"))

const envelope: FastCheck.Arbitrary<Envelope.Envelope> = FastCheck.record({
  eventId: notBlank,
  aggregateId,
  eventType: notBlank,
  eventVersion: FastCheck.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  timestamp: FastCheck.date({ min: new Date("0001-01-01"), max: new Date("9999-12-31"), noInvalidDate: true }).map((
    date
  ) => date.toISOString()),
  traceId: FastCheck.option(FastCheck.string({ unit: "binary" }), { nil: undefined }),
  correlationId: FastCheck.option(FastCheck.string(), { nil: undefined }),
  tenantId: FastCheck.option(FastCheck.maxSafeInteger(), { nil: undefined }),
  payload: payloads
}).map((fields) => ({
  ...fields,
  tenantId: fields.tenantId === undefined ? undefined : fields.tenantId + 0,
  payloadJson: JSON.stringify(fields.payload)
}))

/** JSON text as other writers write it: white space, escapes, numbers that a double can't hold, members twice. */
const space = FastCheck.constantFrom("", "", " ", "\n", "\t", "\r\n  ")
const numberText = FastCheck.constantFrom(
  "0",
  "-0",
  "1.0",
  "1e400",
  "-1E-7",
  "12345678901234567890123",
  "0.30000000000000004"
)
const stringText = FastCheck.oneof(
  FastCheck.string({ unit: "binary" }).map((text) => JSON.stringify(text)),
  FastCheck.constantFrom("\"\\u003cb\\u003e\"", "\"\\\"\"", "\"\\\\\"", "\"a\\/b\"", "\"}{][,:\"", "\"\\ud83d\\ude00\"")
)
const { jsonText } = FastCheck.letrec<{ jsonText: string }>((tie) => ({
  jsonText: FastCheck.oneof(
    { depthSize: "small" },
    FastCheck.constantFrom("null", "true", "false"),
    numberText,
    stringText,
    FastCheck.tuple(space, FastCheck.array(FastCheck.tuple(space, tie("jsonText"), space), { maxLength: 4 })).map((
      [inner, items]
    ) => `[${inner}${items.map((parts) => parts.join("")).join(",")}]`),
    FastCheck.tuple(
      space,
      FastCheck.array(
        FastCheck.tuple(
          space,
          FastCheck.oneof(stringText, FastCheck.constantFrom("\"payload\"", "\"a\"")).filter((key) =>
            !hasBackslash(key)
          ),
          space,
          space,
          tie("jsonText"),
          space
        ),
        { maxLength: 4 }
      )
    ).map(([inner, members]) =>
      `{${inner}${members.map(([a, key, b, c, value, d]) => `${a}${key}${b}:${c}${value}${d}`).join(",")}}`
    )
  )
}))

const payloadKeys = FastCheck.constantFrom("\"payload\"", "\"payl\\u006fad\"", "\"\\u0070ayload\"")
const others = FastCheck.array(
  FastCheck.tuple(
    FastCheck.constantFrom("\"x\"", "\"payloa\"", "\"payloads\"", "\"\\\"payload\"", "\"nested\""),
    jsonText
  ),
  { maxLength: 3 }
)

describe("EnvelopeCodec.json", () => {
  it.prop("reads what it wrote", [envelope], ([given]) => {
    const read = Either.getOrThrow(codec.decode(codec.encode(given).value, {}))
    const { payloadJson, ...fields } = given
    expect(read.payloadJson).toBe(payloadJson)
    expect(JSON.stringify(read.payload)).toBe(payloadJson)
    expect({ ...read, text: undefined, payload: undefined }).toEqual({ ...fields, text: undefined, payload: undefined })
  }, { fastCheck: { numRuns: 120 } })

  it.prop(
    "keeps a payload byte for byte, however it was written",
    [payloadKeys, jsonText, others, others, space],
    ([key, payload, before, after, gap]) => {
      const members = [
        ...before.map(([name, value]) => `${name}:${value}`),
        ...Object.entries(wire).filter(([name]) => name !== "payload").map(([name, value]) =>
          `${gap}"${name}"${gap}:${gap}${JSON.stringify(value)}${gap}`
        ),
        `${gap}${key}${gap}:${gap}${payload}${gap}`,
        ...after.map(([name, value]) => `${name}${gap}:${value}`)
      ]
      const text = `${gap}{${members.join(",")}}${gap}`
      const read = Either.getOrThrow(decodeText(text))
      expect(read.payloadJson).toBe(payload)
      expect(read.payload).toEqual(JSON.parse(payload))
      const again = Either.getOrThrow(codec.decode(codec.encode(read).value, {}))
      expect(again.payloadJson).toBe(payload)
    },
    { fastCheck: { numRuns: 200 } }
  )

  it.prop(
    "takes the last of several payloads, as JSON.parse does",
    [jsonText, jsonText, payloadKeys],
    ([first, last, key]) => {
      const text = JSON.stringify(wire).replace(/"payload":.*$/, `${key}:${first},"payload":${last}}`)
      expect(Either.getOrThrow(decodeText(text)).payloadJson).toBe(last)
    }
  )

  it.prop("never throws on arbitrary bytes", [FastCheck.uint8Array({ maxLength: 200 })], ([bytes]) => {
    expect(Either.isLeft(codec.decode(bytes, {}))).toBe(true)
  }, { fastCheck: { numRuns: 200 } })

  it.prop(
    "never throws on broken JSON of an envelope",
    [FastCheck.nat(200), FastCheck.uint8Array({ maxLength: 3 })],
    ([at, junk]) => {
      const bytes = encoder.encode(JSON.stringify(wire))
      const broken = Uint8Array.from([...bytes.slice(0, at), ...junk, ...bytes.slice(at + 1)])
      const read = codec.decode(broken, {})
      if (Either.isRight(read)) expect(typeof read.right.payloadJson).toBe("string")
    },
    { fastCheck: { numRuns: 200 } }
  )

  it.prop("never throws whatever the fields are", [
    FastCheck.dictionary(
      FastCheck.constantFrom(...Object.keys(wire), "trace_id", "tenant_id", "__proto__", "constructor"),
      payloads
    )
  ], ([fields]) => {
    const read = decodeText(JSON.stringify(fields))
    if (Either.isRight(read)) expect(Envelope.issueOf(read.right)).toBeUndefined()
  })

  it("reads a payload nested a hundred thousand deep", () => {
    const deep = "[".repeat(100_000) + "]".repeat(100_000)
    const text = JSON.stringify(wire).replace(/"payload":.*$/, `"payload":${deep}}`)
    expect(Either.getOrThrow(decodeText(text)).payloadJson).toBe(deep)
  })

  it("reads what a Go service wrote", () => {
    const text = `{"event_id":"e1","aggregate_id":"order:42/a.b_c-d","event_type":"OrderPlaced","event_version":3,` +
      `"timestamp":"2026-11-21T09:30:00.123456789Z","trace_id":null,"correlation_id":"","tenant_id":7,"added_later":{"payload":1},` +
      `"payload":{"html":"\\u003cb\\u003e\\u0026","n":12345678901234567890}}\n`
    const read = Either.getOrThrow(decodeText(text))
    expect(read).toMatchObject({
      eventId: "e1",
      aggregateId: "order:42/a.b_c-d",
      eventVersion: 3,
      timestamp: "2026-11-21T09:30:00.123456789Z",
      traceId: undefined,
      correlationId: "",
      tenantId: 7
    })
    expect(read.payloadJson).toBe(`{"html":"\\u003cb\\u003e\\u0026","n":12345678901234567890}`)
    expect(new TextDecoder().decode(codec.encode(read).value)).toContain(
      `"payload":{"html":"\\u003cb\\u003e\\u0026","n":12345678901234567890}}`
    )
  })

  it("writes the fields under the names of the Go event bus and leaves out what is not set", () => {
    const written = JSON.parse(
      new TextDecoder().decode(codec.encode(Either.getOrThrow(decode({ tenant_id: null }))).value)
    )
    expect(Object.keys(written).sort()).toEqual(Object.keys(wire).sort())
  })

  const bad: ReadonlyArray<readonly [name: string, fields: object]> = [
    ["event_id", { event_id: "" }],
    ["event_id", { event_id: " \t" }],
    ["event_id", { event_id: 1 }],
    ["event_id", { event_id: undefined }],
    ["aggregate_id", { aggregate_id: "" }],
    ["aggregate_id", { aggregate_id: "a b" }],
    ["aggregate_id", { aggregate_id: "a\n" }],
    ["aggregate_id", { aggregate_id: "ä" }],
    ["aggregate_id", { aggregate_id: "a".repeat(257) }],
    ["aggregate_id", { aggregate_id: ["a"] }],
    ["event_type", { event_type: "  " }],
    ["event_type", { event_type: null }],
    ["event_version", { event_version: 0 }],
    ["event_version", { event_version: -1 }],
    ["event_version", { event_version: 1.5 }],
    ["event_version", { event_version: "1" }],
    ["event_version", { event_version: 2 ** 53 }],
    ["timestamp", { timestamp: "2026-11-21" }],
    ["timestamp", { timestamp: 1_700_000_000 }],
    ["trace_id", { trace_id: 1 }],
    ["correlation_id", { correlation_id: {} }],
    ["tenant_id", { tenant_id: 1.5 }],
    ["tenant_id", { tenant_id: "1" }],
    ["payload", { payload: undefined }]
  ]
  for (const [name, fields] of bad) {
    it(`refuses ${JSON.stringify(fields)} and names ${name}`, () => {
      const read = decode(fields)
      expect(Either.isLeft(read) && read.left.error).toMatchObject({ _tag: "DecodeError", reason: "Field" })
      expect(Either.isLeft(read) && read.left.error.issue.startsWith(name)).toBe(true)
    })
  }

  it("takes ids of 1 and of 256 characters and a payload of null", () => {
    expect(Either.isRight(decode({ aggregate_id: "a" }))).toBe(true)
    expect(Either.isRight(decode({ aggregate_id: "a".repeat(256) }))).toBe(true)
    expect(Either.getOrThrow(decode({ payload: null })).payloadJson).toBe("null")
  })

  it("says which kind of bad bytes it met, and keeps the aggregate id where it is readable", () => {
    const reason = (read: ReturnType<typeof codec.decode>) => Either.isLeft(read) ? read.left.error.reason : "none"
    expect(reason(codec.decode(null, {}))).toBe("Empty")
    expect(reason(codec.decode(new Uint8Array(0), {}))).toBe("Empty")
    expect(reason(codec.decode(Uint8Array.of(0xff, 0xfe), {}))).toBe("Utf8")
    expect(reason(decodeText("{\"a\":"))).toBe("Json")
    expect(reason(decodeText("[1]"))).toBe("Json")
    expect(reason(decodeText("null"))).toBe("Json")
    const read = decode({ event_version: 0 })
    expect(Either.isLeft(read) && read.left.aggregateId).toBe("order-42")
    const unreadable = decode({ aggregate_id: "not one" })
    expect(Either.isLeft(unreadable) && unreadable.left.aggregateId).toBeUndefined()
  })

  it("finds no member in an object that has none", () => {
    expect(jsonMember("{ }", "payload")).toBeUndefined()
    expect(jsonMember(" {\"a\":{\"payload\":1}}", "payload")).toBeUndefined()
  })
})

describe("Envelope", () => {
  const issueOf = (timestamp: unknown) =>
    Envelope.issueOf({
      eventId: "e",
      aggregateId: "a",
      eventType: "t",
      eventVersion: 1,
      timestamp,
      traceId: undefined,
      correlationId: undefined,
      tenantId: undefined
    })

  for (
    const text of [
      "2026-11-21T09:30:00Z",
      "2026-11-21t09:30:00.5z",
      "2026-11-21T09:30:00.123456789-23:59",
      "2024-02-29T00:00:00Z",
      "2000-02-29T00:00:00Z",
      "2016-12-31T23:59:60Z",
      "0000-01-01T00:00:00Z"
    ]
  ) it(`takes ${text} as RFC 3339`, () => expect(issueOf(text)).toBeUndefined())

  for (
    const text of [
      "2026-11-21T09:30:00",
      "2026-11-21T09:30Z",
      "2026-13-01T00:00:00Z",
      "2026-00-01T00:00:00Z",
      "2026-04-31T00:00:00Z",
      "2023-02-29T00:00:00Z",
      "1900-02-29T00:00:00Z",
      "2026-11-21T24:00:00Z",
      "2026-11-21T09:60:00Z",
      "2026-11-21T09:30:61Z",
      "2026-11-21T09:30:00.Z",
      "2026-11-21T09:30:00.1234567890Z",
      "2026-11-21T09:30:00+24:00",
      "2026-11-21T09:30:00+01:60",
      "2026-11-21T09:30:00+0100",
      "2026-11-21T09:30:00Z\n",
      "+010000-01-01T00:00:00Z",
      ""
    ]
  ) it(`refuses ${JSON.stringify(text)} as a timestamp`, () => expect(issueOf(text)).toContain("timestamp"))

  it("makes a UUID v7 of the time it is made at, version 1 and that time", () => {
    const made = Envelope.make(
      { aggregateId: "a" },
      { eventType: "t", payload: 1, payloadJson: "1" },
      1_700_000_000_000
    )
    expect(made.eventId).toMatch(/^018bcfe5-6800-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(made.eventVersion).toBe(1)
    expect(made.timestamp).toBe("2023-11-14T22:13:20.000Z")
    expect(Envelope.issueOf(made)).toBeUndefined()
  })

  it("takes a timestamp as text, Date or DateTime, and says when a Date is none", () => {
    const at = (timestamp: Envelope.Metadata["timestamp"]) =>
      Envelope.make({ aggregateId: "a", timestamp }, { eventType: "t", payload: 1, payloadJson: "1" }, 0)
    expect(at("2026-11-21T09:30:00.000000001Z").timestamp).toBe("2026-11-21T09:30:00.000000001Z")
    expect(at(new Date(0)).timestamp).toBe("1970-01-01T00:00:00.000Z")
    expect(at(DateTime.unsafeMake(0)).timestamp).toBe("1970-01-01T00:00:00.000Z")
    expect(Envelope.issueOf(at(new Date(Number.NaN)))).toContain("timestamp")
  })
})
