/**
 * The partitions that a subscription has: how one begins when the group gives
 * it, and ends when the group takes it or the group is lost.
 */
import type { Consumer, SubscribeRequest } from "@effect-eventbus/core/Transport"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as CommitMetadata from "../CommitMetadata.js"
import type { Settings } from "../KafkaConfig.js"
import type { KafkaTopics } from "../KafkaTopics.js"
import type { Client } from "./Client.js"
import { failure } from "./Client.js"
import type { CommitRequest, Committer } from "./Committer.js"
import * as CommitterModule from "./Committer.js"
import type { Fetcher } from "./Fetcher.js"
import * as FetcherModule from "./Fetcher.js"
import * as GroupPlan from "./GroupPlan.js"
import type { Membership, MembershipOptions } from "./Membership.js"
import * as MembershipModule from "./Membership.js"
import * as Offsets from "./Offsets.js"
import { Partition } from "./Partition.js"

export interface AssignmentsOptions {
  readonly client: Client
  readonly topics: KafkaTopics
  readonly settings: Settings
  readonly request: SubscribeRequest
  readonly consumer: Consumer
  readonly group: string
  readonly id: string
}

export interface Assignments {
  readonly membership: Membership
  readonly committer: Committer
  readonly fetcher: Fetcher
  readonly all: () => ReadonlyArray<Partition>
  /** Offers nothing more, and takes no new partitions. */
  readonly stop: Effect.Effect<void>
  /** What comes from now on does nothing. */
  readonly end: () => void
  /** Looks for partitions that were added to the topic. */
  readonly watch: Effect.Effect<never>
  /** The connections of its own. */
  readonly roles: ReadonlyArray<string>
}

/** Where a partition begins, and what is known of it. */
interface Start {
  readonly id: number
  readonly offset: number
  readonly finished: ReadonlyArray<readonly [from: number, to: number]>
  readonly duplicatesBelow: number
}

/** Several assignments of a partition in one generation are told apart by their epochs. */
const EPOCHS_PER_GENERATION = 1_024

export const make = (options: AssignmentsOptions): Effect.Effect<Assignments, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { client, consumer, group, request, settings, topics } = options
    const topic = request.topic.name
    const fetchRole = `fetch-${options.id}`
    const partitions = new Map<number, Partition>()
    const lanes = new Map<Partition, ReturnType<Consumer["assigned"]>>()
    /** What was finished and not confirmed when the group was lost: it need not be handled again. */
    const remembered = new Map<number, Partition>()
    const closing = yield* Effect.makeSemaphore(1)
    /** Others wait for what is let go, heartbeats go on meanwhile. */
    const drain = Math.min(Duration.toMillis(request.drainDeadline), settings.rebalanceTimeout / 2)
    /** What is about to be lost has to be over when the session is. */
    const lastDrain = Math.min(drain, settings.sessionTimeout / 2)
    let isStopped = false
    /** The partitions that there were when the subscription began. */
    const known = topics.known(topic)?.leaders.length ?? 0
    const epochs = new Map<number, number>()
    let hasLetGo = false

    // ---- beginning ----

    const start = Effect.fnUntraced(function*(ids: ReadonlyArray<number>, generation: number) {
      const starts = yield* startsOf(ids)
      const marks = yield* markTaken(starts)
      // A partition has one lane at a time, also one that was lost and has come back.
      yield* closing.withPermits(1)(Effect.void)
      if (isStopped) return
      starts.forEach((start, i) => open(start, generation, marks[i]!))
      fetcher.wake()
    })

    const startsOf = Effect.fnUntraced(function*(ids: ReadonlyArray<number>) {
      const committed = yield* Offsets.committed(membership.ask, group, topic, ids)
      const isNew = (id: number) => !committed.has(id)
      const ends = yield* Offsets.list(client, topics, fetchRole, topic, ids, "latest")
      const begins = yield* beginsOf(ids.filter(isNew), ends)
      return ids.map((id): Start => {
        const commit = committed.get(id)
        if (commit === undefined) return { id, offset: begins.get(id)!, finished: [], duplicatesBelow: 0 }
        const { clean, finished } = Option.getOrElse(commit.metadata, () => ({ clean: false, finished: [] }))
        const former = remembered.get(id)
        const isOurs = former?.committed?.offset === commit.offset && former.committed.metadata === commit.text
        return {
          id,
          offset: isOurs ? former.tracker.watermark : commit.offset,
          finished: isOurs ? former.tracker.finishedAbove() : finished,
          duplicatesBelow: clean && !isOurs
            ? 0
            : Math.min(ends.get(id)!, commit.offset + request.maxAboveWatermark + request.maxUnfinished)
        }
      })
    })

    /** Where the group begins in partitions that it has never been in. */
    const beginsOf = Effect.fnUntraced(function*(ids: ReadonlyArray<number>, ends: ReadonlyMap<number, number>) {
      const { startFrom } = request
      const list = (edge: Offsets.Edge, of = ids) => Offsets.list(client, topics, fetchRole, topic, of, edge)
      if (startFrom === "earliest") return yield* list("earliest")
      // What was added meanwhile is new from its beginning on.
      const added = yield* list("earliest", ids.filter((id) => id >= known))
      if (startFrom === "latest") return new Map([...ends, ...added])
      if ("time" in startFrom) {
        const found = yield* list(startFrom)
        return new Map(ids.map((id) => [id, found.get(id)! < 0 ? ends.get(id)! : found.get(id)!]))
      }
      const first = yield* list("earliest")
      return new Map(ids.map((id) => {
        const wanted = startFrom.offsets[id] ?? first.get(id)!
        return [id, Math.min(ends.get(id)!, Math.max(first.get(id)!, wanted))]
      }))
    })

    /** Says, before anything is handled, that the partition is in use; and fixes where a new group began. */
    const markTaken = Effect.fnUntraced(function*(starts: ReadonlyArray<Start>) {
      const marks = starts.map(({ finished, id, offset }) => ({
        partition: id,
        offset,
        metadata: CommitMetadata.encode(offset, { clean: false, finished }).text
      }))
      const codes = yield* membership.commit(marks)
      for (const { id } of starts) {
        const code = codes.get(id)
        if (code !== 0) return yield* failure("OffsetCommit", code ?? -1)
      }
      return marks
    })

    const open = (start: Start, generation: number, mark: CommitRequest): void => {
      remembered.delete(start.id)
      const epoch = Math.max((epochs.get(start.id) ?? -1) + 1, generation * EPOCHS_PER_GENERATION)
      epochs.set(start.id, epoch)
      const partition = new Partition({
        topic,
        topicId: topics.known(topic)?.id,
        partition: start.id,
        epoch,
        start: start.offset,
        finished: start.finished,
        duplicatesBelow: start.duplicatesBelow,
        maxAboveWatermark: request.maxAboveWatermark,
        commitMessages: settings.commitMessages,
        atMostOnce: request.semantics === "at-most-once",
        onRoom: () => fetcher.wake(),
        onCommit: () => committer.notify(),
        settle: (...args) => committer.settle(...args)
      })
      partition.committed = mark
      const lane = consumer.assigned(partition.assignment)
      lanes.set(partition, lane)
      partitions.set(start.id, partition)
      partition.open(lane)
    }

    // ---- ending ----

    /** Offers nothing more, waits for what runs within the deadline, and drops the rest. */
    const close = (gone: ReadonlyArray<Partition>, deadlineMs: number) =>
      Effect.forEach(gone, (partition) => {
        partition.stop()
        const lane = lanes.get(partition)
        lanes.delete(partition)
        return lane === undefined
          ? Effect.void
          : lane.close({ deadline: Duration.millis(deadlineMs), finishQueued: false }).pipe(
            Effect.tap(({ lost, unfinished }) =>
              Effect.logDebug("A partition was let go").pipe(
                Effect.annotateLogs({ partition: partition.id, lost, unfinished })
              )
            )
          )
      }, { concurrency: "unbounded", discard: true }).pipe(closing.withPermits(1))

    const forget = (gone: ReadonlyArray<Partition>): void => {
      for (const partition of gone) {
        partition.end()
        if (partitions.get(partition.id) === partition) partitions.delete(partition.id)
      }
      committer.abandon(gone)
    }

    const letGo = Effect.fnUntraced(function*(gone: ReadonlyArray<Partition>) {
      yield* close(gone, drain)
      yield* committer.flush(gone, settings.closeTimeout)
      forget(gone)
    })

    const lost: MembershipOptions["lost"] = (why, isOver) =>
      Effect.suspend(() => {
        const gone = [...partitions.values()]
        if (gone.length === 0) return Effect.void
        for (const partition of gone) {
          partition.stop()
          partitions.delete(partition.id)
          remembered.set(partition.id, partition)
        }
        return Effect.logWarning("The group was lost; what is running is finished or interrupted").pipe(
          Effect.annotateLogs({ why, partitions: gone.map(({ id }) => id).join(",") }),
          Effect.zipRight(close(gone, isOver ? 0 : lastDrain)),
          Effect.zipRight(Effect.sync(() => forget(gone)))
        )
      })

    /** The log was cut off, at its beginning by retention, or at its end because the topic was made anew. */
    const onOutOfRange = Effect.fnUntraced(function*(partition: Partition) {
      const first = (yield* Offsets.list(client, topics, fetchRole, topic, [partition.id], "earliest")).get(
        partition.id
      )!
      if (first > partition.fetchOffset) {
        yield* Effect.logWarning("Messages were deleted from the topic before they were read").pipe(
          Effect.annotateLogs({ partition: partition.id, from: partition.fetchOffset, to: first })
        )
        partition.skipTo(first)
        return
      }
      yield* Effect.logWarning("The topic is shorter than what was read of it; reading begins anew").pipe(
        Effect.annotateLogs({ partition: partition.id, from: partition.fetchOffset, to: first })
      )
      yield* beginAnew(partition, first)
    })

    const onRemade = Effect.fnUntraced(function*(partition: Partition) {
      const [[, first] = [0, 0]] = yield* Offsets.list(client, topics, fetchRole, topic, [partition.id], "earliest")
      yield* Effect.logWarning("The topic was deleted and made again; reading begins anew").pipe(
        Effect.annotateLogs({ partition: partition.id, from: partition.fetchOffset, to: first })
      )
      yield* beginAnew(partition, first)
    })

    const beginAnew = Effect.fnUntraced(function*(partition: Partition, first: number) {
      yield* close([partition], drain)
      forget([partition])
      const start: Start = { id: partition.id, offset: first, finished: [], duplicatesBelow: 0 }
      // Where this fails, joining again finds that the partition is missing.
      const [mark] = yield* Effect.tapError(markTaken([start]), () => Effect.sync(membership.rejoin))
      if (isStopped || partitions.has(start.id)) return
      open(start, 0, mark!)
      fetcher.wake()
    })

    // ---- the group ----

    const plan = GroupPlan.make({
      topics,
      topic,
      isShared: settings.groups === "shared",
      intervalMs: settings.metadataMaxAge
    })

    const apply = Effect.fnUntraced(function*(ids: ReadonlyArray<number>, generation: number) {
      plan.applied(generation)
      const gone = [...partitions.values()].filter(({ id }) => !ids.includes(id))
      if (gone.length > 0) {
        hasLetGo = true
        yield* letGo(gone)
      }
      committer.renewed()
      const added = ids.filter((id) => !partitions.has(id))
      if (added.length > 0 && !isStopped) yield* start(added, generation)
      const answer = hasLetGo
      hasLetGo = false
      return answer
    })

    const membership: Membership = yield* MembershipModule.make({
      client,
      settings,
      group,
      topic,
      id: options.id,
      fenceAfterMs: settings.sessionTimeout - lastDrain,
      owned: () => [...partitions.keys()],
      plan: plan.assign,
      apply,
      lost
    })
    const committer: Committer = yield* CommitterModule.make(
      membership.commit,
      partitions,
      settings,
      membership.renew
    )
    const fetcher: Fetcher = yield* FetcherModule.make({
      client,
      topics,
      settings,
      topic,
      role: fetchRole,
      partitions,
      onOutOfRange,
      onRemade
    })

    const watch = plan.isOutdated.pipe(
      Effect.map((isOutdated) => {
        if (isOutdated) membership.rejoin()
        fetcher.wake()
      }),
      Effect.forever
    )

    return {
      membership,
      committer,
      fetcher,
      all: () => [...partitions.values()],
      stop: Effect.suspend(() => {
        isStopped = true
        return Effect.zipRight(
          fetcher.stop,
          Effect.sync(() => {
            for (const partition of partitions.values()) partition.stop()
          })
        )
      }),
      end: () => forget([...partitions.values()]),
      watch,
      roles: [fetchRole, `join-${options.id}`]
    }
  })
