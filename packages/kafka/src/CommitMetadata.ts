/**
 * What a commit says besides its offset, in the metadata that Kafka keeps with
 * it: which offsets above it are finished, so that they are not handled again
 * after a crash, and whether anything was in hand, so that a clean stop is told
 * from a crash.
 *
 * The text is `eb1.` and, in base64url, a byte of flags and the ranges: for each,
 * how far it begins after the one before (or the commit), and its length, as
 * variable-length numbers. In a text that begins with `eb2.`, what the flags announce stands before
 * the ranges: the id of the topic (16 bytes), the epoch of the leader that wrote the last of the messages that are
 * finished, and the epoch of the assignment.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import * as Encoding from "effect/Encoding"
import * as Option from "effect/Option"

/**
 * What the text beside a committed offset says.
 *
 * @since 0.1.0
 * @category models
 */
export interface CommitMetadata {
  /** Nothing at or above the commit had been given to a handler, save what `finished` says. */
  readonly clean: boolean
  /** Finished offsets above the commit, as ascending ranges `[from, to)`. */
  readonly finished: ReadonlyArray<readonly [from: number, to: number]>
  /**
   * The messages below the commit, and those that are finished above it, were written by leaders of at most this epoch; left
   * out, or −1, where that is not known.
   */
  readonly leaderEpoch?: number | undefined
  /** The id of the topic, as 32 hexadecimal digits: offsets of a topic that was deleted mean nothing in one of the same name. */
  readonly topicId?: string | undefined
  /** The epoch of the assignment that committed: the next one's is higher, also where the group begins to count anew. */
  readonly epoch?: number | undefined
}

/**
 * What the encoded text covers.
 *
 * @since 0.1.0
 * @category models
 */
export interface Encoded {
  readonly text: string
  /** Every finished offset below this one is in the text; where there was no room, those at or above it are not. */
  readonly coversBelow: number
}

const PREFIX = "eb1."
const WITH_FIELDS = "eb2."
const CLEAN = 1
const TOPIC_ID = 2
const LEADER_EPOCH = 4
const EPOCH = 8
const ID_BYTES = 16

/** The broker's default limit (`offset.metadata.max.bytes`). */
const MAX_BYTES = 4_096

/**
 * The text for the commit of `offset`. The lowest ranges go first; what has no room in `maxBytes` (4,096 by
 * default) is left out, and then nothing is called clean. Where not even the rest has room, the text is empty.
 *
 * @since 0.1.0
 * @category encoding
 */
export const encode = (offset: number, metadata: CommitMetadata, maxBytes: number = MAX_BYTES): Encoded => {
  const room = Math.floor((maxBytes - PREFIX.length) * 3 / 4) - 1
  const { clean, finished } = metadata
  const bytes = fieldsOf(metadata)
  if (bytes.length > room + 1) return { text: "", coversBelow: finished[0]?.[0] ?? Infinity }
  const prefix = bytes[0] === 0 ? PREFIX : WITH_FIELDS
  const flags = bytes[0]!
  const textOf = (clean: boolean) => {
    bytes[0] = flags | (clean ? CLEAN : 0)
    return prefix + Encoding.encodeBase64Url(Uint8Array.from(bytes))
  }
  let end = offset
  for (const [from, to] of finished) {
    const before = bytes.length
    varint(bytes, from - end)
    varint(bytes, to - from)
    if (bytes.length > room) {
      bytes.length = before
      return { text: textOf(false), coversBelow: from }
    }
    end = to
  }
  return { text: textOf(clean), coversBelow: Infinity }
}

/** The flags, and what they announce. */
const fieldsOf = ({ epoch, leaderEpoch = -1, topicId }: CommitMetadata): Array<number> => {
  const bytes = [0]
  if (topicId !== undefined) {
    bytes[0]! |= TOPIC_ID
    for (const byte of Buffer.from(topicId, "hex")) bytes.push(byte)
  }
  if (leaderEpoch >= 0) {
    bytes[0]! |= LEADER_EPOCH
    varint(bytes, leaderEpoch)
  }
  if (epoch !== undefined) {
    bytes[0]! |= EPOCH
    varint(bytes, epoch)
  }
  return bytes
}

/**
 * What the metadata of the commit of `offset` says, or nothing when it isn't ours, is of a later version, or damaged.
 *
 * @since 0.1.0
 * @category decoding
 */
export const decode = (offset: number, text: string | null | undefined): Option.Option<CommitMetadata> => {
  if (text === null || text === undefined) return Option.none()
  const hasFields = text.startsWith(WITH_FIELDS)
  if (!hasFields && !text.startsWith(PREFIX)) return Option.none()
  const decoded = Encoding.decodeBase64Url(text.slice(PREFIX.length))
  if (Either.isLeft(decoded) || decoded.right.length === 0) return Option.none()
  const bytes = decoded.right
  const flags = bytes[0]!
  const cursor = { at: 1 }
  const fields = hasFields ? readFields(bytes, flags, cursor) : {}
  if (fields === undefined) return Option.none()
  const finished: Array<readonly [number, number]> = []
  let end = offset
  while (cursor.at < bytes.length) {
    const gap = readVarint(bytes, cursor)
    const length = readVarint(bytes, cursor)
    const from = end + gap
    const to = from + length
    if (!(length > 0) || !Number.isSafeInteger(to)) return Option.none()
    finished.push([from, to])
    end = to
  }
  return Option.some({ clean: (flags & CLEAN) !== 0, finished, ...fields })
}

type Fields = Pick<CommitMetadata, "epoch" | "leaderEpoch" | "topicId">

/** Nothing where the bytes end too early, or say what a later version means. */
const readFields = (bytes: Uint8Array, flags: number, cursor: { at: number }): Fields | undefined => {
  if (flags > (CLEAN | TOPIC_ID | LEADER_EPOCH | EPOCH)) return undefined
  const fields: { epoch?: number; leaderEpoch?: number; topicId?: string } = {}
  if ((flags & TOPIC_ID) !== 0) {
    const id = bytes.subarray(cursor.at, cursor.at += ID_BYTES)
    if (id.length < ID_BYTES) return undefined
    fields.topicId = Buffer.from(id).toString("hex")
  }
  if ((flags & LEADER_EPOCH) !== 0) fields.leaderEpoch = readVarint(bytes, cursor)
  if ((flags & EPOCH) !== 0) fields.epoch = readVarint(bytes, cursor)
  const { epoch = 0, leaderEpoch = 0 } = fields
  return Number.isSafeInteger(epoch) && Number.isSafeInteger(leaderEpoch) ? fields : undefined
}

const varint = (bytes: Array<number>, value: number): void => {
  while (value >= 0x80) {
    bytes.push((value % 0x80) | 0x80)
    value = Math.floor(value / 0x80)
  }
  bytes.push(value)
}

/** `NaN` where the bytes end too early. */
const readVarint = (bytes: Uint8Array, cursor: { at: number }): number => {
  let value = 0
  let factor = 1
  for (;;) {
    const byte = bytes[cursor.at++]
    if (byte === undefined) return NaN
    value += (byte & 0x7f) * factor
    if (byte < 0x80) return value
    factor *= 0x80
  }
}
