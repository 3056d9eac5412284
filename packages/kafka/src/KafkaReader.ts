/**
 * Bounded reads, outside of any group: for each partition its bounds, found out
 * first, and a stream that fetches as it is pulled. Nothing is committed.
 *
 * @since 0.1.0
 */
import { BrokerUnreachable, ReadFailed, UnknownTopic } from "@effect-eventbus/core/EventBusError"
import type { ReadError } from "@effect-eventbus/core/EventBusError"
import type { IncomingMessage, ReadPartition, ReadRequest, Service, TopicSpec } from "@effect-eventbus/core/Transport"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Client } from "./internal/Client.js"
import { reconnect } from "./internal/Client.js"
import * as ErrorCode from "./internal/ErrorCode.js"
import { failure, KafkaFailure } from "./internal/Failure.js"
import { upTo } from "./internal/monotonic.js"
import * as Offsets from "./internal/Offsets.js"
import { bytesOf, decodeRecords, MAX_FACTOR, tooLarge, unreadable, UnreadableBatch } from "./internal/records.js"
import type { FetchedPartition } from "./internal/records.js"
import * as Unpackable from "./internal/Unpackable.js"
import type { Settings } from "./KafkaConfig.js"
import { toInvalidConfiguration } from "./KafkaErrors.js"
import type { KafkaTopics } from "./KafkaTopics.js"

/**
 * Reads a bounded part of a topic; the transport's `read`.
 *
 * @since 0.1.0
 * @category models
 */
export interface KafkaReader {
  readonly read: NonNullable<Service["read"]>
  /** One partition of a topic that is known already, between two offsets. It asks for nothing else, and begins when it is pulled. */
  readonly readPartition: (
    topic: TopicSpec,
    partition: number,
    bounds: { readonly from: number; readonly to: number }
  ) => Stream.Stream<IncomingMessage, ReadFailed>
}

interface Cursor {
  readonly offset: number
  /** Raised when a batch did not fit into what was fetched. */
  readonly factor: number
}

interface Page {
  readonly messages: ReadonlyArray<IncomingMessage>
  /** Nothing where the end is reached. */
  readonly next: Option.Option<Cursor>
}

/**
 * Reads on a client of the transport. For the transport itself: applications use `EventBus.replay`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (client: Client, topics: KafkaTopics, settings: Settings): KafkaReader => {
  let reads = 0
  /** Brokers come and go: as long as subscribing waits for them. */
  const patience = upTo(reconnect, settings.subscribeTimeout)

  const read: KafkaReader["read"] = (request) =>
    Effect.gen(function*() {
      const role = yield* Effect.acquireRelease(Effect.sync(() => `read-${reads++}`), client.release)
      const name = request.topic.name
      const ensured = yield* topics.ensure(request.topic).pipe(Effect.mapError(toReadError(client, name)))
      const bounds = yield* boundsOf(role, request, ensured.leaders.length).pipe(
        Effect.retry({ schedule: patience, while: isTransient }),
        Effect.mapError(toReadError(client, name))
      )
      return bounds.map(({ from, partition, to }): ReadPartition => ({
        partition,
        from,
        to,
        messages: from < to ? messages(role, request.topic, topics.known(name)?.id, partition, from, to) : Stream.empty
      }))
    })

  const boundsOf = Effect.fnUntraced(
    function*(role: string, { from, to, topic: { name } }: ReadRequest, count: number) {
      const ids = Array.from({ length: count }, (_, id) => id)
      const list = (edge: Offsets.Edge) => Offsets.listAll(client, topics, role, name, ids, edge)
      const first = yield* list("earliest")
      // What is in transactions that are still open is beyond the end.
      const end = yield* list("latest")
      const since = typeof from === "object" && "time" in from ? yield* list(from) : undefined
      const until = typeof to === "object" && "time" in to ? yield* list(to) : undefined
      return ids.map((id) => {
        const within = (offset: number) => Math.min(end.get(id)!, Math.max(first.get(id)!, offset))
        const orEnd = (offset: number | undefined) => offset === undefined || offset < 0 ? end.get(id)! : offset
        const begin = within(
          since !== undefined
            ? orEnd(since.get(id))
            : typeof from === "object" && "offsets" in from
            ? from.offsets[id] ?? 0
            : 0
        )
        const stop = within(
          until !== undefined
            ? orEnd(until.get(id))
            : orEnd(typeof to === "object" && "offsets" in to ? to.offsets[id] : undefined)
        )
        return { partition: id, from: begin, to: Math.max(begin, stop) }
      })
    }
  )

  const messages = (
    role: string,
    spec: TopicSpec,
    topicId: string | undefined,
    partition: number,
    from: number,
    to: number
  ): Stream.Stream<IncomingMessage, ReadFailed> => {
    const topic = spec.name
    return Stream.paginateChunkEffect(
      { offset: from, factor: 1 },
      (cursor: Cursor) =>
        Effect.suspend(() => {
          const known = topics.known(topic)
          // A broker that has just started may not know it yet.
          if (known === undefined) return Effect.fail(unknownTopic)
          return known.id === topicId
            ? fetchPage(role, spec, partition, cursor, to)
            : Effect.fail(
              new KafkaFailure({ type: "Client", sent: false, cause: "The topic was deleted and made again" })
            )
        }).pipe(
          // Leaders that are not known, or not any more, are asked for before it is tried again.
          Effect.tapError(() => Offsets.refreshed(topics, topic)),
          Effect.retry({ schedule: patience, while: isTransient }),
          Effect.mapBoth({
            onFailure: (cause) => new ReadFailed({ topic, partition, cause }),
            onSuccess: ({ messages, next }) => [Chunk.unsafeFromArray(messages), next] as const
          })
        )
    )
  }

  const fetchPage = (
    role: string,
    spec: TopicSpec,
    partition: number,
    cursor: Cursor,
    to: number
  ): Effect.Effect<Page, KafkaFailure> =>
    Effect.gen(function*() {
      const topic = spec.name
      const leader = topics.known(topic)?.leaders[partition] ?? -1
      if (leader < 0) return yield* unavailable("The partition has no leader")
      const response = yield* client.call(leader, role, "Fetch", {
        maxWaitTime: settings.fetchMaxWait,
        minBytes: 1,
        maxBytes: settings.fetchBytes,
        sessionId: 0,
        sessionEpoch: -1,
        forgottenTopics: [],
        topics: [{
          topic,
          partitions: [{
            partition,
            currentLeaderEpoch: -1,
            fetchOffset: cursor.offset,
            maxBytes: bytesOf(settings.fetchPartitionBytes, cursor.factor)
          }]
        }]
      }, settings.fetchMaxWait + settings.requestTimeout)
      // A quota: what is sent sooner would only wait at the broker.
      if (response.throttleMs > 0) yield* Effect.sleep(response.throttleMs)
      if (response.errorCode !== 0) return yield* failure("Fetch", response.errorCode)
      const fetched = response.partitions[0]
      // A broker that holds us to a quota answers with nothing at all.
      if (fetched === undefined) return yield* later(cursor)
      if (ErrorCode.nameOf(fetched.errorCode) === "OFFSET_OUT_OF_RANGE") {
        return yield* afterRetention(role, topic, fetched, cursor, to)
      }
      if (fetched.errorCode !== 0) {
        return yield* failure("Fetch", fetched.errorCode)
      }
      if (fetched.records.length > 0) {
        return yield* pageOf(spec, fetched, cursor, to)
      }
      // There is nothing between here and where the broker's log ends: the last offsets are no messages.
      if (fetched.lastStableOffset >= to) return { messages: [], next: Option.none() }
      // A new leader may not know for a moment how far its log is confirmed; or the log was cut off for good.
      if (fetched.highWatermark < to) return yield* unavailable("The topic is shorter than it was")
      return yield* later(cursor)
    })

  const pageOf = (topic: TopicSpec, fetched: FetchedPartition, { factor, offset }: Cursor, to: number) =>
    Effect.tryPromise({
      try: async () => decodeRecords(fetched, offset, Number.POSITIVE_INFINITY, settings),
      catch: (error) => error
    }).pipe(
      Unpackable.inTime,
      Effect.catchAll((error) =>
        error instanceof UnreadableBatch
          ? Effect.as(
            Unpackable.said(error, topic, fetched.partition, offset),
            Unpackable.instead(error, topic, fetched.partition, offset, Number.POSITIVE_INFINITY)
          )
          : Effect.fail(unreadable(error))
      ),
      Effect.filterOrFail(
        ({ next }) => next > offset || factor < MAX_FACTOR,
        () => unreadable(tooLarge(fetched.topic, fetched.partition, offset))
      ),
      Effect.map((fetched): Page => {
        const { next } = fetched
        const messages = fetched.take(Infinity)
        return {
          messages: next > to ? messages.filter((message) => message.offset < to) : messages,
          next: next >= to
            ? Option.none()
            : Option.some(next > offset ? { offset: next, factor: 1 } : { offset, factor: factor * 2 })
        }
      })
    )

  /** What was to be read next is deleted: it goes on with what is left. */
  const afterRetention = Effect.fnUntraced(
    function*(role: string, topic: string, { partition }: FetchedPartition, { offset }: Cursor, to: number) {
      const first = yield* Offsets.first(client, topics, role, topic, partition)
      if (first <= offset) {
        return yield* new KafkaFailure({ type: "Client", sent: true, cause: "The topic is shorter than it was" })
      }
      yield* Effect.logWarning("Messages were deleted from the topic before they were read").pipe(
        Effect.annotateLogs({ topic, partition, from: offset, to: first })
      )
      return { messages: [], next: first < to ? Option.some({ offset: first, factor: 1 }) : Option.none() }
    }
  )

  const readPartition: KafkaReader["readPartition"] = (topic, partition, { from, to }) =>
    Stream.unwrapScoped(
      Effect.map(
        Effect.acquireRelease(Effect.sync(() => `read-${reads++}`), client.release),
        (role) => from < to ? messages(role, topic, topics.known(topic.name)?.id, partition, from, to) : Stream.empty
      )
    )

  return { read, readPartition }
}

/** A broker that does not wait for what comes is not asked without a pause. */
const later = (cursor: Cursor) =>
  Effect.delay(Effect.succeed<Page>({ messages: [], next: Option.some(cursor) }), "20 millis")

const unavailable = (cause: string) => new KafkaFailure({ type: "LEADER_NOT_AVAILABLE", sent: false, cause })

const unknownTopic = new KafkaFailure({
  type: "UNKNOWN_TOPIC_OR_PARTITION",
  sent: false,
  cause: "The broker has no such topic"
})

const isTransient = (error: KafkaFailure): boolean =>
  error.type !== "Client" && toInvalidConfiguration(error) === undefined

const toReadError =
  (client: Client, topic: string) => (error: KafkaFailure | Exclude<ReadError, ReadFailed>): ReadError => {
    if (error._tag !== "KafkaFailure") return error
    if (error.type === "UNKNOWN_TOPIC_OR_PARTITION") {
      return new UnknownTopic({ topic, transport: "kafka", cause: error })
    }
    if (error.isUnreachable) {
      return new BrokerUnreachable({ transport: "kafka", addresses: client.addresses, cause: error })
    }
    return toInvalidConfiguration(error, topic) ?? new ReadFailed({ topic, cause: error })
  }
