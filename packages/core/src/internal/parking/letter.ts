import * as Either from "effect/Either"
import * as Encoding from "effect/Encoding"
import * as Predicate from "effect/Predicate"
import type * as Headers from "../../Headers.js"
import type { IncomingMessage } from "../../Transport.js"

/** The first byte of a letter: the form of what follows. */
const version = 1

/** How many failures a letter remembers: the first one, and the newest others. */
const maxFailures = 10

/**
 * Who does something by hand, and why.
 *
 * @internal
 */
export interface By {
  readonly who: string
  readonly why: string
}

/**
 * Why a message was parked: it failed. A letter that was released and failed again has one more of them.
 *
 * @internal
 */
export interface Failed {
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly error: string
  readonly frame?: string | undefined
  readonly cause: string
  readonly attempts: number
  readonly restarts: number
  /** Who had released it before. */
  readonly released?: By | undefined
}

/**
 * A parked message: its original, and what happened to it.
 *
 * @internal
 */
export interface Letter {
  readonly message: IncomingMessage
  /** When it was parked, in milliseconds since the epoch. */
  readonly parkedAt: number
  /** The owner of the partition that has written it first; `again` if this replaces a letter. */
  readonly writer: string
  /** Empty: it came behind one that failed. */
  readonly failures: ReadonlyArray<Failed>
  /** The fingerprint of the failure for which its aggregate was parked when this was written. */
  readonly cause: string | undefined
}

/**
 * What of a letter has no bytes of the message.
 *
 * @internal
 */
export interface Summary extends Omit<Letter, "message"> {
  readonly offset: number
  readonly timestamp: number
  readonly topic: string
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()
const prefix = "letter/"

/** Offsets of equal length are in the order of their numbers. */
const digits = 16

/**
 * The name of a letter in the store. The owner that has written it first is in it: what a former owner's late request writes never replaces a letter
 * of the present one.
 *
 * @internal
 */
export const keyOf = (aggregate: string, offset: number, owner: string): string =>
  `${prefix}${String(offset).padStart(digits, "0")}/${owner}/${aggregate}`

const keptPrefix = "kept/"

/**
 * The name of a note that the letter of this name counts, although a former owner has written it: a message was settled because of it. A request that
 * comes late may repeat the letter, and would look as if nobody knew of it.
 *
 * @internal
 */
export const keptOf = (letter: string): string => `${keptPrefix}${letter.slice(prefix.length)}`

/**
 * The letter that a note is of. Undefined: it is none.
 *
 * @internal
 */
export const letterOfKept = (key: string): string | undefined =>
  key.startsWith(keptPrefix) ? `${prefix}${key.slice(keptPrefix.length)}` : undefined

/** @internal */
export const partsOf = (
  key: string
): { readonly aggregate: string; readonly offset: number; readonly owner: string } | undefined => {
  if (!key.startsWith(prefix)) return undefined
  const [offset, owner] = key.slice(prefix.length).split("/", 2)
  if (offset === undefined || owner === undefined || !/^\d+$/.test(offset)) return undefined
  return { offset: Number(offset), owner, aggregate: key.slice(prefix.length + offset.length + owner.length + 2) }
}

/** @internal */
export const withFailure = (failures: ReadonlyArray<Failed>, one: Failed): ReadonlyArray<Failed> =>
  failures.length < maxFailures
    ? [...failures, one]
    : [failures[0]!, ...failures.slice(failures.length - maxFailures + 2), one]

/** The writer of what replaces a letter: its message is settled, so it is never a stray, however late it is written. */
export const again = ""

type Encoded = string | { readonly b: string }

/** @internal */
export const encode = ({ cause, failures, message, parkedAt, writer }: Letter): Uint8Array => {
  const { headers, key, offset, timestamp, topic, value } = message
  const about = encoder.encode(JSON.stringify({
    topic,
    offset,
    timestamp,
    parkedAt,
    writer,
    cause,
    failures,
    maybeDuplicate: message.maybeDuplicate ? true : undefined,
    headers: Object.entries(headers).map(([name, value]) => [name, valueOf(value)]),
    key: key === null ? -1 : key.length,
    value: value === null ? -1 : value.length
  }))
  const bytes = new Uint8Array(5 + about.length + (key?.length ?? 0) + (value?.length ?? 0))
  bytes[0] = version
  new DataView(bytes.buffer).setUint32(1, about.length)
  bytes.set(about, 5)
  if (key !== null) bytes.set(key, 5 + about.length)
  if (value !== null) bytes.set(value, bytes.length - value.length)
  return bytes
}

const valueOf = (value: Headers.Headers[string]): unknown =>
  value === undefined
    ? null
    : typeof value === "string"
    ? value
    : value instanceof Uint8Array
    ? { b: Encoding.encodeBase64(value) }
    : value.map((one) => valueOf(one))

interface About extends Omit<Summary, "failures"> {
  readonly failures: ReadonlyArray<Failed>
  readonly maybeDuplicate?: boolean | undefined
  readonly headers: ReadonlyArray<readonly [string, Encoded | ReadonlyArray<Encoded> | null]>
  readonly key: number
  readonly value: number
}

/** Undefined: it is none, or one of a newer version. */
const aboutOf = (bytes: Uint8Array): readonly [About, end: number] | undefined => {
  try {
    if (bytes[0] !== version) return undefined
    const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(1)
    const about = JSON.parse(decoder.decode(bytes.subarray(5, 5 + length))) as unknown
    if (!Predicate.hasProperty(about, "offset") || !Predicate.hasProperty(about, "headers")) return undefined
    const known = about as unknown as About
    const size = 5 + length + Math.max(0, known.key) + Math.max(0, known.value)
    return size === bytes.length ? [known, 5 + length] : undefined
  } catch {
    return undefined
  }
}

/** @internal */
export const summaryOf = (bytes: Uint8Array): Summary | undefined => aboutOf(bytes)?.[0]

/** @internal */
export const decode = (bytes: Uint8Array, partition: number): Letter | undefined => {
  const found = aboutOf(bytes)
  if (found === undefined) return undefined
  const [{ cause, failures, headers, key, maybeDuplicate, offset, parkedAt, timestamp, topic, value, writer }, at] =
    found
  return {
    message: {
      topic,
      partition,
      offset,
      timestamp,
      // Not `slice`: that of a Buffer is a view of the same bytes.
      key: key === -1 ? null : new Uint8Array(bytes.subarray(at, at + key)),
      value: value === -1 ? null : new Uint8Array(bytes.subarray(bytes.length - value)),
      // Not by assignment: a header may be called `__proto__`.
      headers: Object.fromEntries(headers.map(([name, value]) => [name, value === null ? undefined : decoded(value)])),
      maybeDuplicate: maybeDuplicate === true,
      deliveryCount: undefined
    },
    parkedAt,
    writer,
    failures,
    cause
  }
}

const decoded = (value: Encoded | ReadonlyArray<Encoded>): Headers.Headers[string] =>
  typeof value === "string"
    ? value
    : isList(value)
    ? value.map((one) => decoded(one) as Headers.HeaderValue)
    : Either.getOrElse(Encoding.decodeBase64(value.b), () => new Uint8Array(0))

const isList = (value: Encoded | ReadonlyArray<Encoded>): value is ReadonlyArray<Encoded> => Array.isArray(value)
