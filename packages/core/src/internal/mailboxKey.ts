import * as Partitioner from "../Partitioner.js"

/** A longer key is known by its hash: a mailbox's name stays in memory for as long as its actor lives. */
const maxLength = 256

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

// eslint-disable-next-line no-control-regex
const control = /[\u0000-\u001f\u007f-\u009f]/

/**
 * The mailbox's key for a message that has a key and no valid aggregate id. Equal bytes have equal names. Different bytes have different
 * names up to 256 bytes; longer keys may share a mailbox. Each name begins with a space, so none is an aggregate id. Text is readable in
 * the name, for logs and traces. Other bytes are hexadecimal.
 *
 * @internal
 */
export const ofKey = (key: Uint8Array): string => {
  if (key.length > maxLength) return hashed(key)
  const text = textOf(key)
  return text === undefined || control.test(text) ? ` hex:${hex(key)}` : ` key:${text}`
}

/**
 * The mailbox's key for an envelope with an id that is no valid aggregate id. A codec of the user's own has read it.
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
