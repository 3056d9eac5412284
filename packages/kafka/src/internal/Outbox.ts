/**
 * Those who publish and wait: their messages on the way into the queues of the
 * partitions, as far as there is room, and out of them with a result, or at the
 * deadline without one.
 *
 * Where there is too little room, partitions get it in turn. None that has some gets more than what is left for all others
 * then: one whose broker is gone has half of it at most, and the others publish on.
 */
import { ChurningMap } from "@effect-eventbus/core/ChurningMap"
import { PublishFailed } from "@effect-eventbus/core/EventBusError"
import type { PublishError } from "@effect-eventbus/core/EventBusError"
import * as Either from "effect/Either"
import type { Call, Entry, Result } from "./PublishQueue.js"
import { PartitionQueue } from "./PublishQueue.js"

export class Outbox {
  private readonly queues = new Map<string, PartitionQueue>()
  private readonly calls = new ChurningMap<Call, true>()
  /** Those before which messages wait for room, whose turn is next first. */
  private readonly waiting = new Set<PartitionQueue>()
  private bytes = 0

  constructor(
    private readonly maxBytes: number,
    /** There is something to send to a partition. */
    private readonly schedule: (queue: PartitionQueue) => void
  ) {}

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
      if (this.waiting.size === 0 && this.fits(entry)) this.take(entry)
      else {
        entry.queue.wait(entry)
        this.waiting.add(entry.queue)
      }
    }
    this.admit()
  }

  /** As many as there is room for, one of each partition in turn. */
  admit(): void {
    for (const queue of this.waiting) {
      const entry = queue.waits
      if (entry === undefined) {
        this.waiting.delete(queue)
        continue
      }
      if (!this.fits(entry)) {
        // Whoever has nothing yet is waited for: it may be larger than what others want.
        if (queue.held === 0) return
        continue
      }
      queue.admitted()
      // It comes again after all others.
      this.waiting.delete(queue)
      if (queue.waits !== undefined) this.waiting.add(queue)
      this.take(entry)
    }
  }

  private fits({ queue: { held }, size }: Entry): boolean {
    return this.bytes === 0 || held + size <= this.maxBytes - this.bytes
  }

  private take(entry: Entry): void {
    this.bytes += entry.size
    entry.queue.held += entry.size
    entry.queue.push(entry)
    this.schedule(entry.queue)
  }

  /** An entry has left its queue or its batch. */
  end(entry: Entry, result: Result): void {
    this.drop(entry)
    if (!entry.abandoned) entry.call.settle(entry.index, result)
  }

  fail(entry: Entry, error: PublishError): void {
    this.end(entry, Either.left(error))
  }

  drop(entry: Entry): void {
    if (entry.stage === "done") return
    this.bytes -= entry.size
    entry.queue.held -= entry.size
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

const timeout = ({ queue }: Entry, isSent: boolean): PublishFailed =>
  new PublishFailed({
    topic: queue.topic,
    reason: queue.lastFailure?.type === "Connection" ? "Unreachable" : "Timeout",
    outcome: isSent ? "unknown" : "not-written",
    cause: queue.lastFailure
  })
