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
import type { Connection } from "./Connection.js"
import type * as NatsStreams from "./NatsStreams.js"
import { ephemeral, Pager } from "./Pager.js"
import * as Placement from "./Placement.js"
import { type Source, toIncoming } from "./RawMessage.js"

/**
 * Reads a bounded part of a topic; the transport's `read`.
 */
export type Read = NonNullable<Service["read"]>

/** How long what passes is tried again. */
export const patience = Schedule.exponential("100 millis").pipe(
  Schedule.union(Schedule.spaced("2 seconds")),
  Schedule.upTo("30 seconds")
)

type Failure = NatsStreams.StreamError

export const isPassing = (failure: Failure): boolean =>
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
        const { filter, source } = parts[partition]!
        const pager = new Pager({
          connection,
          api,
          settings,
          stream,
          filter,
          current: streams.refresh(request.topic)
        })
        const read = { api, pager, stream: stream.name, filter, source, from, to }
        return Effect.as(
          Effect.addFinalizer(() => pager.close),
          { partition, from, to, messages: from < to ? messages(request.topic.name, partition, read) : Stream.empty }
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

/** One part, and where it is read. */
interface Reading {
  readonly api: Api
  readonly pager: Pager
  readonly stream: string
  readonly filter: string
  readonly source: Source | undefined
  readonly from: number
  readonly to: number
}

const messages = (topic: string, partition: number, read: Reading): Stream.Stream<IncomingMessage, ReadFailed> =>
  Stream.paginateChunkEffect(read.from, (next) =>
    Effect.suspend(() => page(read, next)).pipe(
      Effect.retry({ schedule: patience, while: isPassing }),
      Effect.mapError((cause) => new ReadFailed({ topic, partition, cause }))
    ))

const page = (read: Reading, next: number) =>
  Effect.gen(function*() {
    const messages: Array<IncomingMessage> = []
    const { isStopped, last } = yield* read.pager.page(next, (message, position) => {
      if (position.sequence >= read.to) return false
      messages.push({ ...toIncoming(message, position, read.source, true), deliveryCount: undefined })
      return true
    })
    if (last === undefined && !isStopped) yield* untilComplete(read, next)
    const isDone = isStopped || last === undefined || last + 1 >= read.to
    return [Chunk.unsafeFromArray(messages), isDone ? Option.none<number>() : Option.some(last + 1)] as const
  })

/** The consumer has nothing more. Where its server lags behind the stream's leader that is not the end: another one is asked later. */
const untilComplete = (
  { api, filter, pager, stream, to }: Reading,
  next: number
): Effect.Effect<void, NatsRequestFailed> =>
  api.nextSequence(stream, next, filter).pipe(
    Effect.catchIf(
      (failure) => failure.reason === "Denied",
      (failure) =>
        Effect.as(
          Effect.logWarning("Whether a replay is complete is not known where a server lags behind", failure.message),
          undefined
        )
    ),
    Effect.filterOrElse(
      (there) => there === undefined || there >= to,
      (there) => Effect.zipRight(pager.close, lagging(stream, there))
    ),
    Effect.asVoid
  )

/** A server has not got yet what the stream's leader has. It passes. */
export const lagging = (stream: string, sequence: number | undefined): NatsRequestFailed =>
  new NatsRequestFailed({
    subject: stream,
    reason: "Timeout",
    cause: `the server that was asked has not got message ${sequence} yet`
  })

const toReadError = (request: ReadRequest, settings: Settings) => (failure: Failure): ReadError =>
  failure._tag !== "NatsRequestFailed"
    ? failure
    : failure.reason === "Api" || failure.reason === "Denied"
    ? new ReadFailed({ topic: request.topic.name, cause: failure })
    : new BrokerUnreachable({ transport: "nats", addresses: settings.servers, cause: failure })
