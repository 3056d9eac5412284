/**
 * Those who publish and wait: their messages on the way into the queues of the
 * partitions, as far as there is room, and out of them with a result, or at the
 * deadline without one.
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
  private admission: Array<Entry> = []
  private admitted = 0
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

  /** The entries of a call, in order; what has no room waits for it, before all that comes later. */
  add(call: Call): void {
    this.calls.set(call, true)
    for (const entry of call.entries) this.admission.push(entry)
    this.admit()
  }

  admit(): void {
    while (this.admitted < this.admission.length) {
      const entry = this.admission[this.admitted]!
      if (!entry.abandoned) {
        if (this.bytes > 0 && this.bytes + entry.size > this.maxBytes) break
        this.bytes += entry.size
        entry.queue.push(entry)
        this.schedule(entry.queue)
      }
      this.admitted++
    }
    if (this.admitted < this.admission.length && this.admitted < 1024) return
    this.admission = this.admission.slice(this.admitted)
    this.admitted = 0
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
