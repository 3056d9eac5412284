/**
 * What a stream has below a filter, page by page: an ephemeral consumer without acknowledgements is pulled from as long as it delivers
 * without a gap. Whatever breaks it, another one goes on behind the last message.
 */
import * as Effect from "effect/Effect"
import type { Settings } from "../NatsConfig.js"
import { NatsRequestFailed } from "../NatsErrors.js"
import type { Api } from "./Api.js"
import type { Message } from "./Client.js"
import type { Connection } from "./Connection.js"
import type { StreamError } from "./NatsStreams.js"
import { parsePosition, type Position } from "./RawMessage.js"

/** How many messages, and bytes beside one of the largest, are asked for at a time where nothing else is said. */
const batch = 256
const batchBytes = 4 * 1_048_576

/** Beside a message's body the server counts its subjects and headers. */
const overhead = 70_000

/** After so long without a reader the server deletes the consumer; a slower one gets another. */
const inactiveThreshold = 30e9

/** How long the server may be silent within a request, in milliseconds. */
const silence = 3_000

/** How consumers that only read are made. */
export const ephemeral = {
  ack_policy: "none",
  replay_policy: "instant",
  inactive_threshold: inactiveThreshold
} as const

export interface Options {
  readonly connection: Connection
  readonly api: Api
  readonly settings: Settings
  /** Which stream it was when reading began. */
  readonly stream: StreamId
  readonly filter: string
  /** Which stream it is now. */
  readonly current: Effect.Effect<StreamId, StreamError>
  /** How many messages are asked for at a time. */
  readonly batch?: number | undefined
}

/** A stream of the same name that was made at another time has other messages. */
export interface StreamId {
  readonly name: string
  readonly created: string
}

export interface Page {
  /** The sequence of the last message that was given out; undefined where there was none. */
  readonly last: number | undefined
  /** Whether whoever takes the messages did not want the next one. */
  readonly isStopped: boolean
  /** Whether the consumer's server had nothing more at this moment. */
  readonly isExhausted: boolean
}

interface Fetched {
  readonly messages: ReadonlyArray<Message>
  /** All that there was, or all that was asked for. */
  readonly isComplete: boolean
  /** There was nothing more. */
  readonly isExhausted: boolean
  /** The next one is larger than what was asked for. */
  readonly isTooSmall: boolean
}

let serial = 0

export class Pager {
  /** The consumer that is pulled from, and how many messages it has delivered. */
  private consumer: { readonly name: string; readonly batch: number; delivered: number } | undefined

  constructor(private readonly options: Options) {}

  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    const { api, connection, stream } = this.options
    const { consumer } = this
    if (consumer === undefined) return Effect.void
    this.consumer = undefined
    return Effect.ignoreLogged(connection.closing.within(api.deleteConsumer(stream.name, consumer.name)))
  })

  /**
   * Gives out messages from this sequence on, which is behind the last page's last one, until `take` says no. A page without any was
   * exhausted or stopped.
   */
  page(
    next: number,
    take: (message: Message, position: Position) => boolean
  ): Effect.Effect<Page, StreamError> {
    return Effect.gen(this, function*() {
      const consumer = this.consumer ??= yield* this.open(next)
      const first = yield* this.fetch(consumer.name, consumer.batch)
      const fetched = first.isTooSmall ? yield* this.fetch(consumer.name, 1) : first
      let last: number | undefined
      let isInOrder = true
      let isStopped = false
      for (const message of fetched.messages) {
        const position = parsePosition(message.reply ?? "")
        isInOrder = position?.delivery === consumer.delivered + 1
        if (position === undefined || !isInOrder) break
        consumer.delivered++
        isStopped = !take(message, position)
        if (isStopped) break
        last = position.sequence
      }
      if (!isInOrder || !fetched.isComplete) {
        this.consumer = undefined
        if (last === undefined && !isStopped) {
          const subject = this.fetchSubject(consumer.name)
          return yield* new NatsRequestFailed({ subject, reason: "Timeout", cause: "no messages, and no end of them" })
        }
      }
      return { last, isStopped, isExhausted: isInOrder && fetched.isExhausted }
    })
  }

  private readonly open = (next: number) =>
    Effect.gen(this, function*() {
      const { api, current, filter, stream } = this.options
      const now = yield* current
      if (now.name !== stream.name || now.created !== stream.created) {
        return yield* new NatsRequestFailed({
          subject: stream.name,
          reason: "Api",
          // As a refusal: it does not pass.
          error: { code: 410, err_code: 0, description: "the stream was deleted and made again" }
        })
      }
      const { config, name } = yield* api.createEphemeral(stream.name, {
        ...ephemeral,
        filter_subject: filter,
        deliver_policy: "by_start_sequence",
        opt_start_seq: next
      })
      // A limit of the server's.
      const wanted = this.options.batch ?? batch
      return { name, batch: Math.min(wanted, config.max_batch || wanted), delivered: 0 }
    })

  private readonly fetchSubject = (consumer: string) =>
    `${this.options.settings.apiPrefix}.CONSUMER.MSG.NEXT.${this.options.stream.name}.${consumer}`

  /** One request that does not wait: what is there, or an end at once. A single message may be of any size. */
  private readonly fetch = (consumer: string, count: number): Effect.Effect<Fetched> =>
    Effect.async((resume) => {
      const { connection } = this.options
      const messages: Array<Message> = []
      const inbox = `${connection.inbox}.b${serial++}`
      const end = (isComplete: boolean, isFull = false, isExhausted = false) => {
        clearTimeout(timer)
        subscription.unsubscribe()
        connection.listeners.delete(listener)
        resume(
          Effect.succeed({ messages, isComplete, isExhausted, isTooSmall: isFull && messages.length === 0 })
        )
      }
      const listener = { onDisconnect: () => end(false) }
      const timer = setTimeout(() => end(false), silence)
      const subscription = connection.client.subscribe(inbox, (refused, message) => {
        if (refused !== undefined) return end(false)
        timer.refresh()
        if (message.subject !== inbox) {
          messages.push(message)
          if (messages.length === count) end(true)
        } else {
          // 404 and 408: nothing more is there. 409 with bytes: they are used up. All else breaks it.
          const { code = 0, description = "" } = message.headers ?? {}
          const isFull = code === 409 && /size exceeds/i.test(description)
          const isExhausted = code === 404 || code === 408
          if (code !== 100) end(isExhausted || isFull, isFull, isExhausted)
        }
      })
      connection.listeners.add(listener)
      const maxBytes = Math.max(batchBytes, connection.maxPayload() + overhead)
      try {
        connection.client.publish(
          this.fetchSubject(consumer),
          new TextEncoder().encode(
            JSON.stringify({ batch: count, no_wait: true, ...(count === 1 ? {} : { max_bytes: maxBytes }) })
          ),
          inbox
        )
      } catch {
        end(false)
      }
      return Effect.sync(() => end(false))
    })
}
