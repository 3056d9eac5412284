/**
 * What this process has in hand of one consumer: messages that wait for the
 * lane, those that the lane took, and which ones are finished. Plain, synchronous
 * code; the order of an aggregate depends on it.
 */
import { ChurningMap } from "@effect-eventbus/core/ChurningMap"
import type { IncomingMessage, Lane } from "@effect-eventbus/core/Transport"
import type { Msg } from "nats"
import type { Acks } from "./Acks.js"
import type { Connection } from "./Connection.js"
import { type Position, type Source, toIncoming } from "./RawMessage.js"
import { SequenceSet } from "./SequenceSet.js"

/** A message that is neither finished nor settled. */
export interface Held {
  readonly message: IncomingMessage
  /** Where to acknowledge it; that of the latest delivery. */
  reply: string
  readonly size: number
  isOffered: boolean
}

export class Intake {
  lane: Lane | undefined
  readonly held = new ChurningMap<number, Held>()
  readonly finished = new SequenceSet(10_000)
  /** What waits for the lane, in stream order as soon as it flows. */
  private buffer: Array<Held> = []
  bufferedBytes = 0
  private isScheduled = false
  /** The lane refused messages and has not asked for more. */
  private isBlocked = false
  /** Messages are handed to the lane; while outstanding ones are recovered they are not. */
  private isFlowing = false
  isStopped = false
  /** Others read from the same consumer: gaps are what they got. */
  isShared = false
  /** The delivery that has to come next. */
  expected = 0
  /** The highest sequence that came. */
  highest = 0
  /** Up to which sequence others, or we before, may have handed messages over: a killed server forgets its last deliveries. */
  offeredBefore = 0
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
    private readonly onRoom: () => void
  ) {}

  get buffered(): number {
    return this.buffer.length
  }

  /** The message that the lane has to take next; undefined where none waits for it. */
  get next(): number | undefined {
    return this.isBlocked ? this.buffer[0]?.message.offset : undefined
  }

  get isOpen(): boolean {
    return this.isFlowing && !this.isBlocked && !this.isStopped
  }

  /** Takes a delivery; `false` when deliveries before it are missing. */
  receive(message: Msg, position: Position, reply: string): boolean {
    const isNext = this.isShared || position.delivery === this.expected
    this.expected = position.delivery + 1
    // What came after a gap waits until what is missing has come.
    if (!isNext) this.isFlowing = false
    if (this.isStopped) return isNext
    const { sequence } = position
    const isAgain = sequence <= Math.max(this.offeredBefore, this.highest)
    if (sequence > this.highest) this.highest = sequence
    const known = this.held.get(sequence)
    if (known !== undefined) known.reply = reply
    else if (this.finished.has(sequence)) this.acks.add(sequence, reply)
    else {
      const incoming = toIncoming(message, position, this.source, isAgain)
      const size = incoming.value === null ? 0 : incoming.value.length
      const held: Held = { message: incoming, reply, size, isOffered: false }
      this.held.set(sequence, held)
      this.buffer.push(held)
      this.bufferedBytes += size
      if (sequence <= this.recoverUpTo) this.recovered++
      else this.newer++
      if (isNext) this.schedule()
    }
    return isNext
  }

  /** Nothing is offered from now on: what is outstanding up to a sequence comes first. */
  recover(upTo: number): void {
    this.isFlowing = false
    this.recoverUpTo = upTo
    this.recovered = 0
    this.newer = 0
  }

  /** All that was outstanding has come: it goes to the lane, in stream order, before anything newer. */
  flow(): void {
    this.buffer.sort((a, b) => a.message.offset - b.message.offset)
    this.isFlowing = true
    this.schedule()
  }

  /** The lane has room again. What finishes in one turn of the event loop makes room for one offer, not for one each. */
  resume(): void {
    this.isBlocked = false
    if (this.isScheduled) return
    this.isScheduled = true
    setImmediate(this.offer)
  }

  /** Offers nothing more; what the lane has not taken is left to come again. */
  stop(): void {
    this.isStopped = true
    this.isFlowing = false
    for (const held of this.buffer) this.held.delete(held.message.offset)
    this.buffer = []
    this.bufferedBytes = 0
  }

  finish(message: IncomingMessage): void {
    const held = this.held.get(message.offset)
    if (held === undefined) return
    this.forget(held)
    this.acks.add(message.offset, held.reply)
  }

  /** The server has confirmed it, or is about to be told. */
  forget(held: Held): void {
    this.held.delete(held.message.offset)
    this.finished.add(held.message.offset)
  }

  /** Tells the server that all messages in hand are being worked on. */
  signalWorking(): void {
    if (!this.connection.isUp()) return
    try {
      this.connection.wire.tell("+WPI", Array.from(this.held.values(), ({ reply }) => reply))
    } catch {
      // The client is closed: there is nobody to tell.
    }
  }

  /** The stream is another one now: its sequences have nothing to do with what was. */
  reset(): void {
    this.held.clear()
    this.finished.clear()
    this.buffer = []
    this.bufferedBytes = 0
    this.highest = 0
    this.isBlocked = false
    this.isFlowing = false
  }

  /** The sequences above the floor that are outstanding for all one knows, and not in hand here. */
  missing(floor: number, upTo: number, limit: number): ReadonlyArray<number> {
    const missing: Array<number> = []
    let sequence = this.finished.next(floor + 1)
    while (sequence <= upTo && missing.length < limit) {
      if (!this.held.has(sequence)) missing.push(sequence)
      sequence = this.finished.next(sequence + 1)
    }
    return missing
  }

  /** Those that are finished here; the server, when it was killed, can have forgotten that. */
  done(floor: number, upTo: number, limit: number): ReadonlyArray<number> {
    const done: Array<number> = []
    let sequence = floor + 1
    while (sequence <= upTo && done.length < limit) {
      const end = this.finished.next(sequence)
      for (; sequence < end && done.length < limit; sequence++) done.push(sequence)
      sequence++
    }
    return done
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
      const taken = this.lane.offer(this.buffer.map((held) => held.message))
      for (let i = 0; i < taken; i++) {
        const held = this.buffer[i]!
        held.isOffered = true
        this.bufferedBytes -= held.size
      }
      this.isBlocked = taken < this.buffer.length
      this.buffer = this.isBlocked ? this.buffer.slice(taken) : []
    }
    if (!this.isBlocked) this.onRoom()
  }
}
