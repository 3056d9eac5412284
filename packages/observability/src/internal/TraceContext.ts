import * as Headers from "@effect-eventbus/core/Headers"
import * as Context from "effect/Context"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

/** The header as W3C names it. */
const traceparent = "traceparent"
const tracestate = "tracestate"

/** As W3C bounds it. What is longer is left out, as it allows. */
const maxState = 512

/** What came in `tracestate`, which is handed on as it is. */
class State extends Context.Tag("@effect-eventbus/observability/TraceState")<State, string>() {}

/** Without it `@effect/opentelemetry` takes every external span for sampled. */
const otelFlags = Context.GenericTag<"@effect/opentelemetry/Tracer/OtelTraceFlags", number>(
  "@effect/opentelemetry/Tracer/OtelTraceFlags"
)

/** Lower case, as W3C has it. By hand, because it is asked for each message that is traced. */
const isHex = (text: string, from: number, to: number): boolean => {
  if (text.length < to) return false
  for (let i = from; i < to; i++) {
    const code = text.charCodeAt(i)
    if (!(code >= 48 && code <= 57 || code >= 97 && code <= 102)) return false
  }
  return true
}

const isZero = (text: string, from: number, to: number): boolean => {
  for (let i = from; i < to; i++) if (text.charCodeAt(i) !== 48) return false
  return true
}

const externalOf = (traceId: string, spanId: string, flags: number, state?: string): Tracer.ExternalSpan => {
  const context = Context.make(otelFlags, flags)
  return Tracer.externalSpan({
    traceId,
    spanId,
    sampled: (flags & 1) === 1,
    context: (state === undefined ? context : Context.add(context, State, state)) as Context.Context<never>
  })
}

/**
 * The span that a message's headers name, if they name one that W3C allows.
 *
 * @internal
 */
export const read = (headers: Headers.Headers): Tracer.ExternalSpan | undefined => {
  const text = Headers.get(headers, traceparent)?.trim()
  // `vv-tttttttttttttttttttttttttttttttt-ssssssssssssssss-ff`
  if (text === undefined || !isHex(text, 0, 2) || !isHex(text, 3, 35) || !isHex(text, 36, 52) || !isHex(text, 53, 55)) {
    return undefined
  }
  if (text[2] !== "-" || text[35] !== "-" || text[52] !== "-") return undefined
  // A later version may have more fields, the first has not.
  if (text.length > 55 && (text[55] !== "-" || text.startsWith("00")) || text.startsWith("ff")) return undefined
  if (isZero(text, 3, 35) || isZero(text, 36, 52)) return undefined
  const state = Headers.get(headers, tracestate)?.trim()
  const kept = state === undefined || state === "" || state.length > maxState ? undefined : state
  return externalOf(text.slice(3, 35), text.slice(36, 52), Number.parseInt(text.slice(53, 55), 16), kept)
}

/**
 * Whether the headers say that whoever published was not sampled. It looks at one character, because it is asked for every message.
 *
 * @internal
 */
export const isUnsampled = (headers: Headers.Headers): boolean => {
  const value = headers[traceparent]
  if (value === undefined) return false
  // The last digit of the flags. Another version or form is left to `read`.
  const code = typeof value === "string"
    ? value.length === 55 ? value.charCodeAt(54) : 0
    : value instanceof Uint8Array && value.length === 55
    ? value[54]!
    : 0
  return code >= 48 && code <= 57 ? (code & 1) === 0 : code >= 97 && code <= 102 && (code & 1) === 1
}

/**
 * A span for a trace of which only the id is known: an envelope's `trace_id`, where that is one by W3C or a UUID. The span's own id is the
 * first half of the trace's.
 *
 * @internal
 */
export const ofTraceId = (traceId: string | undefined): Tracer.ExternalSpan | undefined => {
  const hex = traceId?.toLowerCase().replace(/-/g, "")
  return hex === undefined || hex.length !== 32 || !isHex(hex, 0, 32) || isZero(hex, 0, 16)
    ? undefined
    : externalOf(hex, hex.slice(0, 16), 1)
}

/**
 * The headers that name a span. Empty where its ids are none by W3C.
 *
 * @internal
 */
export const write = (span: Tracer.AnySpan): Headers.Headers => {
  const { sampled, spanId, traceId } = span
  if (traceId.length !== 32 || spanId.length !== 16 || !isHex(traceId, 0, 32) || !isHex(spanId, 0, 16)) return {}
  const parent = `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`
  const state = stateOf(span)
  return state === undefined ? { [traceparent]: parent } : { [traceparent]: parent, [tracestate]: state }
}

/**
 * Whether a message has a trace context already, which whoever publishes it has given to it.
 *
 * @internal
 */
export const has = (headers: Headers.Headers | undefined): boolean =>
  headers !== undefined && Headers.get(headers, traceparent) !== undefined

/** Of the span from another process that the trace came with. */
const stateOf = (span: Tracer.AnySpan): string | undefined => {
  for (let one: Tracer.AnySpan | undefined = span; one !== undefined && one.traceId === span.traceId;) {
    const state: Option.Option<string> = Context.getOption(one.context as Context.Context<State>, State)
    if (Option.isSome(state)) return state.value
    one = one._tag === "Span" ? Option.getOrUndefined(one.parent) : undefined
  }
  return undefined
}
