import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { Assignment, Consumer, IncomingMessage, Lane, LaneReport } from "../Transport.js"
import { describeCause } from "./describeCause.js"

/** @internal */
export interface WaitingState {
  /** Whether messages are settled and not held while there is no handler. */
  readonly skips: boolean
  skipped: number
  /** How many offsets behind an unfinished message can be settled: the transport stops there. */
  readonly mostAhead: number
  readonly warn: (text: string) => void
}

/**
 * A partition's lane that outlives its handlers. Without a handler it refuses messages, or skips them. Messages that a handler took
 * and did not finish go to the next handler first.
 *
 * @internal
 */
export class WaitingLane implements Lane {
  /** The lane of the handler, while there is one. */
  private inner: Lane | undefined
  private isLeaving = false
  private isClosed = false
  /** The transport was refused, and waits for `resume`. */
  private isRefused = false
  /** The messages that were taken from the transport and are neither finished nor settled: by offset, in broker order. */
  private readonly taken = new Map<number, IncomingMessage>()
  /** The messages among `taken` that a former handler has left and the present one has not taken. */
  private left: ReadonlyArray<IncomingMessage> = []
  /** As many messages were skipped behind those that are left as the transport allows, and that was said. */
  private isStuck = false
  /** The transport's `resume` threw, and that was said. */
  private hasThrown = false

  constructor(
    private readonly assignment: Assignment,
    private readonly state: WaitingState,
    private readonly onClosed: () => void
  ) {}

  /** Messages wait for a handler. */
  get isWaiting(): boolean {
    return this.inner === undefined && (this.isRefused || this.left.length > 0)
  }

  offer(messages: ReadonlyArray<IncomingMessage>): number {
    if (this.isClosed) return 0
    if (this.inner !== undefined && !this.isLeaving && this.left.length === 0) return this.pass(this.inner, messages)
    if (this.inner === undefined && !this.isLeaving && this.state.skips) return this.skip(messages)
    this.isRefused = true
    return 0
  }

  close(options: Parameters<Lane["close"]>[0]): Effect.Effect<LaneReport> {
    return Effect.suspend(() => {
      this.isClosed = true
      const waiting = this.left.length
      this.left = []
      return this.inner === undefined
        ? Effect.succeed({ unfinished: waiting, lost: 0 })
        : Effect.map(this.inner.close(options), ({ lost, unfinished }) => ({ lost, unfinished: unfinished + waiting }))
    }).pipe(Effect.ensuring(Effect.sync(this.onClosed)))
  }

  /** Messages go to this handler from now on. */
  attach(consumer: Consumer): void {
    if (this.isClosed) return
    this.inner = consumer.assigned({
      topic: this.assignment.topic,
      partition: this.assignment.partition,
      epoch: this.assignment.epoch,
      finish: (message) => {
        const original = this.taken.get(message.offset)
        if (original === undefined) return
        this.taken.delete(message.offset)
        this.assignment.finish(original)
      },
      settle: (messages) =>
        Effect.uninterruptibleMask((restore) =>
          restore(this.assignment.settle(messages.map((message) => this.taken.get(message.offset) ?? message))).pipe(
            Effect.zipRight(Effect.sync(() => {
              for (const { offset } of messages) this.taken.delete(offset)
            }))
          )
        ),
      resume: () => this.goOn(),
      isOwned: () => this.assignment.isOwned?.() !== false
    })
    this.goOn()
  }

  /** The handler takes nothing more; its lane is about to be closed. */
  leave(): void {
    this.isLeaving = true
  }

  /** The handler's lane is closed. */
  detach(): void {
    this.inner = undefined
    this.isLeaving = false
    if (this.isClosed) return
    this.isStuck = false
    this.left = Array.from(this.taken.values(), (message) => ({ ...message, maybeDuplicate: true }))
    if (!this.state.skips) return
    if (this.left.length > 0) {
      const { partition, topic } = this.assignment
      this.state.warn(
        `${topic}[${partition}]: ${this.left.length} messages that the former handler left unfinished are not skipped. They wait for the next handler.`
      )
    }
    this.resume()
  }

  private pass(inner: Lane, messages: ReadonlyArray<IncomingMessage>): number {
    // Before: a lane may finish messages within its offer.
    for (const message of messages) this.taken.set(message.offset, message)
    const taken = inner.offer(messages)
    for (let i = taken; i < messages.length; i++) this.taken.delete(messages[i]!.offset)
    if (taken < messages.length) this.isRefused = true
    return taken
  }

  private skip(messages: ReadonlyArray<IncomingMessage>): number {
    for (const message of messages) this.assignment.finish(message)
    this.state.skipped += messages.length
    this.sayWhereStuck(messages[messages.length - 1]!.offset)
    return messages.length
  }

  private sayWhereStuck(offset: number): void {
    const [oldest] = this.left
    if (oldest === undefined || this.isStuck || offset - oldest.offset + 1 < this.state.mostAhead) return
    this.isStuck = true
    const { partition, topic } = this.assignment
    this.state.warn(
      `${topic}[${partition}] stands still: messages were skipped up to ${offset}, and ${oldest.offset} is left unfinished by the former handler (maxAboveWatermark). It goes on when a handler attaches.`
    )
  }

  /** What was left first; then the transport may offer again. */
  private goOn(): void {
    if (this.isClosed || this.isLeaving || this.inner === undefined) return
    if (this.left.length > 0) {
      this.left = this.left.slice(this.inner.offer(this.left))
      if (this.left.length > 0) return
    }
    this.resume()
  }

  private resume(): void {
    if (!this.isRefused) return
    this.isRefused = false
    try {
      this.assignment.resume()
    } catch (thrown) {
      // Other partitions wait for the same handler, or lose it with this one: they must not pay for it.
      if (this.hasThrown) return
      this.hasThrown = true
      const { partition, topic } = this.assignment
      this.state.warn(
        `The transport's resume threw (${
          describeCause(Cause.die(thrown))
        }), so it may offer nothing more of ${topic}[${partition}]`
      )
    }
  }
}
