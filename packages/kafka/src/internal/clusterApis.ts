/** The requests about the cluster and its topics. */
import type { Answer, Api } from "./Api.js"
import { versions, writerFor } from "./Api.js"
import { Reader } from "./Reader.js"

export interface ApiVersionsResponse extends Answer {
  readonly errorCode: number
  readonly ranges: ReadonlyArray<{ readonly key: number; readonly oldest: number; readonly newest: number }>
}

/** What the broker speaks. It is asked before that is known: the newest version first. */
export const apiVersions: Api<object, ApiVersionsResponse> = {
  key: 18,
  versions: versions(0, 2),
  encode: () => Buffer.alloc(0),
  decode: (body) => {
    const reader = new Reader(body)
    const errorCode = reader.int16()
    return {
      errorCode,
      ranges: reader.array(() => ({ key: reader.int16(), oldest: reader.int16(), newest: reader.int16() }))
    }
  }
}

export interface TopicMetadata {
  readonly name: string
  readonly errorCode: number
  /** Brokers before 2.8 have none. */
  readonly id?: string | undefined
  readonly partitions: ReadonlyArray<{
    readonly id: number
    readonly errorCode: number
    readonly leader: number
    /** Counts the leaders of the partition; brokers before 2.8 don't say. */
    readonly leaderEpoch?: number | undefined
    readonly replicas: ReadonlyArray<number>
  }>
}

export interface MetadataResponse extends Answer {
  readonly brokers: ReadonlyArray<{ readonly node: number; readonly host: string; readonly port: number }>
  readonly controller: number
  readonly topics: ReadonlyArray<TopicMetadata>
}

const NO_TAGS = 0
const NO_ID = Buffer.alloc(16)
/** The first with ids of topics (Kafka 2.8). */
const WITH_IDS = 10

/** Of these topics, at least one. Nothing is created by asking (brokers before 0.11 may do it all the same). */
export const metadata: Api<{ readonly topics: ReadonlyArray<string> }, MetadataResponse> = {
  key: 3,
  // Between them are versions whose epochs of leaders are not to be relied on, and no ids.
  versions: [WITH_IDS, ...versions(1, 6)],
  taggedFrom: 9,
  encode: ({ topics }, version) => {
    const writer = writerFor(16, topics, 24, topics.length)
    if (version < WITH_IDS) {
      writer.array(topics, (name) => writer.string(name))
      if (version >= 4) writer.int8(0)
      return writer.written
    }
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
  decode: (body, version) => version < WITH_IDS ? olderMetadata(body, version) : newerMetadata(body)
}

const olderMetadata = (body: Buffer, version: number): MetadataResponse => {
  const reader = new Reader(body)
  const throttleMs = version >= 3 ? reader.int32() : 0
  const brokers = reader.array(() => {
    const broker = { node: reader.int32(), host: reader.string(), port: reader.int32() }
    reader.nullableString() // rack
    return broker
  })
  if (version >= 2) reader.nullableString() // the cluster's id
  const controller = reader.int32()
  const topics = reader.array(() => {
    const topic = { errorCode: reader.int16(), name: reader.string() }
    reader.int8() // internal
    const partitions = reader.array(() => {
      const partition = { errorCode: reader.int16(), id: reader.int32(), leader: reader.int32() }
      const replicas = reader.array(() => reader.int32())
      for (let i = 0; i < (version >= 5 ? 2 : 1); i++) reader.array(() => reader.int32())
      return { ...partition, replicas }
    })
    return { ...topic, partitions }
  })
  return { throttleMs, brokers, controller, topics }
}

const newerMetadata = (body: Buffer): MetadataResponse => {
  const reader = new Reader(body)
  const throttleMs = reader.int32()
  const brokers = reader.compactArray(() => {
    const broker = { node: reader.int32(), host: reader.compact(), port: reader.int32() }
    reader.compact() // rack
    reader.tags()
    return broker
  })
  reader.compact() // the cluster's id
  const controller = reader.int32()
  const topics = reader.compactArray(() => {
    const topic = { errorCode: reader.int16(), name: reader.compact(), id: reader.bytes(16).toString("hex") }
    reader.int8() // internal
    const partitions = reader.compactArray(() => {
      const partition = {
        errorCode: reader.int16(),
        id: reader.int32(),
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
    return { ...topic, partitions }
  })
  return { throttleMs, brokers, controller, topics }
}

export interface TopicResults extends Answer {
  readonly topics: ReadonlyArray<
    { readonly name: string; readonly errorCode: number; readonly errorMessage: string | null }
  >
}

const topicResults = (reader: Reader) =>
  reader.array(() => ({ name: reader.string(), errorCode: reader.int16(), errorMessage: reader.nullableString() }))

export interface CreateTopicRequest {
  readonly name: string
  readonly partitions: number
  /** −1 is the broker's default. */
  readonly replicationFactor: number
  readonly config: Readonly<Record<string, string>>
  readonly timeoutMs: number
}

export const createTopics: Api<CreateTopicRequest, TopicResults> = {
  key: 19,
  versions: versions(1, 4),
  encode: ({ config, name, partitions, replicationFactor, timeoutMs }) => {
    const entries = Object.entries(config)
    const writer = writerFor(40, [name, ...entries.flat()])
    writer.int32(1)
    writer.string(name)
    writer.int32(partitions)
    writer.int16(replicationFactor)
    writer.int32(0) // the broker chooses where they are
    writer.array(entries, ([key, value]) => {
      writer.string(key)
      writer.string(value)
    })
    writer.int32(timeoutMs)
    writer.int8(0) // do it, don't only validate
    return writer.written
  },
  decode: (body, version) => {
    const reader = new Reader(body)
    return { throttleMs: version >= 2 ? reader.int32() : 0, topics: topicResults(reader) }
  }
}

export interface CreatePartitionsRequest {
  readonly name: string
  /** With those that there are. */
  readonly count: number
  readonly timeoutMs: number
}

export const createPartitions: Api<CreatePartitionsRequest, TopicResults> = {
  key: 37,
  versions: versions(0, 1),
  encode: ({ count, name, timeoutMs }) => {
    const writer = writerFor(24, [name])
    writer.int32(1)
    writer.string(name)
    writer.int32(count)
    writer.int32(-1) // the broker chooses where they are
    writer.int32(timeoutMs)
    writer.int8(0) // do it, don't only validate
    return writer.written
  },
  decode: (body) => {
    const reader = new Reader(body)
    return { throttleMs: reader.int32(), topics: topicResults(reader) }
  }
}

const TOPIC = 2
const SET = 0

export interface DescribeConfigsRequest {
  readonly topic: string
  readonly names: ReadonlyArray<string>
}

export interface DescribeConfigsResponse extends Answer {
  readonly resources: ReadonlyArray<{
    readonly errorCode: number
    readonly entries: ReadonlyArray<{ readonly name: string; readonly value: string | null }>
  }>
}

export const describeConfigs: Api<DescribeConfigsRequest, DescribeConfigsResponse> = {
  key: 32,
  versions: versions(0, 2),
  encode: ({ names, topic }, version) => {
    const writer = writerFor(16, [topic, ...names])
    writer.int32(1)
    writer.int8(TOPIC)
    writer.string(topic)
    writer.array(names, (name) => writer.string(name))
    if (version >= 1) writer.int8(0) // no synonyms
    return writer.written
  },
  decode: (body, version) => {
    const reader = new Reader(body)
    const throttleMs = reader.int32()
    const resources = reader.array(() => {
      const errorCode = reader.int16()
      reader.nullableString() // in words
      reader.int8()
      reader.string() // the topic
      const entries = reader.array(() => {
        const entry = { name: reader.string(), value: reader.nullableString() }
        reader.skip(3) // read-only, where it comes from, sensitive
        if (version >= 1) {
          reader.array(() => {
            reader.string()
            reader.nullableString()
            reader.int8()
          })
        }
        return entry
      })
      return { errorCode, entries }
    })
    return { throttleMs, resources }
  }
}

export interface AlterConfigsRequest {
  readonly topic: string
  readonly settings: Readonly<Record<string, string>>
}

export interface AlterConfigsResponse extends Answer {
  readonly errorCode: number
  readonly errorMessage: string | null
}

/** Kafka 2.3: sets some settings of a topic, and leaves the others alone. */
export const incrementalAlterConfigs: Api<AlterConfigsRequest, AlterConfigsResponse> = {
  key: 44,
  versions: [0],
  encode: ({ settings, topic }) => {
    const entries = Object.entries(settings)
    const writer = writerFor(32, [topic, ...entries.flat()], 8, entries.length)
    writer.int32(1)
    writer.int8(TOPIC)
    writer.string(topic)
    writer.array(entries, ([key, value]) => {
      writer.string(key)
      writer.int8(SET)
      writer.string(value)
    })
    writer.int8(0) // do it, don't only validate
    return writer.written
  },
  decode: (body) => {
    const reader = new Reader(body)
    const throttleMs = reader.int32()
    reader.int32() // one resource
    return { throttleMs, errorCode: reader.int16(), errorMessage: reader.nullableString() }
  }
}
