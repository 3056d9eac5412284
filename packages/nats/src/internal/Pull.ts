/**
 * One pull request after the other, over an inbox of its own: what answers to an
 * earlier connection's requests is not heard here.
 */
import { type Message, statusOf, type Subscription } from "./Client.js"
import type { Connection } from "./Connection.js"
import { parsePosition, type Position } from "./RawMessage.js"
import type { Broken } from "./ReaderState.js"

/** How long a request waits for messages. Short, so that requests of a dead process don't outlive its lease. */
export const expiry = (leaseDuration: number): number => Math.min(6_000, Math.max(1_000, leaseDuration / 2))

export interface Handler {
  readonly onMessage: (message: Message, position: Position, reply: string) => void
  /** The request has ended: all its messages came, or no more will come. */
  readonly onEnd: () => void
  readonly onBroken: (broken: Broken) => void
}

/** How soon a request that does not wait is answered, in milliseconds. */
const answerWithin = 800

/** A request waits at least for so long, in milliseconds. */
const shortest = 100

/** A request that has ended as it should, with what it has brought. */
const ends = /batch completed|message size exceeds/i

const encoder = new TextEncoder()

export class Pull {
  /** How many messages the request under way can still bring. */
  open = 0
  /** How many it was made for. */
  batch = 0
  /** How many messages it has brought. */
  received = 0
  /** Whether anything ever came, be it a heartbeat. */
  hasHeard = false
  /** Whether its bytes were used up before its messages: there may be more. */
  isFull = false
  /** When the server was last heard. */
  heardAt = 0
  private serial = 0
  private isLimited = false
  private hasHeartbeat = false
  private readonly inbox: string
  private readonly subscription: Subscription

  constructor(
    private readonly connection: Connection,
    readonly subject: string,
    epoch: number,
    /** How long a request waits, in milliseconds. */
    private readonly expires: number,
    private readonly handler: Handler,
    /** How many messages a request may bring at most, by the word of the server. */
    private readonly maxBatch = Infinity
  ) {
    this.inbox = `${connection.inbox}.p${epoch}`
    this.subscription = connection.client.subscribe(`${this.inbox}.*`, (refused, message) => {
      if (refused === undefined) this.receive(message)
      else handler.onBroken({ reason: "Refused", detail: refused.message })
    })
  }

  /** Whether the next message is larger than the request allowed. There can be such: the server's limit was lowered, or others have a higher one. */
  get isTooSmall(): boolean {
    return this.isFull && this.isLimited && this.received === 0
  }

  /** What was larger than the request before allowed comes alone, whatever its size: the same request would be answered so for ever. */
  request(options: {
    readonly batch: number
    readonly maxBytes: number
    /** Not, or only for so many milliseconds. By default as long as `expires` says, with heartbeats. */
    readonly waits?: "Not" | number
  }): void {
    this.isLimited = !this.isTooSmall
    this.open = this.batch = this.isLimited ? Math.min(options.batch, this.maxBatch) : 1
    this.received = 0
    this.isFull = false
    this.heardAt = performance.now()
    this.hasHeartbeat = options.waits === undefined
    this.serial++
    const expires = this.untilAligned(this.heardAt)
    const request = {
      batch: this.batch,
      ...(options.waits === "Not"
        ? { no_wait: true }
        : options.waits === undefined
        ? { expires: expires * 1e6, idle_heartbeat: Math.floor(expires / 2) * 1e6 }
        : { expires: options.waits * 1e6 }),
      ...(this.isLimited ? { max_bytes: options.maxBytes } : {})
    }
    try {
      const bytes = encoder.encode(JSON.stringify(request))
      this.connection.client.publish(this.subject, bytes, `${this.inbox}.${this.serial}`)
    } catch {
      this.handler.onBroken({ reason: "Disconnected" })
    }
  }

  /**
   * How long a request waits that is made now: no longer than `expires`, and to the same moment as those of all other subscriptions of the
   * process. The next ones are then written together, and answered together.
   */
  private untilAligned(now: number): number {
    const rest = Math.ceil(this.expires - now % this.expires)
    return rest < shortest ? this.expires : rest
  }

  /** Whether the server has been silent for longer than its heartbeats allow. */
  isSilent(now: number): boolean {
    return this.open > 0 && this.hasHeartbeat && now - this.heardAt > this.expires * 5 / 6
  }

  /** Whether the server has had time to answer, and nothing has come. */
  isUnanswered(now: number): boolean {
    if (this.hasHeard || this.open === 0) return false
    return this.hasHeartbeat ? this.isSilent(now) : now - this.heardAt > answerWithin
  }

  close(): void {
    this.open = 0
    this.subscription.unsubscribe()
  }

  private receive(message: Message): void {
    this.heardAt = performance.now()
    this.hasHeard = true
    if (message.subject.startsWith(this.inbox)) return this.onStatus(message)
    const reply = message.reply ?? ""
    const position = parsePosition(reply)
    if (position === undefined) return
    this.received++
    if (this.open > 0) this.open--
    this.handler.onMessage(message, position, reply)
    if (this.open === 0) this.handler.onEnd()
  }

  private onStatus(message: Message): void {
    const code = statusOf(message)
    if (code === 100 || message.subject !== `${this.inbox}.${this.serial}`) return
    const detail = `${code} ${message.headers?.description ?? ""}`
    if (code === 503) return this.handler.onBroken({ reason: "ConsumerDeleted", detail })
    if (code === 409) {
      if (/consumer deleted/i.test(detail)) return this.handler.onBroken({ reason: "ConsumerDeleted", detail })
      if (/leadership change|server shutdown/i.test(detail)) {
        return this.handler.onBroken({ reason: "LeaderChanged", detail })
      }
    }
    // Whatever else the server says, it would say of the next request as well, and at once.
    if (code !== 404 && code !== 408 && !(code === 409 && ends.test(detail))) {
      return this.handler.onBroken({ reason: "Refused", detail })
    }
    // The request's time or bytes are used up, or there is nothing for one that does not wait.
    this.open = 0
    this.isFull = code === 409
    this.handler.onEnd()
  }
}
