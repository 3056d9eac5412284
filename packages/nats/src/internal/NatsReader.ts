/**
 * Bounded reads, outside of any group: the bounds are found out first, then an ephemeral consumer without
 * acknowledgements is pulled from as the stream is. Whatever breaks it, another one goes on behind the last message.
 */
import {
  BrokerUnreachable,
  InvalidConfiguration,
  type ReadError,
  ReadFailed
} from "@effect-eventbus/core/EventBusError"
import type { IncomingMessage, ReadFrom, ReadRequest, ReadTo, Service } from "@effect-eventbus/core/Transport"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type { Settings } from "../NatsConfig.js"
import { isNotFound, isTransient, NatsRequestFailed } from "../NatsErrors.js"
import * as Subject from "../Subject.js"
import type { Api } from "./Api.js"
import type { Message } from "./Client.js"
import type { Connection } from "./Connection.js"
import type * as NatsStreams from "./NatsStreams.js"
import * as Placement from "./Placement.js"
import { parsePosition, type Source, toIncoming } from "./RawMessage.js"

/**
 * Reads a bounded part of a topic; the transport's `read`.
 */
export type Read = NonNullable<Service["read"]>

/** How many messages, and bytes beside one of the largest, are asked for at a time. */
const batch = 256
const batchBytes = 4 * 1_048_576

/** Beside a message's body the server counts its subjects and headers. */
const overhead = 70_000

/** After so long without a reader the server deletes the consumer; a slower one gets another. */
const inactiveThreshold = 30e9

/** How long the server may be silent within a request, in milliseconds. */
const silence = 3_000

const patience = Schedule.exponential("100 millis").pipe(
  Schedule.union(Schedule.spaced("2 seconds")),
  Schedule.upTo("30 seconds")
)

type Failure = NatsStreams.StreamError

const isPassing = (failure: Failure): boolean =>
  failure._tag === "NatsRequestFailed" && (isTransient(failure) || isNotFound(failure))

/**
 * Reads on a connection of the transport. For the transport itself: applications use `EventBus.replay`.
 */
export const make =
  (connection: Connection, api: Api, streams: NatsStreams.NatsStreams, settings: Settings): Read => (request) =>
    Effect.gen(function*() {
      const parts = yield* partsOf(settings, request)
      const { bounds, stream } = yield* boundsOf(api, streams, request, parts.length).pipe(
        Effect.retry({ schedule: patience, while: isPassing }),
        Effect.mapError(toReadError(request, settings))
      )
      return yield* Effect.forEach(bounds, ({ from, to }, partition) => {
        const pager = new Pager(connection, api, streams, settings, request, stream, parts[partition]!, to)
        return Effect.as(
          Effect.addFinalizer(() => pager.close),
          { partition, from, to, messages: from < to ? pager.messages(from) : Stream.empty }
        )
      })
    })

/** What one partition is read from. */
interface Part {
  readonly partition: number
  readonly filter: string
  readonly source: Source | undefined
}

const partsOf = (
  settings: Settings,
  { topic }: ReadRequest
): Either.Either<ReadonlyArray<Part>, InvalidConfiguration> =>
  Placement.of(settings, topic).pipe(
    Either.mapLeft((issue) => new InvalidConfiguration({ issues: [issue], topic: topic.name })),
    Either.map(({ partitions, subject }) =>
      partitions === undefined
        ? [{ partition: 0, filter: subject, source: undefined }]
        : Array.from({ length: partitions }, (_, partition) => ({
          partition,
          filter: Subject.ofPartition(topic.name, partition),
          source: { topic: topic.name, partition }
        }))
    )
  )

/** The sequences are the stream's, so that only given offsets differ from partition to partition. */
const boundsOf = Effect.fnUntraced(function*(
  api: Api,
  streams: NatsStreams.NatsStreams,
  request: ReadRequest,
  partitions: number
) {
  yield* streams.checkPattern(request.topic)
  const stream = yield* streams.refresh(request.topic)
  const { state } = yield* api.streamInfo(stream.name)
  const first = Math.max(1, state.first_seq)
  const end = Math.max(first, state.last_seq + 1)
  const within = (sequence: number) => Math.min(end, Math.max(first, sequence))
  const at = (
    position: ReadFrom | ReadTo,
    otherwise: number
  ): Effect.Effect<(partition: number) => number, NatsRequestFailed> => {
    if (typeof position === "string") return Effect.succeed(() => otherwise)
    if ("offsets" in position) return Effect.succeed((partition) => position.offsets[partition] ?? otherwise)
    return Effect.map(sinceOf(api, stream.name, position.time), (sequence) => () => sequence)
  }
  const fromAt = yield* at(request.from, first)
  const toAt = yield* at(request.to, end)
  const bounds = Array.from({ length: partitions }, (_, partition) => {
    const from = within(fromAt(partition))
    return { from, to: Math.max(from, within(toAt(partition))) }
  })
  return { stream, bounds }
})

const ephemeral = { ack_policy: "none", replay_policy: "instant", inactive_threshold: inactiveThreshold } as const

/** A consumer that would begin at that time knows its sequence. */
const sinceOf = (api: Api, stream: string, time: Date): Effect.Effect<number, NatsRequestFailed> =>
  Effect.acquireUseRelease(
    api.createEphemeral(stream, {
      ...ephemeral,
      deliver_policy: "by_start_time",
      opt_start_time: time.toISOString()
    }),
    (info) => Effect.succeed(info.delivered.stream_seq + 1),
    (info) => Effect.ignoreLogged(api.deleteConsumer(stream, info.name))
  )

interface Fetched {
  readonly messages: ReadonlyArray<Message>
  /** All that there was, or all that was asked for. */
  readonly isComplete: boolean
  /** The next one is larger than what was asked for. */
  readonly isTooSmall: boolean
}

let serial = 0

/** One part, page by page. */
class Pager {
  /** The consumer that is pulled from, and how many messages it has delivered. */
  private consumer: { readonly name: string; readonly batch: number; delivered: number } | undefined

  constructor(
    private readonly connection: Connection,
    private readonly api: Api,
    private readonly streams: NatsStreams.NatsStreams,
    private readonly settings: Settings,
    private readonly request: ReadRequest,
    private readonly stream: NatsStreams.Stream,
    private readonly part: Part,
    private readonly to: number
  ) {}

  readonly messages = (from: number): Stream.Stream<IncomingMessage, ReadFailed> =>
    Stream.paginateChunkEffect(from, (next) =>
      Effect.suspend(() => this.page(next)).pipe(
        Effect.retry({ schedule: patience, while: isPassing }),
        Effect.mapError((cause) =>
          new ReadFailed({ topic: this.request.topic.name, partition: this.part.partition, cause })
        )
      ))

  readonly close: Effect.Effect<void> = Effect.suspend(() =>
    this.consumer === undefined
      ? Effect.void
      : Effect.ignoreLogged(
        this.connection.closing.within(this.api.deleteConsumer(this.stream.name, this.consumer.name))
      )
  )

  private readonly page = (next: number) =>
    Effect.gen(this, function*() {
      const consumer = this.consumer ??= yield* this.open(next)
      const first = yield* this.fetch(consumer.name, consumer.batch)
      const fetched = first.isTooSmall ? yield* this.fetch(consumer.name, 1) : first
      const messages: Array<IncomingMessage> = []
      let isInOrder = true
      let isAtEnd = false
      for (const message of fetched.messages) {
        const position = parsePosition(message.reply ?? "")
        isInOrder = position?.delivery === consumer.delivered + 1
        if (position === undefined || !isInOrder) break
        consumer.delivered++
        isAtEnd = position.sequence >= this.to
        if (isAtEnd) break
        messages.push({
          ...toIncoming(message, position, this.part.source, true),
          deliveryCount: undefined
        })
      }
      if (!isInOrder || !fetched.isComplete) {
        this.consumer = undefined
        if (messages.length === 0 && !isAtEnd) {
          const subject = this.fetchSubject(consumer.name)
          return yield* new NatsRequestFailed({ subject, reason: "Timeout", cause: "no messages, and no end of them" })
        }
      }
      const last = messages[messages.length - 1]
      if (last === undefined && !isAtEnd) yield* this.untilComplete(next)
      const isDone = isAtEnd || last === undefined || last.offset + 1 >= this.to
      return [Chunk.unsafeFromArray(messages), isDone ? Option.none<number>() : Option.some(last.offset + 1)] as const
    })

  /** The consumer has nothing more. Where its server lags behind the stream's leader that is not the end: another one is asked later. */
  private readonly untilComplete = (next: number): Effect.Effect<void, NatsRequestFailed> =>
    this.api.nextSequence(this.stream.name, next, this.part.filter).pipe(
      Effect.catchIf(
        (failure) => failure.reason === "Denied",
        (failure) =>
          Effect.as(
            Effect.logWarning("Whether a replay is complete is not known where a server lags behind", failure.message),
            undefined
          )
      ),
      Effect.filterOrElse(
        (there) => there === undefined || there >= this.to,
        (there) =>
          Effect.zipRight(
            Effect.zipRight(this.close, Effect.sync(() => this.consumer = undefined)),
            new NatsRequestFailed({
              subject: this.stream.name,
              reason: "Timeout",
              cause: `the server that was asked has not got message ${there} yet`
            })
          )
      ),
      Effect.asVoid
    )

  private readonly open = (next: number) =>
    Effect.gen(this, function*() {
      const { request, stream } = this
      const now = yield* this.streams.refresh(request.topic)
      if (now.name !== stream.name || now.created !== stream.created) {
        return yield* new NatsRequestFailed({
          subject: request.topic.name,
          reason: "Api",
          // As a refusal: it does not pass.
          error: { code: 410, err_code: 0, description: "the stream was deleted and made again" }
        })
      }
      const { config, name } = yield* this.api.createEphemeral(stream.name, {
        ...ephemeral,
        filter_subject: this.part.filter,
        deliver_policy: "by_start_sequence",
        opt_start_seq: next
      })
      // A limit of the server's.
      return { name, batch: Math.min(batch, config.max_batch || batch), delivered: 0 }
    })

  private readonly fetchSubject = (consumer: string) =>
    `${this.settings.apiPrefix}.CONSUMER.MSG.NEXT.${this.stream.name}.${consumer}`

  /** One request that does not wait: what is there, or an end at once. A single message may be of any size. */
  private readonly fetch = (consumer: string, count: number): Effect.Effect<Fetched> =>
    Effect.async((resume) => {
      const { connection } = this
      const messages: Array<Message> = []
      const inbox = `${connection.inbox}.b${serial++}`
      const end = (isComplete: boolean, isFull = false) => {
        clearTimeout(timer)
        subscription.unsubscribe()
        connection.listeners.delete(listener)
        resume(Effect.succeed({ messages, isComplete, isTooSmall: isFull && messages.length === 0 }))
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
          if (code !== 100) end(code === 404 || code === 408 || isFull, isFull)
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

const toReadError = (request: ReadRequest, settings: Settings) => (failure: Failure): ReadError =>
  failure._tag !== "NatsRequestFailed"
    ? failure
    : failure.reason === "Api" || failure.reason === "Denied"
    ? new ReadFailed({ topic: request.topic.name, cause: failure })
    : new BrokerUnreachable({ transport: "nats", addresses: settings.servers, cause: failure })
