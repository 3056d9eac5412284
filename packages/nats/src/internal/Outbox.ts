/**
 * What is on its way to the streams. Plain, synchronous code: one object per
 * message, no fiber and no promise.
 */
import { type PublishError, PublishFailed } from "@effect-eventbus/core/EventBusError"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { Settings } from "../NatsConfig.js"
import { type Denied, deniedInWords, isTemporary, toPublishError } from "../NatsErrors.js"
import { parse, sequenceOf } from "./Api.js"
import { Chain } from "./Chain.js"
import type { Message } from "./Client.js"
import type { Connection } from "./Connection.js"
import { Deadlines } from "./Deadlines.js"
import type { Call, Entry, Result, TopicQueue } from "./Outgoing.js"
import * as PublishFailures from "./PublishFailures.js"
import { refused } from "./PublishFailures.js"
import { isNoResponders } from "./Replies.js"
import type { StoredMessage } from "./StoredMessage.js"

/** How many bytes can wait for their acknowledgement at once, beside the number of messages. */
const maxInFlightBytes = 16 * 1_048_576

/** What the outbox can't find out by itself. */
export interface Questions {
  /** Nobody answered for a topic's stream; has to end with `release` or `reject`. */
  readonly onMissing: (topic: TopicQueue) => void
  /** Whether the stream still drops a second copy of what it may have: its settings can have changed. Has to end with `decide`. */
  readonly onDoubt: (topic: TopicQueue) => void
  /** A stream says that it has a message's id already; has to end with `compare`. */
  readonly onDuplicate: (entry: Entry, stream: string, sequence: number) => void
}

export class Outbox {
  isClosed = false
  /** In the order of their attempts. */
  private readonly sent = new Chain<Entry>()
  private sentBytes = 0
  /** How many can still be answered: those that were sent, and those in doubt. */
  private unanswered = 0
  /** May have been written, and wait for what is known of their streams before they are sent again. */
  private readonly doubtful = new Chain<Entry>()
  /** May be sent, as soon as there is room. */
  private readonly ready = new Chain<Entry>()
  private timer: NodeJS.Timeout | undefined
  private onEmpty: (() => void) | undefined
  private readonly calls = new Deadlines<Call>((call) => this.expire(call))

  constructor(
    private readonly connection: Connection,
    private readonly settings: Settings,
    private readonly questions: Questions
  ) {
    connection.listeners.add(this.listener)
  }

  private readonly listener = {
    onReconnect: () => this.repeat(),
    onClosed: () => this.failAll(),
    onDenied: (denied: Denied) => this.deny(denied)
  }

  /** Sends the call's messages, each as soon as it may be sent; none when the outbox was closed since it was looked at. */
  send(call: Call): void {
    this.calls.add(call)
    if (this.isClosed || this.connection.client.isClosed()) return this.failRest(call)
    for (const entry of call.entries) this.add(entry)
    this.pump()
  }

  private add(entry: Entry): void {
    if (entry.order === undefined) return this.makeReady(entry)
    const last = entry.topic.last.get(entry.order)
    entry.topic.last.set(entry.order, entry)
    if (last === undefined) this.makeReady(entry)
    else last.next = entry
  }

  /** Sends what may be sent. */
  private pump(): void {
    if (this.ready.first === undefined) return
    const now = performance.now()
    for (let entry = this.ready.first; entry !== undefined && this.connection.isUp(); entry = this.ready.first) {
      const isFull = this.unanswered >= this.settings.maxInFlight ||
        (this.unanswered > 0 && this.sentBytes + entry.size > maxInFlightBytes)
      if (isFull) return
      if (entry.topic.isRecovering) entry.moveTo(entry.topic.parked)
      // It waited for room, and the stream may have forgotten it meanwhile.
      else if (entry.maybeWritten && !entry.isRepeatable(now)) this.giveUpUnknown(entry)
      else this.attempt(entry, now)
    }
  }

  /**
   * The call's time is over. What waits behind its messages fails with them: if it went out, they could only be
   * published again behind it.
   */
  private expire(call: Call): void {
    if (call.isForgotten) return this.abandon(call)
    const isUp = this.connection.isUp()
    for (const entry of call.entries) {
      if (entry.isDone) continue
      const { misses, spec } = entry.topic
      const reason = isUp && misses === 0 ? "Timeout" : "Unreachable"
      const outcome = entry.maybeWritten || entry.token !== undefined ? "unknown" : "not-written"
      this.giveUp(entry, new PublishFailed({ topic: spec.name, reason, outcome }))
    }
    this.pump()
  }

  /** And all that waits behind it. */
  private giveUp(entry: Entry, failed: PublishFailed): void {
    const followers = [...entry.followers()]
    this.finish(entry, Either.left(failed))
    for (const behind of followers) {
      if (behind.isDone) continue
      this.finish(behind, Either.left(PublishFailures.behind(failed)))
    }
  }

  /** It may have been written, and the stream would not know it again. */
  private giveUpUnknown(entry: Entry): void {
    this.giveUp(entry, PublishFailures.unknown(entry))
  }

  /** The server takes nothing for this subject: an attempt was not written. */
  private deny(denied: Denied): void {
    if (denied.operation !== "publish") return
    for (const entry of [...this.sent, ...this.doubtful]) {
      if (entry.isDone || entry.subject !== denied.subject) continue
      this.finish(entry, Either.left(refused(entry, PublishFailures.denied(entry, denied))))
    }
    this.pump()
  }

  /** Nobody waits for the call any more: what was not sent is not sent. */
  abandon(call: Call): void {
    if (call.isAnswered || call.isAbandoned) return
    call.isAbandoned = true
    this.calls.remove(call)
    for (const entry of call.entries) {
      if (entry.isDone) continue
      this.settle(entry)
    }
    this.pump()
  }

  isWaiting(topic: TopicQueue): boolean {
    return topic.parked.size > 0
  }

  isInDoubt(topic: TopicQueue): boolean {
    for (const entry of this.doubtful) if (entry.topic === topic) return true
    return false
  }

  /** The stream is known as it is now, or not at all. What it would not know again is not sent again. */
  decide(topic: TopicQueue, isKnown: boolean): void {
    topic.isInDoubt = false
    // There is another look when the connection is back.
    if (!this.connection.isUp()) return
    const now = performance.now()
    for (const entry of [...this.doubtful]) {
      if (entry.topic !== topic || entry.isDone) continue
      entry.isSpent = !isKnown || !entry.isRepeatable(now)
      if (entry.call.isForgotten) this.abandon(entry.call)
      else if (!entry.isSpent) this.attempt(entry, now)
      else if (entry.isUnanswerable) this.giveUpUnknown(entry)
      else entry.moveTo(this.sent)
    }
    this.pump()
  }

  /** The stream of a topic is there. */
  release(topic: TopicQueue): void {
    topic.isRecovering = false
    const now = performance.now()
    for (const entry of [...topic.parked]) {
      if (entry.isDone) continue
      // The last attempt is known not to be written, and nobody waits for it.
      if (entry.call.isForgotten) this.abandon(entry.call)
      else if (entry.maybeWritten && !entry.isRepeatable(now)) this.giveUpUnknown(entry)
      else entry.moveTo(this.ready)
    }
    this.pump()
  }

  /** The stream of a topic is not there, and does not come back. */
  reject(topic: TopicQueue, error: PublishError): void {
    topic.isReady = false
    topic.misses = 0
    topic.isRecovering = false
    // Those behind a rejected one become ready, and find out for themselves.
    for (const entry of [...topic.parked]) this.finish(entry, Either.left(refused(entry, error)))
    this.pump()
  }

  /** Takes nothing more, and gives what is in flight a last chance. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.isClosed = true
    // Without a connection nothing is answered, and nobody waits for these.
    if (!this.connection.isUp()) {
      for (const call of [...this.calls.waiting]) if (call.isForgotten) this.abandon(call)
    }
    const answered = Effect.async<void>((resume) => {
      if (this.unanswered === 0) return resume(Effect.void)
      this.onEmpty = () => resume(Effect.void)
    })
    return this.connection.closing.within(answered).pipe(
      Effect.zipRight(Effect.sync(() => {
        this.connection.listeners.delete(this.listener)
        clearInterval(this.timer)
        this.calls.end()
        this.failAll()
      }))
    )
  })

  private failAll(): void {
    for (const call of [...this.calls.waiting]) this.failRest(call)
  }

  private failRest(call: Call): void {
    for (const entry of call.entries) {
      if (!entry.isDone) this.fail(entry, entry.token === undefined ? "not-written" : "unknown")
    }
  }

  private fail(entry: Entry, outcome: "unknown" | "not-written"): void {
    const { denied } = this.connection.replies
    const closed = this.isClosed ? "the transport was closed" : "the connection was closed for good"
    this.finish(
      entry,
      Either.left(
        new PublishFailed({
          topic: entry.topic.spec.name,
          reason: "Unreachable",
          outcome: entry.maybeWritten ? "unknown" : outcome,
          cause: denied === undefined ? closed : deniedInWords(denied)
        })
      )
    )
  }

  private makeReady(entry: Entry): void {
    entry.isFirst = true
    entry.moveTo(this.ready)
  }

  private attempt(entry: Entry, now: number): void {
    const { replies, wire } = this.connection
    if (entry.token === undefined) {
      entry.token = replies.expect(entry)
      this.sentBytes += entry.size
      this.unanswered++
    }
    entry.attempted(now)
    entry.moveTo(this.sent)
    this.timer ??= setInterval(() => this.resendOverdue(), Math.ceil(this.settings.ackTimeout / 4))
    try {
      wire.publish(entry.frameFor(replies.subject(entry.token)))
    } catch (cause) {
      this.finish(
        entry,
        Either.left(
          new PublishFailed({
            topic: entry.topic.spec.name,
            reason: this.connection.client.isClosed() ? "Unreachable" : "Rejected",
            outcome: entry.maybeWritten ? "unknown" : "not-written",
            cause
          })
        )
      )
    }
  }

  /** The connection is back: what was sent before gets no answer any more. */
  private repeat(): void {
    for (const entry of [...this.sent, ...this.doubtful]) {
      if (entry.isDone) continue
      entry.isUnanswerable = true
      if (entry.call.isForgotten) this.abandon(entry.call)
      else if (entry.isWorthAsking) this.doubt(entry)
      else this.giveUpUnknown(entry)
    }
    this.pump()
  }

  /** What must not be sent again waits for its answer until its call's time is over. */
  private resendOverdue(): void {
    const due = performance.now() - this.settings.ackTimeout
    for (const entry of this.connection.isUp() ? [...this.sent] : []) {
      if (entry.sentAt > due) break
      if (entry.isDone) continue
      if (entry.call.isForgotten) this.abandon(entry.call)
      else if (entry.isWorthAsking) this.doubt(entry)
    }
    this.pump()
    if (this.sent.size === 0) {
      clearInterval(this.timer)
      this.timer = undefined
    }
  }

  /** It may have been written. Before it is sent again its stream is looked at, for an operator may have changed that. */
  private doubt(entry: Entry): void {
    const { topic } = entry
    entry.maybeWritten = true
    entry.moveTo(this.doubtful)
    if (topic.isInDoubt) return
    topic.isInDoubt = true
    this.questions.onDoubt(topic)
  }

  readonly onReply = (entry: Entry, reply: Message | undefined): void => {
    this.leave(entry)
    if (entry.isDone) return
    const topic = entry.topic
    if (reply === undefined) return this.fail(entry, "unknown")
    const sequence = sequenceOf(reply.data)
    if (sequence !== undefined) {
      topic.misses = 0
      topic.isReady = true
      this.finish(entry, Either.right({ topic: topic.spec.name, partition: entry.partition, offset: sequence }))
      return this.pump()
    }
    if (isNoResponders(reply)) {
      // This attempt was not written; what an earlier one did, the next one will tell.
      topic.misses++
      this.park(entry)
      return this.pump()
    }
    topic.misses = 0
    topic.isReady = true
    const answer = parse(reply.data)
    const name = topic.spec.name
    if (answer?.error !== undefined && isTemporary(answer.error)) {
      this.park(entry)
    } else if (answer?.error !== undefined) {
      this.finish(entry, Either.left(refused(entry, toPublishError(name, entry.size, answer.error))))
    } else if (answer === undefined || typeof answer.seq !== "number") {
      const cause = "the answer is no acknowledgement of a stream"
      this.finish(
        entry,
        Either.left(new PublishFailed({ topic: name, reason: "Rejected", outcome: "unknown", cause }))
      )
    } else if (answer.duplicate === true && !entry.maybeWritten) {
      // Whatever becomes of the question: its like may be written.
      entry.maybeWritten = true
      this.questions.onDuplicate(entry, String(answer.stream), answer.seq)
    } else this.finish(entry, Either.right({ topic: name, partition: entry.partition, offset: answer.seq }))
    this.pump()
  }

  /** What the stream has at this sequence under the message's id, or why that is not known. */
  compare(entry: Entry, sequence: number, stored: Either.Either<StoredMessage, unknown>): void {
    if (entry.isDone) return
    const { partition, topic: { spec: { name: topic } } } = entry
    this.finish(
      entry,
      Either.isRight(stored) && entry.isStoredAs(stored.right)
        ? Either.right({ topic, partition, offset: sequence, wasStored: true })
        : Either.left(PublishFailures.duplicate(entry, sequence, Either.isLeft(stored) ? stored.left : undefined))
    )
    this.pump()
  }

  private park(entry: Entry): void {
    const topic = entry.topic
    if (entry.call.isForgotten) return this.abandon(entry.call)
    entry.moveTo(topic.parked)
    if (topic.isRecovering) return
    topic.isRecovering = true
    this.questions.onMissing(topic)
  }

  private finish(entry: Entry, result: Result): void {
    this.settle(entry)
    const { call } = entry
    call.answer(entry.index, result)
    if (call.isAnswered) this.calls.remove(call)
  }

  /** The message is resolved: the next of its aggregate may go. */
  private settle(entry: Entry): void {
    entry.isDone = true
    this.leave(entry)
    entry.moveTo(undefined)
    if (entry.order === undefined || !entry.isFirst) return
    let next = entry.next
    while (next !== undefined && next.isDone) next = next.next
    // What is done may have grown old, and would keep all that comes after it from dying young.
    entry.next = undefined
    if (next !== undefined) this.makeReady(next)
    else entry.topic.last.delete(entry.order)
  }

  private leave(entry: Entry): void {
    if (entry.token === undefined) return
    this.connection.replies.forget(entry.token)
    entry.moveTo(undefined)
    this.sentBytes -= entry.size
    entry.token = undefined
    if (--this.unanswered === 0) this.onEmpty?.()
  }
}
