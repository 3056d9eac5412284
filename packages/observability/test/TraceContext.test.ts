import { expect, it } from "@effect/vitest"
import { Tracer } from "effect"
import * as TraceContext from "../src/internal/TraceContext.js"

const traceId = "0af7651916cd43dd8448eb211c80319c"
const spanId = "b7ad6b7169203331"
const read = (traceparent: string) => TraceContext.read({ traceparent })

it("reads what W3C allows, also of later versions and as bytes, and nothing else", () => {
  for (const flags of ["00", "01", "02", "03", "ff", "0a", "0b"]) {
    const text = `00-${traceId}-${spanId}-${flags}`
    const sampled = Number.parseInt(flags, 16) % 2 === 1
    expect(read(text)).toMatchObject({ traceId, spanId, sampled })
    expect(TraceContext.read({ TraceParent: Buffer.from(text) })).toMatchObject({ traceId, sampled })
    expect(TraceContext.isUnsampled({ traceparent: text })).toBe(!sampled)
    expect(TraceContext.isUnsampled({ traceparent: Buffer.from(text) })).toBe(!sampled)
  }
  expect(read(`cc-${traceId}-${spanId}-01-what-is-new`)).toMatchObject({ traceId, spanId })
  for (
    const wrong of [
      "",
      "00",
      `ff-${traceId}-${spanId}-01`,
      `00-${traceId}-${spanId}-01-more`,
      `00-${"0".repeat(32)}-${spanId}-01`,
      `00-${traceId}-${"0".repeat(16)}-01`,
      `00-${traceId.toUpperCase()}-${spanId}-01`,
      `00-${traceId}-${spanId}-1`,
      `00-${traceId}-${spanId}`
    ]
  ) {
    expect(read(wrong), wrong).toBeUndefined()
  }
  for (const value of [undefined, "", "x".repeat(55), ["a"], Buffer.alloc(55)]) {
    expect(TraceContext.isUnsampled({ traceparent: value })).toBe(false)
  }
})

it("writes what it has read, with the state as it came, and no ids that are none by W3C", () => {
  const tracestate = "shop=1,other=2"
  const span = TraceContext.read({ traceparent: `00-${traceId}-${spanId}-00`, tracestate })!
  expect(TraceContext.write(span)).toEqual({ traceparent: `00-${traceId}-${spanId}-00`, tracestate })
  const long = TraceContext.read({ traceparent: `00-${traceId}-${spanId}-01`, tracestate: "a".repeat(513) })!
  expect(TraceContext.write(long)).toEqual({ traceparent: `00-${traceId}-${spanId}-01` })
  expect(TraceContext.write(Tracer.externalSpan({ traceId: "t", spanId: "s" }))).toEqual({})
})

it("takes a trace id of W3C or a UUID for a trace, and no other text", () => {
  expect(TraceContext.ofTraceId(traceId)).toMatchObject({ traceId, spanId: traceId.slice(0, 16), sampled: true })
  expect(TraceContext.ofTraceId("0AF76519-16cd-43dd-8448-eb211c80319c")).toMatchObject({ traceId })
  for (const other of [undefined, "", "t", "0".repeat(32), `${"0".repeat(16)}${"1".repeat(16)}`, `${traceId}0`]) {
    expect(TraceContext.ofTraceId(other)).toBeUndefined()
  }
})
