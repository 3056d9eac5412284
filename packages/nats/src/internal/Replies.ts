/**
 * All replies of a connection come over one subscription; the last token of
 * their subject says what they answer.
 */
import { ChurningMap } from "@effect-eventbus/core/ChurningMap"
import type { Denied } from "../NatsErrors.js"
import {
  type Client,
  isReadable,
  type Message,
  type Refused,
  statusOf,
  subjectBytes,
  type Subscription
} from "./Client.js"

export interface Waiting {
  /** Called once with the reply; `undefined` when replies can't come any more. Must not throw. */
  readonly onReply: (reply: Message | undefined) => void
}

/** After an error of the subscription it is made again when a reply is wanted, but not within so many milliseconds. */
const pause = 1_000

export class Replies {
  private readonly waiting = new ChurningMap<number, Waiting>()
  private next = 1
  private subscription: Subscription | undefined
  /** When the subscription failed; undefined while there is one. */
  private failedAt: number | undefined
  /** What the user of the connection may not do; undefined when replies come. */
  denied: Denied | undefined
  /** Whether the client's messages are as they are read here; undefined before the first reply. */
  isReadable: boolean | undefined

  constructor(private readonly client: Client, private readonly inbox: string) {
    this.subscribe()
  }

  private subscribe(): void {
    this.failedAt = undefined
    this.subscription = this.client.subscribe(`${this.inbox}.*`, (refused, reply) => {
      if (refused !== undefined) return this.end(refused)
      this.denied = undefined
      this.isReadable ??= isReadable(reply)
      const token = tokenOf(reply)
      const waiting = this.waiting.get(token)
      if (waiting === undefined) return
      this.waiting.delete(token)
      waiting.onReply(reply)
    })
  }

  /** A token for one reply, which comes to its subject. A caller that gives up waiting has to have the token forgotten. */
  expect(waiting: Waiting): number {
    const token = this.next++
    if (this.canBegin()) this.subscribe()
    if (this.failedAt === undefined) this.waiting.set(token, waiting)
    else queueMicrotask(() => waiting.onReply(undefined))
    return token
  }

  subject(token: number): string {
    return `${this.inbox}.${token}`
  }

  forget(token: number): void {
    this.waiting.delete(token)
  }

  /** Nobody wants replies any more; the connection may go on. */
  close(): void {
    if (!this.client.isClosed()) this.subscription?.unsubscribe()
    this.end()
  }

  private canBegin(): boolean {
    return this.failedAt !== undefined && performance.now() - this.failedAt >= pause && !this.client.isClosed()
  }

  /** Nothing that waits is answered: the connection is closed, or the server has refused the subscription. */
  end(refused?: Refused): void {
    this.failedAt = performance.now()
    if (refused?.denied !== undefined) this.denied = refused.denied
    const waiting = [...this.waiting.values()]
    this.waiting.clear()
    for (const one of waiting) one.onReply(undefined)
  }
}

/** The digits after the last dot of the subject, read without making a text of it. */
const tokenOf = (reply: Message): number => {
  const bytes = subjectBytes(reply)
  let token = 0
  let factor = 1
  for (let i = bytes.length - 1; i >= 0 && bytes[i] !== 46; i--) {
    token += (bytes[i]! - 48) * factor
    factor *= 10
  }
  return token
}

/** The server's answer where nobody listens to the subject of a request. */
export const isNoResponders = (reply: Message): boolean => reply.data.length === 0 && statusOf(reply) === 503
