/**
 * Fetches for one subscription: a loop for each broker that leads some of its
 * partitions. A partition whose lane is full is left out of the request, and so
 * holds up no other.
 */
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type { Settings } from "../KafkaConfig.js"
import type { KafkaTopics } from "../KafkaTopics.js"
import type { Client, KafkaFailure } from "./Client.js"
import { failure, unreadable } from "./Client.js"
import * as Offsets from "./Offsets.js"
import type { Partition } from "./Partition.js"
import type { FetchedPartition, FetchResponse } from "./records.js"
import { bytesOf, decodeRecords, MAX_FACTOR, tooLarge } from "./records.js"
import { Signal } from "./Signal.js"
import { errorType } from "./Wire.js"

export interface FetcherOptions {
  readonly client: Client
  readonly topics: KafkaTopics
  readonly settings: Settings
  readonly topic: string
  readonly role: string
  readonly partitions: ReadonlyMap<number, Partition>
  /** The log does not have the offset that was asked for. */
  readonly onOutOfRange: (partition: Partition) => Effect.Effect<void, KafkaFailure>
  /** The topic was deleted and made again. */
  readonly onRemade: (partition: Partition) => Effect.Effect<void, KafkaFailure>
}

export interface Fetcher {
  /** Something can be fetched that could not before. */
  readonly wake: () => void
  /** Fetches no more; when it has returned nothing is under way. */
  readonly stop: Effect.Effect<void>
}

const MAX_REST_MS = 1_000
/** So many times `fetchBytes` are held in all, also where partitions stand still. */
const MAX_HELD = 8

export const make = (options: FetcherOptions): Effect.Effect<Fetcher, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { client, partitions, settings, topic, topics } = options
    const loops = yield* FiberMap.make<number>()
    const run = yield* FiberMap.runtime(loops)<never>()
    const resting = yield* FiberSet.make()
    const fork = yield* FiberSet.runtime(resting)<never>()
    const signals = new Map<number, Signal>()
    let isStopped = false
    let turn = 0

    const leaderOf = (partition: Partition): number => topics.known(topic)?.leaders[partition.id] ?? -1

    const wake = (): void => {
      if (isStopped) return
      for (const partition of partitions.values()) {
        if (!partition.canFetch) continue
        const leader = leaderOf(partition)
        if (leader < 0) {
          rest(partition, Offsets.noLeader)
          continue
        }
        let signal = signals.get(leader)
        if (signal === undefined) {
          signals.set(leader, signal = new Signal())
          run(leader, loop(leader, signal))
        }
        signal.notify()
      }
    }

    const loop = (node: number, signal: Signal): Effect.Effect<void> =>
      Effect.gen(function*() {
        for (;;) {
          const ready = [...partitions.values()].filter((partition) =>
            partition.canFetch && leaderOf(partition) === node
          )
          const old = ready.filter(isOfTheFormer)
          if (ready.length === 0 || isFull()) yield* signal.wait
          else if (old.length > 0) { for (const partition of old) aside(partition, options.onRemade(partition)) }
          else yield* fetch(node, rotated(ready, turn++))
        }
      }).pipe(Effect.annotateLogs({ broker: node }))

    const isOfTheFormer = ({ options: { topicId } }: Partition): boolean => {
      const id = topics.known(topic)?.id
      return id !== undefined && topicId !== undefined && topicId !== id
    }

    /** What may take its time is done beside the loop, which goes on with the other partitions. */
    const aside = (partition: Partition, work: Effect.Effect<void, KafkaFailure>): void => {
      partition.resting = true
      fork(Effect.match(work, {
        onFailure: (error) => {
          partition.resting = false
          rest(partition, error)
        },
        onSuccess: () => {
          partition.resting = false
          wake()
        }
      }))
    }

    /** A partition that stands still, because an aggregate of it does, counts for its share only: others go on. */
    const isFull = (): boolean => {
      const share = settings.fetchBytes / (partitions.size + 1)
      let counted = 0
      let held = 0
      for (const { bufferedBytes, standsStill } of partitions.values()) {
        counted += standsStill ? Math.min(bufferedBytes, share) : bufferedBytes
        held += bufferedBytes
      }
      return counted >= settings.fetchBytes || held >= MAX_HELD * settings.fetchBytes
    }

    const fetch = (node: number, wanted: ReadonlyArray<Partition>): Effect.Effect<void> =>
      Effect.gen(function*() {
        const offsets = new Map(wanted.map((partition) => [partition, partition.fetchOffset]))
        const response = yield* client.call<FetchResponse>(node, options.role, "Fetch", {
          maxWaitTime: settings.fetchMaxWait,
          minBytes: 1,
          maxBytes: settings.fetchBytes,
          topics: [{
            topic,
            partitions: wanted.map((partition) => ({
              partition: partition.id,
              fetchOffset: partition.fetchOffset,
              maxBytes: bytesOf(settings.fetchPartitionBytes, partition.fetchFactor)
            }))
          }]
        }, settings.fetchMaxWait + settings.requestTimeout)
        if (response.errorCode !== 0) return yield* failure("Fetch", response.errorCode)
        for (const fetched of response.partitions) {
          const partition = partitions.get(fetched.partition)
          // Meanwhile it may have been taken away, and given again.
          if (partition === undefined || offsets.get(partition) !== partition.fetchOffset) continue
          yield* receive(partition, fetched)
        }
      }).pipe(
        Effect.catchAll((error) =>
          Effect.sync(() => {
            for (const partition of wanted) rest(partition, error)
          })
        ),
        // A mistake of ours, with one partition perhaps: it must not end the loop of all.
        Effect.catchAllDefect((defect) =>
          Effect.zipRight(
            Effect.logError("Fetching broke down", defect),
            Effect.sync(() => {
              for (const partition of wanted) rest(partition, unreadable(defect))
            })
          )
        )
      )

    const receive = (partition: Partition, fetched: FetchedPartition): Effect.Effect<void> => {
      if (fetched.errorCode !== 0) {
        return errorType(fetched.errorCode) === "OFFSET_OUT_OF_RANGE"
          ? Effect.sync(() => aside(partition, options.onOutOfRange(partition)))
          : Effect.sync(() => rest(partition, failure("Fetch", fetched.errorCode)))
      }
      if (fetched.records.length === 0) return Effect.void
      const from = partition.fetchOffset
      return Effect.tryPromise({
        try: () => decodeRecords(fetched, from, partition.options.duplicatesBelow, settings),
        catch: unreadable
      }).pipe(
        Effect.filterOrFail(
          ({ next }) => next > from || partition.fetchFactor < MAX_FACTOR,
          () => unreadable(tooLarge(topic, partition.id, from))
        ),
        // It may be that nothing that is tried again will help: somebody has to see it.
        Effect.tapError((error) =>
          Effect.logError("Records can't be read, and the partition stands still", error.message).pipe(
            Effect.annotateLogs({ topic, partition: partition.id, offset: from }),
            Effect.when(() => partition.failures % 60 === 0)
          )
        ),
        Effect.match({
          onFailure: (error) => rest(partition, error),
          onSuccess: (decoded) => {
            if (partition.fetchOffset !== from) return
            if (decoded.next === from) partition.fetchFactor *= 2
            else partition.accept(decoded)
          }
        })
      )
    }

    /** Waits, asks who leads the partition now, and goes on. */
    const rest = (partition: Partition, error: KafkaFailure): void => {
      if (partition.resting || isStopped) return
      partition.resting = true
      partition.failures++
      fork(
        Effect.logDebug("Fetching is tried again", error).pipe(
          Effect.when(() => partition.failures % 10 === 1),
          Effect.zipRight(Effect.sleep(Math.min(MAX_REST_MS, 50 * 2 ** Math.min(partition.failures, 6)))),
          Effect.zipRight(Offsets.refreshed(topics, topic)),
          Effect.zipRight(Effect.sync(() => {
            partition.resting = false
            wake()
          })),
          Effect.annotateLogs({ topic, partition: partition.id })
        )
      )
    }

    return {
      wake,
      stop: Effect.suspend(() => {
        isStopped = true
        return Effect.zipRight(FiberMap.clear(loops), FiberSet.clear(resting))
      })
    }
  })

/** Brokers fill a response in the order of the request: each partition is first in turn. */
const rotated = (ready: ReadonlyArray<Partition>, turn: number): ReadonlyArray<Partition> => {
  const first = turn % ready.length
  return [...ready.slice(first), ...ready.slice(0, first)]
}
