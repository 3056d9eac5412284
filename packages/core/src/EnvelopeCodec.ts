/**
 * How an envelope becomes bytes and is read again. The default writes and reads the
 * JSON of the Go event bus; give another as a service, for instance one for CloudEvents.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Either from "effect/Either"
import * as AggregateId from "./AggregateId.js"
import * as Envelope from "./Envelope.js"
import { DecodeError } from "./EventBusError.js"
import type { Headers } from "./Headers.js"
import { jsonMember } from "./internal/jsonMember.js"
import * as Utf8 from "./internal/utf8.js"

/**
 * Writes and reads envelopes. Both run for every message, so they are synchronous.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** Headers that say how the value is encoded; they are added to what the publisher gave. */
  readonly headers: Headers
  /** The bytes of an envelope whose fields are valid. */
  readonly encode: (envelope: Envelope.Envelope) => Uint8Array
  /**
   * Reads an envelope. Synchronous and without a throw: bad bytes are data. The failure carries the
   * aggregate id where one can be read, so that what can't be decoded keeps its place in the order.
   */
  readonly decode: (value: Uint8Array | null, headers: Headers) => Either.Either<Envelope.Envelope, Undecodable>
}

/**
 * A value that is no envelope.
 *
 * @since 0.1.0
 * @category models
 */
export interface Undecodable {
  readonly error: DecodeError
  readonly aggregateId: string | undefined
}

const decoder = new TextDecoder("utf-8", { fatal: true })

const undecodable = (reason: DecodeError["reason"], issue: string, cause?: unknown, aggregateId?: string) =>
  Either.left<Undecodable>({ error: new DecodeError({ reason, issue, cause }), aggregateId })

/**
 * The JSON wire format: `event_id`, `aggregate_id`, `event_type`, `event_version`, `timestamp`, `trace_id`,
 * `correlation_id`, `tenant_id`, `payload`. Unknown fields are ignored on reading.
 *
 * @since 0.1.0
 * @category codecs
 */
export const json: Service = {
  headers: {},
  encode: (envelope) => {
    const { aggregateId, correlationId, eventId, eventType, eventVersion, payloadJson, tenantId, timestamp, traceId } =
      envelope
    // By hand: what a valid aggregate id or timestamp is made of needs no escapes.
    return Utf8.encode(
      `{"event_id":${JSON.stringify(eventId)},"aggregate_id":"${aggregateId}","event_type":${
        JSON.stringify(eventType)
      },` +
        `"event_version":${eventVersion},"timestamp":"${timestamp}"` +
        (traceId === undefined ? "" : `,"trace_id":${JSON.stringify(traceId)}`) +
        (correlationId === undefined ? "" : `,"correlation_id":${JSON.stringify(correlationId)}`) +
        (tenantId === undefined ? "" : `,"tenant_id":${tenantId}`) +
        `,"payload":${payloadJson}}`
    )
  },
  decode: (value) => {
    if (value === null || value.length === 0) return undecodable("Empty", "it has no value")
    let text: string
    let parsed: unknown
    try {
      text = decoder.decode(value)
    } catch (cause) {
      return undecodable("Utf8", "the value is not UTF-8", cause)
    }
    try {
      parsed = JSON.parse(text)
    } catch (cause) {
      return undecodable("Json", "the value is not JSON", cause)
    }
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
      return undecodable("Json", "the value is JSON, but not an object")
    }
    const envelope = new ReceivedEnvelope(text, parsed as WireEnvelope)
    const issue = Envelope.issueOf(envelope) ??
      (Object.hasOwn(parsed, "payload") ? undefined : "payload is missing")
    if (issue === undefined) return Either.right(envelope)
    return undecodable(
      "Field",
      issue,
      undefined,
      AggregateId.isValid(envelope.aggregateId) ? envelope.aggregateId : undefined
    )
  }
}

/**
 * The codec that the bus uses.
 *
 * @since 0.1.0
 * @category tags
 */
export class EnvelopeCodec extends Context.Reference<EnvelopeCodec>()("@effect-eventbus/core/EnvelopeCodec", {
  defaultValue: (): Service => json
}) {}

interface WireEnvelope {
  readonly event_id: string
  readonly aggregate_id: string
  readonly event_type: string
  readonly event_version: number
  readonly timestamp: string
  readonly trace_id?: string | null
  readonly correlation_id?: string | null
  readonly tenant_id?: number | null
  readonly payload: unknown
}

class ReceivedEnvelope implements Envelope.Envelope {
  readonly eventId: string
  readonly aggregateId: string
  readonly eventType: string
  readonly eventVersion: number
  readonly timestamp: string
  // Go writes `null` for a pointer that is not set.
  readonly traceId: string | undefined
  readonly correlationId: string | undefined
  readonly tenantId: number | undefined
  readonly payload: unknown

  constructor(private readonly text: string, wire: WireEnvelope) {
    this.eventId = wire.event_id
    this.aggregateId = wire.aggregate_id
    this.eventType = wire.event_type
    this.eventVersion = wire.event_version
    this.timestamp = wire.timestamp
    this.traceId = wire.trace_id ?? undefined
    this.correlationId = wire.correlation_id ?? undefined
    this.tenantId = wire.tenant_id ?? undefined
    this.payload = wire.payload
  }

  get payloadJson(): string {
    return jsonMember(this.text, "payload") ?? "null"
  }
}
