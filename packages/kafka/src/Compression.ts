/**
 * Compression of record batches: gzip is built in, zstd where Node.js has it
 * (22.15), and for the others the application gives the codec.
 *
 * @since 0.1.0
 */
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
  readonly decompress: (bytes: Uint8Array) => Uint8Array | Promise<Uint8Array>
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
  gzip: { compress: promisify<Uint8Array, Buffer>(zlib.gzip), decompress: promisify<Uint8Array, Buffer>(zlib.gunzip) },
  ...zstd()
}

type Callback = (error: Error | null, bytes: Buffer) => void

function zstd(): Codecs {
  const { zstdCompress, zstdDecompress } = zlib as {
    readonly zstdCompress?: (bytes: Uint8Array, callback: Callback) => void
    readonly zstdDecompress?: (bytes: Uint8Array, callback: Callback) => void
  }
  return zstdCompress === undefined || zstdDecompress === undefined
    ? {}
    : { zstd: { compress: promisify(zstdCompress), decompress: promisify(zstdDecompress) } }
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
 * A batch is compressed in a way for which there is no codec.
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
 * The records of a batch, decompressed. It throws `MissingCodec` where there is no codec.
 *
 * @since 0.1.0
 * @category codecs
 */
export const decompress = async (codecs: Codecs, type: number, bytes: Buffer): Promise<Buffer> => {
  const name = names[type]
  if (name === "none") return bytes
  const codec = name === undefined ? undefined : codecs[name]
  if (codec === undefined) throw new MissingCodec(name ?? `type ${type}`)
  if (name === "snappy" && isFramed(bytes)) {
    const blocks: Array<Buffer> = []
    for (const block of framed(bytes)) blocks.push(bufferOf(await codec.decompress(block)))
    return Buffer.concat(blocks)
  }
  return bufferOf(await codec.decompress(bytes))
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
    yield bytes.subarray(at + 4, at + 4 + length)
    at += 4 + length
  }
}
