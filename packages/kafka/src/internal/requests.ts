/**
 * Requests in versions that kafkajs doesn't have: the metadata with the ids of
 * topics, by which one that was deleted and made again is told from what it was,
 * and with the epochs of leaders; fetching within a session, so that only what has
 * changed is said; offsets and epochs as a certain leader has them, by which a log
 * that was cut is found out; changes of settings that leave the others alone; and
 * the answer to what is published that names the records which the broker refuses.
 */
import "./commonJs.js"

import Encoder from "kafkajs/src/protocol/encoder.js"
import * as Produce from "./produce.js"
import { Reader } from "./Reader.js"
import { decodeFetchResponse } from "./records.js"
import { Writer } from "./Writer.js"

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

/** More than enough for a request: `fixed` bytes, the texts with their lengths, and `each` for every part. */
const writerFor = (fixed: number, texts: Iterable<string>, each = 0, parts = 0): Writer => {
  let size = fixed + each * parts
  for (const text of texts) size += Buffer.byteLength(text) + 8
  return new Writer(Buffer.allocUnsafe(size))
}

const NO_TAGS = 0
const NO_ID = Buffer.alloc(16)
/** Whoever is no replica. */
const CONSUMER = -1

/** Version 10, the first with ids (Kafka 2.8). */
export const metadata: OwnRequest = {
  apiKey: 3,
  apiVersion: 10,
  encode: ({ topics }: { readonly topics: ReadonlyArray<string> }) => {
    const writer = writerFor(32, topics, 24, topics.length)
    writer.int8(NO_TAGS) // of the header
    writer.unsigned(topics.length + 1)
    for (const name of topics) {
      writer.bytes(NO_ID)
      writer.compact(name)
      writer.int8(NO_TAGS)
    }
    // Nothing is created by asking, and no authorizations are asked for.
    for (let i = 0; i < 3; i++) writer.int8(0)
    writer.int8(NO_TAGS)
    return writer.written
  },
  decode: (raw) => {
    const reader = new Reader(raw)
    reader.tags()
    reader.int32() // throttle time
    const brokers = reader.compactArray(() => {
      const broker = { nodeId: reader.int32(), host: reader.compact(), port: reader.int32() }
      reader.compact() // rack
      reader.tags()
      return broker
    })
    reader.compact() // the cluster's id
    const controllerId = reader.int32()
    const topicMetadata = reader.compactArray(() => {
      const topic = {
        topicErrorCode: reader.int16(),
        topic: reader.compact(),
        topicId: reader.bytes(16).toString("hex")
      }
      reader.int8() // internal
      const partitionMetadata = reader.compactArray(() => {
        const partition = {
          partitionErrorCode: reader.int16(),
          partitionId: reader.int32(),
          leader: reader.int32(),
          leaderEpoch: reader.int32()
        }
        const replicas = reader.compactArray(() => reader.int32())
        for (let i = 0; i < 2; i++) reader.compactArray(() => reader.int32())
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

export interface FetchRequest {
  readonly maxWaitTime: number
  readonly minBytes: number
  readonly maxBytes: number
  /** Of the session that goes on; 0 where there is none. */
  readonly sessionId: number
  /** The number of this request in its session: 0 begins a new one, −1 is for a request without one. */
  readonly sessionEpoch: number
  readonly topics: ReadonlyArray<FetchTopic>
  /** What belongs to the session no more. */
  readonly forgottenTopics: ReadonlyArray<{ readonly topic: string; readonly partitions: ReadonlyArray<number> }>
}

export interface FetchTopic {
  readonly topic: string
  readonly partitions: ReadonlyArray<{
    readonly partition: number
    /** The leader that is meant: another one answers with an error. −1 is for whoever leads. */
    readonly currentLeaderEpoch: number
    readonly fetchOffset: number
    readonly maxBytes: number
  }>
}

const READ_COMMITTED = 1

/** Version 11 (Kafka 2.3), with sessions and the epochs of leaders. Older brokers are asked by kafkajs. */
export const fetch: OwnRequest = {
  apiKey: 1,
  apiVersion: 11,
  encode: (request: FetchRequest) => {
    let count = 0
    for (const { partitions } of request.topics) count += partitions.length
    for (const { partitions } of request.forgottenTopics) count += partitions.length
    const names = [...request.topics, ...request.forgottenTopics].map(({ topic }) => topic)
    const writer = writerFor(48, names, 28, count)
    writer.int32(CONSUMER)
    writer.int32(request.maxWaitTime)
    writer.int32(request.minBytes)
    writer.int32(request.maxBytes)
    writer.int8(READ_COMMITTED)
    writer.int32(request.sessionId)
    writer.int32(request.sessionEpoch)
    writer.int32(request.topics.length)
    for (const { partitions, topic } of request.topics) {
      writer.string(topic)
      writer.int32(partitions.length)
      for (const { currentLeaderEpoch, fetchOffset, maxBytes, partition } of partitions) {
        writer.int32(partition)
        writer.int32(currentLeaderEpoch)
        writer.int64(fetchOffset)
        writer.int64(-1) // where a replica's log begins
        writer.int32(maxBytes)
      }
    }
    writer.int32(request.forgottenTopics.length)
    for (const { partitions, topic } of request.forgottenTopics) {
      writer.string(topic)
      writer.int32(partitions.length)
      for (const partition of partitions) writer.int32(partition)
    }
    writer.string("") // rack
    return writer.written
  },
  decode: (raw) => decodeFetchResponse(raw, 11)
}

export interface ListOffsetsRequest {
  readonly topics: ReadonlyArray<{
    readonly topic: string
    readonly partitions: ReadonlyArray<{
      readonly partition: number
      readonly currentLeaderEpoch: number
      readonly timestamp: number
    }>
  }>
}

/** Version 4 (Kafka 2.1), which a leader of another epoch refuses. Older brokers are asked by kafkajs. */
export const listOffsets: OwnRequest = {
  apiKey: 2,
  apiVersion: 4,
  encode: ({ topics }: ListOffsetsRequest) => {
    const count = topics.reduce((sum, { partitions }) => sum + partitions.length, 0)
    const writer = writerFor(16, topics.map(({ topic }) => topic), 16, count)
    writer.int32(CONSUMER)
    writer.int8(READ_COMMITTED)
    writer.int32(topics.length)
    for (const { partitions, topic } of topics) {
      writer.string(topic)
      writer.int32(partitions.length)
      for (const { currentLeaderEpoch, partition, timestamp } of partitions) {
        writer.int32(partition)
        writer.int32(currentLeaderEpoch)
        writer.int64(timestamp)
      }
    }
    return writer.written
  },
  decode: (raw) => {
    const reader = new Reader(raw)
    reader.int32() // throttle time
    const responses = reader.array(() => ({
      topic: reader.string(),
      partitions: reader.array(() => {
        const partition = reader.int32()
        const errorCode = reader.int16()
        reader.int64() // timestamp
        const offset = String(reader.int64())
        reader.int32() // the epoch of what is there
        return { partition, errorCode, offset }
      })
    }))
    return { responses }
  }
}

export interface EpochRequest {
  readonly topic: string
  readonly partitions: ReadonlyArray<{
    readonly partition: number
    readonly currentLeaderEpoch: number
    readonly leaderEpoch: number
  }>
}

export interface EpochResponse {
  readonly partitions: ReadonlyArray<{
    readonly partition: number
    readonly errorCode: number
    /** The largest epoch in the log that is not above the one that was asked for; −1 where that is not known. */
    readonly leaderEpoch: number
    /** Where its messages end. */
    readonly endOffset: number
  }>
}

/** Version 3 (Kafka 2.3), the first for consumers: where the messages of a leader's epoch end. */
export const offsetForLeaderEpoch: OwnRequest = {
  apiKey: 23,
  apiVersion: 3,
  encode: ({ partitions, topic }: EpochRequest) => {
    const writer = writerFor(16, [topic], 12, partitions.length)
    writer.int32(CONSUMER)
    writer.int32(1)
    writer.string(topic)
    writer.int32(partitions.length)
    for (const { currentLeaderEpoch, leaderEpoch, partition } of partitions) {
      writer.int32(partition)
      writer.int32(currentLeaderEpoch)
      writer.int32(leaderEpoch)
    }
    return writer.written
  },
  decode: (raw): EpochResponse => {
    const reader = new Reader(raw)
    reader.int32() // throttle time
    const topics = reader.array(() => {
      reader.string()
      return reader.array(() => {
        const errorCode = reader.int16()
        return { errorCode, partition: reader.int32(), leaderEpoch: reader.int32(), endOffset: reader.int64() }
      })
    })
    return { partitions: topics.flat() }
  }
}

const TOPIC = 2
const SET = 0

/** Version 0 (Kafka 2.3): sets some settings of a topic. */
export const incrementalAlterConfigs: OwnRequest = {
  apiKey: 44,
  apiVersion: 0,
  encode: ({ name, settings }: { readonly name: string; readonly settings: Readonly<Record<string, string>> }) => {
    const entries = Object.entries(settings)
    const writer = writerFor(32, [name, ...entries.flat()], 8, entries.length)
    writer.int32(1)
    writer.int8(TOPIC)
    writer.string(name)
    writer.int32(entries.length)
    for (const [key, value] of entries) {
      writer.string(key)
      writer.int8(SET)
      writer.string(value)
    }
    writer.int8(0) // do it, don't only validate
    return writer.written
  },
  decode: (raw) => {
    const reader = new Reader(raw)
    reader.int32() // throttle time
    reader.int32() // one resource
    return { errorCode: reader.int16(), errorMessage: reader.nullableString() }
  }
}

export const produce: OwnRequest = {
  apiKey: 0,
  apiVersion: Produce.VERSION,
  encode: Produce.encode,
  decode: Produce.decode
}
