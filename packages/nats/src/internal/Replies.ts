/**
 * All replies of a connection come over one subscription; the last token of
 * their subject says what they answer.
 */
import { ChurningMap } from "@effect-eventbus/core/ChurningMap"
import type { Msg, NatsConnection } from "nats"
import { subjectBytes } from "./RawMessage.js"

export interface Waiting {
  /** Called once with the reply; `undefined` when replies can't come any more. Must not throw. */
  readonly onReply: (reply: Msg | undefined) => void
}

export class Replies {
  private readonly waiting = new ChurningMap<number, Waiting>()
  private next = 1
  private ended = false

  constructor(connection: NatsConnection, private readonly inbox: string) {
    connection.subscribe(`${inbox}.*`, {
      callback: (error, reply) => {
        if (error !== null) return this.end()
        const token = tokenOf(reply)
        const waiting = this.waiting.get(token)
        if (waiting === undefined) return
        this.waiting.delete(token)
        waiting.onReply(reply)
      }
    })
  }

  /** A token for one reply, which comes to its subject. Whoever gives up waiting has to have it forgotten. */
  expect(waiting: Waiting): number {
    const token = this.next++
    if (this.ended) queueMicrotask(() => waiting.onReply(undefined))
    else this.waiting.set(token, waiting)
    return token
  }

  subject(token: number): string {
    return `${this.inbox}.${token}`
  }

  forget(token: number): void {
    this.waiting.delete(token)
  }

  /** The server refused the subscription, or the connection is closed. */
  end(): void {
    this.ended = true
    const waiting = [...this.waiting.values()]
    this.waiting.clear()
    for (const one of waiting) one.onReply(undefined)
  }
}

/** The digits after the last dot of the subject, read without making a text of it. */
const tokenOf = (reply: Msg): number => {
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
export const isNoResponders = (reply: Msg): boolean => reply.data.length === 0 && statusOf(reply) === 503

/** The status code in the header block of a message without a body; 0 where there is none. */
export const statusOf = (message: Msg): number => message.headers?.code ?? 0
