/**
 * Requests in versions that kafkajs doesn't have: the metadata with the ids of
 * topics, by which one that was deleted and made again is told from what it was;
 * changes of settings that leave the others alone; and the answer to what is
 * published that names the records which the broker refuses.
 */
import "./commonJs.js"

import Encoder from "kafkajs/src/protocol/encoder.js"
import * as Produce from "./produce.js"

export interface OwnRequest {
  readonly apiKey: number
  readonly apiVersion: number
  readonly encode: (payload: never) => Buffer | Promise<Buffer>
  readonly decode: (raw: Buffer) => unknown
}

/** As kafkajs's connection sends and reads it. */
export const callOf = (apiName: string, own: OwnRequest, payload: object) => ({
  request: {
    apiKey: own.apiKey,
    apiVersion: own.apiVersion,
    apiName,
    encode: async () => {
      const body = await own.encode(payload as never)
      return new Encoder(body.length).writeBuffer(body)
    }
  },
  response: { decode: (raw: Buffer) => Promise.resolve(own.decode(raw)) }
})

const compact = (text: string): Buffer => {
  const bytes = Buffer.from(text)
  return Buffer.concat([unsigned(bytes.length + 1), bytes])
}

/** A variable-length number without a sign. */
const unsigned = (value: number): Buffer => {
  const bytes: Array<number> = []
  for (; value >= 0x80; value >>>= 7) bytes.push((value & 0x7f) | 0x80)
  return Buffer.from([...bytes, value])
}

const int16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}

const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

const text = (value: string | null): Buffer =>
  value === null ? int16(-1) : Buffer.concat([int16(Buffer.byteLength(value)), Buffer.from(value)])

class Reader {
  at = 0
  constructor(private readonly raw: Buffer) {}
  int8(): number {
    return this.raw.readInt8(this.at++)
  }
  int16(): number {
    return this.raw.readInt16BE((this.at += 2) - 2)
  }
  int32(): number {
    return this.raw.readInt32BE((this.at += 4) - 4)
  }
  bytes(length: number): Buffer {
    return this.raw.subarray(this.at, this.at += length)
  }
  unsigned(): number {
    let value = 0
    for (let shift = 0;; shift += 7) {
      const byte = this.raw.readUInt8(this.at++)
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
  }
  compact(): string {
    return this.bytes(Math.max(0, this.unsigned() - 1)).toString("utf8")
  }
  text(): string | null {
    const length = this.int16()
    return length < 0 ? null : this.bytes(length).toString("utf8")
  }
  array<A>(element: () => A): ReadonlyArray<A> {
    return Array.from({ length: Math.max(0, this.unsigned() - 1) }, element)
  }
  /** Fields of later versions. */
  tags(): void {
    for (let count = this.unsigned(); count > 0; count--) {
      this.unsigned()
      this.bytes(this.unsigned())
    }
  }
}

const NO_TAGS = Buffer.of(0)
const NO_ID = Buffer.alloc(16)

/** Version 10, the first with ids (Kafka 2.8). */
export const metadata: OwnRequest = {
  apiKey: 3,
  apiVersion: 10,
  encode: ({ topics }: { readonly topics: ReadonlyArray<string> }) =>
    Buffer.concat([
      NO_TAGS, // of the header
      unsigned(topics.length + 1),
      ...topics.flatMap((name) => [NO_ID, compact(name), NO_TAGS]),
      // Nothing is created by asking, and no authorizations are asked for.
      Buffer.of(0, 0, 0),
      NO_TAGS
    ]),
  decode: (raw) => {
    const reader = new Reader(raw)
    reader.tags()
    reader.int32() // throttle time
    const brokers = reader.array(() => {
      const broker = { nodeId: reader.int32(), host: reader.compact(), port: reader.int32() }
      reader.compact() // rack
      reader.tags()
      return broker
    })
    reader.compact() // the cluster's id
    const controllerId = reader.int32()
    const topicMetadata = reader.array(() => {
      const topic = {
        topicErrorCode: reader.int16(),
        topic: reader.compact(),
        topicId: reader.bytes(16).toString("hex")
      }
      reader.int8() // internal
      const partitionMetadata = reader.array(() => {
        const partition = { partitionErrorCode: reader.int16(), partitionId: reader.int32(), leader: reader.int32() }
        reader.int32() // the leader's epoch
        const replicas = reader.array(() => reader.int32())
        for (let i = 0; i < 2; i++) reader.array(() => reader.int32())
        reader.tags()
        return { ...partition, replicas }
      })
      reader.int32() // authorizations
      reader.tags()
      return { ...topic, partitionMetadata }
    })
    return { brokers, controllerId, topicMetadata }
  }
}

const TOPIC = 2
const SET = 0

/** Version 0 (Kafka 2.3): sets some settings of a topic. */
export const incrementalAlterConfigs: OwnRequest = {
  apiKey: 44,
  apiVersion: 0,
  encode: ({ name, settings }: { readonly name: string; readonly settings: Readonly<Record<string, string>> }) =>
    Buffer.concat([
      int32(1),
      Buffer.of(TOPIC),
      text(name),
      int32(Object.keys(settings).length),
      ...Object.entries(settings).flatMap(([key, value]) => [text(key), Buffer.of(SET), text(value)]),
      Buffer.of(0) // do it, don't only validate
    ]),
  decode: (raw) => {
    const reader = new Reader(raw)
    reader.int32() // throttle time
    reader.int32() // one resource
    return { errorCode: reader.int16(), errorMessage: reader.text() }
  }
}

export const produce: OwnRequest = {
  apiKey: 0,
  apiVersion: Produce.VERSION,
  encode: Produce.encode,
  decode: Produce.decode
}
