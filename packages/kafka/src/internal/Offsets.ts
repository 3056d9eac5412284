/** Where a partition begins and ends, and where a group stands in it. */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as CommitMetadata from "../CommitMetadata.js"
import type { KafkaTopics, Topic } from "../KafkaTopics.js"
import type { Client } from "./Client.js"
import { failure, KafkaFailure } from "./Failure.js"
import type { CommittedOffset } from "./GroupDriver.js"

/** The connections for questions that are answered at once. */
export const ROLE = "offsets"

/**
 * One of the ends, or the first message that is not older than a time. The latest message that can be read stands before the first
 * transaction that is open; `written` is also beyond what is in those.
 */
export type Edge = "earliest" | "latest" | "written" | { readonly time: Date }

/** Kafka's special timestamps. */
const timestamps = { earliest: -2, latest: -1, written: -1 } as const

const timestampOf = (edge: Edge): number => typeof edge === "string" ? timestamps[edge] : edge.time.getTime()

/** Partitions by the broker that leads them, −1 where there is none or the topic is not known. */
export const byLeader = (
  known: Topic | undefined,
  partitions: ReadonlyArray<number>
): ReadonlyMap<number, ReadonlyArray<number>> => {
  const found = new Map<number, Array<number>>()
  for (const partition of partitions) {
    const leader = known?.leaders[partition] ?? -1
    found.set(leader, [...found.get(leader) ?? [], partition])
  }
  return found
}

/** What each partition's leader has answered, or why it has not. */
export interface Listed {
  readonly offsets: ReadonlyMap<number, number>
  /** The epoch of the leader that has answered for a partition; −1 where the broker does not know of epochs. */
  readonly epochs: ReadonlyMap<number, number>
  readonly failures: ReadonlyMap<number, KafkaFailure>
}

/** The first offset of each partition that still exists, the one that its next message will have, or −1 where nothing is so new. */
export const list = (
  client: Client,
  topics: KafkaTopics,
  role: string,
  topic: string,
  partitions: ReadonlyArray<number>,
  edge: Edge
): Effect.Effect<Listed> =>
  Effect.gen(function*() {
    const offsets = new Map<number, number>()
    const epochs = new Map<number, number>()
    const failures = new Map<number, KafkaFailure>()
    const known = topics.known(topic)
    const epochOf = (partition: number): number => known?.epochs[partition] ?? -1
    yield* Effect.forEach(byLeader(known, partitions), ([leader, own]) =>
      leader < 0
        ? Effect.sync(() => own.forEach((partition) => failures.set(partition, noLeader)))
        : client.call(leader, role, "ListOffsets", {
          topic,
          uncommitted: edge === "written",
          partitions: own.map((partition) => ({
            partition,
            currentLeaderEpoch: epochOf(partition),
            timestamp: timestampOf(edge)
          }))
        }).pipe(Effect.match({
          onFailure: (error) => own.forEach((partition) => failures.set(partition, error)),
          onSuccess: ({ partitions }) => {
            for (const { errorCode, offset, partition } of partitions) {
              if (errorCode === 0) {
                offsets.set(partition, offset)
                epochs.set(partition, epochOf(partition))
              } else failures.set(partition, failure("ListOffsets", errorCode))
            }
            for (const partition of own) {
              if (!offsets.has(partition) && !failures.has(partition)) failures.set(partition, noAnswer)
            }
          }
        })), { concurrency: "unbounded", discard: true })
    // Leaders that are not known, or not any more, are asked for before this is tried again.
    if (failures.size > 0) yield* refreshed(topics, topic)
    return { offsets, epochs, failures }
  })

/** Of all partitions; fails where one of them has no answer. */
export const listAll = (
  ...args: Parameters<typeof list>
): Effect.Effect<ReadonlyMap<number, number>, KafkaFailure> =>
  Effect.flatMap(list(...args), ({ failures, offsets }) => {
    const [failure] = failures.values()
    return failure === undefined ? Effect.succeed(offsets) : Effect.fail(failure)
  })

const one = (edge: Edge) =>
(
  client: Client,
  topics: KafkaTopics,
  role: string,
  topic: string,
  partition: number
): Effect.Effect<number, KafkaFailure> =>
  Effect.flatMap(list(client, topics, role, topic, [partition], edge), ({ failures, offsets }) => {
    const offset = offsets.get(partition)
    return offset === undefined ? Effect.fail(failures.get(partition) ?? noLeader) : Effect.succeed(offset)
  })

/** The first offset of one partition. */
export const first = one("earliest")

/** Where the log of one partition ends, transactions that are open included. */
export const written = one("written")

export const noLeader = new KafkaFailure({
  type: "LEADER_NOT_AVAILABLE",
  sent: false,
  cause: "The partition has no leader"
})

const noAnswer = failure("ListOffsets", -1)

/** Looks who leads the partitions now. However that fails, the next request that needs the leaders tries again. */
export const refreshed = (topics: KafkaTopics, topic: string): Effect.Effect<void> =>
  Effect.suspend(() => topics.refresh(topic)).pipe(
    Effect.catchAllCause((error) =>
      Effect.annotateLogs(Effect.logDebug("Who leads the partitions can't be asked", error), { topic })
    )
  )

/** The last commit of a group. */
export interface Committed {
  readonly offset: number
  readonly text: string
  readonly metadata: Option.Option<CommitMetadata.CommitMetadata>
}

/** What the group has committed; partitions without a commit are left out. */
export const committed = (
  answer: ReadonlyArray<CommittedOffset>
): ReadonlyMap<number, Committed> =>
  new Map(
    answer.filter(({ offset }) => offset >= 0).map(({ metadata, offset, partition }) => [partition, {
      offset,
      text: metadata ?? "",
      metadata: CommitMetadata.decode(offset, metadata)
    }])
  )
