import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { SettlementFailed } from "../EventBusError.js"
import type * as Observer from "../Observer.js"
import * as OffsetTracker from "../OffsetTracker.js"
import type { Assignment, Consumer, IncomingMessage, Lane, PartitionStatus } from "../Transport.js"
import * as Closing from "./closing.js"
import type { Journal, MemoryTopic } from "./memoryLog.js"
import type { StoredMessage } from "./storedMessage.js"

/** How many messages are offered at a time. */
const batchSize = 256

/** @internal */
export interface Member {
  readonly consumer: Consumer
  readonly maxAboveWatermark: number
  readonly drainDeadline: Duration.Duration
  readonly observer: Observer.Service
  stopped: boolean
}

/**
 * A group's positions on one topic, and the members that share its partitions.
 *
 * @internal
 */
export class MemoryGroup {
  private readonly partitions: ReadonlyArray<GroupPartition>
  private readonly members: Array<Member> = []
  private readonly rebalancing = Effect.unsafeMakeSemaphore(1)

  constructor(
    topic: MemoryTopic,
    name: string,
    startFrom: "earliest" | "latest" | MemoryGroup,
    journal: Journal
  ) {
    this.partitions = topic.partitions.map((partition, index) => {
      if (typeof startFrom === "string") {
        return new GroupPartition(topic, name, index, startFrom === "latest" ? partition.end : partition.start, journal)
      }
      const { deliveredBefore, tracker } = startFrom.partitions[index]!
      return new GroupPartition(
        topic,
        name,
        index,
        tracker.watermark,
        journal,
        tracker.finishedAbove(),
        deliveredBefore
      )
    })
  }

  /** Who reads; and where a handler goes on that can't be interrupted, the partition in which it does. */
  get alive(): ReadonlyArray<string> {
    const stuck = this.partitions.flatMap((partition, index) =>
      partition.owner !== undefined && !this.members.includes(partition.owner)
        ? [`a handler of partition ${index}`]
        : []
    )
    return [...this.members.map((_, index) => `member ${index + 1}`), ...stuck]
  }

  watermark(index: number): number {
    return this.partitions[index]!.tracker.watermark
  }

  positions() {
    return this.partitions.map((partition) => ({ watermark: partition.tracker.watermark, end: partition.end }))
  }

  /** The partitions that the member owns. */
  statusOf(member: Member): ReadonlyArray<PartitionStatus> {
    return this.partitions.flatMap((partition) => partition.owner === member ? [partition.status] : [])
  }

  pump(index: number): void {
    this.partitions[index]!.pump()
  }

  join(member: Member): Effect.Effect<void> {
    return this.rebalance(() => Effect.sync(() => this.members.push(member)))
  }

  /**
   * The member's lanes are closed already. Where a handler goes on all the same, because it can't be interrupted, its partition is
   * nobody's until that handler has ended: two handlers of one aggregate don't overlap in one process.
   */
  leave(member: Member): Effect.Effect<void> {
    return this.rebalance(() => {
      this.members.splice(this.members.indexOf(member), 1)
      return Effect.forEach(
        this.partitions,
        (partition) =>
          partition.owner === member
            ? partition.releaseWhenQuiet(() => this.rebalance(() => Effect.void))
            : Effect.void,
        {
          discard: true
        }
      )
    })
  }

  private rebalance(change: () => Effect.Effect<void>): Effect.Effect<void> {
    return this.rebalancing.withPermits(1)(Effect.suspend(() =>
      Effect.zipRight(
        change(),
        Effect.suspend(() =>
          Effect.forEach(
            this.partitions,
            (partition, index) => partition.moveTo(this.members[index % this.members.length]),
            { concurrency: "unbounded", discard: true }
          )
        )
      )
    )).pipe(Effect.uninterruptible)
  }
}

/** One partition as one group sees it. */
class GroupPartition {
  tracker: OffsetTracker.OffsetTracker
  owner: Member | undefined
  private lane: Lane | undefined
  private epoch = 0
  private refused = false
  private movedAt = 0
  /** Its owner has left, and a handler of it goes on. */
  private isStuck = false
  /** The messages that the lane has refused. They are offered first, as the same objects, by which the lane knows them. */
  private pending: Array<IncomingMessage> = []
  /** What is being offered right now: a lane may finish messages within its offer. */
  private offering: ReadonlyArray<IncomingMessage> | undefined
  /** Offsets below it were delivered in an earlier epoch. */
  deliveredBefore: number

  constructor(
    private readonly topic: MemoryTopic,
    private readonly group: string,
    private readonly index: number,
    start: number,
    private readonly journal: Journal,
    finished: ReturnType<OffsetTracker.OffsetTracker["finishedAbove"]> = [],
    deliveredBefore = start
  ) {
    this.tracker = OffsetTracker.make(start, finished)
    this.deliveredBefore = deliveredBefore
  }

  get end(): number {
    return this.topic.partitions[this.index]!.end
  }

  get status(): PartitionStatus {
    const { end, epoch, index: partition, movedAt, topic: { name: topic }, tracker } = this
    return { topic, partition, epoch, position: tracker.position, watermark: tracker.watermark, end, movedAt }
  }

  /** Offers what is there and what the lane takes. */
  pump(): void {
    const { lane, owner, tracker } = this
    const log = this.topic.partitions[this.index]!
    if (lane === undefined || owner === undefined || this.refused || this.offering !== undefined) return
    while (!owner.stopped) {
      const room = owner.maxAboveWatermark - tracker.ahead
      if (room <= 0) return
      // Retention may have passed a group that was made later.
      tracker.advance(log.start)
      const batch = this.pending.length > 0
        ? this.pending
        : this.batch(log.read(tracker.position, Math.min(batchSize, room)))
      if (batch.length === 0) {
        if (tracker.position >= log.end) return
        continue
      }
      this.offering = batch
      const taken = lane.offer(batch)
      this.offering = undefined
      for (let i = 0; i < taken; i++) this.deliver(batch[i]!)
      if (taken > 0) this.movedAt = this.topic.now()
      this.pending = batch.slice(taken)
      if (taken < batch.length) {
        this.refused = true
        return
      }
    }
  }

  moveTo(member: Member | undefined): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      if (member === this.owner || this.isStuck) return
      if (this.lane !== undefined) {
        yield* this.lane.close({ deadline: this.owner!.drainDeadline, finishQueued: false })
        this.release()
      }
      if (member !== undefined) this.assign(member)
    })
  }

  /** Its lane is closed. `later` runs when a handler has ended that goes on in it. */
  releaseWhenQuiet(later: () => Effect.Effect<void>): Effect.Effect<void> {
    const closed = this.lane?.close({ deadline: Duration.zero, finishQueued: false }) ?? Effect.void
    const released = Effect.suspend(() => {
      this.release()
      if (!this.isStuck) return Effect.void
      this.isStuck = false
      return later()
    })
    const stuck = Effect.sync(() => {
      this.isStuck = true
    })
    return Closing.patiently(Effect.zipRight(closed, released), () => stuck, "10 millis")
  }

  release(): void {
    if (this.owner === undefined) return
    this.record("revoked", this.tracker.position)
    this.owner = undefined
    this.lane = undefined
    this.pending = []
    this.deliveredBefore = Math.max(this.deliveredBefore, this.tracker.position)
    this.tracker = OffsetTracker.make(this.tracker.watermark, this.tracker.finishedAbove())
  }

  private assign(member: Member): void {
    this.owner = member
    this.epoch++
    this.movedAt = this.topic.now()
    this.refused = false
    this.lane = member.consumer.assigned(this.assignment(this.epoch))
    this.record("assigned", this.tracker.position)
    this.pump()
  }

  private assignment(epoch: number): Assignment {
    const isCurrent = () => this.epoch === epoch && this.owner !== undefined
    return {
      topic: this.topic.name,
      partition: this.index,
      epoch,
      finish: (message) => {
        if (!isCurrent()) return
        this.settled(message, "finished")
      },
      settle: (messages) =>
        Effect.suspend(() => {
          if (!isCurrent()) {
            return new SettlementFailed({
              topic: this.topic.name,
              partition: this.index,
              isRetryable: false,
              cause: new Error("the partition was taken away")
            })
          }
          for (const message of messages) this.settled(message, "settled")
          return Effect.void
        }),
      // At a bound each finished message makes room for one more. Messages that finish in one go are answered by one offer.
      resume: () =>
        queueMicrotask(() => {
          if (!isCurrent()) return
          this.refused = false
          this.pump()
        })
    }
  }

  private deliver(message: IncomingMessage): void {
    if (this.tracker.deliver(message.offset)) this.record("delivered", message.offset)
  }

  private settled(message: IncomingMessage, how: "finished" | "settled"): void {
    for (const one of this.offering ?? []) {
      if (one.offset <= message.offset) this.deliver(one)
    }
    this.record(how, message.offset)
    const { maxAboveWatermark, observer: { event } } = this.owner!
    const { watermark: before } = this.tracker
    const wasStuck = this.tracker.ahead >= maxAboveWatermark
    this.tracker.finish(message.offset)
    if (this.tracker.watermark > before) this.movedAt = this.topic.now()
    if (event !== undefined && this.tracker.watermark > before) {
      const { epoch, group, index: partition, topic: { name: topic }, tracker: { watermark: position } } = this
      event({ _tag: "Settled", topic, group, partition, epoch, position })
    }
    if (wasStuck) this.pump()
    this.topic.settled(this.index)
  }

  /** Messages to offer. What was finished in an earlier epoch is passed over; it ends a batch. */
  private batch(stored: ReadonlyArray<StoredMessage>): Array<IncomingMessage> {
    const batch: Array<IncomingMessage> = []
    for (const message of stored) {
      if (this.tracker.wasFinished(message.offset)) {
        if (batch.length > 0) break
        this.tracker.deliver(message.offset)
        continue
      }
      batch.push(message.incoming(this.topic.name, this.index, message.offset < this.deliveredBefore))
    }
    return batch
  }

  private record(type: "assigned" | "delivered" | "finished" | "settled" | "revoked", offset: number): void {
    this.journal.add(type, this.topic.name, this.index, offset, this.group, this.epoch)
  }
}
