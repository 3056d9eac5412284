/** A message as Kafka's record, and how large it is there. */
import type { HeaderValue } from "@effect-eventbus/core/Headers"
import type { OutgoingMessage } from "@effect-eventbus/core/Transport"
import type { WireRecord } from "./PublishQueue.js"

/** What a message's key, headers and framing may take of the broker's limit. */
export const RESERVED_BYTES = 4_096

/** A batch's header. */
const BATCH_BYTES = 61
/** The numbers of a record at their longest: lengths, deltas, attributes, count of headers. */
const RECORD_BYTES = 36
const HEADER_BYTES = 10

export const recordOf = (message: OutgoingMessage, now: number): WireRecord => ({
  key: message.key !== null
    ? bufferOf(message.key)
    : message.aggregateId === undefined
    ? null
    : Buffer.from(message.aggregateId, "utf8"),
  value: message.value === null ? null : bufferOf(message.value),
  headers: headersOf(message),
  timestamp: message.timestamp ?? now
})

/** The most that the record can take of a batch of its own, in bytes. */
export const sizeOf = ({ headers, key, value }: WireRecord): number => {
  let size = BATCH_BYTES + RECORD_BYTES + (key?.length ?? 0) + (value?.length ?? 0)
  for (const name in headers) {
    const value = headers[name]!
    const each = Array.isArray(value) ? value : [value]
    for (const one of each) size += HEADER_BYTES + Buffer.byteLength(name) + Buffer.byteLength(one)
  }
  return size
}

const headersOf = ({ headers }: OutgoingMessage): WireRecord["headers"] => {
  // Without a prototype: a header may be named "__proto__".
  const found: WireRecord["headers"] = Object.create(null)
  for (const name in headers) {
    const value = headers[name]
    if (value === undefined) continue
    found[name] = isMany(value) ? value.map(headerOf) : headerOf(value)
  }
  return found
}

const isMany = (value: HeaderValue | ReadonlyArray<HeaderValue>): value is ReadonlyArray<HeaderValue> =>
  Array.isArray(value)

const headerOf = (value: HeaderValue): string | Buffer => typeof value === "string" ? value : bufferOf(value)

const bufferOf = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
