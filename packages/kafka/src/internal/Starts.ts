/**
 * Where the partitions begin that the group has given: at its last commit, or
 * where the subscription says. Those of one broker need nothing of another's, so
 * a leader that is missing or silent holds up its own partitions only.
 */
import type { SubscribeRequest } from "@effect-eventbus/core/Transport"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as CommitMetadata from "../CommitMetadata.js"
import type { KafkaTopics } from "../KafkaTopics.js"
import type { Client } from "./Client.js"
import * as ErrorCode from "./ErrorCode.js"
import { failure, KafkaFailure } from "./Failure.js"
import type { CommitRequest } from "./GroupDriver.js"
import { Lineage } from "./Lineage.js"
import type { Membership } from "./Membership.js"
import type { MetadataRoom } from "./MetadataRoom.js"
import { isTooLarge } from "./MetadataRoom.js"
import * as Offsets from "./Offsets.js"
import type { Partition } from "./Partition.js"
import { below, topOf } from "./ranges.js"
import * as Truncation from "./Truncation.js"

/** Where a partition begins, and what is known of it. */
export interface Start {
  readonly id: number
  readonly offset: number
  readonly finished: ReadonlyArray<readonly [from: number, to: number]>
  readonly duplicatesBelow: number
  /** Under which leaders the messages below `offset`, and those that are finished above it, were written. */
  readonly lineage: Lineage
  /** The leader that has them; −1 where the broker does not know of epochs. */
  readonly leaderEpoch: number
  /** The epoch of the assignment that committed last, as far as anybody has said. */
  readonly committedEpoch?: number | undefined
}

/** What says that a partition is in use, and in which epoch. */
export interface Mark {
  readonly request: CommitRequest
  readonly epoch: number
}

/** A partition that is to begin again, because its log is another one. */
export interface Restart {
  readonly start: Start
  /** What the group has committed of it as long as nobody else has had it. */
  readonly says: Array<{ readonly offset: number; readonly metadata: string }>
}

/** Of what has been committed, or may have been: what there was before it was to begin again, and the last that was tried. */
const FIRST_SAYS = 2
const MAX_SAYS = 10

export interface StartsOptions {
  readonly client: Client
  readonly topics: KafkaTopics
  readonly request: SubscribeRequest
  readonly room: MetadataRoom
  /** Whether other topics have the same group. */
  readonly isShared: boolean
  /** The epoch of the next assignment of a partition. */
  readonly epochOf: (id: number, generation: number, committed: number | undefined) => number
  /** This subscription has had the partition before. */
  readonly wasOurs: (id: number) => boolean
  readonly membership: () => Membership
  /** What was finished and not confirmed when the group was lost: it need not be handled again. */
  readonly remembered: ReadonlyMap<number, Partition>
  /** What could not begin again yet: where the group could not be told, its commit is of the log that is gone. */
  readonly restarts: ReadonlyMap<number, Restart>
  /** How many partitions there were when the subscription began. */
  readonly known: number
  /** Where another group has stopped: as if it were a commit of this one, where there is none. */
  readonly inherited: ReadonlyMap<number, Offsets.Committed>
}

/** Why partitions have not begun. */
export interface Failures extends ReadonlyMap<number, Failed> {}

export interface Failed {
  readonly error: KafkaFailure
  /** The group has never been in it. */
  readonly isNew: boolean
}

export interface Starts {
  /** Finds out where the partitions begin, marks them as taken, and begins each as soon as that is done. */
  readonly each: (
    ids: ReadonlyArray<number>,
    generation: number,
    begin: (start: Start, mark: Mark) => Effect.Effect<void, KafkaFailure>
  ) => Effect.Effect<Failures, KafkaFailure>
  /** Says, before anything is handled, that a partition is in use; and fixes where a new group began. */
  readonly mark: (start: Start, generation: number) => Effect.Effect<Mark, KafkaFailure>
}

/** The group may have given the partitions to others. */
export const generationIsOver = new KafkaFailure({
  type: "REBALANCE_IN_PROGRESS",
  sent: false,
  cause: "The group was lost meanwhile"
})

export const make = (options: StartsOptions): Starts => {
  const { client, known, remembered, request, topics } = options
  const topic = request.topic.name
  const list = (ids: ReadonlyArray<number>, edge: Offsets.Edge) =>
    Offsets.list(client, topics, Offsets.ROLE, topic, ids, edge)

  /** Those that had no position when they were first looked at, and need have none. */
  const isNew = new Set<number>()

  /**
   * Whether the group has been in a partition, though it has no position there: the offsets were deleted, or expired. Partitions that
   * were added meanwhile have none either; those that were added while nobody of the group ran can't be told from these.
   */
  const isMissing = (id: number, committed: ReadonlyMap<number, Offsets.Committed>): boolean => {
    if (options.wasOurs(id)) return true
    if (isNew.has(id) || id >= known || options.membership().isNew()) return false
    // A group that other topics have, too, may be older than what this one has to do with it.
    const hasHistory = committed.size > 0 || !options.isShared
    if (!hasHistory) isNew.add(id)
    return hasHistory
  }

  /** All that is there may have been handled before. */
  const missing = (id: number, offset: number, end: number) =>
    Effect.annotateLogs(
      Effect.logWarning(
        "The group has been here before, and has no position in this partition: its offsets were deleted or expired, or the " +
          "partition is new. Reading begins where the subscription says (startFrom): what is below is passed over, and what was " +
          "there before is marked as possible duplicates"
      ),
      { topic, partition: id, from: offset, end }
    )

  /** Of the partitions of one leader. */
  const startsOf = Effect.fnUntraced(function*(
    ids: ReadonlyArray<number>,
    committed: ReadonlyMap<number, Offsets.Committed>
  ) {
    const ends = yield* list(ids, "latest")
    // What this member has had was committed, and where that is gone, the other group's word is too old.
    const commitOf = (id: number) => committed.get(id) ?? (options.wasOurs(id) ? undefined : options.inherited.get(id))
    const begins = yield* beginsOf([...ends.offsets.keys()].filter((id) => commitOf(id) === undefined), ends.offsets)
    const starts: Array<Start> = []
    const failures = new Map([...ends.failures, ...begins.failures])
    for (const id of ids) {
      const end = ends.offsets.get(id)
      const leaderEpoch = ends.epochs.get(id) ?? -1
      const commit = commitOf(id)
      const begin = begins.offsets.get(id)
      if (end === undefined) continue
      if (commit !== undefined) {
        const start = yield* Effect.either(checked(id, commit, end, leaderEpoch))
        if (Either.isRight(start)) starts.push({ ...start.right, committedEpoch: metadataOf(commit).epoch })
        else failures.set(id, start.left)
      } else if (begin !== undefined) {
        const lineage = new Lineage(leaderEpoch)
        const isSuspect = isMissing(id, committed)
        if (isSuspect) yield* missing(id, begin, end)
        starts.push({ id, offset: begin, finished: [], duplicatesBelow: isSuspect ? end : 0, lineage, leaderEpoch })
      }
    }
    return { starts, failures }
  })

  /** Where nobody says that the log is another one, or shorter, it is the one that was committed of. */
  const checked = Effect.fnUntraced(function*(id: number, commit: Offsets.Committed, end: number, leaderEpoch: number) {
    if (yield* isOfAnother(metadataOf(commit).topicId)) return yield* remade(id, commit, leaderEpoch)
    const again = restartOf(id, commit)
    if (again !== undefined) return again
    const start = afterCommit(id, commit, end, leaderEpoch)
    // What is finished above the commit may be gone as well, and others have taken its place.
    const position = topOf(start.offset, start.finished)
    const lineage = ours(id, commit)?.options.lineage ?? new Lineage(metadataOf(commit).leaderEpoch ?? -1)
    const epoch = lineage.before(position)
    if (position <= end && (epoch < 0 || epoch === leaderEpoch)) return start
    const answer = yield* Truncation.find(client, topics, Offsets.ROLE, topic, { partition: id, position, lineage })
    const cutAt = answer === Truncation.unknown ? undefined : answer.cutAt
    if (cutAt !== undefined) return yield* afterCut(start, position, mayBeKnown(commit), cutAt)
    if (position <= end) return start
    // Whoever reads what is not committed can have passed transactions that are open.
    const written = yield* Offsets.written(client, topics, Offsets.ROLE, topic, id)
    return position <= written
      ? afterCommit(id, commit, written, leaderEpoch)
      : yield* beyond(id, commit, end, leaderEpoch)
  })

  /** What is known of the topic may be older than the commit. */
  const isOfAnother = (topicId: string | undefined) =>
    Effect.suspend(() => {
      const differs = () => {
        const id = topics.known(topic)?.id
        return topicId !== undefined && id !== undefined && id !== topicId
      }
      return differs() ? Effect.map(topics.refresh(topic), differs) : Effect.succeed(false)
    })

  const remade = Effect.fnUntraced(function*(id: number, commit: Offsets.Committed, leaderEpoch: number) {
    const offset = yield* Offsets.first(client, topics, Offsets.ROLE, topic, id)
    yield* warn(
      "What the group has committed is of a topic that was deleted, and this one has its name; reading begins anew",
      id,
      commit.offset,
      offset
    )
    return { id, offset, finished: [], duplicatesBelow: 0, lineage: new Lineage(leaderEpoch), leaderEpoch }
  })

  /** What is marked may go beyond the commit: what was in hand when nobody could commit it any more. */
  const mayBeKnown = ({ metadata, offset }: Offsets.Committed): number =>
    Option.exists(metadata, ({ clean }) => clean) ? offset : offset + request.maxAboveWatermark + request.maxUnfinished

  const warn = (message: string, partition: number, from: number, to: number) =>
    Effect.annotateLogs(Effect.logWarning(message), { topic, partition, from, to })

  /** What is finished below the cut stays so. */
  const afterCut = (start: Start, position: number, known: number, cutAt: number) =>
    Effect.as(
      warn(
        "The log was cut off at its end, below what the group has finished: others take these offsets; reading goes on " +
          "where it was cut, and these are marked as possible duplicates",
        start.id,
        position,
        cutAt
      ),
      {
        ...start,
        offset: Math.min(start.offset, cutAt),
        finished: below(cutAt, start.finished),
        duplicatesBelow: Math.max(position, known),
        lineage: start.lineage.upTo(cutAt)
      }
    )

  /** Nobody knows what was there: at-least-once loses nothing, and at-most-once repeats nothing. */
  const beyond = Effect.fnUntraced(function*(id: number, commit: Offsets.Committed, end: number, leaderEpoch: number) {
    const isAtMostOnce = request.semantics === "at-most-once"
    const offset = isAtMostOnce ? end : yield* Offsets.first(client, topics, Offsets.ROLE, topic, id)
    yield* warn(
      isAtMostOnce
        ? "What the group has committed is beyond the end of the log; reading begins at its end"
        : "What the group has committed is beyond the end of the log; reading begins anew, and what may be known is marked",
      id,
      commit.offset,
      offset
    )
    return {
      id,
      offset,
      finished: [],
      duplicatesBelow: mayBeKnown(commit),
      lineage: new Lineage(leaderEpoch),
      leaderEpoch
    }
  })

  const metadataOf = (commit: Offsets.Committed): CommitMetadata.CommitMetadata =>
    Option.getOrElse(commit.metadata, () => ({ clean: false, finished: [] }))

  /** What this subscription knows of a partition that it lost, where nobody has committed anything since. */
  const ours = (id: number, commit: Offsets.Committed): Partition | undefined => {
    const former = remembered.get(id)
    return former?.committed?.offset === commit.offset && former.committed.metadata === commit.text ? former : undefined
  }

  const restartOf = (id: number, commit: Offsets.Committed): Start | undefined => {
    const restart = options.restarts.get(id)
    return restart?.says.some(({ metadata, offset }) => offset === commit.offset && metadata === commit.text) === true
      ? restart.start
      : undefined
  }

  const afterCommit = (id: number, commit: Offsets.Committed, end: number, leaderEpoch: number): Start => {
    const { clean, leaderEpoch: epoch = leaderEpoch, ...metadata } = metadataOf(commit)
    const former = ours(id, commit)
    const offset = former?.tracker.watermark ?? commit.offset
    const finished = former?.tracker.finishedAbove() ?? metadata.finished
    return {
      id,
      offset,
      finished,
      duplicatesBelow: clean && former === undefined
        ? 0
        : Math.min(end, commit.offset + request.maxAboveWatermark + request.maxUnfinished),
      lineage: former?.options.lineage.upTo(topOf(offset, finished)) ?? new Lineage(epoch),
      leaderEpoch
    }
  }

  /** Where the group begins in partitions that it has never been in. */
  const beginsOf = Effect.fnUntraced(function*(ids: ReadonlyArray<number>, ends: ReadonlyMap<number, number>) {
    const { startFrom } = request
    const where = (listed: Offsets.Listed, of: (id: number, listed: number) => number): Offsets.Listed => ({
      offsets: new Map(Array.from(listed.offsets, ([id, offset]) => [id, of(id, offset)])),
      epochs: listed.epochs,
      failures: listed.failures
    })
    // Where the other group has no position either, nothing may be passed over.
    if (startFrom === "earliest" || (typeof startFrom === "object" && "group" in startFrom)) {
      return yield* list(ids, "earliest")
    }
    if (startFrom === "latest") {
      // What was added meanwhile is new from its beginning on.
      const added = yield* list(ids.filter((id) => id >= known), "earliest")
      const others = ids.filter((id) => id < known).map((id) => [id, ends.get(id)!] as const)
      return { offsets: new Map([...added.offsets, ...others]), epochs: added.epochs, failures: added.failures }
    }
    if ("time" in startFrom) {
      return where(yield* list(ids, startFrom), (id, found) => found < 0 ? ends.get(id)! : found)
    }
    return where(
      yield* list(ids, "earliest"),
      (id, first) => Math.min(ends.get(id)!, Math.max(first, startFrom.offsets[id] ?? first))
    )
  })

  const markOf = ({ committedEpoch, finished, id, lineage, offset }: Start, generation: number): Mark => {
    const epoch = options.epochOf(id, generation, committedEpoch)
    const metadata = {
      clean: false,
      finished,
      leaderEpoch: lineage.before(topOf(offset, finished)),
      topicId: topics.known(topic)?.id,
      epoch
    }
    const { text } = CommitMetadata.encode(offset, metadata, options.room.bytes)
    const says = options.restarts.get(id)?.says
    if (says !== undefined) {
      says.push({ offset, metadata: text })
      if (says.length > MAX_SAYS) says.splice(FIRST_SAYS, 1)
    }
    return { request: { partition: id, offset, metadata: text }, epoch }
  }

  /** A mark of a generation that is over would undo what the next owner has committed. */
  const commit = (marks: ReadonlyArray<CommitRequest>, generation: number) =>
    Effect.suspend(() => {
      const membership = options.membership()
      return generation >= 0 && membership.generation() === generation
        // One that is still on its way would undo what is committed later: a new generation fences it off.
        ? Effect.tapError(
          Effect.tap(membership.commit(marks), (codes) =>
            [...codes.values()].some((code) =>
                isTooLarge(ErrorCode.nameOf(code))
              )
              ? options.room.refused()
              : Effect.void),
          (error) => error.sent && error.isUnreachable ? membership.renew : Effect.void
        )
        : Effect.fail(generationIsOver)
    })

  return {
    each: (ids, generation, begin) =>
      Effect.gen(function*() {
        // Also of those of others: they tell whether the group has been in the topic.
        const all = Array.from(topics.known(topic)?.leaders ?? [], (_, id) => id)
        const committed = Offsets.committed(yield* options.membership().committed([...new Set([...all, ...ids])]))
        // At first sight: what this member commits itself is no history.
        for (const id of ids) if (!committed.has(id) && !options.wasOurs(id)) isMissing(id, committed)
        const found = new Map<number, Failed>()
        const failed = (id: number, error: KafkaFailure) => found.set(id, { error, isNew: !committed.has(id) })
        const groups = Offsets.byLeader(topics.known(topic), ids).values()
        yield* Effect.forEach(groups, (own) =>
          Effect.gen(function*() {
            const { failures, starts } = yield* startsOf(own, committed)
            for (const [id, error] of failures) failed(id, error)
            const marks = new Map(starts.map((start) => [start, markOf(start, generation)]))
            if (marks.size === 0) return
            const codes = yield* commit(Array.from(marks.values(), ({ request }) => request), generation)
            yield* Effect.forEach(marks, ([start, mark]) => {
              const code = codes.get(start.id) ?? -1
              const begun = code === 0 ? begin(start, mark) : Effect.fail(failure("OffsetCommit", code))
              return Effect.catchAll(begun, (error) => Effect.sync(() => failed(start.id, error)))
            }, { concurrency: "unbounded", discard: true })
          }).pipe(Effect.catchAll((error) => Effect.sync(() => own.forEach((id) => failed(id, error))))), {
          concurrency: "unbounded",
          discard: true
        })
        return found
      }),
    mark: (start, generation) => {
      const mark = markOf(start, generation)
      return Effect.flatMap(commit([mark.request], generation), (codes) => {
        const code = codes.get(start.id) ?? -1
        return code === 0 ? Effect.succeed(mark) : Effect.fail(failure("OffsetCommit", code))
      })
    }
  }
}
