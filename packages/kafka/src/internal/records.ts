/**
 * Reads what a fetch brings: the partitions of the response and, of each, the
 * record batches (format 2, the only one since Kafka 0.11).
 *
 * Written here and not taken from kafkajs because its decoder forgets the last
 * offset of a batch. After compaction a batch can be empty, or end before its
 * last offset, and whoever does not know where it ended fetches it for ever.
 */
import type { Codecs } from "../Compression.js"
import * as Compression from "../Compression.js"
import type { Settings } from "../KafkaConfig.js"
import { crc32c } from "./crc32c.js"
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
  readonly records: Buffer
}

export interface AbortedTransaction {
  readonly producerId: number
  readonly firstOffset: number
}

export interface FetchResponse {
  readonly errorCode: number
  readonly partitions: ReadonlyArray<FetchedPartition>
}

export const decodeFetchResponse = (raw: Buffer, version: number): FetchResponse => {
  const reader = new Reader(raw)
  reader.int32() // throttle time
  const errorCode = version >= 7 ? reader.int16() : 0
  if (version >= 7) reader.int32() // session
  const partitions: Array<FetchedPartition> = []
  for (let topics = reader.int32(); topics > 0; topics--) {
    const topic = reader.string()
    for (let count = reader.int32(); count > 0; count--) partitions.push(fetchedPartition(reader, topic, version))
  }
  return { errorCode, partitions }
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
  if (version >= 11) reader.int32() // preferred replica
  const records = reader.bytes(Math.max(0, reader.int32()))
  return { topic, partition, errorCode, highWatermark, lastStableOffset, aborted, records }
}

const HEADER = 61
const LENGTH_AT = 8
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

/**
 * What was in the record batches of a partition from `from` on, without the messages of aborted transactions.
 */
export const decodeRecords = async (
  fetched: FetchedPartition,
  from: number,
  duplicatesBelow: number,
  { checkCrcs, codecs }: Pick<Settings, "checkCrcs" | "codecs">
): Promise<Fetched.Fetched> => {
  const { partition, topic } = fetched
  const where = `${topic}[${partition}]`
  const records = owned(fetched.records)
  const batches: Array<Fetched.Batch> = []
  const isAborted = abortedFilter(fetched.aborted)
  let next = from
  let at = 0
  try {
    while (records.length - at >= HEADER) {
      const size = LENGTH_AT + 4 + records.readInt32BE(at + LENGTH_AT)
      const magic = records.readInt8(at + MAGIC_AT)
      if (magic === 0 || magic === 1) throw new Error(`Record format ${magic} of ${where} is older than Kafka 0.11`)
      if (magic !== 2) throw new Fetched.DamagedRecords(`there is no record format ${magic}`)
      if (size < HEADER) throw new Fetched.DamagedRecords("it is shorter than its header")
      if (records.length - at < size) break
      if (checkCrcs && crc32c(records, at + ATTRIBUTES_AT, at + size) !== records.readUInt32BE(at + CRC_AT)) {
        throw new Fetched.DamagedRecords("its checksum is another")
      }
      const header = batchHeader(records, at)
      if (header.lastOffset >= from && !isAborted(header, records, at) && !header.isControl) {
        batches.push(await batchOf(header, records.subarray(at + HEADER, at + size), from, codecs))
      }
      next = Math.max(next, header.lastOffset + 1)
      at += size
    }
  } catch (error) {
    // What comes before it can be handled.
    if (next === from) throw located(error, where, int64(records, at))
  }
  return Fetched.make({ topic, partition, from, next, duplicatesBelow, batches })
}

const batchOf = async (header: BatchHeader, payload: Buffer, from: number, codecs: Codecs): Promise<Fetched.Batch> => {
  const { attributes, baseOffset, baseTimestamp, count, lastOffset, maxTimestamp } = header
  const type = attributes & COMPRESSED
  // What a codec gives may be a piece of a larger buffer, or memory that it uses again; it is kept until its turn comes.
  const records = type === 0 ? payload : Buffer.from(await Compression.decompress(codecs, type, payload))
  const wanted = Fetched.countFrom(records, count, baseOffset, lastOffset, from)
  const appendTime = (attributes & LOG_APPEND_TIME) !== 0 ? maxTimestamp : undefined
  return { records, count, wanted, baseOffset, baseTimestamp, appendTime }
}

const located = (error: unknown, where: string, offset: number): unknown =>
  error instanceof Fetched.DamagedRecords
    ? new Fetched.DamagedRecords(`A record batch of ${where} at offset ${offset} is damaged: ${error.message}`)
    : error

/** What one partition keeps must not keep what others have got with the same answer. */
const owned = (records: Buffer): Buffer =>
  records.length * 2 < records.buffer.byteLength ? Buffer.from(records) : records

interface BatchHeader {
  readonly baseOffset: number
  readonly lastOffset: number
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
