/** Where a partition begins and ends, and where a group stands in it. */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as CommitMetadata from "../CommitMetadata.js"
import type { KafkaTopics } from "../KafkaTopics.js"
import type { Client, KafkaFailure } from "./Client.js"
import { failure } from "./Client.js"
import type { Api } from "./Wire.js"

/** One of the ends, or the first message that is not older than a time. */
export type Edge = "earliest" | "latest" | { readonly time: Date }

interface ListOffsetsResponse {
  readonly responses: ReadonlyArray<{
    readonly partitions: ReadonlyArray<
      { readonly partition: number; readonly errorCode: number; readonly offset: string }
    >
  }>
}

/** Kafka's special timestamps. */
const timestamps = { earliest: -2, latest: -1 } as const

const timestampOf = (edge: Edge): number => typeof edge === "string" ? timestamps[edge] : edge.time.getTime()

/** The first offset of each partition that still exists, the one that its next message will have, or −1 where nothing is so new. */
export const list = (
  client: Client,
  topics: KafkaTopics,
  role: string,
  topic: string,
  partitions: ReadonlyArray<number>,
  edge: Edge
): Effect.Effect<ReadonlyMap<number, number>, KafkaFailure> =>
  Effect.gen(function*() {
    if (partitions.length === 0) return new Map<number, number>()
    const known = topics.known(topic) ?? (yield* topics.refresh(topic))
    const byLeader = new Map<number, Array<number>>()
    for (const partition of partitions) {
      const leader = known.leaders[partition] ?? -1
      byLeader.set(leader, [...byLeader.get(leader) ?? [], partition])
    }
    const answers = yield* Effect.forEach(byLeader, ([leader, own]) =>
      client.call<ListOffsetsResponse>(leader, role, "ListOffsets", {
        topics: [{ topic, partitions: own.map((partition) => ({ partition, timestamp: timestampOf(edge) })) }]
      }), { concurrency: "unbounded" })
    const found = new Map<number, number>()
    for (
      const { errorCode, offset, partition } of answers.flatMap(({ responses }) =>
        responses
      ).flatMap((r) =>
        r.partitions
      )
    ) {
      if (errorCode !== 0) {
        return yield* failure("ListOffsets", errorCode)
      }
      found.set(partition, Number(offset))
    }
    return found
  }).pipe(
    // Leaders that are not known, or not any more, are asked for before this is tried again.
    Effect.tapError(() => Effect.ignore(topics.refresh(topic)))
  )

/** The last commit of a group. */
export interface Committed {
  readonly offset: number
  readonly text: string
  readonly metadata: Option.Option<CommitMetadata.CommitMetadata>
}

interface OffsetFetchResponse {
  readonly errorCode?: number
  readonly responses: ReadonlyArray<{
    readonly partitions: ReadonlyArray<
      {
        readonly partition: number
        readonly offset: string
        readonly metadata: string | null
        readonly errorCode: number
      }
    >
  }>
}

/** What the group has committed; partitions without a commit are left out. */
export const committed = (
  ask: <A>(api: Api, payload: object) => Effect.Effect<A, KafkaFailure>,
  group: string,
  topic: string,
  partitions: ReadonlyArray<number>
): Effect.Effect<ReadonlyMap<number, Committed>, KafkaFailure> =>
  Effect.gen(function*() {
    const answer = yield* ask<OffsetFetchResponse>("OffsetFetch", {
      groupId: group,
      topics: [{ topic, partitions: partitions.map((partition) => ({ partition })) }]
    })
    if (answer.errorCode !== undefined && answer.errorCode !== 0) return yield* failure("OffsetFetch", answer.errorCode)
    const found = new Map<number, Committed>()
    for (const entry of answer.responses.flatMap(({ partitions }) => partitions)) {
      if (entry.errorCode !== 0) return yield* failure("OffsetFetch", entry.errorCode)
      const offset = Number(entry.offset)
      if (offset < 0) continue
      found.set(entry.partition, {
        offset,
        text: entry.metadata ?? "",
        metadata: CommitMetadata.decode(offset, entry.metadata)
      })
    }
    return found
  })
