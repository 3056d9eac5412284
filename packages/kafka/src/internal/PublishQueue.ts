/**
 * What waits to be sent to a partition, in the order it was published, and the
 * batch that was sent and not answered. Plain and synchronous: publishing costs
 * no fiber and no timer of its own.
 */
import type { PublishError } from "@effect-eventbus/core/EventBusError"
import type { Receipt } from "@effect-eventbus/core/Transport"
import type * as Either from "effect/Either"
import type { KafkaFailure } from "./Failure.js"

/** A record as it is written. */
export interface WireRecord {
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: Record<string, string | Buffer | Array<string | Buffer>>
  readonly timestamp: number
}

export type Result = Either.Either<Receipt, PublishError>

/** One call of `publish`. */
export class Call {
  readonly entries: Array<Entry> = []
  remaining: number
  /** Set once the publisher waits; called once. */
  onEnd: (() => void) | undefined
  /** The first of a chain that has failed: those behind it are not tried any more. */
  brokenAt: number | undefined
  constructor(
    readonly results: Array<Result | undefined>,
    readonly deadline: number,
    /** Its entries go to one partition. What is written of them is always a beginning: without those before it none is of use. */
    readonly isChain = false
  ) {
    this.remaining = results.reduce((count, result) => result === undefined ? count + 1 : count, 0)
  }
  settle(index: number, result: Result): void {
    if (this.results[index] !== undefined) return
    this.results[index] = result
    if (--this.remaining === 0) this.onEnd?.()
  }
}

/** Where an entry is: before the queue because that is full, in it, or in a batch that was sent. */
export type Stage = "admission" | "queued" | "sent" | "done"

export interface Entry {
  readonly call: Call
  readonly index: number
  readonly queue: PartitionQueue
  readonly record: WireRecord
  readonly size: number
  stage: Stage
  /** It has room in its partition's own part, and not in what all share. */
  isOwn: boolean
  /** Nobody waits for it any more; it is not sent if that can still be helped. */
  abandoned: boolean
}

export interface ProducerId {
  readonly producerId: string
  readonly producerEpoch: number
}

/** What was sent stays as it is until the broker has answered: it knows a repetition by its sequence number and size. */
export interface Batch {
  readonly queue: PartitionQueue
  readonly entries: ReadonlyArray<Entry>
  readonly bytes: number
  readonly producer: ProducerId
  readonly firstSequence: number
  /** How often it may have reached a broker. */
  sent: number
  /** When it was sent first, by the clock of deadlines. */
  sentAt: number | undefined
}

export class PartitionQueue {
  private waiting: Array<Entry> = []
  private head = 0
  /** Those for which there is no room yet, in order; the ones before `taken` have got it. */
  private admission: Array<Entry> = []
  private taken = 0
  /** Bytes of those for which there is, of what all partitions share. */
  held = 0
  /** And of its own part. */
  own = 0
  /** How many of the next entries are sent alone, because the broker found them too large together. */
  private alone = 0
  private sequence = 0
  batch: Batch | undefined
  producer: ProducerId | undefined
  /** Its batch is on the way to a broker. */
  inFlight = false
  /** It waits for a while after a failure, or for news of its leader. */
  resting = false
  failures = 0
  lastFailure: KafkaFailure | undefined
  /** Since when each answer says that there is no such partition, by the clock of deadlines. */
  goneSince: number | undefined
  /** About how many of those that wait are abandoned. */
  private dead = 0
  constructor(readonly topic: string, readonly partition: number) {}

  /** There is no room for it yet. */
  wait(entry: Entry): void {
    this.admission.push(entry)
  }

  /** The next one for which there is no room yet, and for which somebody waits. */
  get waits(): Entry | undefined {
    while (this.admission[this.taken]?.abandoned === true) this.taken++
    if (this.taken === this.admission.length || (this.taken >= 1024 && this.taken * 2 >= this.admission.length)) {
      this.admission = this.admission.slice(this.taken)
      this.taken = 0
    }
    return this.admission[this.taken]
  }

  /** There is room for it now. */
  admitted(): void {
    this.taken++
  }

  push(entry: Entry): void {
    entry.stage = "queued"
    this.waiting.push(entry)
  }

  /** One of those that wait is waited for by nobody any more. While the broker is away, they would pile up. */
  abandoned(): void {
    if (++this.dead < 1024 || this.dead * 2 < this.waiting.length - this.head) return
    this.waiting = this.waiting.slice(this.head).filter((entry) => !entry.abandoned)
    this.head = 0
    this.dead = 0
  }

  get isEmpty(): boolean {
    while (this.head < this.waiting.length && this.waiting[this.head]!.abandoned) this.head++
    if (this.head === this.waiting.length && this.head > 0) {
      this.waiting = []
      this.head = 0
    }
    return this.head === this.waiting.length
  }

  /** The batch that is to be sent next: the last one again, where it was not answered. */
  next(producer: ProducerId, limits: { readonly bytes: number; readonly messages: number }): Batch | undefined {
    if (this.batch !== undefined || this.isEmpty) return this.batch
    if (this.producer === undefined) {
      this.producer = producer
      this.sequence = 0
    }
    const entries: Array<Entry> = []
    let bytes = 0
    const messages = this.alone > 0 ? 1 : limits.messages
    while (!this.isEmpty && entries.length < messages) {
      const entry = this.waiting[this.head]!
      if (entries.length > 0 && bytes + entry.size > limits.bytes) break
      entry.stage = "sent"
      entries.push(entry)
      bytes += entry.size
      this.head++
    }
    if (this.alone > 0) this.alone--
    if (this.head >= 1024 && this.head * 2 >= this.waiting.length) {
      this.waiting = this.waiting.slice(this.head)
      this.head = 0
    }
    return this.batch = {
      queue: this,
      entries,
      bytes,
      producer: this.producer,
      firstSequence: this.sequence,
      sent: 0,
      sentAt: undefined
    }
  }

  /** The batch was written. */
  written(batch: Batch): void {
    this.sequence = advance(batch.firstSequence, batch.entries.length)
    this.batch = undefined
    this.failures = 0
    this.lastFailure = undefined
  }

  /**
   * What became of the batch is not known, so its numbers can't be used again. The next epoch of its producer can: a broker
   * that has seen it refuses what still comes of the old one. So a request that was stuck somewhere is not written behind newer ones.
   */
  fence({ producer: { producerEpoch, producerId } }: Batch): void {
    this.producer = producerEpoch < MAX_EPOCH ? { producerId, producerEpoch: producerEpoch + 1 } : undefined
    this.sequence = 0
  }

  /**
   * The batch was certainly not written: its entries that have no result yet wait again, before all others, and those
   * nobody waits for are dropped.
   */
  putBack(batch: Batch, alone: boolean): ReadonlyArray<Entry> {
    this.batch = undefined
    const kept = batch.entries.filter((entry) => !entry.abandoned && entry.stage !== "done")
    for (const entry of kept) entry.stage = "queued"
    this.waiting = [...kept, ...this.waiting.slice(this.head)]
    this.head = 0
    if (alone) this.alone = kept.length
    return batch.entries.filter((entry) => entry.abandoned)
  }

  /** Takes everything out that waits. */
  clear(): ReadonlyArray<Entry> {
    const waiting = this.waiting.slice(this.head).filter((entry) => !entry.abandoned)
    this.waiting = []
    this.head = 0
    this.alone = 0
    this.failures = 0
    return waiting
  }
}

const MAX_EPOCH = 0x7ffe

/** Kafka's sequence numbers go from 2^31 − 1 on to 0. */
const advance = (sequence: number, by: number): number => {
  const next = sequence + by
  return next > 0x7fffffff ? next - 0x80000000 : next
}
