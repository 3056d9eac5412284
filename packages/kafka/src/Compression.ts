/**
 * Compression of record batches: gzip is built in, zstd where Node.js has it
 * (22.15), and for the others the application gives the codec.
 *
 * @since 0.1.0
 */
import { kMaxLength } from "node:buffer"
import { promisify } from "node:util"
import * as zlib from "node:zlib"

/**
 * How a batch of records can be compressed.
 *
 * @since 0.1.0
 * @category models
 */
export type Compression = "none" | "gzip" | "snappy" | "lz4" | "zstd"

/**
 * Compresses and decompresses whole buffers: for `snappy` the plain block format (Java's framing is
 * taken off before), for `lz4` and `zstd` their frame formats.
 *
 * @since 0.1.0
 * @category models
 */
export interface Codec {
  readonly compress: (bytes: Uint8Array) => Uint8Array | Promise<Uint8Array>
  /**
   * A small batch can unpack to far more than there is memory: a codec that can stop does so above `maxBytes`, by throwing
   * `TooLarge`. What the others give is measured afterwards.
   */
  readonly decompress: (bytes: Uint8Array, maxBytes?: number) => Uint8Array | Promise<Uint8Array>
}

/**
 * The codecs that there are.
 *
 * @since 0.1.0
 * @category models
 */
export type Codecs = Readonly<Partial<Record<Exclude<Compression, "none">, Codec | undefined>>>

/**
 * Those that Node.js has.
 *
 * @since 0.1.0
 * @category codecs
 */
export const builtIn: Codecs = {
  gzip: { compress: promisify<Uint8Array, Buffer>(zlib.gzip), decompress: bounded(zlib.gunzip) },
  ...zstd()
}

type Callback = (error: Error | null, bytes: Buffer) => void
type Unpack = (bytes: Uint8Array, options: { readonly maxOutputLength: number }, callback: Callback) => void

/** zlib's threads do it, and stop at the bound. */
function bounded(unpack: Unpack): Codec["decompress"] {
  return (bytes, maxBytes = kMaxLength) =>
    new Promise((resolve, reject) =>
      unpack(bytes, { maxOutputLength: Math.min(maxBytes, kMaxLength) }, (error, unpacked) => {
        if (error === null) resolve(unpacked)
        else reject("code" in error && error.code === "ERR_BUFFER_TOO_LARGE" ? new TooLarge(maxBytes) : error)
      })
    )
}

function zstd(): Codecs {
  const { zstdCompress, zstdDecompress } = zlib as {
    readonly zstdCompress?: (bytes: Uint8Array, callback: Callback) => void
    readonly zstdDecompress?: Unpack
  }
  return zstdCompress === undefined || zstdDecompress === undefined
    ? {}
    : { zstd: { compress: promisify(zstdCompress), decompress: bounded(zstdDecompress) } }
}

/** Kafka's number of each, in a batch's attributes. */
const names: ReadonlyArray<Compression | undefined> = ["none", "gzip", "snappy", "lz4", "zstd"]

/**
 * Kafka's number of a compression, as batches have it in their attributes.
 *
 * @since 0.1.0
 * @category codecs
 */
export const typeOf = (compression: Compression): number => names.indexOf(compression)

/**
 * A batch is compressed in a way for which there is no codec, and `TooLarge` where they are more than `maxBytes`.
 *
 * @since 0.1.0
 * @category errors
 */
export class MissingCodec extends Error {
  /**
   * @since 0.1.0
   */
  override readonly name = "MissingCodec"
  /**
   * @since 0.1.0
   */
  constructor(readonly compression: string) {
    super(`The batch is compressed with ${compression}, for which there is no codec: give one (option "codecs")`)
  }
}

/**
 * A batch unpacks to more than is allowed (`kafka.fetchMaxUnpackedBytes`).
 *
 * @since 0.1.0
 * @category errors
 */
export class TooLarge extends Error {
  /**
   * @since 0.1.0
   */
  override readonly name = "TooLarge"
  /**
   * @since 0.1.0
   */
  constructor(readonly maxBytes: number) {
    super(`It unpacks to more than ${maxBytes} bytes`)
  }
}

/**
 * The records of a batch, decompressed. It throws `MissingCodec` where there is no codec.
 *
 * @since 0.1.0
 * @category codecs
 */
export const decompress = async (
  codecs: Codecs,
  type: number,
  bytes: Buffer,
  maxBytes = Infinity
): Promise<Buffer> => {
  const name = names[type]
  if (name === "none") return bytes
  const codec = name === undefined ? undefined : codecs[name]
  if (name === undefined || codec === undefined) throw new MissingCodec(name ?? `type ${type}`)
  if (name === "snappy" && isFramed(bytes)) {
    const blocks: Array<Buffer> = []
    let left = maxBytes
    for (const block of framed(bytes)) {
      const unpacked = await within(codec, name, block, left)
      left -= unpacked.length
      blocks.push(unpacked)
    }
    return Buffer.concat(blocks)
  }
  return within(codec, name, bytes, maxBytes)
}

const within = async (codec: Codec, name: string, bytes: Buffer, maxBytes: number): Promise<Buffer> => {
  if (name === "snappy" && snappySize(bytes) > maxBytes) throw new TooLarge(maxBytes)
  const unpacked = bufferOf(await codec.decompress(bytes, maxBytes))
  if (unpacked.length > maxBytes) throw new TooLarge(maxBytes)
  return unpacked
}

/** A block begins with how long it is when it is unpacked. */
const snappySize = (bytes: Buffer): number => {
  let size = 0
  for (let at = 0, factor = 1; at < Math.min(5, bytes.length); at++, factor *= 0x80) {
    size += (bytes[at]! & 0x7f) * factor
    if (bytes[at]! < 0x80) break
  }
  return size
}

const bufferOf = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** Java's snappy has blocks with their lengths, behind a magic number and two versions. */
const MAGIC = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0])
const FRAME_HEADER = 16

const isFramed = (bytes: Buffer): boolean =>
  bytes.length >= FRAME_HEADER && bytes.subarray(0, MAGIC.length).equals(MAGIC)

function* framed(bytes: Buffer): Iterable<Buffer> {
  for (let at = FRAME_HEADER; at + 4 <= bytes.length;) {
    const length = bytes.readInt32BE(at)
    if (!(length > 0 && length <= bytes.length - at - 4)) throw new Error("A block of a batch's framing is damaged")
    yield bytes.subarray(at + 4, at + 4 + length)
    at += 4 + length
  }
}
