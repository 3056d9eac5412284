/**
 * The partitions that a subscription has: how one begins when the group gives
 * it, and ends when the group takes it or the group is lost.
 */
import type * as Observer from "@effect-eventbus/core/Observer"
import type { Consumer, Lane, SubscribeRequest } from "@effect-eventbus/core/Transport"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Settings } from "../KafkaConfig.js"
import { toInvalidConfiguration } from "../KafkaErrors.js"
import type { KafkaTopics } from "../KafkaTopics.js"
import type { Client } from "./Client.js"
import { reconnect } from "./Client.js"
import type { Committer } from "./Committer.js"
import * as CommitterModule from "./Committer.js"
import { KafkaFailure } from "./Failure.js"
import type { Fetcher } from "./Fetcher.js"
import * as FetcherModule from "./Fetcher.js"
import type { FetchPool } from "./FetchPool.js"
import type { CommitRequest } from "./GroupDriver.js"
import * as GroupDriver from "./GroupDriver.js"
import type { GroupLinks } from "./GroupLinks.js"
import { GroupLink } from "./GroupLinks.js"
import * as GroupPlan from "./GroupPlan.js"
import type { Lasting } from "./Lasting.js"
import { SAID_AFTER_MS } from "./Lasting.js"
import * as LogResets from "./LogResets.js"
import type { Membership, MembershipOptions } from "./Membership.js"
import * as MembershipModule from "./Membership.js"
import { MetadataRoom } from "./MetadataRoom.js"
import { monotonic } from "./monotonic.js"
import * as Offsets from "./Offsets.js"
import { Partition } from "./Partition.js"
import type { Start } from "./Starts.js"
import * as Starts from "./Starts.js"

export interface AssignmentsOptions {
  readonly client: Client
  /** Fetches for all subscriptions of the transport. */
  readonly pool: FetchPool
  /** The connections on which all groups of the transport commit. */
  readonly links: GroupLinks
  readonly topics: KafkaTopics
  readonly settings: Settings
  readonly observer: Observer.Service
  readonly request: SubscribeRequest
  readonly consumer: Consumer
  readonly group: string
  readonly id: string
  readonly lasting: Lasting
  /** Where another group has stopped. */
  readonly inherited: ReadonlyMap<number, Offsets.Committed>
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
  /** Whether no handler runs any more. The bus closes its lanes before, and goes on without handlers that can't be interrupted. */
  readonly areQuiet: Effect.Effect<boolean>
  /** Looks for partitions that were added to the topic. */
  readonly watch: Effect.Effect<never>
  /** The connections of its own. */
  readonly roles: ReadonlyArray<string>
}

/** What of it lasts, as its name where that is kept. */
const NOT_BEGUN = "begin"
/** How long a partition that begins waits at a time for what ran of it before. */
const ENDING_MS = 1_000
const stillEnding = new KafkaFailure({
  type: "STILL_ENDING",
  sent: false,
  cause: "What ran of the partition before has not ended yet"
})
/** Several assignments of a partition in one generation are told apart by their epochs. */
const EPOCHS_PER_GENERATION = 1_024

export const make = (options: AssignmentsOptions): Effect.Effect<Assignments, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { client, consumer, group, lasting, observer: { event }, request, settings, topics } = options
    const topic = request.topic.name
    const clock = yield* Effect.clock
    const now = monotonic(clock)
    const joinRole = `join-${options.id}`
    const link = new GroupLink(options.links, `group-${options.id}`)
    const partitions = new Map<number, Partition>()
    /** Until they are closed. */
    const lanes = new Map<Partition, { readonly lane: Lane; readonly closed: Deferred.Deferred<void> }>()
    /** What was finished and not confirmed when the group was lost: it need not be handled again. */
    const remembered = new Map<number, Partition>()
    /** What is to begin anew in another log, until it has: it may be that the group can't be told. */
    const restarts = new Map<number, Starts.Restart>()
    /** Begins what could not begin at once. */
    const late = yield* FiberHandle.make<void, KafkaFailure>()
    /** Others wait for what is let go, heartbeats go on meanwhile. */
    const drain = Math.min(Duration.toMillis(request.drainDeadline), settings.rebalanceTimeout / 2)
    /** What is about to be lost has to be over when the session is. */
    const lastDrain = Math.min(drain, settings.sessionTimeout / 2)
    let isStopped = false
    const epochs = new Map<number, number>()
    let hasLetGo = false
    let hasStood = false
    /** It has partitions, and none of them has begun, by the clock of deadlines. */
    let nothingSince: number | undefined
    /** For so long the first one is waited for; then the subscription stands without. */
    const lateAfter = Math.min(SAID_AFTER_MS, settings.subscribeTimeout / 2)

    // ---- beginning ----

    const room = new MetadataRoom()

    /** It rises with each assignment, also where the group begins to count anew, or nobody knows how far it had come. */
    const epochOf = (id: number, generation: number, committed: number | undefined): number =>
      Math.max(
        (epochs.get(id) ?? -1) + 1,
        generation * EPOCHS_PER_GENERATION,
        committed === undefined ? clock.unsafeCurrentTimeMillis() : committed + 1
      )

    const starts = Starts.make({
      client,
      topics,
      request,
      room,
      isShared: settings.groups === "shared",
      epochOf,
      wasOurs: (id) => epochs.has(id),
      membership: () => membership,
      remembered,
      restarts,
      known: topics.known(topic)?.leaders.length ?? 0,
      inherited: options.inherited
    })

    /** A partition has one lane at a time, also one that was lost and has come back; and none that may be another's. */
    const begin = (generation: number) => (start: Start, { epoch, request: mark }: Starts.Mark) =>
      Effect.zipRight(
        // Not for ever: the group may have something else to say meanwhile.
        Effect.timeoutFail(closedLanes(start.id), { duration: ENDING_MS, onTimeout: () => stillEnding }),
        Effect.suspend(() => {
          if (isStopped || partitions.has(start.id)) return Effect.void
          if (membership.generation() !== generation) return Effect.fail(Starts.generationIsOver)
          open(start, epoch, mark)
          fetcher.wake()
          return Effect.void
        })
      )

    /** Tells what can't begin to whoever says what lasts; while the subscription does not stand yet, that is said there. */
    const said = (ids: Iterable<number>, error: KafkaFailure | undefined): void => {
      if (error === undefined) return lasting.worked(NOT_BEGUN)
      if (!hasStood || error === Starts.generationIsOver) return
      const numbers = [...ids].sort((a, b) => a - b).join(", ")
      const why = toInvalidConfiguration(error)?.issues[0] ?? error.type
      lasting.failed(NOT_BEGUN, `Partition ${numbers} of ${topic} can't begin, and its messages wait: ${why}`, error)
    }

    const startEach = (ids: ReadonlyArray<number>, generation: number) =>
      starts.each(ids, generation, begin(generation)).pipe(
        Effect.tapBoth({
          onFailure: (error) => Effect.sync(() => said(ids, error)),
          onSuccess: (failures) => Effect.sync(() => said(failures.keys(), [...failures.values()][0]?.error))
        })
      )

    const start = Effect.fnUntraced(function*(ids: ReadonlyArray<number>, generation: number) {
      const failures = yield* startEach(ids, generation)
      if (failures.size === 0) return
      const hasNothing = partitions.size === 0 && !hasLetGo
      nothingSince = hasNothing ? nothingSince ?? now() : undefined
      // Whose leaders are all gone does not wait for them for ever.
      const isEarly = nothingSince !== undefined && now() - nothingSince < lateAfter
      const awaited = [...failures.values()].find(({ error, isNew }) =>
        (hasNothing && (isEarly || error.isOurs)) || error === Starts.generationIsOver ||
        toInvalidConfiguration(error) !== undefined ||
        // It would miss what is published from now on.
        (isNew && request.startFrom === "latest")
      )
      if (awaited !== undefined) return yield* awaited.error
      yield* Effect.logWarning("Partitions begin later: their leaders do not answer").pipe(
        Effect.annotateLogs({
          partitions: [...failures.keys()].join(","),
          why: [...failures.values()][0]!.error.message
        })
      )
      yield* FiberHandle.run(late, startLate([...failures.keys()], generation))
    })

    const startLate = (ids: ReadonlyArray<number>, generation: number) =>
      Effect.suspend(() => startEach(ids.filter((id) => !partitions.has(id)), generation)).pipe(
        Effect.flatMap((failures) => {
          const [failed] = failures.values()
          return failed === undefined || isStopped ? Effect.void : Effect.fail(failed.error)
        }),
        Effect.tapError((error) => Effect.logDebug("Partitions can't begin yet", error.message)),
        Effect.retry(reconnect)
      )

    const open = (start: Start, epoch: number, mark: CommitRequest): void => {
      nothingSince = undefined
      remembered.delete(start.id)
      restarts.delete(start.id)
      epochs.set(start.id, epoch)
      const partition = new Partition({
        topic,
        topicId: topics.known(topic)?.id,
        partition: start.id,
        epoch,
        start: start.offset,
        finished: start.finished,
        duplicatesBelow: start.duplicatesBelow,
        lineage: start.lineage,
        leaderEpoch: start.leaderEpoch,
        now: () => clock.unsafeCurrentTimeMillis(),
        maxAboveWatermark: request.maxAboveWatermark,
        maxUnfinished: request.maxUnfinished,
        commitMessages: settings.commitMessages,
        atMostOnce: request.semantics === "at-most-once",
        onRoom: () => fetcher.wake(),
        onChange: () => committer.changed(),
        onCommit: () => committer.notify(),
        isAlive: () => membership.isAlive(),
        settle: (...args) => committer.settle(...args)
      })
      partition.committed = mark
      const lane = consumer.assigned(partition.assignment)
      lanes.set(partition, { lane, closed: Deferred.unsafeMake(FiberId.none) })
      partitions.set(start.id, partition)
      partition.open(lane)
    }

    // ---- ending ----

    /** Offers nothing more, waits for what runs within the deadline, and drops the rest. A second time shortens the first. */
    const close = (gone: ReadonlyArray<Partition>, deadlineMs: number) =>
      Effect.forEach(gone, (partition) => {
        partition.stop()
        const held = lanes.get(partition)
        return held === undefined
          ? Effect.void
          : held.lane.close({ deadline: Duration.millis(deadlineMs), finishQueued: false }).pipe(
            Effect.tap(({ lost, unfinished }) =>
              Effect.logDebug("A partition was let go").pipe(
                Effect.annotateLogs({ partition: partition.id, lost, unfinished })
              )
            ),
            Effect.zipRight(Effect.suspend(() => {
              lanes.delete(partition)
              return Deferred.succeed(held.closed, undefined)
            }))
          )
      }, { concurrency: "unbounded", discard: true })

    /** Of all partitions, or of one: those of before that are still ending. */
    const closedLanes = (of?: number) =>
      Effect.suspend(() =>
        Effect.forEach(
          [...lanes].filter(([partition]) =>
            (of === undefined || partition.id === of) && partitions.get(partition.id) !== partition
          ),
          ([, { closed }]) => Deferred.await(closed),
          { discard: true }
        )
      )

    const forget = (gone: ReadonlyArray<Partition>): void => {
      for (const partition of gone) {
        partition.end()
        if (partitions.get(partition.id) === partition) partitions.delete(partition.id)
        fetcher.forget(partition)
      }
      committer.abandon(gone)
    }

    const letGo = Effect.fnUntraced(function*(gone: ReadonlyArray<Partition>) {
      yield* close(gone, drain)
      yield* committer.flush(gone, settings.closeTimeout)
      forget(gone)
    })

    const lost: MembershipOptions["lost"] = (why, leftMs) =>
      Effect.suspend(() => {
        const gone = [...partitions.values()]
        if (gone.length === 0) return Effect.void
        for (const partition of gone) {
          partition.stop()
          partitions.delete(partition.id)
          if (!partition.beginsAnew) remembered.set(partition.id, partition)
        }
        return Effect.logWarning(
          "The membership of the group was lost: handlers that run may end within the deadline, and no more begin until it is back"
        ).pipe(
          Effect.annotateLogs({ why, partitions: gone.map(({ id }) => id).join(",") }),
          Effect.zipRight(close(gone, Math.min(leftMs, lastDrain))),
          Effect.zipRight(Effect.sync(() => forget(gone)))
        )
      })

    const beginAgain: LogResets.LogResetsOptions["beginAgain"] = Effect.fnUntraced(function*(partition, again) {
      // It was lost meanwhile. Where it begins again, the same is found out again.
      if (partitions.get(partition.id) !== partition) return
      const generation = membership.generation()
      const next = typeof again === "function" ? again : () => again
      /** It may be that the group can't be told: until then what it has committed says less, or is of the log that is gone. */
      const keep = (): void => {
        const { metadata, offset } = partition.commit(false, undefined, room.bytes)
        const { committed = { offset, metadata: metadata.text } } = partition
        const says = restarts.get(partition.id)?.says ?? []
        restarts.set(partition.id, { start: next(), says: [...says, committed, { offset, metadata: metadata.text }] })
      }
      keep()
      // A member that gets the partition meanwhile begins there: the old log's committed offset means another message in the new log.
      committer.notify()
      // A lane that was closed by half would be nobody's. One that can't be closed is said by whoever waits for it.
      yield* close([partition], drain).pipe(
        Effect.ensuring(Effect.sync(() => {
          // What ran has finished more of it.
          if ((partitions.get(partition.id) ?? partition) === partition) keep()
          forget([partition])
        })),
        Effect.uninterruptible,
        Effect.zipRight(Effect.suspend(() => {
          const start = next()
          return Effect.flatMap(starts.mark(start, generation), (mark) => begin(generation)(start, mark))
        })),
        // Joining again finds that the partition is missing.
        Effect.tapErrorCause(() => Effect.sync(membership.rejoin))
      )
    })

    const resets = LogResets.make({ client, topics, topic, role: Offsets.ROLE, beginAgain })

    // ---- the group ----

    const plan = GroupPlan.make({
      topics,
      topic,
      isShared: settings.groups === "shared",
      intervalMs: settings.metadataMaxAge
    })

    let toldOf = -1
    /** Beginning a generation may be tried several times. */
    const rebalanced = (generation: number) => {
      if (generation === toldOf) return
      toldOf = generation
      event?.({ _tag: "Rebalanced", transport: "kafka", topic, group: request.group })
    }

    const apply = Effect.fnUntraced(function*(ids: ReadonlyArray<number>, generation: number) {
      plan.applied(generation)
      rebalanced(generation)
      // Before anything is committed in it: of what is uncertain from then on it says nothing.
      committer.renewed(generation)
      const gone = [...partitions.values()].filter(({ id }) => !ids.includes(id))
      if (gone.length > 0) {
        hasLetGo = true
        yield* letGo(gone)
      }
      yield* FiberHandle.clear(late)
      const added = ids.filter((id) => !partitions.has(id))
      if (added.length === 0) lasting.worked(NOT_BEGUN)
      else if (!isStopped) yield* start(added, generation)
      hasStood = true
      const answer = hasLetGo
      hasLetGo = false
      return answer
    })

    const instanceId = instanceOf(settings, topic)
    const membership: Membership = yield* MembershipModule.make({
      driver: GroupDriver.make({ client, group, instanceId, joinRole, link }),
      settings,
      lasting,
      topic,
      isStatic: instanceId !== undefined,
      fenceAfterMs: settings.sessionTimeout - lastDrain,
      owned: () => [...partitions.keys()],
      isRefusing: () => {
        for (const { isRefusing } of partitions.values()) if (isRefusing) return true
        return false
      },
      plan: plan.assign,
      apply,
      ended: Effect.asVoid(Effect.timeoutOption(closedLanes(), lastDrain)),
      lost
    })
    const committer: Committer = yield* CommitterModule.make({
      send: membership.commit,
      partitions,
      settings,
      lasting,
      room,
      onConfirmed: event === undefined ?
        undefined :
        ({ id, options: { epoch } }, position) =>
          event({ _tag: "Settled", topic, group: request.group, partition: id, epoch, position }),
      onUncertain: membership.renew
    })
    const fetcher: Fetcher = yield* FetcherModule.make({
      pool: options.pool,
      topics,
      settings,
      topic: request.topic,
      partitions,
      ...resets
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
      areQuiet: Effect.suspend(() =>
        Effect.forEach(lanes.values(), ({ lane }) => lane.close({ deadline: Duration.zero, finishQueued: false }), {
          concurrency: "unbounded",
          discard: true
        })
      ).pipe(
        Effect.disconnect,
        Effect.interruptible,
        Effect.timeoutOption(QUIET_WITHIN_MS),
        Effect.map(Option.isSome)
      ),
      watch,
      roles: [joinRole, link.own]
    }
  })

/** A lane in which no handler runs is closed at once. */
const QUIET_WITHIN_MS = 50

/** A group that all topics share has a member of this process for each of them. */
const instanceOf = ({ groupInstanceId, groups }: Settings, topic: string): string | undefined =>
  groupInstanceId === undefined || groups === "per-topic" ? groupInstanceId : `${groupInstanceId}.${topic}`
