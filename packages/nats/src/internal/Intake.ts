/**
 * What this process has in hand of one consumer: messages that wait for the
 * lane, those that the lane took, and which ones are finished. Plain, synchronous
 * code; the order of an aggregate depends on it.
 */
import { ChurningMap } from "@effect-eventbus/core/ChurningMap"
import type { IncomingMessage, Lane } from "@effect-eventbus/core/Transport"
import type { Acks } from "./Acks.js"
import type { Message } from "./Client.js"
import type { Connection } from "./Connection.js"
import { type Position, type Source, toIncoming } from "./RawMessage.js"
import { isOpen, ReaderLife } from "./ReaderState.js"
import { SequenceSet } from "./SequenceSet.js"

/** A message that is neither finished nor settled. */
export interface Held {
  readonly message: IncomingMessage
  /** Where to acknowledge it; that of the latest delivery. Undefined where the server has forgotten that. */
  reply: string | undefined
  /** When the server stored it, in milliseconds since the epoch. */
  readonly storedAt: number
  readonly size: number
  isOffered: boolean
}

export class Intake {
  lane: Lane | undefined
  readonly held = new ChurningMap<number, Held>()
  /** What need not come: it is finished, by whomever, or is no message of this consumer. */
  readonly finished = new SequenceSet(10_000)
  /** No message that came, or that is finished, was stored later: one that comes at such a sequence and was is another message. */
  latest = 0
  /** What waits for the lane, in stream order as soon as it flows. */
  private buffer: Array<Held> = []
  bufferedBytes = 0
  private isScheduled = false
  /** The delivery that has to come next. */
  expected = 0
  /** The highest sequence that came. */
  highest = 0
  /** Up to which sequence others, or we before, may have handed messages over: a killed server forgets its last deliveries. */
  offeredBefore = 0
  /**
   * Up to here each sequence is in hand, finished, or no message of this consumer; undefined where one can have been delivered that
   * did not come.
   */
  private completeUpTo: number | undefined
  /** The consumer gets all messages of its stream. */
  isWhole = false
  /** The server's count of what is left can be relied on. */
  isCounted = false
  /** How many messages are gone that were there to be read: exactly where the consumer is a whole stream's, else so many at least. */
  vanished = 0
  /** How many were left to be delivered after the last delivery. */
  private pending = NaN
  /** The same, also where deliveries are missing or are others': for whoever looks, and not for what is settled. */
  private left: number | undefined
  private recoverUpTo = 0
  /** How many messages came since `recover` that were unknown here, up to its sequence and above it. */
  recovered = 0
  newer = 0

  constructor(
    private readonly connection: Connection,
    private readonly acks: Acks,
    /** Which partition it is; undefined where the topic has none. */
    private readonly source: Source | undefined,
    /** Whether nobody else can have what comes here in hand. */
    private readonly isOwner: () => boolean,
    /** There is room again for what a pull request may bring. */
    private readonly onRoom: () => void,
    /** How many of these, from the first one on, may be handed over. */
    private readonly allowed: (messages: ReadonlyArray<IncomingMessage>) => number = ({ length }) => length,
    readonly life = new ReaderLife()
  ) {}

  get buffered(): number {
    return this.buffer.length
  }

  /** The lowest sequence that was not handed over yet, and the lowest that is not finished. */
  get standing(): { readonly position: number; readonly watermark: number } {
    let position = Math.max(this.highest, this.completeUpTo ?? 0) + 1
    let watermark = position
    for (const { isOffered, message: { offset } } of this.held.values()) {
      if (offset < watermark) watermark = offset
      if (!isOffered && offset < position) position = offset
    }
    return { position, watermark }
  }

  /** At least what the stream's end is, by what the server said last; undefined where it said nothing. */
  get knownEnd(): number | undefined {
    return this.left === undefined ? undefined : Math.max(this.highest, this.completeUpTo ?? 0) + this.left + 1
  }

  /**
   * The server was asked how much is left while this delivery was the next one. What a delivery says of that can be wrong, and
   * nothing comes that corrects it where the messages were removed, or were never for this consumer.
   */
  tellLeft(left: number, expected: number): void {
    if (expected === this.expected) this.left = left
  }

  /** The message that the lane has to take next; undefined where none waits for it. */
  get next(): number | undefined {
    return this.life.state.waitsFor === "Nobody" ? undefined : this.buffer[0]?.message.offset
  }

  get isOpen(): boolean {
    return isOpen(this.life.state)
  }

  /** Takes a delivery; `false` when deliveries before it are missing. */
  receive(message: Message, position: Position, reply: string): boolean {
    const { life } = this
    const { isShared } = life.state
    const isNext = isShared || position.delivery === this.expected
    this.expected = position.delivery + 1
    // What came after a gap waits until what is missing has come.
    if (!isNext) life.tell({ _tag: "Gap" })
    if (!isNext || isShared) this.completeUpTo = undefined
    if (life.state.phase._tag === "Stopped") return isNext
    const { sequence, timestamp } = position
    const known = this.held.get(sequence)
    const isFinished = this.finished.has(sequence)
    if (known === undefined ? isFinished && timestamp > this.latest : known.storedAt !== timestamp) {
      life.tell({ _tag: "Rewritten", sequence })
    }
    if (life.state.changedFrom !== undefined) return isNext
    const isAgain = sequence <= Math.max(this.offeredBefore, this.highest)
    if (sequence > this.highest) this.highest = sequence
    if (timestamp > this.latest) this.latest = timestamp
    this.left = position.pending
    this.bridge(position)
    if (known !== undefined) known.reply = reply
    else {
      if (sequence <= this.recoverUpTo) this.recovered++
      else if (!isFinished) this.newer++
      if (isFinished) this.acks.add(sequence, reply)
      else {
        this.take(toIncoming(message, position, this.source, isAgain), timestamp, reply)
        if (isNext) this.schedule()
      }
    }
    return isNext
  }

  private take(message: IncomingMessage, storedAt: number, reply: string): void {
    const size = message.value === null ? 0 : message.value.length
    const held: Held = { message, reply, storedAt, size, isOffered: false }
    this.held.set(message.offset, held)
    this.buffer.push(held)
    this.bufferedBytes += size
  }

  /** What lies between two deliveries that follow each other is others', or is gone. */
  private bridge({ count, delivery, pending, sequence }: Position): void {
    if (this.completeUpTo === undefined) {
      this.pending = NaN
      return
    }
    // Of those that are left each new delivery takes one, and others can only be added.
    const left = this.pending - (count === 1 ? 1 : 0)
    if (this.isCounted && !this.isWhole && pending < left) this.vanished += left - pending
    this.pending = pending
    if (sequence <= this.completeUpTo) return
    if (this.isWhole && delivery > 1) this.vanished += sequence - this.completeUpTo - 1
    this.finished.addRange(this.completeUpTo + 1, sequence)
    this.completeUpTo = sequence
  }

  /** All that was delivered up to this sequence, to whomever, is in hand, or need not come. */
  complete(upTo: number): void {
    if (this.life.state.isShared) return
    let from = 0
    for (const sequence of Array.from(this.held.keys()).sort((a, b) => a - b)) {
      if (sequence > upTo) break
      this.finished.addRange(from, sequence)
      from = sequence + 1
    }
    this.finished.addRange(from, upTo + 1)
    this.completeUpTo = upTo
  }

  /** A server that was killed can have forgotten what it delivered: what is above this sequence comes again. */
  forgetAbove(delivered: number): void {
    for (const held of this.held.values()) if (held.message.offset > delivered) held.reply = undefined
  }

  /** Nothing is offered from now on: what is outstanding up to a sequence comes first. */
  recover(upTo: number, isShared?: boolean): void {
    this.life.tell({ _tag: "Recovers", isShared })
    this.completeUpTo = undefined
    this.pending = NaN
    this.left = undefined
    this.recoverUpTo = upTo
    this.recovered = 0
    this.newer = 0
  }

  /** All that was outstanding has come: it goes to the lane, in stream order, before anything newer. */
  flow(): void {
    this.buffer.sort((a, b) => a.message.offset - b.message.offset)
    if (this.life.tell({ _tag: "Recovered" }) === "offer") this.schedule()
  }

  /** There is room again. What finishes in one turn of the event loop makes room for one offer, not for one each. */
  resume(by: "Lane" | "Limit" = "Lane"): void {
    if (this.life.tell({ _tag: "Resumed", by }) === "nothing" || this.isScheduled) return
    this.isScheduled = true
    setImmediate(this.offer)
  }

  /** Offers nothing more; what the lane has not taken is left to come again. */
  stop(): void {
    this.life.tell({ _tag: "Stopped" })
    for (const held of this.buffer) this.held.delete(held.message.offset)
    this.buffer = []
    this.bufferedBytes = 0
  }

  finish(message: IncomingMessage): void {
    const held = this.held.get(message.offset)
    if (held === undefined) return
    this.held.delete(message.offset)
    this.finished.add(message.offset)
    // Of another message that has its sequence now nothing is known.
    if (held.reply !== undefined && this.life.state.changedFrom === undefined) this.acks.add(message.offset, held.reply)
  }

  /** Tells the server that all messages in hand are being worked on. */
  signalWorking(): void {
    // They are acknowledgements of a kind, and denied with them.
    if (!this.connection.isUp() || this.acks.denied !== undefined) return
    try {
      const replies = Array.from(this.held.values(), ({ reply }) => reply)
      this.connection.wire.tell("+WPI", replies.filter((reply) => reply !== undefined))
    } catch {
      // The client is closed: there is nobody to tell.
    }
  }

  /** From this sequence on the stream is another one now. */
  reset(from: number): void {
    this.held.clear()
    this.finished.removeFrom(from)
    if (from === 0) this.latest = 0
    this.completeUpTo = undefined
    this.buffer = []
    this.bufferedBytes = 0
    this.highest = Math.min(this.highest, Math.max(0, from - 1))
    this.left = undefined
    this.life.tell({ _tag: "StartedOver" })
  }

  /** The sequences above the floor that can be outstanding, and are not in hand here. What is finished here the server may have forgotten. */
  missing(floor: number, upTo: number, limit: number): ReadonlyArray<number> {
    const missing: Array<number> = []
    for (let sequence = floor + 1; sequence <= upTo && missing.length < limit; sequence++) {
      if (!this.held.has(sequence)) missing.push(sequence)
    }
    return missing
  }

  private schedule(): void {
    if (this.isScheduled) return
    this.isScheduled = true
    queueMicrotask(this.offer)
  }

  private readonly offer = (): void => {
    this.isScheduled = false
    if (!this.isOpen || this.lane === undefined || !this.isOwner()) return
    if (this.buffer.length > 0) {
      const waiting = this.buffer.map((held) => held.message)
      const count = this.allowed(waiting)
      const taken = count === 0 ? 0 : this.lane.offer(count === waiting.length ? waiting : waiting.slice(0, count))
      for (let i = 0; i < taken; i++) {
        const held = this.buffer[i]!
        held.isOffered = true
        this.bufferedBytes -= held.size
      }
      const isRefused = taken < this.buffer.length
      if (isRefused) this.life.tell({ _tag: "Refused", by: taken < count ? "Lane" : "Limit" })
      this.buffer = isRefused ? this.buffer.slice(taken) : []
      if (isRefused) return
    }
    this.onRoom()
  }
}
