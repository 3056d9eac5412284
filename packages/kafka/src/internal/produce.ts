/**
 * Writes the request that publishes, and reads its answer. The request's size is known before, so that it is written once:
 * several buffers for each record took more time than all the rest of publishing.
 */
import type { Codec, Compression } from "../Compression.js"
import { typeOf } from "../Compression.js"
import { crc32c } from "./crc32c.js"
import type { ProducerId, WireRecord } from "./PublishQueue.js"
import { Reader } from "./Reader.js"
import { Writer } from "./Writer.js"

export interface ProduceRequest extends ProducerId {
  readonly acks: number
  readonly timeout: number
  readonly compression: Compression
  /** Of the compression, where there is one. */
  readonly codec: Codec | undefined
  readonly topicData: ReadonlyArray<{ readonly topic: string; readonly partitions: ReadonlyArray<ProducePartition> }>
}

export interface ProducePartition {
  readonly partition: number
  readonly firstSequence: number
  readonly messages: ReadonlyArray<WireRecord>
}

export interface ProduceResponse {
  readonly topics: ReadonlyArray<{ readonly topic: string; readonly partitions: ReadonlyArray<ProduceAnswer> }>
  /** For so long the broker wants no other request. */
  readonly throttleMs?: number | undefined
}

/** What the broker says of a batch. */
export interface ProduceAnswer {
  readonly partition: number
  readonly errorCode: number
  readonly baseOffset: number
  /** The records for which it is refused as a whole, by their index in it; brokers before 2.4 don't say. */
  readonly recordErrors?: ReadonlyArray<RecordError> | undefined
}

export interface RecordError {
  readonly index: number
  readonly message: string | null
}

/** The first version with record batches of format 2 (Kafka 0.11). Up to version 8 only the answers differ. */
export const MIN_VERSION = 3
/** The first that names the records which are refused (Kafka 2.4). */
export const VERSION = 8

/** A batch's header, up to its records. */
const HEADER = 61
/** What its length does not count. */
const UNCOUNTED = 12
const CRC_AT = 17
const ATTRIBUTES_AT = 21

/** The request's body, in the versions 3 to 8. */
export const encode = async (request: ProduceRequest): Promise<Buffer> => {
  const topics: Array<{ readonly name: Buffer; readonly batches: Array<readonly [partition: number, Part]> }> = []
  let size = 12
  for (const { partitions, topic } of request.topicData) {
    const name = Buffer.from(topic)
    const batches: Array<readonly [number, Part]> = []
    size += 6 + name.length
    for (const partition of partitions) {
      const part = partOf(partition)
      if (request.codec !== undefined) part.compressed = await compress(part, request.codec)
      size += 8 + HEADER + (part.compressed?.length ?? part.size)
      batches.push([partition.partition, part])
    }
    topics.push({ name, batches })
  }
  const writer = new Writer(Buffer.allocUnsafe(size))
  writer.int16(-1) // no transaction
  writer.int16(request.acks)
  writer.int32(request.timeout)
  writer.int32(topics.length)
  for (const { batches, name } of topics) {
    writer.int16(name.length)
    writer.bytes(name)
    writer.int32(batches.length)
    for (const [partition, part] of batches) {
      writer.int32(partition)
      writer.int32(HEADER + (part.compressed?.length ?? part.size))
      batch(writer, part, request)
    }
  }
  return writer.buffer
}

/** The answer, in the same versions. */
export const decode = (raw: Buffer, version: number): ProduceResponse => {
  const reader = new Reader(raw)
  const topics = reader.array(() => ({
    topic: reader.string(),
    partitions: reader.array((): ProduceAnswer => {
      const partition = reader.int32()
      const errorCode = reader.int16()
      const baseOffset = reader.int64()
      reader.skip(version >= 5 ? 16 : 8) // append time, log start
      if (version < VERSION) return { partition, errorCode, baseOffset }
      const recordErrors = reader.array(() => ({ index: reader.int32(), message: reader.nullableString() }))
      const message = reader.nullableString()
      return {
        partition,
        errorCode,
        baseOffset,
        recordErrors: recordErrors.map((error) => ({ ...error, message: error.message ?? message }))
      }
    })
  }))
  return { topics, throttleMs: reader.int32() }
}

/** The records of a batch, and how many bytes each of them has after its length. */
interface Part {
  readonly partition: ProducePartition
  readonly sizes: ReadonlyArray<number>
  /** Of all records. */
  readonly size: number
  readonly firstTimestamp: number
  readonly maxTimestamp: number
  compressed: Uint8Array | undefined
}

const partOf = (partition: ProducePartition): Part => {
  const { messages } = partition
  let firstTimestamp = Infinity
  let maxTimestamp = 0
  for (const { timestamp } of messages) {
    if (timestamp < firstTimestamp) firstTimestamp = timestamp
    if (timestamp > maxTimestamp) maxTimestamp = timestamp
  }
  let size = 0
  const sizes = messages.map((message, i) => {
    const own = 1 + varintSize(message.timestamp - firstTimestamp) + varintSize(i) + bytesSize(message.key) +
      bytesSize(message.value) + headersSize(message.headers)
    size += varintSize(own) + own
    return own
  })
  return { partition, sizes, size, firstTimestamp, maxTimestamp, compressed: undefined }
}

const compress = async (part: Part, codec: Codec): Promise<Uint8Array> => {
  const writer = new Writer(Buffer.allocUnsafe(part.size))
  records(writer, part)
  // A codec may use its memory again for the next partition.
  return Buffer.from(await codec.compress(writer.buffer))
}

const batch = (writer: Writer, part: Part, { compression, producerEpoch, producerId }: ProduceRequest): void => {
  const { buffer } = writer
  const { firstSequence, messages } = part.partition
  const from = writer.at
  writer.int64(0) // the broker gives offsets
  writer.int32(HEADER - UNCOUNTED + (part.compressed?.length ?? part.size))
  writer.int32(0) // the leader's epoch, which the broker writes
  writer.int8(2)
  writer.int32(0) // the checksum's place
  writer.int16(typeOf(compression))
  writer.int32(messages.length - 1)
  writer.int64(part.firstTimestamp)
  writer.int64(part.maxTimestamp)
  writer.at = buffer.writeBigInt64BE(BigInt(producerId), writer.at)
  writer.int16(producerEpoch)
  writer.int32(firstSequence)
  writer.int32(messages.length)
  if (part.compressed === undefined) records(writer, part)
  else writer.bytes(part.compressed)
  buffer.writeUInt32BE(crc32c(buffer, from + ATTRIBUTES_AT, writer.at), from + CRC_AT)
}

const records = (writer: Writer, { firstTimestamp, partition: { messages }, sizes }: Part): void => {
  for (let i = 0; i < messages.length; i++) {
    const { headers, key, timestamp, value } = messages[i]!
    writer.varint(sizes[i]!)
    writer.int8(0) // attributes
    writer.varint(timestamp - firstTimestamp)
    writer.varint(i)
    writer.nullable(key)
    writer.nullable(value)
    writer.varint(headersCount(headers))
    for (const name in headers) {
      const value = headers[name]!
      if (Array.isArray(value)) { for (const one of value) writer.header(name, one) }
      else writer.header(name, value)
    }
  }
}

type Headers = WireRecord["headers"]

const headersCount = (headers: Headers): number => {
  let count = 0
  for (const name in headers) {
    const value = headers[name]!
    count += Array.isArray(value) ? value.length : 1
  }
  return count
}

const headersSize = (headers: Headers): number => {
  let size = varintSize(headersCount(headers))
  for (const name in headers) {
    const value = headers[name]!
    if (Array.isArray(value)) { for (const one of value) size += textSize(name) + textSize(one) }
    else size += textSize(name) + textSize(value)
  }
  return size
}

const textSize = (text: string | Buffer): number => {
  const size = Buffer.byteLength(text)
  return varintSize(size) + size
}

const bytesSize = (bytes: Buffer | null): number => bytes === null ? 1 : varintSize(bytes.length) + bytes.length

/** Of a number that is not negative. */
const varintSize = (value: number): number => {
  if (value < 0x40) return 1
  if (value < 0x2000) return 2
  let size = 3
  for (let rest = value / 0x10_0000; rest >= 1; rest /= 0x80) size++
  return size
}
