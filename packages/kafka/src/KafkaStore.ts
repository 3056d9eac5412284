/**
 * The stores of groups: a compacted topic for each, with as many partitions as the topic that it stands beside.
 *
 * @since 0.1.0
 */
import { BusClosed, InvalidMessage, PublishFailed, ReadFailed } from "@effect-eventbus/core/EventBusError"
import type { PublishError, SubscribeError } from "@effect-eventbus/core/EventBusError"
import type {
  IncomingMessage,
  OutgoingMessage,
  Service,
  Store,
  StoreChange,
  StoreEntry
} from "@effect-eventbus/core/Transport"
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Stream from "effect/Stream"
import type { Client } from "./internal/Client.js"
import { reconnect } from "./internal/Client.js"
import { isDenied } from "./internal/Failure.js"
import { monotonic, upTo } from "./internal/monotonic.js"
import * as Offsets from "./internal/Offsets.js"
import * as StoreTopics from "./internal/StoreTopics.js"
import * as Unpackable from "./internal/Unpackable.js"
import type { Settings } from "./KafkaConfig.js"
import { toInvalidConfiguration, toSubscribeError } from "./KafkaErrors.js"
import type { KafkaProducer } from "./KafkaProducer.js"
import type { KafkaReader } from "./KafkaReader.js"
import type { KafkaTopics } from "./KafkaTopics.js"

/**
 * The name of the topic on which a store is kept. It has up to 249 characters that Kafka allows, begins with `eventbus-store.`, and no two stores have the same.
 *
 * @since 0.1.0
 * @category naming
 */
export const topicOf: (store: { readonly topic: string; readonly group: string; readonly name: string }) => string =
  StoreTopics.nameOf

/**
 * Opens stores; the transport's `store`.
 *
 * @since 0.1.0
 * @category models
 */
export interface KafkaStore {
  readonly open: NonNullable<Service["store"]>
}

type Result = Either.Either<number, PublishError>

const MAX_KEY_BYTES = 1_024

/** The key of records that are no changes: where the log has one that is confirmed, it has all that was confirmed before. */
const BARRIER: OutgoingMessage = {
  id: undefined,
  aggregateId: undefined,
  key: new Uint8Array(0),
  value: null,
  headers: {},
  timestamp: undefined
}

/**
 * Stores on a client of the transport. For the transport itself.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  client: Client,
  topics: KafkaTopics,
  producer: KafkaProducer,
  reader: KafkaReader,
  settings: Settings
): KafkaStore => {
  /** Brokers come and go: as long as subscribing waits for them. */
  const patience = upTo(reconnect, settings.subscribeTimeout)

  const open: KafkaStore["open"] = ({ group, name, topic: source }) =>
    Effect.gen(function*() {
      const topic = StoreTopics.nameOf({ topic: source.name, group, name })
      const now = monotonic(yield* Effect.clock)
      const turn = yield* Effect.makeSemaphore(1)

      const waiting = <A>(effect: Effect.Effect<A, StoreTopics.OpeningFailure>, of: string) =>
        effect.pipe(
          Effect.retry({ schedule: patience, while: isTransient }),
          Effect.mapError((error): SubscribeError =>
            error._tag === "KafkaFailure" ? toSubscribeError(of, group, client.addresses, error) : error
          )
        )
      /** With room for each partition that the source has now. */
      const prepare = Effect.flatMap(
        waiting(topics.refresh(source.name), source.name),
        ({ leaders }) =>
          waiting(StoreTopics.prepare(client, topics, settings, source.name, topic, leaders.length), topic)
      )
      yield* Effect.mapError(
        topics.ensure(source),
        (error) => error._tag === "KafkaFailure" ? toSubscribeError(source.name, group, client.addresses, error) : error
      )
      yield* prepare

      let isClosed = false
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          isClosed = true
        })
      )

      const hasRoom = (partition: number) =>
        isIndex(partition) && partition < (topics.known(topic)?.leaders.length ?? 0)
      const notThere = (partition: number) =>
        new InvalidMessage({
          topic,
          issue: `the store has no partition ${partition}, and neither has "${source.name}"`
        })

      /** The source may have grown since. */
      const roomFor = (partition: number): Effect.Effect<void, InvalidMessage | SubscribeError> =>
        Effect.suspend(() =>
          hasRoom(partition)
            ? Effect.void
            : !isIndex(partition)
            ? Effect.fail(notThere(partition))
            : turn.withPermits(1)(
              Effect.suspend(() => hasRoom(partition) ? Effect.void : Effect.asVoid(prepare))
            ).pipe(Effect.filterOrFail(() => hasRoom(partition), () => notThere(partition)))
        )

      const write: Store["write"] = (partition, changes, { timeout }) =>
        Effect.suspend((): Effect.Effect<ReadonlyArray<Result>> => {
          const all = (error: PublishError) => changes.map((): Result => Either.left(error))
          if (isClosed) return Effect.succeed(all(new BusClosed({ topic })))
          if (changes.length === 0) return Effect.succeed([])
          const deadline = now() + Duration.toMillis(timeout)
          const send = Effect.suspend(() =>
            writeChanges(producer, topic, partition, changes, Duration.millis(Math.max(1, deadline - now())))
          )
          if (hasRoom(partition)) return send
          return roomFor(partition).pipe(
            Effect.timeoutFail({ duration: timeout, onTimeout: () => late(topic) }),
            Effect.matchEffect({
              onFailure: (error) => Effect.succeed(all(toPublishError(topic, error))),
              onSuccess: () => send
            })
          )
        })

      /** All that was confirmed before stands below it, whichever broker leads the partition, or still believes that it does. */
      const endOf = Effect.fnUntraced(function*(partition: number) {
        const [result] = yield* Effect.repeat(
          producer.write(topic, partition, [BARRIER], { timeout: Duration.millis(settings.subscribeTimeout) }),
          // The broker may have forgotten where it is: the next one will be told.
          { times: 2, while: ([result]) => Either.isRight(result!) && result.right.offset < 0 }
        )
        if (Either.isRight(result!) && result.right.offset >= 0) return result.right.offset
        const cause = Either.isRight(result!) ? somewhere(topic) : result!.left
        // Who may only read learns from the leader where the log ends.
        if ("cause" in cause && isDenied(cause.cause)) return yield* edge(partition, Offsets.written)
        return yield* new ReadFailed({ topic, partition, cause })
      })

      const edge = (partition: number, of: typeof Offsets.first) =>
        of(client, topics, Offsets.ROLE, topic, partition).pipe(
          Effect.retry({ schedule: patience, while: isTransient }),
          Effect.mapError((cause) => new ReadFailed({ topic, partition, cause }))
        )

      const read: Store["read"] = (partition, options) =>
        Stream.unwrap(Effect.gen(function*() {
          if (isClosed) return yield* new ReadFailed({ topic, partition, cause: new BusClosed({ topic }) })
          yield* Effect.mapError(roomFor(partition), (cause) => new ReadFailed({ topic, partition, cause }))
          const to = yield* endOf(partition)
          const after = options?.after
          // Of a log that was cut, or made anew, nobody can say what was added.
          if (after !== undefined && after >= to) {
            const cause = `It ends at ${to}, before what was read from it already: read it from its beginning`
            return yield* new ReadFailed({ topic, partition, cause })
          }
          const first = yield* edge(partition, Offsets.first)
          const from = Math.max(first, after === undefined ? 0 : after + 1)
          return Stream.mapChunksEffect(
            reader.readPartition({ name: topic, kind: "envelope" }, partition, { from, to }),
            entriesOf
          )
        }))

      return { write, read }
    })

  return { open }
}

/** In one chain: what is refused here ends it. */
const writeChanges = (
  producer: KafkaProducer,
  topic: string,
  partition: number,
  changes: ReadonlyArray<StoreChange>,
  timeout: Duration.Duration
): Effect.Effect<ReadonlyArray<Result>> => {
  const refusedAt = changes.findIndex(({ key }) => refusal(key) !== undefined)
  const good = refusedAt < 0 ? changes : changes.slice(0, refusedAt)
  const written = good.length === 0
    ? Effect.succeed([])
    : producer.write(topic, partition, good.map(messageOf), { timeout })
  return Effect.map(written, (receipts) => {
    const results = receipts.map(
      Either.flatMap(({ offset }): Result => offset < 0 ? Either.left(somewhere(topic)) : Either.right(offset))
    )
    if (refusedAt < 0) return results
    const error = new InvalidMessage({ topic, issue: refusal(changes[refusedAt]!.key)! })
    const behind = new PublishFailed({ topic, reason: "Rejected", outcome: "not-written", cause: error })
    return changes.map((_, i): Result => results[i] ?? Either.left(i === refusedAt ? error : behind))
  })
}

const isTransient = (error: StoreTopics.OpeningFailure): boolean =>
  error._tag === "KafkaFailure" && error.type !== "Client" && toInvalidConfiguration(error) === undefined

/** What keeps a store from having room for a partition, for those who wanted to write there. */
const toPublishError = (topic: string, error: InvalidMessage | PublishFailed | SubscribeError): PublishError => {
  switch (error._tag) {
    case "BusClosed":
    case "InvalidConfiguration":
    case "InvalidMessage":
    case "PublishFailed":
    case "UnknownTopic":
      return error
    case "BrokerUnreachable":
      return new PublishFailed({ topic, reason: "Unreachable", outcome: "not-written", cause: error })
    default:
      return new PublishFailed({ topic, reason: "Rejected", outcome: "not-written", cause: error })
  }
}

const isIndex = (partition: number): boolean => Number.isInteger(partition) && partition >= 0

const refusal = (key: string): string | undefined => {
  const bytes = Buffer.from(key, "utf8")
  if (bytes.length < 1 || bytes.length > MAX_KEY_BYTES) {
    return `a key of a store has 1 to ${MAX_KEY_BYTES} bytes, and this one has ${bytes.length}`
  }
  return bytes.toString("utf8") === key ? undefined : "a key of a store has to be well-formed text"
}

const messageOf = ({ key, value }: StoreChange): OutgoingMessage => ({
  ...BARRIER,
  key: Buffer.from(key, "utf8"),
  value
})

/** Page by page: an effect for each entry would take longer than all the rest. */
const entriesOf = (messages: Chunk.Chunk<IncomingMessage>): Effect.Effect<Chunk.Chunk<StoreEntry>, ReadFailed> => {
  const entries: Array<StoreEntry> = []
  for (const { headers, key, offset, partition, topic, value } of messages) {
    const unreadable = headers[Unpackable.HEADER]
    if (key === null && unreadable !== undefined) {
      return Effect.fail(new ReadFailed({ topic, partition, cause: unreadable }))
    }
    // Without a key it is no change.
    if (key === null || key.length === 0) continue
    entries.push({ key: textOf(key), value, revision: offset })
  }
  return Effect.succeed(Chunk.unsafeFromArray(entries))
}

const textOf = (key: Uint8Array): string => Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("utf8")

const late = (topic: string) =>
  new PublishFailed({
    topic,
    reason: "Timeout",
    outcome: "not-written",
    cause: "the store was not found, made or grown yet"
  })

/** It is written, and without its revision the writer can do nothing: it writes it again. */
const somewhere = (topic: string) =>
  new PublishFailed({
    topic,
    reason: "Timeout",
    outcome: "unknown",
    cause: "the broker has it, and does not know any more where"
  })
