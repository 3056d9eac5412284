/**
 * What a commit says besides its offset, in the metadata that Kafka keeps with
 * it: which offsets above it are finished, so that they are not handled again
 * after a crash, and whether anything was in hand, so that a clean stop is told
 * from a crash.
 *
 * The text is `eb1.` and, in base64url, a byte of flags and the ranges: for each,
 * how far it begins after the one before (or the commit), and its length, as
 * variable-length numbers. In a text that begins with `eb2.`, the epoch of the leader that wrote
 * the message before the commit stands between the flags and the ranges.
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
  /** The messages below the commit were written by leaders of at most this epoch; left out, or −1, where that is not known. */
  readonly leaderEpoch?: number | undefined
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
const WITH_EPOCH = "eb2."
const CLEAN = 1

/** The broker's default limit (`offset.metadata.max.bytes`). */
const MAX_BYTES = 4_096

/**
 * The text for the commit of `offset`. The lowest ranges go first; what has no room in `maxBytes` (4,096 by
 * default) is left out, and then nothing is called clean.
 *
 * @since 0.1.0
 * @category encoding
 */
export const encode = (offset: number, metadata: CommitMetadata, maxBytes: number = MAX_BYTES): Encoded => {
  const room = Math.floor((maxBytes - PREFIX.length) * 3 / 4) - 1
  const bytes: Array<number> = [metadata.clean ? CLEAN : 0]
  const { leaderEpoch = -1 } = metadata
  if (leaderEpoch >= 0) varint(bytes, leaderEpoch)
  const prefix = leaderEpoch >= 0 ? WITH_EPOCH : PREFIX
  let end = offset
  for (const [from, to] of metadata.finished) {
    const before = bytes.length
    varint(bytes, from - end)
    varint(bytes, to - from)
    if (bytes.length > room) {
      bytes.length = before
      bytes[0] = 0
      return { text: prefix + Encoding.encodeBase64Url(Uint8Array.from(bytes)), coversBelow: from }
    }
    end = to
  }
  return { text: prefix + Encoding.encodeBase64Url(Uint8Array.from(bytes)), coversBelow: Infinity }
}

/**
 * What the metadata of the commit of `offset` says, or nothing when it isn't ours, is of a later version, or damaged.
 *
 * @since 0.1.0
 * @category decoding
 */
export const decode = (offset: number, text: string | null | undefined): Option.Option<CommitMetadata> => {
  if (text === null || text === undefined) return Option.none()
  const hasEpoch = text.startsWith(WITH_EPOCH)
  if (!hasEpoch && !text.startsWith(PREFIX)) return Option.none()
  const decoded = Encoding.decodeBase64Url(text.slice(PREFIX.length))
  if (Either.isLeft(decoded) || decoded.right.length === 0) return Option.none()
  const bytes = decoded.right
  const finished: Array<readonly [number, number]> = []
  const cursor = { at: 1 }
  const leaderEpoch = hasEpoch ? readVarint(bytes, cursor) : undefined
  if (Number.isNaN(leaderEpoch)) return Option.none()
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
  return Option.some({
    clean: (bytes[0]! & CLEAN) !== 0,
    finished,
    ...(leaderEpoch === undefined ? {} : { leaderEpoch })
  })
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
