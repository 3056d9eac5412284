/** A change of a store as the bucket's stream has it. */
import type { StoreEntry } from "@effect-eventbus/core/Transport"
import * as StoreNames from "./StoreNames.js"

const encoder = new TextEncoder()

/** The key, where its token is a hash. */
const keyHeader = "X-Eventbus-Store-Key"
/** Which write it was: each has another one, and all attempts of one have the same. */
const writeHeader = "X-Eventbus-Write"
/** As NATS's own clients write it. */
const operationHeader = "KV-Operation"
/** The server's own mark of a key that it has removed (from 2.11 on). */
const markerHeader = "Nats-Marker-Reason"

/** `expected` is the revision that is replaced, 0 where the key has none. */
export const toHeaders = (
  expected: number,
  write: string,
  key: string | undefined,
  isRemoval: boolean
): Uint8Array => {
  const expectation = `Nats-Expected-Last-Subject-Sequence: ${expected}\r\n`
  const name = key === undefined ? "" : `${keyHeader}: ${Buffer.from(key).toString("base64url")}\r\n`
  const operation = isRemoval ? `${operationHeader}: DEL\r\n` : ""
  return encoder.encode(`NATS/1.0\r\n${expectation}${writeHeader}: ${write}\r\n${name}${operation}\r\n`)
}

const textOf = (block: Uint8Array): string =>
  Buffer.from(block.buffer, block.byteOffset, block.byteLength).toString("latin1")

/** Those who write these headers write them like this: the bus, NATS's clients and the server. */
const headerOf = (block: string, name: string): string | undefined => {
  const start = block.indexOf(`\r\n${name}:`)
  if (start === -1) return undefined
  const from = start + name.length + 3
  return block.slice(from, block.indexOf("\r\n", from)).trim()
}

/** Which write it was; undefined where somebody else has written it by other means. */
export const writeOf = (headers: Uint8Array): string | undefined => headerOf(textOf(headers), writeHeader)

/** Undefined for what is no change of a key: a reader's mark, or what others have put into the bucket. */
export const toEntry = (
  token: string,
  revision: number,
  headers: Uint8Array,
  data: Uint8Array
): StoreEntry | undefined => {
  const block = headers.length === 0 ? "" : textOf(headers)
  const key = StoreNames.isHashed(token) ? hashedKey(token, block) : StoreNames.fromToken(token)
  if (key === undefined) return undefined
  const operation = headerOf(block, operationHeader)
  const isRemoved = operation === "DEL" || operation === "PURGE" || headerOf(block, markerHeader) !== undefined
  return { key, revision, value: isRemoved ? null : Uint8Array.from(data) }
}

const hashedKey = (token: string, block: string): string | undefined => {
  const encoded = headerOf(block, keyHeader)
  if (encoded === undefined) return undefined
  const key = Buffer.from(encoded, "base64url").toString("utf8")
  return StoreNames.toToken(key) === token ? key : undefined
}
