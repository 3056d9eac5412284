/** Fetching before one broker that the test plays: what it has of each partition, under which leader, and what it answers. */
import type { Transport } from "@effect-eventbus/core"
import { Effect } from "effect"
import type { Client } from "../src/internal/Client.js"
import { crc32c } from "../src/internal/crc32c.js"
import type { KafkaFailure } from "../src/internal/Failure.js"
import * as FetcherModule from "../src/internal/Fetcher.js"
import * as FetchPool from "../src/internal/FetchPool.js"
import { Lineage } from "../src/internal/Lineage.js"
import type {
  EpochRequest,
  EpochResponse,
  FetchRequest,
  ListOffsetsRequest,
  ListOffsetsResponse
} from "../src/internal/logApis.js"
import type { PartitionOptions } from "../src/internal/Partition.js"
import { Partition } from "../src/internal/Partition.js"
import * as Produce from "../src/internal/produce.js"
import type { FetchedPartition, FetchResponse } from "../src/internal/records.js"
import type { ApiName, RequestOf, ResponseOf } from "../src/internal/requests.js"
import * as KafkaConfig from "../src/KafkaConfig.js"
import type { KafkaTopics, Topic } from "../src/KafkaTopics.js"

/** A batch of messages without keys, as a broker has it. */
export const batch = async (
  offset: number,
  values: ReadonlyArray<string | Buffer>,
  more: { readonly epoch?: number; readonly gzip?: boolean } = {}
): Promise<Buffer> => {
  const { gzip } = await KafkaConfigCodecs
  const request = await Produce.encode({
    acks: -1,
    timeout: 0,
    compression: more.gzip === true ? "gzip" : "none",
    codec: more.gzip === true ? gzip : undefined,
    producerId: "0",
    producerEpoch: 0,
    topicData: [{
      topic: "",
      partitions: [{
        partition: 0,
        firstSequence: 0,
        messages: values.map((value) => ({ key: null, value: Buffer.from(value), headers: {}, timestamp: 1 }))
      }]
    }]
  })
  const bytes = Buffer.from(request.subarray(26))
  bytes.writeBigInt64BE(BigInt(offset), 0)
  bytes.writeInt32BE(more.epoch ?? 0, 12)
  bytes.writeUInt32BE(crc32c(bytes, 21, bytes.length), 17)
  return bytes
}

const KafkaConfigCodecs = import("../src/Compression.js").then(({ builtIn }) => builtIn)

export type FetchAnswer = (
  request: FetchRequest,
  role: string,
  node: number | "any"
) => Effect.Effect<FetchResponse, KafkaFailure>

export const clientOf = (answers: {
  readonly fetch: FetchAnswer
  readonly epochs?: (request: EpochRequest) => EpochResponse
  /** Where each partition ends; all begin at 0. */
  readonly end?: number
}): Client => ({
  addresses: [],
  connect: () => Effect.void,
  metadata: () => Effect.never,
  coordinator: () => Effect.never,
  release: () => Effect.void,
  isConnected: () => true,
  isOpen: () => true,
  call: <Name extends ApiName>(node: number | "any", role: string, name: Name, request: RequestOf<Name>) => {
    const answer: Effect.Effect<object, KafkaFailure> = name === "Fetch"
      ? answers.fetch(request as FetchRequest, role, node)
      : name === "OffsetForLeaderEpoch" && answers.epochs !== undefined
      ? Effect.sync(() => answers.epochs!(request as EpochRequest))
      : name === "ListOffsets" && answers.end !== undefined
      ? Effect.sync(() => listed(request as ListOffsetsRequest, answers.end!))
      : Effect.dieMessage(`nobody asks for ${name}`)
    return answer as Effect.Effect<ResponseOf<Name>, KafkaFailure>
  }
})

const listed = ({ partitions }: ListOffsetsRequest, end: number): ListOffsetsResponse => ({
  partitions: partitions.map(({ partition, timestamp }) => ({
    partition,
    errorCode: 0,
    offset: timestamp === -1 ? end : 0
  }))
})

export const topicsOf = (known: () => Omit<Topic, "at">): KafkaTopics => {
  const topic = () => ({ ...known(), at: 0 })
  return {
    ensure: () => Effect.sync(topic),
    refresh: () => Effect.sync(topic),
    known: topic,
    isReady: () => true
  }
}

export const fetched = (partition: number, more: Partial<FetchedPartition> = {}): FetchedPartition => ({
  topic: "orders",
  partition,
  errorCode: 0,
  highWatermark: 0,
  lastStableOffset: 0,
  aborted: [],
  records: Buffer.alloc(0),
  ...more
})

export const response = (
  partitions: ReadonlyArray<FetchedPartition>,
  more: Partial<FetchResponse> = {}
): FetchResponse => ({ errorCode: 0, sessionId: 1, throttleMs: 0, partitions, ...more })

/** A subscription whose lanes take everything, or nothing while they are full. */
export const subscription = (
  pool: FetchPool.FetchPool,
  topics: KafkaTopics,
  count: number,
  more: {
    readonly topic?: string
    readonly kind?: "envelope" | "plain"
    readonly options?: Partial<KafkaConfig.Options>
    readonly partition?: Partial<PartitionOptions>
    readonly callbacks?: Partial<FetcherModule.FetcherOptions>
  } = {}
) =>
  Effect.gen(function*() {
    const settings = yield* KafkaConfig.resolve({ brokers: ["none:1"], ...more.options })
    const partitions = new Map<number, Partition>()
    const taken: Array<Transport.IncomingMessage> = []
    const full = new Set<number>()
    const unexpected = () => Effect.dieMessage("nothing of that happens here")
    const name = more.topic ?? "orders"
    const fetcher: FetcherModule.Fetcher = yield* FetcherModule.make({
      pool,
      topics,
      settings,
      topic: { name, kind: more.kind ?? "envelope" },
      partitions,
      onOutOfRange: unexpected,
      onRemade: unexpected,
      onNewLeader: unexpected,
      ...more.callbacks
    })
    for (let id = 0; id < count; id++) {
      const partition: Partition = new Partition({
        topic: name,
        topicId: undefined,
        partition: id,
        epoch: 1,
        start: 0,
        finished: [],
        duplicatesBelow: 0,
        lineage: new Lineage(-1),
        leaderEpoch: 0,
        now: () => 0,
        maxAboveWatermark: 10_000,
        maxUnfinished: 1_000,
        commitMessages: 1_000,
        onRoom: () => fetcher.wake(),
        onChange: () => {},
        onCommit: () => {},
        atMostOnce: false,
        isAlive: () => true,
        settle: () => Effect.void,
        ...more.partition
      })
      partition.open({
        offer: (messages) => {
          if (full.has(id)) return 0
          taken.push(...messages)
          return messages.length
        },
        close: () => Effect.succeed({ unfinished: 0, lost: 0 })
      })
      partitions.set(id, partition)
    }
    return {
      fetcher,
      partitions,
      taken,
      full,
      resume: (id: number) => {
        full.delete(id)
        partitions.get(id)!.assignment.resume()
      }
    }
  })

export const poolOf = (client: Client, options: Partial<KafkaConfig.Options> = {}) =>
  Effect.flatMap(
    KafkaConfig.resolve({ brokers: ["none:1"], ...options }),
    (settings) => FetchPool.make(client, settings)
  )
