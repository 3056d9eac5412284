/**
 * Acknowledgements on their way. They are sent together at the end of the tick,
 * and the last of them asks for an answer: the server works them off in order, so
 * one answer confirms all before it. What is not confirmed is sent again after a
 * reconnect, for the client drops what it had buffered.
 */
import * as Effect from "effect/Effect"
import type { Connection } from "./Connection.js"

const ack = new TextEncoder().encode("+ACK")

interface Ack {
  readonly sequence: number
  /** Where it is to be sent. */
  readonly subject: string
}

export class Acks {
  /** To be sent. */
  private queued: Array<Ack> = []
  /** Sent, and covered by the answer that is awaited. */
  private awaited: Array<Ack> = []
  /** Sent after that. */
  private later: Array<Ack> = []
  private answer: string | undefined
  private askedAt = 0
  private isScheduled = false
  private onDone: Array<() => void> = []

  constructor(private readonly connection: Connection, private readonly answerTimeout: number) {}

  /** How many were added and are not confirmed. */
  get size(): number {
    return this.queued.length + this.awaited.length + this.later.length
  }

  /** Acknowledges a message soon, at its reply subject. */
  add(sequence: number, subject: string): void {
    this.queued.push({ sequence, subject })
    if (this.isScheduled) return
    this.isScheduled = true
    queueMicrotask(this.flush)
  }

  /** Succeeds when the server has confirmed all that was added so far. */
  readonly confirmed: Effect.Effect<void> = Effect.async<void>((resume) => {
    if (this.isDone()) return resume(Effect.void)
    const done = () => resume(Effect.void)
    this.onDone.push(done)
    this.flush()
    return Effect.sync(() => {
      this.onDone = this.onDone.filter((other) => other !== done)
    })
  })

  /** The answer did not come, or can't come any more: all is sent again. To be called from time to time. */
  retry(now: number): void {
    if (this.answer === undefined || now - this.askedAt < this.answerTimeout) return
    this.resend()
  }

  /** After a reconnect: what was sent before may not have arrived. */
  resend(): void {
    if (this.answer !== undefined) this.connection.replies.forget(this.answer)
    this.answer = undefined
    this.queued = [...this.awaited, ...this.later, ...this.queued]
    this.awaited = []
    this.later = []
    if (this.queued.length > 0) this.flush()
  }

  /**
   * A server that was killed can have forgotten what it delivered. It does not answer acknowledgements above that; the
   * messages come again, and are acknowledged then.
   */
  forgetAbove(delivered: number): void {
    const isKnown = (ack: Ack) => ack.sequence <= delivered
    const all = [...this.awaited, ...this.later, ...this.queued]
    const known = all.filter(isKnown)
    if (known.length === all.length) return
    this.clear()
    this.queued = known
    this.flush()
    this.signalDone()
  }

  /** Nobody wants them any more: the stream is another one. */
  clear(): void {
    if (this.answer !== undefined) this.connection.replies.forget(this.answer)
    this.answer = undefined
    this.queued = []
    this.awaited = []
    this.later = []
  }

  private isDone(): boolean {
    return this.size === 0
  }

  private readonly flush = (): void => {
    this.isScheduled = false
    if (this.queued.length === 0 || !this.connection.isUp()) return
    const queued = this.queued
    this.queued = []
    const last = queued.length - 1
    for (let i = 0; i < last; i++) this.publish(queued[i]!)
    if (this.answer === undefined) {
      this.awaited = queued
      this.publish(queued[last]!, this.ask())
    } else {
      this.publish(queued[last]!)
      for (const ack of queued) this.later.push(ack)
    }
  }

  private ask(): string {
    this.askedAt = performance.now()
    return this.answer = this.connection.replies.expect((reply) => {
      this.answer = undefined
      // Nothing is awaited from a connection that has ended. No responders: the consumer is gone.
      if (reply === undefined) return
      this.awaited = []
      if (this.later.length > 0) {
        this.awaited = this.later
        this.later = []
        this.publish(this.awaited[this.awaited.length - 1]!, this.ask())
      } else this.signalDone()
    })
  }

  private signalDone(): void {
    if (!this.isDone()) return
    const onDone = this.onDone
    this.onDone = []
    for (const done of onDone) done()
  }

  private publish({ subject }: Ack, reply?: string): void {
    try {
      this.connection.client.publish(subject, ack, reply === undefined ? {} : { reply })
    } catch {
      // The client is closed: the message stays unsettled, and comes again.
    }
  }
}
