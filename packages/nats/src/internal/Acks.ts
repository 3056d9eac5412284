/**
 * Acknowledgements on their way. Those of one turn of the event loop are sent together (each timer, and so each handler
 * that waited, is a tick of its own). From time to time the last of them asks for an answer: the server works them off in
 * order, so one answer confirms all before it. What is not confirmed is sent again after a reconnect, for the client drops what it
 * had buffered. While the server denies them one is sent from time to time, and all others are held.
 */
import * as Effect from "effect/Effect"
import type { Denied } from "../NatsErrors.js"
import { type Message, statusOf } from "./Client.js"
import type { Connection } from "./Connection.js"

/** How long nobody asks after an answer was asked for, in milliseconds, unless somebody waits for it: each is a packet of its own. */
const askInterval = 50

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
  /** Sent, and covered by no answer that was asked for. */
  private later: Array<Ack> = []
  /** While the server denies them: where each is to be sent, as its latest delivery says. */
  private held: Map<number, string> | undefined
  private answer: number | undefined
  private askedAt = -Infinity
  private isScheduled = false
  private onDone: Array<() => void> = []
  /** Since when something waits, or the last answer came. */
  private waitsSince = 0
  /** What the server has refused, if it has; its user may have no right to acknowledge. */
  private refusal: Denied | undefined

  constructor(
    private readonly connection: Connection,
    private readonly answerTimeout: number,
    /** Told how many the server has confirmed. */
    private readonly onConfirmed?: (count: number) => void
  ) {}

  /** What the server has refused. */
  get denied(): Denied | undefined {
    return this.refusal
  }

  /** The server refuses them: they are held from now on. */
  set denied(denied: Denied | undefined) {
    this.refusal = denied
    if (denied === undefined || this.held !== undefined) return
    this.held = new Map()
    for (const acks of [this.awaited, this.later, this.queued]) this.hold(acks)
    this.awaited = []
    this.later = []
    this.queued = []
  }

  /** How many were added and are not confirmed. */
  get size(): number {
    return this.queued.length + this.awaited.length + this.later.length + (this.held?.size ?? 0)
  }

  private hold(acks: ReadonlyArray<Ack>): void {
    for (const { sequence, subject } of acks) this.held!.set(sequence, subject)
  }

  /** Acknowledges a message soon, at its reply subject. */
  add(sequence: number, subject: string): void {
    if (this.size === 0) this.waitsSince = performance.now()
    if (this.held !== undefined) return void this.held.set(sequence, subject)
    this.queued.push({ sequence, subject })
    if (this.isScheduled) return
    this.isScheduled = true
    setImmediate(this.flush)
  }

  /** Succeeds when the server has confirmed all that was added so far. */
  readonly confirmed: Effect.Effect<void> = Effect.async<void>((resume) => {
    if (this.isDone()) return resume(Effect.void)
    const done = () => resume(Effect.void)
    this.onDone.push(done)
    this.flush()
    this.askAgain()
    return Effect.sync(() => {
      this.onDone = this.onDone.filter((other) => other !== done)
    })
  })

  /**
   * Asks for an answer that is missing. One that did not come, or can't come any more: all is sent again. To be called
   * from time to time.
   */
  retry(now: number): void {
    if (this.queued.length > 0) this.flush()
    if (this.answer === undefined && (this.held === undefined || now - this.askedAt >= this.answerTimeout)) {
      this.askAgain()
    } else if (now - this.askedAt >= this.answerTimeout) this.resend()
  }

  /** For how long something has waited without any answer, in milliseconds. */
  unconfirmedFor(now: number): number {
    return this.size === 0 ? 0 : now - this.waitsSince
  }

  /** After a reconnect: what was sent before may not have arrived. */
  reconnected(): void {
    this.waitsSince = performance.now()
    this.resend()
  }

  private resend(): void {
    this.forgetAnswer()
    this.askedAt = -Infinity
    this.queued = [...this.awaited, ...this.later, ...this.queued]
    this.awaited = []
    this.later = []
    if (this.held !== undefined) this.askAgain()
    else if (this.queued.length > 0) this.flush()
  }

  /**
   * A server that was killed can have forgotten what it delivered. It does not answer acknowledgements above that; the
   * messages come again, and are acknowledged then.
   */
  forgetAbove(delivered: number): void {
    const before = this.size
    for (const sequence of this.held?.keys() ?? []) if (sequence > delivered) this.held!.delete(sequence)
    const isKnown = (ack: Ack) => ack.sequence <= delivered
    const known = [...this.awaited, ...this.later, ...this.queued].filter(isKnown)
    if (known.length + (this.held?.size ?? 0) === before) return
    this.forgetAnswer()
    this.awaited = []
    this.later = []
    this.queued = known
    this.flush()
    this.signalDone()
  }

  /** Nobody wants them any more: the stream is another one. */
  clear(): void {
    this.forgetAnswer()
    this.queued = []
    this.awaited = []
    this.later = []
    this.held?.clear()
  }

  private forgetAnswer(): void {
    if (this.answer !== undefined) this.connection.replies.forget(this.answer)
    this.answer = undefined
  }

  private isDone(): boolean {
    return this.size === 0
  }

  private readonly flush = (): void => {
    this.isScheduled = false
    if (this.queued.length === 0 || !this.connection.isUp()) return
    const queued = this.queued
    this.queued = []
    const asks = this.answer === undefined &&
      (this.onDone.length > 0 || performance.now() - this.askedAt >= askInterval)
    for (const ack of queued) this.later.push(ack)
    this.send(queued, asks)
  }

  /** What was sent, and covered by no answer, is covered by that to its last, which is sent once more. Of those that are held one is tried. */
  private askAgain(): void {
    if (this.answer !== undefined || !this.connection.isUp()) return
    const last = this.held === undefined ? this.later.at(-1) : nextOf(this.held)
    if (last !== undefined) this.send([last], true)
  }

  private send(acks: ReadonlyArray<Ack>, asks: boolean): void {
    try {
      this.connection.wire.tell("+ACK", acks.map(({ subject }) => subject), asks ? this.ask() : undefined)
    } catch {
      // The client is closed: the message stays unsettled, and comes again.
    }
  }

  private ask(): string {
    this.askedAt = performance.now()
    this.awaited = this.later
    this.later = []
    const { replies } = this.connection
    return replies.subject(this.answer = replies.expect(this))
  }

  /** The answer that was asked for. */
  onReply(reply: Message | undefined): void {
    this.answer = undefined
    // No answers come any more, so nothing is known; or nobody has heard them, nor those behind them: the consumer has no leader at the
    // moment, or is gone.
    if (reply === undefined || statusOf(reply) === 503) {
      this.queued = [...this.awaited, ...this.later, ...this.queued]
      this.awaited = []
      this.later = []
      return
    }
    if (this.held !== undefined) return this.release()
    if (this.awaited.length > 0) this.onConfirmed?.(this.awaited.length)
    this.waitsSince = performance.now()
    this.denied = undefined
    this.awaited = []
    if (this.onDone.length > 0) this.askAgain()
    this.signalDone()
  }

  /** The server takes them again. */
  private release(): void {
    this.queued = Array.from(this.held!, ([sequence, subject]) => ({ sequence, subject }))
    this.held = undefined
    this.refusal = undefined
    this.askedAt = -Infinity
    this.flush()
    this.signalDone()
  }

  private signalDone(): void {
    if (!this.isDone()) return
    const onDone = this.onDone
    this.onDone = []
    for (const done of onDone) done()
  }
}

/** Another one each time: there can be such that the server has forgotten, and does not answer. */
const nextOf = (held: Map<number, string>): Ack | undefined => {
  const [next] = held
  if (next === undefined) return undefined
  const [sequence, subject] = next
  held.delete(sequence)
  held.set(sequence, subject)
  return { sequence, subject }
}
