/**
 * Reads what a fetch brings: the partitions of the response and, of each, the
 * record batches (format 2, the only one since Kafka 0.11).
 *
 * Written here and not taken from kafkajs because its decoder forgets the last
 * offset of a batch. After compaction a batch can be empty, or end before its
 * last offset, and whoever does not know where it ended fetches it for ever.
 */
import type { HeaderValue } from "@effect-eventbus/core/Headers"
import type { IncomingMessage } from "@effect-eventbus/core/Transport"
import type { Codecs } from "../Compression.js"
import * as Compression from "../Compression.js"

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

/** What was in the record batches of a partition. */
export interface Decoded {
  readonly messages: Array<IncomingMessage>
  /** Where to fetch next: after the last batch, whatever it held. */
  readonly next: number
  /** Bytes of the messages. */
  readonly bytes: number
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
const TRANSACTIONAL = 0x10
const CONTROL = 0x20
const LOG_APPEND_TIME = 0x08
const COMPRESSED = 0x07

/**
 * The messages of a partition from `from` on, without those of aborted
 * transactions. Each message's bytes are copied: one that is kept for long must
 * not keep the megabytes it came with, only what it has and 8 KiB of Node's pool.
 */
export const decodeRecords = async (
  fetched: FetchedPartition,
  from: number,
  duplicatesBelow: number,
  codecs: Codecs
): Promise<Decoded> => {
  const { partition, records, topic } = fetched
  const decoded: { messages: Array<IncomingMessage>; next: number; bytes: number } = {
    messages: [],
    next: from,
    bytes: 0
  }
  const isAborted = abortedFilter(fetched.aborted)
  let at = 0
  while (records.length - at >= HEADER) {
    const size = LENGTH_AT + 4 + records.readInt32BE(at + LENGTH_AT)
    if (records.length - at < size) break
    const magic = records.readInt8(at + MAGIC_AT)
    if (magic !== 2) throw new Error(`Record format ${magic} of ${topic}[${partition}] is older than Kafka 0.11`)
    const batch = batchHeader(records, at)
    decoded.next = Math.max(decoded.next, batch.lastOffset + 1)
    if (batch.lastOffset >= from && !isAborted(batch, records, at) && !batch.isControl) {
      const type = batch.attributes & COMPRESSED
      const payload = records.subarray(at + HEADER, at + size)
      let readable: Buffer
      try {
        readable = type === 0 ? payload : await Compression.decompress(codecs, type, payload)
      } catch (error) {
        // What comes before it can be handled.
        if (decoded.messages.length > 0) return { ...decoded, next: batch.baseOffset }
        throw error
      }
      const reader = new Reader(readable)
      for (let count = batch.count; count > 0; count--) {
        const message = record(reader, batch, topic, partition, duplicatesBelow)
        if (message.offset < from) continue
        decoded.messages.push(message)
        decoded.bytes += (message.value?.length ?? 0) + (message.key?.length ?? 0)
      }
    }
    at += size
  }
  return decoded
}

interface Batch {
  readonly baseOffset: number
  readonly lastOffset: number
  readonly attributes: number
  readonly isControl: boolean
  readonly baseTimestamp: number
  readonly maxTimestamp: number
  readonly producerId: number
  readonly count: number
}

const batchHeader = (records: Buffer, at: number): Batch => {
  const baseOffset = int64(records, at)
  const attributes = records.readInt16BE(at + 21)
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
  return (batch: Batch, records: Buffer, at: number): boolean => {
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

const noHeaders = Object.freeze({})

const record = (
  reader: Reader,
  batch: Batch,
  topic: string,
  partition: number,
  duplicatesBelow: number
): IncomingMessage => {
  const size = reader.varint()
  const end = reader.at + size
  reader.skip(1) // attributes
  const timestamp = batch.baseTimestamp + reader.varint()
  const offset = batch.baseOffset + reader.varint()
  const copy = reader.copy(end)
  const own = new Reader(copy)
  const key = own.nullable()
  const value = own.nullable()
  const count = own.varint()
  reader.at = end
  return {
    topic,
    partition,
    offset,
    key,
    value,
    headers: count > 0 ? headers(own, count) : noHeaders,
    timestamp: (batch.attributes & LOG_APPEND_TIME) !== 0 ? batch.maxTimestamp : timestamp,
    maybeDuplicate: offset < duplicatesBelow,
    deliveryCount: undefined
  }
}

const headers = (reader: Reader, count: number): { [name: string]: HeaderValue | Array<HeaderValue> } => {
  // Without a prototype: a header may be named "__proto__".
  const found: { [name: string]: HeaderValue | Array<HeaderValue> } = Object.create(null)
  for (; count > 0; count--) {
    const name = reader.text(reader.varint())
    const value = reader.nullable() ?? new Uint8Array(0)
    const present = found[name]
    if (present === undefined) found[name] = value
    else if (Array.isArray(present)) present.push(value)
    else found[name] = [present, value]
  }
  return found
}

const int64 = (buffer: Buffer, at: number): number =>
  buffer.readInt32BE(at) * 0x1_0000_0000 + buffer.readUInt32BE(at + 4)

class Reader {
  at = 0
  constructor(private readonly buffer: Buffer) {}

  int16(): number {
    return this.buffer.readInt16BE((this.at += 2) - 2)
  }
  int32(): number {
    return this.buffer.readInt32BE((this.at += 4) - 4)
  }
  int64(): number {
    return int64(this.buffer, (this.at += 8) - 8)
  }
  skip(bytes: number): void {
    this.at += bytes
  }
  bytes(length: number): Buffer {
    return this.buffer.subarray(this.at, this.at += length)
  }
  text(length: number): string {
    return this.buffer.toString("utf8", this.at, this.at += length)
  }
  string(): string {
    return this.text(Math.max(0, this.int16()))
  }
  nullable(): Buffer | null {
    const length = this.varint()
    return length < 0 ? null : this.bytes(length)
  }
  /** The bytes up to `end`, copied; small ones into Node's pool: memory of their own is half the cost of reading them. */
  copy(end: number): Buffer {
    const copy = Buffer.allocUnsafe(end - this.at)
    this.buffer.copy(copy, 0, this.at, end)
    return copy
  }
  /** A zigzag number of up to 53 bits. */
  varint(): number {
    const { buffer } = this
    let byte = buffer[this.at++]!
    let value = byte & 0x7f
    let factor = 0x80
    while (byte >= 0x80) {
      byte = buffer[this.at++]!
      value += (byte & 0x7f) * factor
      factor *= 0x80
    }
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2
  }
}
