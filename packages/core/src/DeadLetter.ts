/**
 * Reading dead letters: where a message that was given up came from, why, and what it was. Subscribe to the dead-letter topic, and
 * ask `fromDelivery` in the handler.
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import type { Delivery } from "./Delivery.js"
import type { Position } from "./EventBusError.js"
import * as Headers from "./Headers.js"

/**
 * The names of the headers that the bus adds to a dead letter.
 *
 * @since 0.1.0
 * @category constants
 */
export const headerNames = {
  topic: "X-Dead-Letter-Topic",
  partition: "X-Dead-Letter-Partition",
  offset: "X-Dead-Letter-Offset",
  timestamp: "X-Dead-Letter-Timestamp",
  group: "X-Dead-Letter-Group",
  attempts: "X-Dead-Letter-Attempts",
  restarts: "X-Dead-Letter-Restarts",
  error: "X-Dead-Letter-Error",
  cause: "X-Dead-Letter-Cause",
  frame: "X-Dead-Letter-Frame",
  /** The original headers as JSON, where they could not be headers of the letter. */
  headers: "X-Dead-Letter-Headers"
} as const

/**
 * What a dead letter says. Position and original are always there. The other fields are missing if the letter would have been refused with them.
 *
 * @since 0.1.0
 * @category models
 */
export interface DeadLetter {
  /** Where the message stood that was given up. */
  readonly position: Position
  /** The group that gave it up. */
  readonly group: string | undefined
  /** How often its handler was started. */
  readonly attempts: number | undefined
  /** How often its handler was started again after a defect. */
  readonly restarts: number | undefined
  /** The `_tag` or the name of the error. */
  readonly error: string | undefined
  /** The cause on one line, in printable ASCII, at most 2,000 characters. */
  readonly cause: string | undefined
  /** The first frame of the user's code in the cause, if there is one. With the error it is what causes are grouped by. */
  readonly frame: string | undefined
  /** The message's own time, in milliseconds since the epoch. The letter's time is the time of its publishing. */
  readonly timestamp: number | undefined
  /** The message as it was. */
  readonly original: Original
}

/**
 * The message that was given up.
 *
 * @since 0.1.0
 * @category models
 */
export interface Original {
  /** On Kafka, a message without a key gets its aggregate id as key when it is dead-lettered. */
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  /** The headers without the ones that the bus added. */
  readonly headers: Headers.Headers
}

/**
 * Reads a message as a dead letter. The answer is none if the message has no position of an original.
 *
 * @since 0.1.0
 * @category decoding
 */
export const fromDelivery = (delivery: Pick<Delivery, "headers" | "key" | "value">): Option.Option<DeadLetter> => {
  const { headers, key, value } = delivery
  const topic = Headers.get(headers, headerNames.topic)
  const partition = numberOf(headers, headerNames.partition)
  const offset = numberOf(headers, headerNames.offset)
  if (topic === undefined || partition === undefined || offset === undefined) return Option.none()
  return Option.some({
    position: { topic, partition, offset },
    group: Headers.get(headers, headerNames.group),
    attempts: numberOf(headers, headerNames.attempts),
    restarts: numberOf(headers, headerNames.restarts),
    error: Headers.get(headers, headerNames.error),
    cause: Headers.get(headers, headerNames.cause),
    frame: Headers.get(headers, headerNames.frame),
    timestamp: numberOf(headers, headerNames.timestamp),
    original: { key, value, headers: ownOf(headers) }
  })
}

const numberOf = (headers: Headers.Headers, name: string): number | undefined => {
  const text = Headers.get(headers, name)
  return text !== undefined && /^-?\d+(\.\d+)?(e\+?\d+)?$/.test(text) ? Number(text) : undefined
}

const added = new Set(Object.values(headerNames).map((name) => name.toLowerCase()))

const ownOf = (headers: Headers.Headers): Headers.Headers => {
  const own = Object.entries(headers).filter(([name]) => !added.has(name.toLowerCase()))
  // Not by assignment: a header may be called `__proto__`.
  return Object.fromEntries([...own, ...fromText(Headers.get(headers, headerNames.headers))])
}

/** Any producer can write such a header. What does not fit is left out. */
const fromText = (text: string | undefined): ReadonlyArray<readonly [string, Headers.Headers[string]]> => {
  if (text === undefined) return []
  try {
    const entries: unknown = JSON.parse(text)
    return Array.isArray(entries) ? entries.flatMap(entryOf) : []
  } catch {
    return []
  }
}

const entryOf = (entry: unknown): ReadonlyArray<readonly [string, Headers.Headers[string]]> => {
  if (!Array.isArray(entry) || !entry.every((part) => typeof part === "string")) return []
  const [name, ...values] = entry as ReadonlyArray<string>
  return name === undefined ? [] : [[name, values.length === 1 ? values[0] : values]]
}
