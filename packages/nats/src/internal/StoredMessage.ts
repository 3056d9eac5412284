/** Whether what a stream has under a message's id is this message. */
import * as Either from "effect/Either"
import * as HeaderCodec from "./HeaderCodec.js"

export interface StoredMessage {
  /** The header block. */
  readonly headers: Uint8Array
  readonly value: Uint8Array
}

/** The same subject is in the id, the other headers may be of each attempt: a trace, for example. */
export const isSame = (subject: string, one: StoredMessage, other: StoredMessage): boolean => {
  const [a, b] = [HeaderCodec.decode(one.headers, subject), HeaderCodec.decode(other.headers, subject)]
  return a.tombstone === b.tombstone && isSameKey(a.key, b.key) && isSameValue(one.value, other.value)
}

const isSameKey = (one: Uint8Array | null, other: Uint8Array | null): boolean =>
  one === null || other === null ? one === other : Buffer.compare(one, other) === 0

/** Of an event that is made once more only these members of the envelope (or of a CloudEvent) can be others. */
const ofPublishing = ["timestamp", "trace_id", "time", "traceparent", "tracestate"]

const isSameValue = (one: Uint8Array, other: Uint8Array): boolean => {
  if (Buffer.compare(one, other) === 0) return true
  const [a, b] = [toText(one), toText(other)]
  return a !== undefined && a === b
}

const decoder = new TextDecoder("utf-8", { fatal: true })

/** A JSON object without those members; undefined for what is none, or has numbers that would not be read exactly. */
const toText = (value: Uint8Array): string | undefined =>
  Either.getOrUndefined(Either.try(() => {
    const text = decoder.decode(value)
    const json: unknown = JSON.parse(text)
    if (
      typeof json !== "object" || json === null || Array.isArray(json) || /[:[,]\s*-?[\d.]{16}/.test(text)
    ) return undefined
    return JSON.stringify(Object.entries(json).filter(([name]) => !ofPublishing.includes(name)))
  }))
