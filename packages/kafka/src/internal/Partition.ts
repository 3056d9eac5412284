/**
 * One partition of a subscription, from its assignment until it is taken away:
 * what was fetched and not yet taken, what is finished, what is committed. All of
 * it synchronous and plain: this is where every message passes.
 */
import type * as EventBusError from "@effect-eventbus/core/EventBusError"
import * as OffsetTracker from "@effect-eventbus/core/OffsetTracker"
import type { Assignment, IncomingMessage, Lane } from "@effect-eventbus/core/Transport"
import type * as Effect from "effect/Effect"
import type { Encoded } from "../CommitMetadata.js"
import * as CommitMetadata from "../CommitMetadata.js"
import type { Fetched } from "./Fetched.js"
import type { Lineage } from "./Lineage.js"
import type { Ranges } from "./ranges.js"
import { below, merged, topOf } from "./ranges.js"

export interface PartitionOptions {
  readonly topic: string
  /** The topic's id when the partition began, where the broker knows ids. */
  readonly topicId: string | undefined
  readonly partition: number
  readonly epoch: number
  /** The lowest offset that is not known to be finished. */
  readonly start: number
  readonly finished: ReadonlyArray<readonly [from: number, to: number]>
  readonly duplicatesBelow: number
  /** Under which leaders the messages below `start`, and those that are finished above it, were written. */
  readonly lineage: Lineage
  /** The leader that has what was read below `start`; −1 where the broker does not know of epochs. */
  readonly leaderEpoch: number
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly maxAboveWatermark: number
  /** So many that are taken and unfinished its lane has room for. */
  readonly maxUnfinished: number
  /** So many finished messages want to be committed now. */
  readonly commitMessages: number
  /** It can be fetched from again, or holds less of what all partitions of the subscription may hold together. */
  readonly onRoom: () => void
  /** There is something to commit, where there was nothing. */
  readonly onChange: () => void
  /** There is enough to commit. */
  readonly onCommit: () => void
  /** Whether messages are settled before they are handled. */
  readonly atMostOnce: boolean
  /** Whether the group certainly has not given it to others yet. */
  readonly isAlive: () => boolean
  readonly settle: (
    partition: Partition,
    offsets: ReadonlyArray<number>
  ) => Effect.Effect<void, EventBusError.SettlementFailed>
}

/** What a commit says, and of which state. */
export interface Commit {
  readonly partition: Partition
  readonly offset: number
  readonly metadata: Encoded
  readonly version: number
}

/** How many messages the lane is offered at once. */
const CHUNK = 256

export class Partition {
  readonly tracker: OffsetTracker.OffsetTracker
  readonly assignment: Assignment
  /** The next offset to fetch. */
  fetchOffset: number
  /** Raised when a batch did not fit into what was fetched. */
  fetchFactor = 1
  /** It is named in a request that is not answered yet. */
  isAsked = false
  /** What was fetched is being unpacked. */
  isUnpacking = false
  /** The leader that is known to have what was read; another one is asked first whether it has. */
  leaderEpoch: number
  /** Where the log ended when it was fetched from last. */
  logEnd: number | undefined
  /** When a message was last offered, or the watermark moved. Milliseconds since the epoch. */
  movedAt: number
  /** It waits for a while after an error. */
  resting = false
  /** Errors in a row. */
  failures = 0
  /** Counts what has changed; a commit of a version covers all changes up to it. */
  version = 0
  committedVersion = 0
  /** The last commit that the broker confirmed, this partition's mark at its beginning at first. */
  committed: { readonly offset: number; readonly metadata: string } | undefined
  bufferedBytes = 0
  /** Nothing more is handed to its lane, because nothing that it finishes can be committed. */
  private isHeld = false
  /** Its lane was told to start nothing any more. */
  isRefusing = false
  /** Ascending; kept only where messages are settled before they are handled. */
  private readonly unsettled = new Set<number>()
  /** Where the log begins that has taken the place of this one. */
  private anewAt: number | undefined
  /** Where other messages begin than those that were read. */
  private cutOffAt: number | undefined
  private lane: Lane | undefined
  private fetched: Fetched | undefined
  /** The next messages of what was fetched; those before `head` are taken. */
  private buffer: ReadonlyArray<IncomingMessage> = []
  private head = 0
  private isOffering = true
  private isOpen = true
  private isRefused = false
  private isPumping = false
  private isScheduled = false
  private outstanding = 0
  private finishedSince = 0
  /** Everything is taken, and it is too far ahead of what is finished to fetch more. */
  private isWaiting = false
  /** Whether it stood still when that was last looked at. */
  private stoodStill = false

  constructor(readonly options: PartitionOptions) {
    this.tracker = OffsetTracker.make(options.start, options.finished)
    this.fetchOffset = options.start
    this.leaderEpoch = options.leaderEpoch
    this.movedAt = options.now()
    this.assignment = {
      topic: options.topic,
      partition: options.partition,
      epoch: options.epoch,
      finish: (message) => this.finish(message.offset),
      settle: (messages) => options.settle(this, messages.map(({ offset }) => offset)),
      resume: () => {
        this.isRefused = false
        this.schedule()
      },
      isOwned: () => {
        // What its lane then drops comes to nobody before the partition is given up.
        if (!this.isRefusing && !options.isAlive()) this.isRefusing = true
        return !this.isRefusing
      }
    }
  }

  get id(): number {
    return this.options.partition
  }

  /** Messages go to this lane from now on. */
  open(lane: Lane): void {
    this.lane = lane
  }

  /** The next offset that its lane is offered. */
  get position(): number {
    return this.buffer[this.head]?.offset ?? this.tracker.position
  }

  get canFetch(): boolean {
    return this.isOffering && !this.isHeld && !this.resting && !this.isAsked && !this.isUnpacking && this.isEmpty &&
      this.tracker.ahead < this.options.maxAboveWatermark
  }

  /** What it has can't be taken before something of its own is finished. */
  get standsStill(): boolean {
    return this.head < this.buffer.length &&
      (this.isHeld || this.outstanding >= this.options.maxUnfinished || this.buffer[this.head]!.offset >= this.limit)
  }

  /** What was fetched from `fetchOffset` on. */
  accept(fetched: Fetched): void {
    if (!this.isOffering) return
    for (const [epoch, offset] of fetched.epochs) this.options.lineage.note(epoch, offset)
    if (fetched.left > 0) this.fetched = fetched
    else {
      // Only gaps: the watermark moves, and no message will say so.
      this.tracker.advance(fetched.next)
      if (fetched.next > this.fetchOffset) this.changed()
    }
    this.fetchOffset = fetched.next
    this.fetchFactor = 1
    this.failures = 0
    this.bufferedBytes += fetched.bytes
    this.pump()
  }

  /** Messages that are gone from the log, up to an offset, are not to be waited for. */
  skipTo(offset: number): void {
    // What came by another way meanwhile is handled first; the next fetch finds out again.
    if (!this.isEmpty) return
    this.tracker.advance(offset)
    this.fetchOffset = offset
    this.changed()
  }

  /** Its log is gone, and another has its name: from now on only the beginning of that one is committed. */
  beginAnewAt(offset: number): void {
    this.anewAt = offset
    this.changed()
  }

  /** The log was cut off at its end: from this offset on it has other messages than those that were read. */
  cutAt(offset: number): void {
    this.cutOffAt = offset
    this.changed()
  }

  /** What it has finished means nothing in another log, or in another part of it. */
  get beginsAnew(): boolean {
    return this.anewAt !== undefined || this.cutOffAt !== undefined
  }

  /** What is finished, as far as it still is what it was. */
  get left(): { readonly offset: number; readonly finished: Ranges } {
    const { cutOffAt = Infinity } = this
    const finished = this.tracker.finishedAbove()
    return { offset: Math.min(cutOffAt, this.tracker.watermark), finished: below(cutOffAt, finished) }
  }

  /** Hands nothing more to its lane for the time being. */
  hold(): void {
    this.isHeld = true
    this.tellOthers()
  }

  release(): void {
    if (!this.isHeld) return
    this.isHeld = false
    if (!this.isEmpty) this.schedule()
    else if (this.canFetch) {
      this.isWaiting = false
      this.options.onRoom()
    }
  }

  /** Offers nothing more. */
  stop(): void {
    this.isOffering = false
    this.empty()
  }

  /** Its lane is closed: what comes late does nothing. */
  end(): void {
    this.stop()
    this.isOpen = false
  }

  get hasEnded(): boolean {
    return !this.isOpen
  }

  /** Nothing that was taken is unfinished. */
  get isClean(): boolean {
    return this.outstanding === 0
  }

  get needsCommit(): boolean {
    return this.version > this.committedVersion
  }

  /** What a commit says that settles these offsets, too. They count as finished only once it is confirmed. */
  commit(clean: boolean, settling: ReadonlySet<number> = nothing, maxBytes?: number): Commit {
    const { anewAt, cutOffAt = Infinity } = this
    const offset = anewAt ?? Math.min(cutOffAt, this.watermarkAfter(settling))
    const finished = anewAt === undefined
      ? below(cutOffAt, merged(this.tracker.finishedAbove(), settling, offset))
      : []
    return {
      partition: this,
      offset,
      metadata: CommitMetadata.encode(offset, {
        clean: clean && this.isClean && !this.beginsAnew,
        finished,
        leaderEpoch: anewAt === undefined ? this.options.lineage.before(topOf(offset, finished)) : -1,
        // What is committed of a log that took the place of this one has no id yet that is known here.
        topicId: anewAt === undefined ? this.options.topicId : undefined,
        epoch: this.options.epoch
      }, maxBytes),
      version: this.version
    }
  }

  /** The broker has confirmed the commit, and those who wanted these offsets settled still do. */
  confirm(commit: Commit, settled: ReadonlyArray<number>): void {
    this.committedVersion = Math.max(this.committedVersion, commit.version)
    this.committed = { offset: commit.offset, metadata: commit.metadata.text }
    const isUpToDate = this.committedVersion === this.version
    for (const offset of settled) this.finish(offset)
    if (isUpToDate) this.committedVersion = this.version
  }

  /** The last commit says more than is true: somebody does not want to settle any more what it settled. */
  retract(): void {
    this.changed()
  }

  private changed(): void {
    // What comes after it goes with the same commit.
    if (this.version++ === this.committedVersion) this.options.onChange()
  }

  /** Where messages are settled one after the other it is beyond all of them; otherwise the metadata says them. */
  private watermarkAfter(settling: ReadonlySet<number>): number {
    if (settling.size === 0 || !this.options.atMostOnce) return this.tracker.watermark
    for (const offset of this.unsettled) if (!settling.has(offset)) return offset
    return this.tracker.position
  }

  private finish(offset: number): void {
    const { watermark } = this.tracker
    if (!this.isOpen || !this.tracker.finish(offset)) return
    if (this.tracker.watermark !== watermark) this.movedAt = this.options.now()
    this.unsettled.delete(offset)
    this.outstanding--
    this.changed()
    if (++this.finishedSince >= this.options.commitMessages) {
      this.finishedSince = 0
      this.options.onCommit()
    }
    if (!this.isEmpty) {
      if (!this.isRefused) this.schedule()
    } else if (this.isWaiting && this.canFetch) {
      this.isWaiting = false
      this.options.onRoom()
    }
  }

  /** Not at once: the caller may be in the middle of something that an offer would disturb. */
  private schedule(): void {
    if (this.isScheduled) return
    this.isScheduled = true
    queueMicrotask(() => {
      this.isScheduled = false
      this.pump()
    })
  }

  private pump(): void {
    if (this.isPumping || !this.isOffering || this.isHeld || this.lane === undefined) return
    this.isPumping = true
    try {
      while (!this.isRefused && this.isOffering && this.fill()) {
        const chunk = this.chunk()
        if (chunk.length === 0) break
        const taken = this.lane.offer(chunk)
        this.outstanding += taken
        this.head += taken
        if (taken > 0) this.movedAt = this.options.now()
        if (taken < chunk.length) this.isRefused = true
      }
    } finally {
      this.isPumping = false
    }
    if (!this.isOffering) return
    if (!this.isEmpty) return this.tellOthers()
    this.empty()
    this.stoodStill = false
    // Also where it may not fetch itself: others may have waited for its room.
    if (!this.canFetch) this.isWaiting = true
    this.options.onRoom()
  }

  /** Where it begins to stand still, others have the room that it does not count for any more. */
  private tellOthers(): void {
    const { standsStill } = this
    if (standsStill && !this.stoodStill) this.options.onRoom()
    this.stoodStill = standsStill
  }

  private get isEmpty(): boolean {
    return this.head === this.buffer.length && this.fetched === undefined
  }

  private empty(): void {
    this.fetched = undefined
    this.buffer = []
    this.head = 0
    this.bufferedBytes = 0
  }

  /** Makes the next messages where all that were made are taken; `false` where there are none. */
  private fill(): boolean {
    const { watermark } = this.tracker
    const isFilled = this.make()
    // What was finished before, and gaps, are passed without anybody finishing them.
    if (this.tracker.watermark > watermark) this.changed()
    return isFilled
  }

  private make(): boolean {
    while (this.head === this.buffer.length) {
      const { fetched } = this
      if (fetched === undefined) return false
      this.buffer = this.fresh(fetched.take(CHUNK))
      this.head = 0
      if (fetched.left > 0) continue
      this.tracker.advance(fetched.next)
      this.fetched = undefined
    }
    return true
  }

  /** Those that were not finished before. */
  private fresh(messages: ReadonlyArray<IncomingMessage>): ReadonlyArray<IncomingMessage> {
    const { tracker, unsettled } = this
    const { atMostOnce } = this.options
    return messages.filter(({ offset }) => {
      const isFresh = tracker.deliver(offset)
      if (isFresh && atMostOnce) unsettled.add(offset)
      return isFresh
    })
  }

  /** The first offset that is too far above the watermark to be taken. */
  private get limit(): number {
    return this.tracker.watermark + this.options.maxAboveWatermark
  }

  /** The next messages, none of them further above the watermark than is allowed. */
  private chunk(): ReadonlyArray<IncomingMessage> {
    const { limit } = this
    let end = this.head
    // A full lane has room for one with each that finishes: a whole chunk would be copied for it. Whether it has any, it says itself.
    const room = Math.max(1, this.options.maxUnfinished - this.outstanding)
    const last = Math.min(this.buffer.length, this.head + Math.min(CHUNK, room))
    while (end < last && this.buffer[end]!.offset < limit) end++
    return this.head === 0 && end === this.buffer.length ? this.buffer : this.buffer.slice(this.head, end)
  }
}

const nothing: ReadonlySet<number> = new Set()
