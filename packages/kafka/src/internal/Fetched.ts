/**
 * The messages that a fetch has brought of one partition, made when they are asked for. Most of a fetch waits for a
 * while, and objects that wait are copied by the garbage collector, and copied again; bytes are not.
 */
import type { HeaderValue } from "@effect-eventbus/core/Headers"
import type { IncomingMessage } from "@effect-eventbus/core/Transport"
import { Reader } from "./Reader.js"

/** The records of one batch. */
export interface Batch {
  readonly records: Buffer
  readonly count: number
  /** How many of them are not before the offset that was asked for. */
  readonly wanted: number
  readonly baseOffset: number
  readonly baseTimestamp: number
  /** All records have this time instead of their own. */
  readonly appendTime: number | undefined
}

export interface FetchedOptions {
  readonly topic: string
  readonly partition: number
  /** Records before it, which a batch can begin with, are left out. */
  readonly from: number
  readonly next: number
  readonly duplicatesBelow: number
  readonly batches: ReadonlyArray<Batch>
  /** The epochs of the leaders that wrote them, each with the first offset of it. */
  readonly epochs: ReadonlyArray<readonly [epoch: number, offset: number]>
}

/** So many bytes of small messages share memory, as in Node's pool: one that is kept for long keeps no more than that. */
const SHARED_BYTES = 8 * 1024

export interface Fetched {
  /** How many messages are not taken yet. */
  readonly left: number
  /** Where to fetch next: after the last batch, whatever it held. */
  readonly next: number
  /** The epochs of the leaders that wrote what was fetched, each with the first offset of it. */
  readonly epochs: ReadonlyArray<readonly [epoch: number, offset: number]>
  /** Bytes that are held. */
  readonly bytes: number
  /** The next messages, at most so many. */
  readonly take: (max: number) => ReadonlyArray<IncomingMessage>
}

/** What a broker has sent, and can't have written like this. */
export class DamagedRecords extends Error {
  override readonly name = "DamagedRecords"
}

/** Of batches whose records have been counted: taking them can't fail. */
export const make = (options: FetchedOptions): Fetched => new FetchedRecords(options)

class FetchedRecords implements Fetched {
  left = 0
  readonly bytes: number
  private readonly batches: Array<Batch> = []
  private at = 0
  /** Records of the batch that are not read yet. */
  private count = 0
  private reader!: Reader

  constructor(private readonly options: FetchedOptions) {
    let bytes = 0
    for (const batch of options.batches) {
      if (batch.wanted === 0) continue
      this.batches.push(batch)
      this.left += batch.wanted
      bytes += batch.records.length
    }
    this.bytes = bytes
    if (this.batches.length > 0) this.open()
  }

  get epochs(): FetchedOptions["epochs"] {
    return this.options.epochs
  }

  get next(): number {
    return this.options.next
  }

  take(max: number): ReadonlyArray<IncomingMessage> {
    const messages: Array<IncomingMessage> = []
    while (messages.length < max && this.left > 0) this.read(max - messages.length, messages)
    return messages
  }

  /** Reads records that stand beside each other. Their bytes are copied together: each alone takes several times as long. */
  private read(max: number, into: Array<IncomingMessage>): void {
    if (this.count === 0) {
      this.at++
      this.open()
    }
    const batch = this.batches[this.at]!
    const { reader } = this
    const from = reader.at
    let count = 0
    let end = from
    while (count < max && this.count > 0) {
      reader.skip(reader.varint())
      if (count > 0 && reader.at - from > SHARED_BYTES) break
      end = reader.at
      count++
      this.count--
    }
    reader.at = end
    const copy = Buffer.allocUnsafe(end - from)
    batch.records.copy(copy, 0, from, end)
    const own = new Reader(copy)
    for (; count > 0; count--) {
      const message = this.record(own, batch)
      if (message.offset < this.options.from) continue
      into.push(message)
      this.left--
    }
  }

  private open(): void {
    const { count, records } = this.batches[this.at]!
    this.reader = new Reader(records)
    this.count = count
  }

  private record(reader: Reader, batch: Batch): IncomingMessage {
    const { duplicatesBelow, partition, topic } = this.options
    const size = reader.varint()
    const end = reader.at + size
    reader.skip(1) // attributes
    const timestamp = batch.baseTimestamp + reader.varint()
    const offset = batch.baseOffset + reader.varint()
    const key = reader.nullable()
    const value = reader.nullable()
    const count = reader.varint()
    const headers = count > 0 ? headersOf(reader, count) : noHeaders
    reader.at = end
    return {
      topic,
      partition,
      offset,
      key,
      value,
      headers,
      timestamp: batch.appendTime ?? timestamp,
      maybeDuplicate: offset < duplicatesBelow,
      deliveryCount: undefined
    }
  }
}

/**
 * How many records of a batch are at an offset or above. It throws where they are not just what the batch says: whoever
 * takes those would make something up, or miss what is there.
 */
export const countFrom = (records: Buffer, count: number, baseOffset: number, lastOffset: number, from: number) => {
  const reader = new Reader(records)
  let found = 0
  let before = baseOffset - 1
  for (let left = count; left > 0; left--) {
    const size = reader.varint()
    const end = reader.at + size
    if (!(size > 0 && end <= records.length)) throw new DamagedRecords("its records are longer than it is")
    reader.skip(1) // attributes
    reader.varint() // timestamp delta
    const offset = baseOffset + reader.varint()
    if (!(offset > before && offset <= lastOffset)) {
      throw new DamagedRecords("its offsets do not ascend to its last one")
    }
    before = offset
    if (offset >= from) found++
    reader.skipNullable() // key
    reader.skipNullable() // value
    let headers = reader.varint()
    // Each has two lengths.
    if (!(headers >= 0 && headers * 2 <= end - reader.at)) throw new DamagedRecords("a record has no such headers")
    for (; headers > 0 && reader.at < end; headers--) {
      if (reader.skipNullable() < 0) throw new DamagedRecords("a header has no name")
      reader.skipNullable() // value
    }
    if (headers !== 0 || reader.at !== end) throw new DamagedRecords("a record is not as long as it says")
  }
  if (count < 0 || reader.at !== records.length) throw new DamagedRecords("it has not as many records as it says")
  return found
}

const noHeaders = Object.freeze({})

const headersOf = (reader: Reader, count: number): { [name: string]: HeaderValue | Array<HeaderValue> } => {
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
