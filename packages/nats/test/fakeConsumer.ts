import { Effect } from "effect"
import type { Api, ConsumerConfig, ConsumerInfo } from "../src/internal/Api.js"
import type { Client, Message, OnMessage } from "../src/internal/Client.js"
import { Closing } from "../src/internal/Closing.js"
import type { Connection } from "../src/internal/Connection.js"
import { Replies } from "../src/internal/Replies.js"

/** What becomes of a delivery: it arrives; a dead reader's request gets it; the server passes over it, as 2.9 does with what does not fit. */
export type Fate = "Arrives" | "Swallowed" | "PassedOver"

/** A durable consumer as the server has it, over a connection without one. Each packet takes a turn of the event loop. */
export class FakeConsumer {
  readonly pending = new Set<number>()
  readonly delivered: Array<number> = []
  readonly configs: Array<ConsumerConfig> = []
  /** Called before a request is served. */
  onRequest: () => void = () => {}
  /** Asked for each delivery. */
  fateOf: (sequence: number) => Fate = () => "Arrives"
  /** How many requests of others wait. */
  waiting = 0
  /** It says nothing to a request that does not wait and gets nothing, as some servers of 2.11 and 2.12 do. */
  isMute = false
  /** Nothing is delivered, and requests end without messages. */
  isPaused = false
  private refused: Array<number> = []
  private next = 0
  private count = 0
  private readonly subscriptions = new Map<string, OnMessage>()

  constructor(
    /** The stream's sequences that it is about. */
    private readonly sequences: ReadonlyArray<number>,
    /** How many others had got before, and which of them are acknowledged. */
    before: number,
    acked: (sequence: number) => boolean,
    private readonly size = 1
  ) {
    for (const sequence of sequences.slice(0, before)) if (!acked(sequence)) this.pending.add(sequence)
    this.next = this.count = before
  }

  get info(): ConsumerInfo {
    const last = this.sequences[this.next - 1] ?? 0
    const floor = this.pending.size === 0 ? last : Math.min(...this.pending) - 1
    return {
      stream_name: "orders",
      name: "group",
      config: {},
      delivered: { consumer_seq: this.count, stream_seq: last },
      ack_floor: { consumer_seq: 0, stream_seq: floor },
      num_ack_pending: this.pending.size,
      num_waiting: this.waiting,
      num_pending: this.sequences.length - this.next,
      ...(this.isPaused ? { paused: true } : {})
    }
  }

  readonly api = {
    consumerInfo: () => this.turn(() => this.info),
    putConsumer: (_: string, config: ConsumerConfig) => this.turn(() => this.configs.push(config))
  } as unknown as Api

  get connection(): Connection {
    const client = {
      isClosed: () => false,
      subscribe: (subject: string, callback: OnMessage) => {
        const inbox = subject.slice(0, -1)
        this.subscriptions.set(inbox, callback)
        return { unsubscribe: () => this.subscriptions.delete(inbox) }
      },
      publish: (subject: string, data: Uint8Array, reply?: string) =>
        setImmediate(() => this.receive(subject, Buffer.from(data).toString(), reply))
    } as unknown as Client
    return {
      client,
      isUp: () => true,
      maxPayload: () => 1_048_576,
      inbox: "_INBOX.test",
      closing: new Closing(5_000),
      pulse: new Set(),
      replies: new Replies(client, "_INBOX.test.r"),
      listeners: new Set(),
      wire: {
        tell: (text: string, subjects: ReadonlyArray<string>, reply?: string) =>
          setImmediate(() =>
            subjects.forEach((subject, i) => this.receive(subject, text, i === subjects.length - 1 ? reply : undefined))
          )
      }
    } as unknown as Connection
  }

  private turn<A>(answer: () => A): Effect.Effect<A> {
    return Effect.async((resume) => void setImmediate(() => setImmediate(() => resume(Effect.succeed(answer())))))
  }

  private receive(subject: string, text: string, reply: string | undefined): void {
    if (!subject.startsWith("$JS.ACK.")) return this.serve(JSON.parse(text), reply!)
    const sequence = Number(subject.split(".")[5])
    if (text === "+ACK") this.pending.delete(sequence)
    else if (text === "-NAK" && this.pending.has(sequence)) this.refused.push(sequence)
    if (reply !== undefined) setImmediate(() => this.send(reply, { subject: reply, data: new Uint8Array(0) }))
  }

  private serve(
    { batch, max_bytes = Infinity, no_wait = false }: {
      readonly batch: number
      readonly max_bytes?: number
      readonly no_wait?: boolean
    },
    inbox: string
  ) {
    this.onRequest()
    const isEmpty = this.isPaused || this.refused.length === 0 && this.next === this.sequences.length
    if (isEmpty && (!no_wait || !this.isMute)) return this.end(inbox, 408, "Request Timeout")
    if (isEmpty) return
    let room = max_bytes
    for (let sent = 0; sent < batch; sent++) {
      const sequence = this.refused.find((one) => this.pending.has(one)) ?? this.sequences[this.next]
      if (sequence === undefined) return this.end(inbox, 404, "No Messages")
      const isFull = room < this.size
      if (isFull && this.refused.length === 0) return this.end(inbox, 409, "Message Size Exceeds MaxBytes")
      const fate = this.fateOf(sequence)
      const isAgain = this.refused.length > 0 && this.pending.has(sequence)
      this.refused = this.refused.slice(isAgain ? this.refused.indexOf(sequence) + 1 : this.refused.length)
      if (isFull || isAgain && fate === "PassedOver") return this.end(inbox, 409, "Message Size Exceeds MaxBytes")
      if (!isAgain) this.next++
      this.pending.add(sequence)
      this.count++
      room -= this.size
      if (fate === "Swallowed") {
        sent--
        continue
      }
      this.delivered.push(sequence)
      const reply = `$JS.ACK.orders.group.${isAgain ? 2 : 1}.${sequence}.${this.count}.1763742000123456789.0`
      const message = { subject: "orders", reply, data: new Uint8Array(this.size) }
      setImmediate(() => this.send(inbox, message))
    }
  }

  private end(inbox: string, code: number, description: string): void {
    const message = { subject: inbox, data: new Uint8Array(0), headers: { code, description } }
    setImmediate(() => this.send(inbox, message))
  }

  private send(to: string, message: object): void {
    for (const [inbox, callback] of this.subscriptions) {
      if (to.startsWith(inbox)) callback(undefined, message as Message)
    }
  }
}
