/**
 * A domain event of one aggregate, as the bus carries it. The wire format is the
 * format of the Go event bus, so that services of both can share topics.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import { v7 } from "uuid"
import * as AggregateId from "./AggregateId.js"

/**
 * An event with what identifies and describes it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Envelope {
  /** Not blank; a UUID v7 when made here. */
  readonly eventId: string
  /** 1 to 256 of `A-Z a-z 0-9 : _ - . /`. */
  readonly aggregateId: string
  /** Not blank. */
  readonly eventType: string
  /** An integer of at least 1: the version of the event's schema. */
  readonly eventVersion: number
  /** RFC 3339, with up to nanoseconds; kept as text because a number would lose them. */
  readonly timestamp: string
  readonly traceId: string | undefined
  readonly correlationId: string | undefined
  readonly tenantId: number | undefined
  /**
   * The payload as `JSON.parse` reads it, before the topic's Schema. Numbers beyond 2^53 lose digits: read `payloadJson` for those. Node 24 and 26
   * misread keys that begin with an escape once they have read the key `"\\"` in an object of the same shape (nodejs/node#63785).
   */
  readonly payload: unknown
  /**
   * The payload's exact JSON text, as it was written. A received envelope looks it up when it is asked for, because that takes as long as
   * reading the whole envelope: `JSON.stringify` has it, and a copy by spreading or `structuredClone` has not.
   */
  readonly payloadJson: string
}

/**
 * What an envelope is made of when it is published; the rest has defaults.
 *
 * @since 0.1.0
 * @category models
 */
export interface Metadata {
  /** Orders the event among those of the same aggregate. */
  readonly aggregateId: string
  /** Default: 1. */
  readonly eventVersion?: number | undefined
  /** Default: a new UUID v7 for each call of publish. Give your own where the same event may be published again, for instance by a retry. */
  readonly eventId?: string | undefined
  /** Default: now. Text is taken as it is (RFC 3339). */
  readonly timestamp?: string | Date | DateTime.Utc | undefined
  readonly traceId?: string | undefined
  readonly correlationId?: string | undefined
  readonly tenantId?: number | undefined
}

/**
 * Makes an envelope from what the publisher gave; `now` is in milliseconds since the epoch. Nothing is checked: see `issueOf`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  metadata: Metadata,
  event: { readonly eventType: string; readonly payload: unknown; readonly payloadJson: string },
  now: number
): Envelope => ({
  eventId: metadata.eventId ?? v7({ msecs: now, random: randomBytes() }),
  aggregateId: metadata.aggregateId,
  eventType: event.eventType,
  eventVersion: metadata.eventVersion ?? 1,
  timestamp: timestampText(metadata.timestamp, now),
  traceId: metadata.traceId,
  correlationId: metadata.correlationId,
  tenantId: metadata.tenantId,
  payload: event.payload,
  payloadJson: event.payloadJson
})

/**
 * What is wrong with an envelope's fields (all but the payload), or `undefined`
 * when nothing is. Written by hand: it runs for every message.
 *
 * @since 0.1.0
 * @category validation
 */
export const issueOf = (envelope: { readonly [K in keyof Omit<Envelope, "payload" | "payloadJson">]: unknown }):
  | string
  | undefined =>
{
  if (isBlank(envelope.eventId)) return "event_id must be a string that is not blank"
  if (!AggregateId.isValid(envelope.aggregateId)) {
    return "aggregate_id must be a string of 1 to 256 of A-Z a-z 0-9 : _ - . /"
  }
  if (isBlank(envelope.eventType)) return "event_type must be a string that is not blank"
  if (!Number.isSafeInteger(envelope.eventVersion) || (envelope.eventVersion as number) < 1) {
    return "event_version must be an integer of at least 1"
  }
  if (!isTimestamp(envelope.timestamp)) {
    return "timestamp must be an RFC 3339 date and time, with up to 9 digits of a second"
  }
  if (!isOptionalString(envelope.traceId)) return "trace_id must be a string where it is given"
  if (!isOptionalString(envelope.correlationId)) return "correlation_id must be a string where it is given"
  if (envelope.tenantId !== undefined && !Number.isSafeInteger(envelope.tenantId)) {
    return "tenant_id must be an integer (of at most 2^53 - 1) where it is given"
  }
  return undefined
}

const isBlank = (value: unknown): boolean => typeof value !== "string" || value.trim().length === 0

const isOptionalString = (value: unknown): boolean => value === undefined || typeof value === "string"

const rfc3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.\d{1,9})?(?:[Zz]|[+-](\d\d):(\d\d))$/

const monthDays = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

/** What was found valid last: many envelopes of one millisecond follow each other, here and on the wire. */
let lastValid = ""

const isTimestamp = (value: unknown): boolean => {
  if (typeof value !== "string") return false
  if (value === lastValid) return true
  if (!isRfc3339(value)) return false
  lastValid = value
  return true
}

/** RFC 3339, section 5.6; second 60 is a leap second. */
const isRfc3339 = (value: string): boolean => {
  const parts = rfc3339.exec(value)
  if (parts === null) return false
  const year = Number(parts[1])
  const month = Number(parts[2])
  const day = Number(parts[3])
  if (month < 1 || month > 12 || day < 1 || day > monthDays[month - 1]!) return false
  if (month === 2 && day === 29 && !(year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0))) return false
  return Number(parts[4]) < 24 && Number(parts[5]) < 60 && Number(parts[6]) <= 60 &&
    (parts[7] === undefined || (Number(parts[7]) < 24 && Number(parts[8]) < 60))
}

let lastNow = NaN
let lastNowText = ""

/** Now as text, made once for each millisecond. */
const nowText = (now: number): string => {
  if (now !== lastNow) {
    lastNowText = new Date(now).toISOString()
    lastNow = now
  }
  return lastNowText
}

const randomPool = new Uint8Array(8_192)
let randomAt = randomPool.length

/** Sixteen random bytes. Asking for many at a time is several times cheaper. */
const randomBytes = (): Uint8Array => {
  if (randomAt === randomPool.length) {
    crypto.getRandomValues(randomPool)
    randomAt = 0
  }
  return randomPool.subarray(randomAt, randomAt += 16)
}

const timestampText = (timestamp: Metadata["timestamp"], now: number): string => {
  if (timestamp === undefined) return nowText(now)
  // RFC 3339 lets T and Z be written small, and T as a space; Go's reader does not.
  if (typeof timestamp === "string") return timestamp.toUpperCase().replace(" ", "T")
  if (DateTime.isDateTime(timestamp)) return DateTime.formatIso(timestamp)
  // An invalid Date has no ISO text; validation then says so.
  return Number.isNaN(timestamp.getTime()) ? "invalid date" : timestamp.toISOString()
}
