/**
 * What one subscription wants fetched, and what becomes of what is fetched. A
 * partition whose lane is full wants nothing, and so holds up no other.
 */
import type { Problem, TopicSpec } from "@effect-eventbus/core/Transport"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type { Settings } from "../KafkaConfig.js"
import type { KafkaTopics } from "../KafkaTopics.js"
import { backoff } from "./backoff.js"
import * as ErrorCode from "./ErrorCode.js"
import { failure, KafkaFailure } from "./Failure.js"
import type { Fetched } from "./Fetched.js"
import type { FetchPool, Member } from "./FetchPool.js"
import * as FetchTroubles from "./FetchTroubles.js"
import { monotonic } from "./monotonic.js"
import * as Offsets from "./Offsets.js"
import type { Partition } from "./Partition.js"
import { ReadReplicas } from "./ReadReplicas.js"
import { decodeRecords, MAX_FACTOR, tooLarge, unreadable, UnreadableBatch } from "./records.js"
import type { FetchedPartition } from "./records.js"
import * as Unpackable from "./Unpackable.js"

export interface FetcherOptions {
  readonly pool: FetchPool
  readonly topics: KafkaTopics
  readonly settings: Settings
  readonly topic: Pick<TopicSpec, "kind" | "name">
  readonly partitions: ReadonlyMap<number, Partition>
  /** The log does not have the offset that was asked for. */
  readonly onOutOfRange: (partition: Partition) => Effect.Effect<void, KafkaFailure>
  /** The topic was deleted and made again. */
  readonly onRemade: (partition: Partition) => Effect.Effect<void, KafkaFailure>
  /** Another leader leads the partition, that may not have all of what was read. */
  readonly onNewLeader: (partition: Partition) => Effect.Effect<void, KafkaFailure>
}

export interface Fetcher {
  /** Something can be fetched that could not before. */
  readonly wake: () => void
  /** Fetches no more; when it has returned nothing is under way. */
  readonly stop: Effect.Effect<void>
  /** A partition is not fetched from any more. */
  readonly forget: (partition: Partition) => void
  /** What can't be fetched now. */
  readonly problems: () => ReadonlyArray<Problem>
}

/** So many times `fetchBytes` are held in all, also where partitions stand still. */
const MAX_HELD = 8
const REDIRECT_TICK = "5 millis"
/** Of failures in a row that nobody may be able to mend, the first is said, and then one in so many. */
const SAID_EVERY = 60

const mistake = (cause: Cause.Cause<never>): KafkaFailure =>
  new KafkaFailure({ type: "Client", sent: false, cause: Cause.squash(cause) })

export const make = (options: FetcherOptions): Effect.Effect<Fetcher, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { partitions, pool, settings, topics } = options
    const topic = options.topic.name
    const resting = yield* FiberSet.make()
    const fork = yield* FiberSet.runtime(resting)<never>()
    const troubles = yield* FetchTroubles.make(topic)
    let isStopped = false

    const replicas = new ReadReplicas(monotonic(yield* Effect.clock), settings.metadataMaxAge)

    const nodeOf = (partition: Partition): number =>
      replicas.nodeOf(partition, topics.known(topic)?.leaders[partition.id] ?? -1)

    const wake = (): void => {
      if (isStopped) return
      const nodes = new Set<number>()
      for (const partition of partitions.values()) {
        if (!partition.canFetch) continue
        const node = nodeOf(partition)
        if (node < 0) rest(partition, Offsets.noLeader)
        else nodes.add(node)
      }
      for (const node of nodes) membership.wake(node)
    }

    const ready = (node: number): ReadonlyArray<Partition> => {
      if (isStopped || isFull()) return []
      const found: Array<Partition> = []
      const known = topics.known(topic)
      for (const partition of partitions.values()) {
        if (!partition.canFetch || known === undefined || nodeOf(partition) !== node) continue
        if (isOfTheFormer(partition)) aside(partition, options.onRemade(partition))
        else if (known.epochs[partition.id] !== partition.leaderEpoch) aside(partition, options.onNewLeader(partition))
        else found.push(partition)
      }
      return found
    }

    const isOfTheFormer = ({ options: { topicId } }: Partition): boolean => {
      const id = topics.known(topic)?.id
      return id !== undefined && topicId !== undefined && topicId !== id
    }

    /**
     * What may take its time is done beside the loop, which goes on with the other partitions. However it ends, the partition
     * does not rest for ever.
     */
    const aside = (partition: Partition, work: Effect.Effect<void, KafkaFailure>): void => {
      partition.resting = true
      fork(Effect.matchCauseEffect(Effect.suspend(() => work), {
        onFailure: (cause) =>
          Effect.suspend(() => {
            const failed = Cause.failureOrCause(cause)
            const isNews = Either.isRight(failed) && partition.failures % SAID_EVERY === 0
            partition.resting = false
            rest(partition, Either.match(failed, { onLeft: (error) => error, onRight: mistake }))
            return isNews ? saidMistake(partition, cause) : Effect.void
          }),
        onSuccess: () =>
          Effect.sync(() => {
            partition.resting = false
            wake()
          })
      }))
    }

    const saidMistake = ({ fetchOffset, id }: Partition, cause: Cause.Cause<unknown>): Effect.Effect<void> =>
      Effect.annotateLogs(
        Effect.logError("What has become of a partition's log can't be found out because of a mistake here", cause),
        { topic, partition: id, offset: fetchOffset }
      )

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

    const received = (partition: Partition, fetched: FetchedPartition): void => {
      if (isStopped || partitions.get(partition.id) !== partition) return
      if (fetched.errorCode !== 0) {
        // A replica may not have it yet, or still; its leader knows.
        return ErrorCode.nameOf(fetched.errorCode) === "OFFSET_OUT_OF_RANGE" && !replicas.has(partition)
          ? aside(partition, options.onOutOfRange(partition))
          : rest(partition, failure("Fetch", fetched.errorCode))
      }
      const { readReplica = -1 } = fetched
      if (readReplica >= 0) {
        replicas.name(partition, readReplica)
        return elsewhere(partition)
      }
      partition.logEnd = fetched.highWatermark
      if (fetched.records.length === 0) return
      const from = partition.fetchOffset
      try {
        const decoded = decodeRecords(fetched, from, partition.options.duplicatesBelow, settings)
        if (decoded instanceof Promise) unpack(partition, from, decoded)
        else accept(partition, from, decoded)
      } catch (error) {
        failed(partition, from, error)
      }
    }

    /** Another broker is to be asked, as soon as this request is over. */
    const elsewhere = (partition: Partition): void => {
      const free: Effect.Effect<void> = Effect.suspend(() =>
        partition.isAsked ? Effect.delay(free, REDIRECT_TICK) : Effect.sync(wake)
      )
      fork(free)
    }

    /** Beside the loop, which goes on with the other partitions. */
    const unpack = (partition: Partition, from: number, decoding: Promise<Fetched>): void => {
      partition.isUnpacking = true
      fork(
        Effect.tryPromise({ try: () => decoding, catch: (error) => error }).pipe(
          Unpackable.inTime,
          Effect.ensuring(Effect.sync(() => {
            partition.isUnpacking = false
          })),
          Effect.match({
            onFailure: (error) => failed(partition, from, error),
            onSuccess: (decoded) => {
              try {
                accept(partition, from, decoded)
              } catch (error) {
                failed(partition, from, error)
              }
            }
          }),
          Effect.zipRight(Effect.sync(wake))
        )
      )
    }

    const accept = (partition: Partition, from: number, decoded: Fetched): void => {
      if (isStopped || partition.fetchOffset !== from) return
      if (decoded.next > from) partition.accept(decoded)
      else if (partition.fetchFactor >= MAX_FACTOR) throw tooLarge(topic, partition.id, from)
      else partition.fetchFactor *= 2
    }

    const failed = (partition: Partition, from: number, error: unknown): void => {
      if (error instanceof UnreadableBatch) {
        fork(Unpackable.said(error, options.topic, partition.id, from))
        const { duplicatesBelow } = partition.options
        return accept(partition, from, Unpackable.instead(error, options.topic, partition.id, from, duplicatesBelow))
      }
      const cause = unreadable(error)
      if (partition.failures % SAID_EVERY === 0) {
        // It may be that nothing that is tried again will help: somebody has to see it.
        fork(
          Effect.logError("Records can't be read, and the partition stands still", cause.message).pipe(
            Effect.annotateLogs({ topic, partition: partition.id, offset: from })
          )
        )
      }
      rest(partition, cause)
    }

    /** Waits, asks who leads the partition now, and goes on. */
    const rest = (partition: Partition, error: KafkaFailure): void => {
      if (partition.resting || isStopped) return
      partition.resting = true
      partition.failures++
      replicas.forget(partition)
      if (partitions.get(partition.id) === partition) troubles.failed(partition.id, error)
      fork(
        Effect.logDebug("Fetching is tried again", error.message).pipe(
          Effect.when(() => partition.failures % 10 === 1),
          Effect.zipRight(Effect.sleep(backoff(partition.failures))),
          Effect.zipRight(Offsets.refreshed(topics, topic)),
          Effect.zipRight(Effect.sync(() => {
            partition.resting = false
            wake()
          })),
          Effect.annotateLogs({ topic, partition: partition.id })
        )
      )
    }

    const member: Member = {
      topic,
      ready,
      received,
      worked: (all) => {
        for (const partition of all) {
          // What can't be read was fetched all right.
          if (partition.resting || partition.isUnpacking) continue
          partition.failures = 0
          if (replicas.isOver(partition)) {
            replicas.forget(partition)
            elsewhere(partition)
          }
          troubles.over(partition.id)
        }
      },
      failed: (all, error) => {
        for (const partition of all) rest(partition, error)
      }
    }
    const membership = pool.join(member)
    yield* Effect.addFinalizer(() => membership.leave)

    return {
      wake,
      stop: Effect.suspend(() => {
        isStopped = true
        return Effect.zipRight(membership.leave, FiberSet.clear(resting))
      }),
      forget: (partition) => {
        if (!partitions.has(partition.id)) troubles.over(partition.id)
        // Others may have waited for its room.
        wake()
      },
      problems: troubles.problems
    }
  })
