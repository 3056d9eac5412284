import * as Partitioner from "../Partitioner.js"

/** A longer key is known by its hash: a mailbox's name stays in memory for as long as its actor lives. */
const maxLength = 256

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

// eslint-disable-next-line no-control-regex
const control = /[\u0000-\u001f\u007f-\u009f]/

/**
 * The mailbox of a message that has a key and no valid aggregate id. Equal bytes have equal names, and different bytes different ones up to
 * 256 of them; beyond that two keys may share a mailbox. The space at the beginning can't stand in an aggregate id, so that no name is ever
 * one. Text is readable in the name, for logs and traces; other bytes are hexadecimal.
 *
 * @internal
 */
export const ofKey = (key: Uint8Array): string => {
  if (key.length > maxLength) return hashed(key)
  const text = textOf(key)
  return text === undefined || control.test(text) ? ` hex:${hex(key)}` : ` key:${text}`
}

/**
 * The mailbox of an envelope whose codec read an id that is no valid aggregate id.
 *
 * @internal
 */
export const ofForeignId = (id: string): string => id.length > maxLength ? hashed(encoder.encode(id)) : ` id:${id}`

const hashed = (bytes: Uint8Array): string =>
  ` hash:${bytes.length}-${Partitioner.fnv1a(bytes)}-${Partitioner.murmur2(bytes)}`

const textOf = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}

const hex = (bytes: Uint8Array): string => {
  let text = ""
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0")
  return text
}
