/**
 * Reads what a fetch brings: the partitions of the response and, of each, the
 * record batches (format 2, the only one since Kafka 0.11).
 *
 * The last offset of a batch is kept. After compaction a batch can be empty, or end before its
 * last offset, and whoever does not know where it ended fetches it for ever.
 */
import type { Codecs } from "../Compression.js"
import * as Compression from "../Compression.js"
import type { Settings } from "../KafkaConfig.js"
import { crc32c } from "./crc32c.js"
import { KafkaFailure } from "./Failure.js"
import * as Fetched from "./Fetched.js"
import { int64, Reader } from "./Reader.js"

export interface FetchedPartition {
  readonly topic: string
  readonly partition: number
  readonly errorCode: number
  readonly highWatermark: number
  /** Where the first open transaction begins, else the high watermark. */
  readonly lastStableOffset: number
  readonly aborted: ReadonlyArray<AbortedTransaction>
  /** The replica that it is to be fetched from, for there is nothing here; left out or −1 where there is none. */
  readonly readReplica?: number | undefined
  readonly records: Buffer
}

export interface AbortedTransaction {
  readonly producerId: number
  readonly firstOffset: number
}

export interface FetchResponse {
  readonly errorCode: number
  /** Of the session that the broker keeps; 0 where it keeps none. */
  readonly sessionId: number
  /** For so long the broker wants no other fetch. */
  readonly throttleMs: number
  readonly partitions: ReadonlyArray<FetchedPartition>
}

export const decodeFetchResponse = (raw: Buffer, version: number): FetchResponse => {
  const reader = new Reader(raw)
  const throttleMs = reader.int32()
  const errorCode = version >= 7 ? reader.int16() : 0
  const sessionId = version >= 7 ? reader.int32() : 0
  const partitions: Array<FetchedPartition> = []
  for (let topics = reader.int32(); topics > 0; topics--) {
    const topic = reader.string()
    for (let count = reader.int32(); count > 0; count--) partitions.push(fetchedPartition(reader, topic, version))
  }
  return { errorCode, sessionId, throttleMs, partitions }
}

const fetchedPartition = (reader: Reader, topic: string, version: number): FetchedPartition => {
  const partition = reader.int32()
  const errorCode = reader.int16()
  const highWatermark = reader.int64()
  const lastStableOffset = reader.int64()
  if (version >= 5) reader.int64() // log start
  const aborted: Array<AbortedTransaction> = []
  for (let count = reader.int32(); count > 0; count--) {
    aborted.push({ producerId: reader.int64(), firstOffset: reader.int64() })
  }
  const readReplica = version >= 11 ? reader.int32() : -1
  const records = reader.bytes(Math.max(0, reader.int32()))
  return { topic, partition, errorCode, highWatermark, lastStableOffset, aborted, readReplica, records }
}

const HEADER = 61
const LENGTH_AT = 8
const LEADER_EPOCH_AT = 12
const MAGIC_AT = 16
const CRC_AT = 17
const ATTRIBUTES_AT = 21
const TRANSACTIONAL = 0x10
const CONTROL = 0x20
const LOG_APPEND_TIME = 0x08
const COMPRESSED = 0x07

/** A batch that does not fit into so many times `fetchPartitionBytes` is not waited for. */
export const MAX_FACTOR = 1_024
const MAX_INT32 = 0x7fffffff

/** How many bytes of a partition to ask for, where a batch did not fit into what was asked for before. */
export const bytesOf = (partitionBytes: number, factor: number): number => Math.min(MAX_INT32, partitionBytes * factor)

/** A batch's length is not under its checksum. */
export const tooLarge = (topic: string, partition: number, offset: number): Fetched.DamagedRecords =>
  new Fetched.DamagedRecords(
    `The record batch of ${topic}[${partition}] at offset ${offset} says that it is larger than can be fetched`
  )

/** What was fetched can't be read. Damage may be of the way here, or of one replica: that is worth asking again. */
export const unreadable = (cause: unknown): KafkaFailure =>
  new KafkaFailure({
    type: cause instanceof Fetched.DamagedRecords ? "CORRUPT_MESSAGE" : "Client",
    sent: true,
    cause
  })

/** A compressed batch whose records are larger than they may be, or a batch in a format that is not read: it is not damaged. */
export class UnreadableBatch extends Error {
  override readonly name = "UnreadableBatch"
  constructor(
    message: string,
    readonly batch: {
      readonly offset: number
      readonly next: number
      readonly timestamp: number
      readonly bytes: Buffer
    }
  ) {
    super(message)
  }
}

/** A batch as it was fetched. */
interface Raw {
  readonly header: BatchHeader
  readonly payload: Buffer
  /** With its header. */
  readonly bytes: Buffer
}

/**
 * What was in the record batches of a partition from `from` on, without the messages of aborted transactions. At once
 * where nothing is compressed. It throws, or rejects, where not even the first of them can be read.
 */
export const decodeRecords = (
  fetched: FetchedPartition,
  from: number,
  duplicatesBelow: number,
  settings: Pick<Settings, "checkCrcs" | "codecs" | "fetchMaxUnpackedBytes">
): Fetched.Fetched | Promise<Fetched.Fetched> => {
  const { partition, topic } = fetched
  const { epochs, error, errorAt, next, raw } = split(fetched, from, settings.checkCrcs)
  const where = `${topic}[${partition}]`
  const reading = { where, from, next, error, errorAt }
  const done = ({ batches, next }: Read) =>
    Fetched.make({
      topic,
      partition,
      from,
      next,
      duplicatesBelow,
      batches,
      epochs: epochs.filter(([, offset]) => offset < next)
    })
  return raw.some(isCompressed)
    ? unpacked(raw, reading, settings).then(done)
    : done(plain(raw, reading))
}

interface Reading {
  readonly where: string
  readonly from: number
  /** Where it ends if everything can be read. */
  readonly next: number
  /** Why what comes then can't be read, and where that is. */
  readonly error: unknown
  readonly errorAt: number
}

interface Read {
  readonly batches: ReadonlyArray<Fetched.Batch>
  readonly next: number
}

/** The batches as they stand there, as far as their headers and checksums are right. */
const split = (fetched: FetchedPartition, from: number, checkCrcs: boolean) => {
  const records = owned(fetched.records)
  const raw: Array<Raw> = []
  const epochs: Array<readonly [epoch: number, offset: number]> = []
  const isAborted = abortedFilter(fetched.aborted)
  let next = from
  let at = 0
  let error: unknown
  try {
    while (records.length - at > MAGIC_AT) {
      const size = LENGTH_AT + 4 + records.readInt32BE(at + LENGTH_AT)
      const magic = records.readInt8(at + MAGIC_AT)
      if (magic === 0 || magic === 1) throw new OldFormat(magic)
      if (magic !== 2) throw new Fetched.DamagedRecords(`there is no record format ${magic}`)
      if (records.length - at < HEADER) break
      if (size < HEADER) throw new Fetched.DamagedRecords("it is shorter than its header")
      if (records.length - at < size) break
      if (checkCrcs && crc32c(records, at + ATTRIBUTES_AT, at + size) !== records.readUInt32BE(at + CRC_AT)) {
        throw new Fetched.DamagedRecords("its checksum is another")
      }
      const header = batchHeader(records, at)
      if (header.lastOffset >= from) {
        if (!isAborted(header, records, at) && !header.isControl) {
          const bytes = records.subarray(at, at + size)
          raw.push({ header, payload: bytes.subarray(HEADER), bytes })
        }
        const last = epochs.at(-1)
        if (last === undefined || last[0] !== header.leaderEpoch) epochs.push([header.leaderEpoch, header.baseOffset])
      }
      next = Math.max(next, header.lastOffset + 1)
      at += size
    }
  } catch (thrown) {
    error = thrown
  }
  return { raw, epochs, next, error, errorAt: error === undefined ? next : int64(records, at) }
}

const plain = (raw: ReadonlyArray<Raw>, reading: Reading): Read => {
  const batches: Array<Fetched.Batch> = []
  for (const one of raw) {
    try {
      batches.push(batchOf(one, one.payload, reading.from))
    } catch (error) {
      return readBefore(one, batches, error, reading)
    }
  }
  return readUpTo(batches, reading)
}

/** In their order, and not more at once than is allowed: the rest is fetched again. */
const unpacked = async (
  raw: ReadonlyArray<Raw>,
  reading: Reading,
  { codecs, fetchMaxUnpackedBytes }: Pick<Settings, "codecs" | "fetchMaxUnpackedBytes">
): Promise<Read> => {
  const batches: Array<Fetched.Batch> = []
  let size = 0
  for (const one of raw) {
    try {
      const payload = isCompressed(one) ? await unpack(one, codecs, fetchMaxUnpackedBytes, reading) : one.payload
      size += payload.length
      if (size > fetchMaxUnpackedBytes && batches.length > 0) return { batches, next: one.header.baseOffset }
      batches.push(batchOf(one, payload, reading.from))
    } catch (error) {
      return readBefore(one, batches, error, reading)
    }
  }
  return readUpTo(batches, reading)
}

/** What comes before a batch that can't be read can be handled. */
const readBefore = (
  { header }: Raw,
  batches: ReadonlyArray<Fetched.Batch>,
  error: unknown,
  { from, where }: Reading
): Read => {
  if (header.baseOffset <= from) throw located(error, where, header.baseOffset)
  return { batches, next: header.baseOffset }
}

const readUpTo = (batches: ReadonlyArray<Fetched.Batch>, { error, errorAt, from, next, where }: Reading): Read => {
  if (error !== undefined && next === from) throw located(error, where, errorAt)
  return { batches, next }
}

const typeOf = ({ header }: Raw): number => header.attributes & COMPRESSED
const isCompressed = (raw: Raw): boolean => typeOf(raw) !== 0

const unpack = async (raw: Raw, codecs: Codecs, maxBytes: number, { where }: Reading): Promise<Buffer> => {
  const { bytes, header: { baseOffset, baseTimestamp, lastOffset }, payload } = raw
  try {
    // What a codec gives may be a piece of a larger buffer, or memory that it uses again; it is kept until its turn comes.
    return Buffer.from(await Compression.decompress(codecs, typeOf(raw), payload, maxBytes))
  } catch (error) {
    if (!(error instanceof Compression.TooLarge)) throw error
    throw new UnreadableBatch(
      `The record batch of ${where} at offset ${baseOffset} has ${payload.length} bytes, and more than ` +
        `${maxBytes} when it is unpacked (kafka.fetchMaxUnpackedBytes)`,
      { offset: baseOffset, next: lastOffset + 1, timestamp: baseTimestamp, bytes }
    )
  }
}

const batchOf = ({ header }: Raw, records: Buffer, from: number): Fetched.Batch => {
  const { attributes, baseOffset, baseTimestamp, count, lastOffset, maxTimestamp } = header
  const wanted = Fetched.countFrom(records, count, baseOffset, lastOffset, from)
  const appendTime = (attributes & LOG_APPEND_TIME) !== 0 ? maxTimestamp : undefined
  return { records, count, wanted, baseOffset, baseTimestamp, appendTime }
}

/** Brokers of today keep what was written so, and convert nothing any more. */
class OldFormat extends Error {
  override readonly name = "OldFormat"
  constructor(magic: number) {
    super(`is in record format ${magic}, which is older than Kafka 0.11 and is not read`)
  }
}

const located = (error: unknown, where: string, offset: number): unknown =>
  error instanceof Fetched.DamagedRecords
    ? new Fetched.DamagedRecords(`A record batch of ${where} at offset ${offset} is damaged: ${error.message}`)
    : error instanceof OldFormat
    ? new Error(`A message of ${where} at offset ${offset} ${error.message}`)
    : error

/** What one partition keeps must not keep what others have got with the same answer. */
const owned = (records: Buffer): Buffer =>
  records.length * 2 < records.buffer.byteLength ? Buffer.from(records) : records

interface BatchHeader {
  readonly baseOffset: number
  readonly lastOffset: number
  readonly leaderEpoch: number
  readonly attributes: number
  readonly isControl: boolean
  readonly baseTimestamp: number
  readonly maxTimestamp: number
  readonly producerId: number
  readonly count: number
}

const batchHeader = (records: Buffer, at: number): BatchHeader => {
  const baseOffset = int64(records, at)
  const attributes = records.readInt16BE(at + ATTRIBUTES_AT)
  return {
    baseOffset,
    lastOffset: baseOffset + records.readInt32BE(at + 23),
    leaderEpoch: records.readInt32BE(at + LEADER_EPOCH_AT),
    attributes,
    isControl: (attributes & CONTROL) !== 0,
    baseTimestamp: int64(records, at + 27),
    maxTimestamp: int64(records, at + 35),
    producerId: int64(records, at + 43),
    count: records.readInt32BE(at + 57)
  }
}

/** As Java's client does it: a producer's transaction is aborted from its first offset to its abort marker. */
const abortedFilter = (aborted: ReadonlyArray<AbortedTransaction>) => {
  const waiting = [...aborted].sort((a, b) => a.firstOffset - b.firstOffset)
  const open = new Set<number>()
  return (batch: BatchHeader, records: Buffer, at: number): boolean => {
    while (waiting.length > 0 && waiting[0]!.firstOffset <= batch.lastOffset) open.add(waiting.shift()!.producerId)
    if (batch.isControl) {
      if (batch.count > 0 && isAbortMarker(records.subarray(at + HEADER))) open.delete(batch.producerId)
      return false
    }
    return (batch.attributes & TRANSACTIONAL) !== 0 && open.has(batch.producerId)
  }
}

/** A control record's key is its version and its type, each two bytes; type 0 is an abort. */
const isAbortMarker = (payload: Buffer): boolean => {
  const reader = new Reader(payload)
  reader.varint() // length
  reader.skip(1) // attributes
  reader.varint() // timestamp delta
  reader.varint() // offset delta
  return reader.varint() >= 4 && reader.int32() === 0
}
