/**
 * The requests about the logs of partitions: fetching within a session, so that only
 * what has changed is said; offsets and epochs as a certain leader has them, by which
 * a log that was cut is found out; and publishing.
 */
import type { Answer, Api } from "./Api.js"
import { versions, writerFor } from "./Api.js"
import type { ProduceRequest, ProduceResponse } from "./produce.js"
import * as Produce from "./produce.js"
import type { ProducerId } from "./PublishQueue.js"
import { Reader } from "./Reader.js"
import type { FetchResponse } from "./records.js"
import { decodeFetchResponse } from "./records.js"

/** Whoever is no replica. */
const CONSUMER = -1
const READ_UNCOMMITTED = 0
const READ_COMMITTED = 1

export interface FetchRequest {
  readonly maxWaitTime: number
  readonly minBytes: number
  readonly maxBytes: number
  /** Where we are: a leader names a replica that is there, too. */
  readonly rack?: string | undefined
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

/** With record batches of format 2 (0.11), sessions from version 7 on (1.1) and epochs of leaders from 9 on (2.1). */
export const fetch: Api<FetchRequest, FetchResponse> = {
  key: 1,
  versions: versions(4, 11),
  encode: (request, version) => {
    let count = 0
    for (const { partitions } of request.topics) count += partitions.length
    for (const { partitions } of request.forgottenTopics) count += partitions.length
    const names = [request.rack, ...[...request.topics, ...request.forgottenTopics].map(({ topic }) => topic)]
    const writer = writerFor(48, names, 28, count)
    writer.int32(CONSUMER)
    writer.int32(request.maxWaitTime)
    writer.int32(request.minBytes)
    writer.int32(request.maxBytes)
    writer.int8(READ_COMMITTED)
    if (version >= 7) {
      writer.int32(request.sessionId)
      writer.int32(request.sessionEpoch)
    }
    writer.array(request.topics, ({ partitions, topic }) => {
      writer.string(topic)
      writer.array(partitions, ({ currentLeaderEpoch, fetchOffset, maxBytes, partition }) => {
        writer.int32(partition)
        if (version >= 9) writer.int32(currentLeaderEpoch)
        writer.int64(fetchOffset)
        if (version >= 5) writer.int64(-1) // where a replica's log begins
        writer.int32(maxBytes)
      })
    })
    if (version >= 7) {
      writer.array(request.forgottenTopics, ({ partitions, topic }) => {
        writer.string(topic)
        writer.array(partitions, (partition) => writer.int32(partition))
      })
    }
    if (version >= 11) writer.string(request.rack ?? "")
    return writer.written
  },
  decode: decodeFetchResponse
}

export interface ListOffsetsRequest {
  readonly topic: string
  /** Also of transactions that are open. Left out: no. */
  readonly uncommitted?: boolean | undefined
  readonly partitions: ReadonlyArray<{
    readonly partition: number
    readonly currentLeaderEpoch: number
    readonly timestamp: number
  }>
}

export interface ListOffsetsResponse extends Answer {
  readonly partitions: ReadonlyArray<
    { readonly partition: number; readonly errorCode: number; readonly offset: number }
  >
}

/** From version 4 on (2.1) a leader of another epoch refuses. */
export const listOffsets: Api<ListOffsetsRequest, ListOffsetsResponse> = {
  key: 2,
  versions: versions(1, 4),
  encode: ({ partitions, topic, uncommitted = false }, version) => {
    const writer = writerFor(16, [topic], 16, partitions.length)
    writer.int32(CONSUMER)
    if (version >= 2) writer.int8(uncommitted ? READ_UNCOMMITTED : READ_COMMITTED)
    writer.int32(1)
    writer.string(topic)
    writer.array(partitions, ({ currentLeaderEpoch, partition, timestamp }) => {
      writer.int32(partition)
      if (version >= 4) writer.int32(currentLeaderEpoch)
      writer.int64(timestamp)
    })
    return writer.written
  },
  decode: (body, version) => {
    const reader = new Reader(body)
    const throttleMs = version >= 2 ? reader.int32() : 0
    const topics = reader.array(() => {
      reader.string()
      return reader.array(() => {
        const partition = reader.int32()
        const errorCode = reader.int16()
        reader.int64() // timestamp
        const offset = reader.int64()
        if (version >= 4) reader.int32() // the epoch of what is there
        return { partition, errorCode, offset }
      })
    })
    return { throttleMs, partitions: topics.flat() }
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

export interface EpochResponse extends Answer {
  readonly partitions: ReadonlyArray<{
    readonly partition: number
    readonly errorCode: number
    /** The largest epoch in the log that is not above the one that was asked for; −1 where that is not known. */
    readonly leaderEpoch: number
    /** Where its messages end. */
    readonly endOffset: number
  }>
}

/** Version 3 (2.3), the first for consumers: where the messages of a leader's epoch end. */
export const offsetForLeaderEpoch: Api<EpochRequest, EpochResponse> = {
  key: 23,
  versions: [3],
  encode: ({ partitions, topic }) => {
    const writer = writerFor(16, [topic], 12, partitions.length)
    writer.int32(CONSUMER)
    writer.int32(1)
    writer.string(topic)
    writer.array(partitions, ({ currentLeaderEpoch, leaderEpoch, partition }) => {
      writer.int32(partition)
      writer.int32(currentLeaderEpoch)
      writer.int32(leaderEpoch)
    })
    return writer.written
  },
  decode: (body) => {
    const reader = new Reader(body)
    const throttleMs = reader.int32()
    const topics = reader.array(() => {
      reader.string()
      return reader.array(() => {
        const errorCode = reader.int16()
        return { errorCode, partition: reader.int32(), leaderEpoch: reader.int32(), endOffset: reader.int64() }
      })
    })
    return { throttleMs, partitions: topics.flat() }
  }
}

export const produce: Api<ProduceRequest, ProduceResponse> = {
  key: 0,
  versions: versions(Produce.MIN_VERSION, Produce.VERSION),
  encode: Produce.encode,
  decode: Produce.decode
}

export interface InitProducerIdResponse extends Answer, ProducerId {
  readonly errorCode: number
}

/** Of a producer without transactions. */
export const initProducerId: Api<object, InitProducerIdResponse> = {
  key: 22,
  versions: versions(0, 1),
  encode: () => {
    const writer = writerFor(8, [])
    writer.string(null)
    writer.int32(60_000) // of transactions, of which there are none
    return writer.written
  },
  decode: (body) => {
    const reader = new Reader(body)
    const throttleMs = reader.int32()
    const errorCode = reader.int16()
    return { throttleMs, errorCode, producerId: String(reader.bigint()), producerEpoch: reader.int16() }
  }
}
