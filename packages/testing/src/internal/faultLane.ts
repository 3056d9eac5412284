import * as AggregateId from "@effect-eventbus/core/AggregateId"
import { SettlementFailed } from "@effect-eventbus/core/EventBusError"
import type { Headers } from "@effect-eventbus/core/Headers"
import type { Assignment, Consumer, IncomingMessage, Lane } from "@effect-eventbus/core/Transport"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Counts } from "../Faults.js"
import type { Prng } from "../Prng.js"

/** What a message is ordered by, as far as it can be seen from outside. @internal */
export const keyOf = (message: { readonly key: Uint8Array | null; readonly headers: Headers }): string | undefined =>
  AggregateId.fromHeaders(message.headers) ?? AggregateId.fromKey(message.key) ??
    (message.key === null ? undefined : message.key.join())

/** @internal */
export interface Settings {
  readonly prng: Prng
  readonly counts: Counts
  readonly reorder: number
  readonly dropAck: number
  readonly loseSettlement: number
  readonly duplicate: number
  readonly delay: () => Duration.Duration | undefined
  readonly after: (wait: Duration.Duration, then: () => void) => void
  readonly onClosed: (lane: FaultLane) => void
}

/**
 * Stands between a transport and a lane of the bus. It takes one batch at a time from the transport, does to it what
 * the dice say, and hands it on as the lane has room.
 *
 * @internal
 */
export class FaultLane implements Lane {
  private readonly lane: Lane
  /** Taken from the transport, and not yet by the lane. */
  private waiting: ReadonlyArray<IncomingMessage> = []
  private delayed = false
  /** The lane has refused the rest, and will say when it has room. */
  private laneRefused = false
  /** The transport was refused, and waits to be told. */
  private refused = false
  private closed = false
  private dead = false
  /** The original of each copy, and how many of both are not finished. */
  private readonly copies = new Map<IncomingMessage, { readonly original: IncomingMessage; left: number }>()

  constructor(private readonly assignment: Assignment, consumer: Consumer, private readonly settings: Settings) {
    this.lane = consumer.assigned({
      topic: assignment.topic,
      partition: assignment.partition,
      epoch: assignment.epoch,
      finish: (message) => this.finish(message),
      settle: (messages) => this.settle(messages),
      resume: () =>
        queueMicrotask(() => {
          this.laneRefused = false
          this.handOn()
        }),
      isOwned: () => assignment.isOwned?.() !== false
    })
  }

  offer(messages: ReadonlyArray<IncomingMessage>): number {
    if (this.closed) return 0
    if (this.waiting.length > 0) {
      this.refused = true
      return 0
    }
    this.waiting = this.arranged(messages)
    const wait = this.settings.delay()
    if (wait !== undefined) {
      this.delayed = true
      this.settings.after(wait, () => {
        this.delayed = false
        this.handOn()
      })
    }
    this.handOn()
    return messages.length
  }

  close(options: { readonly deadline: Duration.Duration; readonly finishQueued: boolean }) {
    return Effect.suspend(() => {
      this.closed = true
      const left = this.waiting.length
      this.waiting = []
      return Effect.map(
        Effect.ensuring(this.lane.close(options), Effect.sync(() => this.settings.onClosed(this))),
        ({ lost, unfinished }) => {
          if (!this.dead) this.settings.counts.reportedLost += lost
          return { lost, unfinished: unfinished + left }
        }
      )
    })
  }

  kill(): void {
    this.closed = true
    this.dead = true
  }

  private handOn(): void {
    if (this.closed || this.delayed || this.laneRefused || this.waiting.length === 0) return
    const offered = this.waiting
    const taken = this.lane.offer(offered)
    this.waiting = offered.slice(taken)
    if (taken < offered.length) {
      this.laneRefused = true
    } else if (this.refused) {
      this.refused = false
      this.assignment.resume()
    }
  }

  private finish(message: IncomingMessage): void {
    if (this.dead) return
    const copy = this.copies.get(message)
    if (copy !== undefined) {
      this.copies.delete(message)
      if (--copy.left > 0) return
    }
    if (this.settings.prng.chance(this.settings.dropAck)) {
      this.settings.counts.droppedAcks++
      return
    }
    this.assignment.finish(copy?.original ?? message)
  }

  private settle(messages: ReadonlyArray<IncomingMessage>): Effect.Effect<void, SettlementFailed> {
    if (this.dead) return Effect.never
    const { partition, topic } = this.assignment
    return Effect.flatMap(this.assignment.settle(messages), () => {
      if (!this.settings.prng.chance(this.settings.loseSettlement)) return Effect.void
      this.settings.counts.lostSettlements++
      return new SettlementFailed({ topic, partition, isRetryable: true, cause: new Error("a fault of the test") })
    })
  }

  private arranged(messages: ReadonlyArray<IncomingMessage>): ReadonlyArray<IncomingMessage> {
    const { counts, duplicate, prng, reorder } = this.settings
    const order = messages.length > 1 && prng.chance(reorder) ? this.shuffled(messages) : messages
    if (duplicate === 0) return order
    return order.flatMap((message) => {
      if (!prng.chance(duplicate)) return [message]
      counts.duplicates++
      const again = {
        ...message,
        maybeDuplicate: true,
        deliveryCount: message.deliveryCount === undefined ? undefined : message.deliveryCount + 1
      }
      const both = { original: message, left: 2 }
      this.copies.set(message, both).set(again, both)
      return [message, again]
    })
  }

  /** Those of one aggregate, and those without one, keep their order. */
  private shuffled(messages: ReadonlyArray<IncomingMessage>): ReadonlyArray<IncomingMessage> {
    const { counts, prng } = this.settings
    counts.reorders++
    const byKey = new Map<string | undefined, Array<IncomingMessage>>()
    for (const message of messages) {
      const key = keyOf(message)
      const list = byKey.get(key)
      if (list === undefined) byKey.set(key, [message])
      else list.push(message)
    }
    const queues = Array.from(byKey.values(), (list) => list.reverse())
    const order: Array<IncomingMessage> = []
    while (queues.length > 0) {
      const index = prng.integer(queues.length)
      order.push(queues[index]!.pop()!)
      if (queues[index]!.length === 0) queues.splice(index, 1)
    }
    return order
  }
}
