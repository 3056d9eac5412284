/**
 * How a group's store and its keys are named on the server. The store is a key-value bucket, so that NATS's own tools show it; a key is one
 * token of a subject. All names are also valid ones of a bucket and its keys, and no two stores or keys have the same.
 */
import { createHash } from "node:crypto"

/** What JetStream takes as the name of a stream. */
const maxNameLength = 255

/** A longer token is one by hash: the server keeps the subjects in memory. */
const maxTokenLength = 200

const maxKeyBytes = 1_024

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex")

/** Letters and digits stay, `-` is written twice, everything else as `-XX` for each byte of its UTF-8: so `_` can stand between. */
const escapeName = (text: string): string => {
  let escaped = ""
  for (const byte of encoder.encode(text)) {
    const character = String.fromCharCode(byte)
    escaped += /[A-Za-z0-9]/.test(character) ? character : character === "-" ? "--" : `-${toHex(byte)}`
  }
  return escaped
}

const toHex = (byte: number): string => byte.toString(16).toUpperCase().padStart(2, "0")

/** `eventbus_<group>_<topic>_<name>`, and where that is too long `eventbus_<hash>`, which has fewer parts than any other. */
export const toBucket = (group: string, topic: string, name: string): string => {
  const parts = [group, topic, name].map(escapeName)
  const bucket = `eventbus_${parts.join("_")}`
  // Of the length of the parts' texts, too: they can hold anything.
  return streamOf(bucket).length <= maxNameLength ? bucket : `eventbus_${sha256(JSON.stringify([group, topic, name]))}`
}

export const streamOf = (bucket: string): string => `KV_${bucket}`

/** Why a text is no key; undefined where it is one. */
export const keyIssue = (key: string): string | undefined => {
  if (/\p{Surrogate}/u.test(key)) return "the key has half of a character (a lone surrogate), which has no UTF-8"
  const bytes = Buffer.byteLength(key)
  return bytes >= 1 && bytes <= maxKeyBytes ? undefined : `the key has ${bytes} bytes: expected 1 to ${maxKeyBytes}`
}

/** Begins what stands for a key by its hash. No other token has a small letter behind `=`. */
const hashed = "=s"

/**
 * Letters, digits, `-`, `_` and `/` stay, everything else is written as `=XX` for each byte of its UTF-8. A key that would be too long
 * is `=s` and its SHA-256; the message has the key itself in a header.
 */
export const toToken = (key: string): string => {
  let token = ""
  for (const byte of encoder.encode(key)) {
    const character = String.fromCharCode(byte)
    token += /[A-Za-z0-9_/-]/.test(character) ? character : `=${toHex(byte)}`
  }
  return token.length <= maxTokenLength ? token : `${hashed}${sha256(key)}`
}

/** Whether the key can't be read back from its token. */
export const isHashed = (token: string): boolean => token.startsWith(hashed)

/** The key of a token; undefined for what is none of ours. */
export const fromToken = (token: string): string | undefined => {
  if (token === "" || !/^(?:[A-Za-z0-9_/-]|=[0-9A-F]{2})*$/.test(token)) return undefined
  const bytes: Array<number> = []
  for (let i = 0; i < token.length; i++) {
    if (token[i] === "=") {
      bytes.push(parseInt(token.slice(i + 1, i + 3), 16))
      i += 2
    } else bytes.push(token.charCodeAt(i))
  }
  try {
    return decoder.decode(Uint8Array.from(bytes))
  } catch {
    return undefined
  }
}

/** Where a reader leaves its mark in a partition. No key is written so. */
export const mark = "=r"

/** Where it is tried out what the user may do. It is below no partition. */
export const probe = "=probe"
