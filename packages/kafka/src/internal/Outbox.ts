/**
 * Those who publish and wait: their messages on the way into the queues of the
 * partitions, as far as there is room, and out of them with a result, or at the
 * deadline without one.
 *
 * Where there is too little room, partitions get it in turn. None that has some gets more than what is left for all others
 * then. A quarter is divided among all partitions as their own: however many of them have brokers that are gone, and however
 * large a message is that waits for room, each of the others publishes on in its part.
 */
import { ChurningMap } from "@effect-eventbus/core/ChurningMap"
import { PublishFailed } from "@effect-eventbus/core/EventBusError"
import type { PublishError } from "@effect-eventbus/core/EventBusError"
import * as Either from "effect/Either"
import type { Call, Entry, Result } from "./PublishQueue.js"
import { PartitionQueue } from "./PublishQueue.js"

/** Into so many parts it is divided before there are more partitions. */
const MIN_PARTS = 64

export class Outbox {
  private readonly queues = new Map<string, PartitionQueue>()
  private readonly calls = new ChurningMap<Call, true>()
  /** Those before which messages wait for room, whose turn is next first. */
  private readonly waiting = new Set<PartitionQueue>()
  /** What is divided, and the part of it that is used. */
  private readonly maxOwn: number
  private own = 0
  /** What is for those who come first, and the part of it that is used. */
  private readonly maxShared: number
  private shared = 0

  constructor(
    maxBytes: number,
    /** There is something to send to a partition. */
    private readonly schedule: (queue: PartitionQueue) => void
  ) {
    this.maxOwn = Math.floor(maxBytes / 4)
    this.maxShared = maxBytes - this.maxOwn
  }

  get isEmpty(): boolean {
    return this.calls.size === 0
  }

  queueOf(topic: string, partition: number): PartitionQueue {
    const key = `${topic}/${partition}`
    let queue = this.queues.get(key)
    if (queue === undefined) this.queues.set(key, queue = new PartitionQueue(topic, partition))
    return queue
  }

  /** The entries of a call, in order; what has no room waits for it, before all of its partition that comes later. */
  add(call: Call): void {
    this.calls.set(call, true)
    for (const entry of call.entries) {
      if (!this.waiting.has(entry.queue) && this.fits(entry, this.waiting.size > 0)) this.take(entry)
      else {
        entry.queue.wait(entry)
        this.waiting.add(entry.queue)
      }
    }
    this.admit()
  }

  /** As many as there is room for, one of each partition in turn. */
  admit(): void {
    let isWaitedFor = false
    for (const queue of this.waiting) {
      const entry = queue.waits
      if (entry === undefined) {
        this.waiting.delete(queue)
        continue
      }
      if (!this.fits(entry, isWaitedFor)) {
        // Whoever has nothing yet is waited for: it may be larger than what others want.
        if (queue.held === 0) isWaitedFor = true
        continue
      }
      queue.admitted()
      // It comes again after all others.
      this.waiting.delete(queue)
      if (queue.waits !== undefined) this.waiting.add(queue)
      this.take(entry)
    }
  }

  /** Where others are waited for, it has what is its own only. */
  private fits(entry: Entry, isOthersTurn: boolean): boolean {
    const { queue: { held, own }, size } = entry
    const left = this.maxOwn - this.own
    // Those that come later find room, too. Where the parts are smaller than the messages, there is one at a time of each partition.
    const part = this.maxOwn / 2 / Math.max(MIN_PARTS, this.queues.size)
    const isWithin = own + size <= part || (own === 0 && size * 2 <= left)
    entry.isOwn = isWithin && size <= left
    return entry.isOwn || (!isOthersTurn && (this.shared === 0 || held + size <= this.maxShared - this.shared))
  }

  private take(entry: Entry): void {
    this.count(entry, entry.size)
    entry.queue.push(entry)
    this.schedule(entry.queue)
  }

  private count({ isOwn, queue }: Entry, bytes: number): void {
    if (isOwn) {
      this.own += bytes
      queue.own += bytes
    } else {
      this.shared += bytes
      queue.held += bytes
    }
  }

  /** An entry has left its queue or its batch. */
  end(entry: Entry, result: Result): void {
    this.drop(entry)
    if (!entry.abandoned) entry.call.settle(entry.index, result)
  }

  fail(entry: Entry, error: PublishError): void {
    this.end(entry, Either.left(error))
    const { call, index } = entry
    if (!call.isChain || (call.brokenAt !== undefined && call.brokenAt <= index)) return
    call.brokenAt = index
    for (const later of call.entries) {
      if (later.index > index && later.stage !== "sent") this.breakOff(later, error)
    }
  }

  /** One of a chain behind the one that has failed: it is not tried any more. */
  breakOff(entry: Entry, cause: unknown): void {
    const { call, queue } = entry
    if (entry.abandoned || call.results[entry.index] !== undefined) return
    entry.abandoned = true
    if (entry.stage === "queued") {
      this.drop(entry)
      queue.abandoned()
    }
    call.settle(entry.index, Either.left(notTried(queue.topic, cause)))
  }

  drop(entry: Entry): void {
    if (entry.stage === "done") return
    this.count(entry, -entry.size)
    entry.stage = "done"
  }

  /** The call has all its results. */
  close(call: Call): void {
    this.calls.delete(call)
  }

  /** Those whose deadline has come get the results there are, and for each other message whether it may be written. */
  expire(now: number): void {
    for (const call of this.calls.keys()) if (now >= call.deadline) this.abandon(call, true)
  }

  /** Nobody waits any more: what was not sent is not sent. */
  abandon(call: Call, report: boolean): void {
    this.calls.delete(call)
    for (const entry of call.entries) {
      if (call.results[entry.index] !== undefined) continue
      entry.abandoned = true
      const isSent = entry.stage === "sent"
      if (entry.stage === "queued") {
        this.drop(entry)
        entry.queue.abandoned()
      }
      if (report) call.settle(entry.index, Either.left(timeout(entry, isSent)))
    }
    this.admit()
  }
}

/** It was to be written behind a message that was not, or may not have been. */
export const notTried = (topic: string, cause: unknown): PublishFailed =>
  new PublishFailed({ topic, reason: "Rejected", outcome: "not-written", cause })

const timeout = ({ queue }: Entry, isSent: boolean): PublishFailed =>
  new PublishFailed({
    topic: queue.topic,
    reason: queue.lastFailure?.type === "Connection" ? "Unreachable" : "Timeout",
    outcome: isSent ? "unknown" : "not-written",
    cause: queue.lastFailure
  })
