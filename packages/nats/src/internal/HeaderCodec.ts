/**
 * A message's headers as a NATS header block, and back.
 *
 * NATS has text headers only, and its clients trim the values. A value that can't stand as it is becomes an encoded
 * word of RFC 2047: `=?UTF-8?B?…?=` for text, `=?binary?B?…?=` for bytes that are no text.
 */
import type { Headers, HeaderValue } from "@effect-eventbus/core/Headers"
import type { OutgoingMessage } from "@effect-eventbus/core/Transport"

export const aggregateIdHeader = "X-Aggregate-ID"
export const keyHeader = "X-Eventbus-Key"
export const tombstoneHeader = "X-Eventbus-Tombstone"
export const timestampHeader = "X-Eventbus-Timestamp"
export const messageIdHeader = "Nats-Msg-Id"

/** The server acts upon `Nats-…` headers, so an application's are carried under another name, save these. */
const carried = "X-Eventbus-Header-"

interface Order {
  readonly name: string
  readonly valid: RegExp
  /** An older server, of the second version, does not look at it, and writes the message as if it were not there. */
  readonly since: number
}

/**
 * What a publisher expects of the stream, and wants of it. They are for the server: a reader, who may publish the message again, does not
 * see them.
 */
const orders: ReadonlyMap<string, Order> = new Map(
  ([
    ["Nats-Expected-Last-Subject-Sequence", /^\d{1,16}$/, 0],
    ["Nats-Expected-Last-Subject-Sequence-Subject", /^\S+$/, 11],
    ["Nats-Expected-Last-Sequence", /^\d{1,16}$/, 0],
    ["Nats-Expected-Last-Msg-Id", /^\S+$/, 0],
    ["Nats-Expected-Stream", /^\S+$/, 0],
    ["Nats-TTL", /^([1-9]\d{0,11}|never)$/, 11]
  ] as const).map(([name, valid, since]) => [name.toLowerCase(), { name, valid, since }])
)

const orderOf = (name: string) =>
  name.length >= 8 && /^Nats-[ET]/i.test(name) ? orders.get(name.toLowerCase()) : undefined

/** The server's limit for a header block. */
export const maxHeaderBytes = 65_535

const encoder = new TextEncoder()
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const empty = new Uint8Array(0)

/** A header block, and its length in bytes. */
export interface Encoded {
  readonly block: string
  readonly size: number
  /** Which header only a server of 2.11 and later obeys; undefined where there is none. */
  readonly newest: string | undefined
}

/** The header block, or what is wrong with it. */
export const encode = (messageId: string, message: OutgoingMessage): Encoded | string => {
  const { aggregateId, headers, key, timestamp, value } = message
  let newest: string | undefined
  let block = `NATS/1.0\r\n${messageIdHeader}: ${encodeText(messageId)}\r\n`
  if (aggregateId !== undefined) block += `${aggregateIdHeader}: ${encodeText(aggregateId)}\r\n`
  if (key !== null && !isText(key, aggregateId)) block += `${keyHeader}: ${encodeBytes(key)}\r\n`
  if (value === null) block += `${tombstoneHeader}: true\r\n`
  if (timestamp !== undefined) block += `${timestampHeader}: ${timestamp}\r\n`
  for (const name in headers) {
    const values = headers[name]
    if (values === undefined || isOwn(name, aggregateId)) continue
    if (!/^[!-9;-~]+$/.test(name)) {
      return `header name "${name}" has other characters than printable ASCII without ":", which NATS can't carry`
    }
    const order = orderOf(name)
    // The server would not find one that is written in another way, and write the message all the same.
    if (order !== undefined && !(typeof values === "string" && order.valid.test(values))) {
      return `header "${name}" has another value than the server understands`
    }
    if (order !== undefined && order.since > 0) newest = order.name
    const written = order?.name ?? (/^(X-Eventbus-Header-)*Nats-/i.test(name) ? carried + name : name)
    if (typeof values === "string") block += `${written}: ${encodeText(values)}\r\n`
    else if (values instanceof Uint8Array) block += `${written}: ${encodeBytes(values)}\r\n`
    else {
      for (const one of values) {
        block += `${written}: ${typeof one === "string" ? encodeText(one) : encodeBytes(one)}\r\n`
      }
    }
  }
  block += "\r\n"
  const size = Buffer.byteLength(block)
  return size > maxHeaderBytes
    ? `its headers are ${size} bytes long, and NATS takes ${maxHeaderBytes}`
    : { block, size, newest }
}

/** The headers that are set by the transport itself: an application's of the same name give way. */
const isOwn = (name: string, aggregateId: string | undefined): boolean => {
  const length = name.length
  if (length === aggregateIdHeader.length && aggregateId !== undefined) return same(name, aggregateIdHeader)
  return length === keyHeader.length && same(name, keyHeader) ||
    length === tombstoneHeader.length && same(name, tombstoneHeader) ||
    length === timestampHeader.length && same(name, timestampHeader)
}

const same = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase()

const isText = (bytes: Uint8Array, text: string | undefined): boolean => {
  if (text === undefined || bytes.length < text.length) return false
  const encoded = encoder.encode(text)
  return encoded.length === bytes.length && encoded.every((byte, i) => byte === bytes[i])
}

const plainAscii = /^(?:[!-<>-~](?:[ -~]*[!-~])?)?$/
// eslint-disable-next-line no-control-regex
const control = /[\u0000-\u001f\u007f]/

const standsAsItIs = (text: string): boolean =>
  plainAscii.test(text) || (!control.test(text) && text.trim() === text && !text.startsWith("=?"))

const encodeText = (text: string): string =>
  standsAsItIs(text) ? text : `=?UTF-8?B?${Buffer.from(text, "utf8").toString("base64")}?=`

const encodeBytes = (bytes: Uint8Array): string => {
  const text = decodeUtf8(bytes)
  if (text !== undefined) return encodeText(text)
  return `=?binary?B?${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64")}?=`
}

const decodeUtf8 = (bytes: Uint8Array): string | undefined => {
  try {
    return utf8.decode(bytes)
  } catch {
    return undefined
  }
}

const encodedWord = /^=\?(UTF-8|binary)\?B\?([A-Za-z0-9+/]*={0,2})\?=$/

const decodeValue = (text: string): HeaderValue => {
  if (text.charCodeAt(0) !== 61) return text
  const word = encodedWord.exec(text)
  if (word === null) return text
  const bytes = Buffer.from(word[2]!, "base64")
  return word[1] === "UTF-8" ? bytes.toString("utf8") : Uint8Array.from(bytes)
}

/** What the header block of a received message says. */
export interface Decoded {
  readonly headers: Headers
  readonly key: Uint8Array | null
  readonly tombstone: boolean
  readonly timestamp: number | undefined
}

const none: Decoded = Object.freeze({
  headers: Object.freeze({}),
  key: null,
  tombstone: false,
  timestamp: undefined
})

/** Reads a header block. Lines that are no header are left out: foreign producers write what they like. */
export const decode = (block: Uint8Array, subject: string): Decoded => {
  if (block.length === 0) return none
  const headers: Record<string, HeaderValue | Array<HeaderValue>> = {}
  let aggregateId: HeaderValue | undefined
  let key: HeaderValue | undefined
  let tombstone = false
  let timestamp: number | undefined
  const text = Buffer.from(block.buffer, block.byteOffset, block.byteLength).toString()
  for (let end = text.indexOf("\r\n"), at = end + 2; end !== -1; at = end + 2) {
    end = text.indexOf("\r\n", at)
    const line = end === -1 ? text.slice(at) : text.slice(at, end)
    const colon = line.indexOf(":")
    if (colon <= 0) continue
    let name = line.slice(0, colon)
    const value = decodeValue(line.slice(colon + 1).trim())
    if (name === keyHeader) key = value
    else if (name === tombstoneHeader) tombstone = true
    else if (name === timestampHeader) timestamp = toTimestamp(value)
    else if (name === messageIdHeader && typeof value === "string" && value.startsWith(`${subject}/`)) continue
    else if (orderOf(name) !== undefined) continue
    else {
      if (name === aggregateIdHeader) aggregateId = value
      else if (name.startsWith(carried)) name = name.slice(carried.length)
      add(headers, name, value)
    }
  }
  return { headers, key: toBytes(key ?? aggregateId), tombstone, timestamp }
}

const add = (headers: Record<string, HeaderValue | Array<HeaderValue>>, name: string, value: HeaderValue): void => {
  // `__proto__` would set the prototype instead of a header.
  if (name === "__proto__") {
    Object.defineProperty(headers, name, { value, enumerable: true, configurable: true, writable: true })
    return
  }
  const before = Object.hasOwn(headers, name) ? headers[name] : undefined
  if (before === undefined) headers[name] = value
  else if (Array.isArray(before)) before.push(value)
  else headers[name] = [before, value]
}

const toBytes = (value: HeaderValue | undefined): Uint8Array | null =>
  value === undefined ? null : typeof value === "string" ? textBytes(value) : value

/** Up to 64 bytes an array has them in itself; beyond that, and from an encoder always, it needs memory outside of the heap. */
const textBytes = (text: string): Uint8Array => {
  if (text === "") return empty
  if (text.length > 64) return encoder.encode(text)
  const bytes = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 127) return encoder.encode(text)
    bytes[i] = code
  }
  return bytes
}

const toTimestamp = (value: HeaderValue): number | undefined => {
  const timestamp = typeof value === "string" && /^\d+$/.test(value) ? Number(value) : undefined
  return timestamp !== undefined && Number.isSafeInteger(timestamp) ? timestamp : undefined
}
