/** What is published: a call, its messages, and the topic that they go to. Plain objects, few for each message. */
import { ChurningMap } from "@effect-eventbus/core/ChurningMap"
import type { PublishError } from "@effect-eventbus/core/EventBusError"
import type { OutgoingMessage, Receipt, TopicSpec } from "@effect-eventbus/core/Transport"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import { Chain, type Link } from "./Chain.js"
import type { Message } from "./Client.js"
import type { Waiting as WaitsUntil } from "./Deadlines.js"
import { Frame } from "./Frame.js"
import type { Encoded } from "./HeaderCodec.js"
import type { Stream } from "./NatsStreams.js"
import type { Place } from "./Placement.js"
import type { Waiting } from "./Replies.js"
import { isSame, type StoredMessage } from "./StoredMessage.js"

export type Result = Either.Either<Receipt, PublishError>

/** One call of `publish`, which is answered as a whole. */
export class Call implements WaitsUntil<Call> {
  before: Call | undefined
  after: Call | undefined
  readonly entries: Array<Entry> = []
  /** Nobody wants its answer any more. */
  isAbandoned = false
  /** The callers that wait for it. */
  resume: (results: Effect.Effect<ReadonlyArray<Result>>) => void = ignore
  private readonly results: Array<Result>
  private remaining: number

  constructor(
    count: number,
    readonly deadline: number,
    /** Who waits for it; undefined where that can't be interrupted. */
    private readonly fiber: Fiber.RuntimeFiber<unknown, unknown> | undefined,
    /** Where the answer to an attempt goes. */
    readonly onReply: (entry: Entry, reply: Message | undefined) => void
  ) {
    this.results = new Array<Result>(count)
    this.remaining = count
  }

  get isAnswered(): boolean {
    return this.remaining === 0
  }

  /** Whether who waited was interrupted. To be asked where it matters: being told costs as much as half a publish. */
  get isForgotten(): boolean {
    return this.fiber !== undefined && !Cause.isEmpty(this.fiber.getFiberRef(FiberRef.interruptedCause))
  }

  /** Whether no message waits for being sent for the first time. */
  get isSent(): boolean {
    return this.entries.every((entry) => entry.isDone || entry.token !== undefined)
  }

  /** Complete when it is answered. */
  get answers(): ReadonlyArray<Result> {
    return this.results
  }

  answer(index: number, result: Result): void {
    this.results[index] = result
    if (--this.remaining === 0) this.resume(Effect.succeed(this.results))
  }
}

/** A topic, and its messages that wait for the stream to come back. */
export class TopicQueue {
  isReady = false
  isRecovering = false
  /** Whether the stream is being looked at, before something is sent to it again. */
  isInDoubt = false
  /** How often in a row nobody answered for the stream. */
  misses = 0
  readonly parked = new Chain<Entry>()
  /** The last unresolved message of each aggregate or key. */
  readonly last = new ChurningMap<string, Entry>()

  constructor(
    readonly spec: TopicSpec,
    readonly place: Place,
    /** The stream as it was last seen, or as it is taken to be. */
    public stream: Pick<Stream, "created" | "duplicateWindow" | "forgets">
  ) {}
}

/** One message. */
export class Entry implements Link<Entry>, Waiting {
  before: Entry | undefined
  after: Entry | undefined
  /** What it is in: those that may be sent, that were, or that wait for the stream of their topic. */
  private chain: Chain<Entry> | undefined
  /** The one after it in the order of its aggregate. */
  next: Entry | undefined
  /** Whether nothing before it in the order is unresolved. */
  isFirst = false
  isDone = false
  /** Which reply answers the attempt under way; undefined when there is none. */
  token: number | undefined
  sentAt = 0
  /** Whether an attempt may have been written that nobody acknowledged. */
  maybeWritten = false
  /** Whether no answer can come to the last attempt any more. */
  isUnanswerable = false
  /** Whether its stream was found not to know it again: that stays so. */
  isSpent = false
  /** When the first attempt was made that may have been written, and in which stream. */
  private firstAt = 0
  private firstStream = ""
  readonly size: number
  readonly order: string | undefined
  /** Undefined before the first attempt; then it has the headers and the value. */
  private frame: Frame | undefined
  private headers: Encoded | undefined
  private value: Uint8Array | undefined

  constructor(
    readonly call: Call,
    readonly index: number,
    readonly topic: TopicQueue,
    readonly subject: string,
    readonly partition: number,
    headers: Encoded,
    message: OutgoingMessage
  ) {
    this.order = orderOf(message)
    this.headers = headers
    this.value = message.value ?? nothing
    this.size = headers.size + this.value.length
  }

  moveTo(chain: Chain<Entry> | undefined): void {
    this.chain?.remove(this)
    this.chain = chain
    chain?.append(this)
  }

  /** An attempt is made now. */
  attempted(now: number): void {
    this.sentAt = now
    this.isUnanswerable = false
    if (this.maybeWritten) return
    this.firstAt = now
    this.firstStream = this.topic.stream.created
  }

  /** Whether the stream drops a second copy of what may have been written, as far as it is known: it is the same stream, and still knows the id. */
  isRepeatable(now: number): boolean {
    const { duplicateWindow } = this.topic.stream
    return this.isWorthAsking && now - this.firstAt < duplicateWindow * (1 - underway)
  }

  /** Whether that can be so at all. */
  get isWorthAsking(): boolean {
    const { created, forgets } = this.topic.stream
    return !this.isSpent && !forgets && created === this.firstStream
  }

  /** Those behind it in the order of its aggregate. */
  *followers(): IterableIterator<Entry> {
    for (let entry = this.next; entry !== undefined; entry = entry.next) yield entry
  }

  onReply(reply: Message | undefined): void {
    this.call.onReply(this, reply)
  }

  /** Whether this is what a stream has under its id; it was sent before. */
  isStoredAs(stored: StoredMessage): boolean {
    return this.frame !== undefined && isSame(this.frame.subject, this.frame, stored)
  }

  /** What is sent where the answer is to come to this subject. */
  frameFor(reply: string): Frame {
    if (this.frame === undefined) {
      this.frame = Frame.make(this.subject, reply, this.headers!.block, this.headers!.size, this.value!)
      this.headers = undefined
      this.value = undefined
    } else if (this.frame.reply !== reply) this.frame = this.frame.to(reply)
    return this.frame
  }
}

/** The part of a duplicate window that is left to an attempt for its way to the stream. */
const underway = 0.1

const ignore = () => {}

const nothing = new Uint8Array(0)

/** What a message is ordered by: its aggregate, else its key; nothing else is ordered. */
const orderOf = (message: OutgoingMessage): string | undefined =>
  message.aggregateId ?? (message.key === null ? undefined : Buffer.from(message.key).toString("latin1"))
