/**
 * The durable map of a group beside a topic: a key-value bucket, of which the partition is a token and the key another one.
 */
import { InvalidConfiguration, InvalidMessage, ReadFailed, SubscribeFailed } from "@effect-eventbus/core/EventBusError"
import type { Service, StoreEntry } from "@effect-eventbus/core/Transport"
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Settings } from "../NatsConfig.js"
import { codes, isStorageFull, isTransient, type NatsRequestFailed, toSubscribeError } from "../NatsErrors.js"
import * as Subject from "../Subject.js"
import * as Api from "./Api.js"
import { headerBlock } from "./Client.js"
import type { Connection } from "./Connection.js"
import { patiently } from "./NatsConsumer.js"
import { lagging, patience } from "./NatsReader.js"
import type { NatsStreams, StreamError } from "./NatsStreams.js"
import { Pager } from "./Pager.js"
import * as Placement from "./Placement.js"
import * as StoreBucket from "./StoreBucket.js"
import { StoreMarks } from "./StoreMarks.js"
import * as StoreNames from "./StoreNames.js"
import * as StoreRecord from "./StoreRecord.js"
import { lastOf, StoreWriter } from "./StoreWriter.js"

/** So many keys are asked for one by one; more are found by reading all. */
const mostGets = 64
const concurrentGets = 8

/** Entries are small: so many are asked for at a time. */
const batch = 2_000

const encoder = new TextEncoder()

/** Opens stores on a connection of the transport. */
export const make = (
  connection: Connection,
  api: Api.Api,
  streams: NatsStreams,
  settings: Settings
): NonNullable<Service["store"]> =>
({ group, name, topic }) =>
  Effect.gen(function*() {
    const { partitions = 1 } = yield* checked(group, topic.name, Placement.of(settings, topic))
    const issueOf = (partition: number) =>
      Number.isInteger(partition) && partition >= 0 && partition < partitions
        ? undefined
        : `there is no partition ${partition}: the topic has ${partitions}`
    const at = StoreBucket.of(settings, group, topic.name, name)
    const opened = Effect.gen(function*() {
      const stream = yield* streams.look(topic)
      const replicas = Math.max(settings.options.replicas ?? 1, stream?.replicas ?? 1)
      const description = `effect-eventbus: store "${name}" of group "${group}" on topic "${topic.name}"`.slice(
        0,
        1_000
      )
      const wanted = StoreBucket.toConfig(at, settings, replicas, description)
      const info = yield* StoreBucket.ensure(api, at, wanted, topic.name)
      yield* StoreBucket.checkRights(connection, settings, at)
      return info
    })
    const { created } = yield* patiently(connection, settings, opened).pipe(
      Effect.mapError((failure) =>
        failure._tag === "NatsRequestFailed" && failure.reason === "Denied"
          ? new SubscribeFailed({ topic: topic.name, group, cause: StoreBucket.needs(settings, at, failure) })
          : toSubscribeError(topic.name, group, failure)
      )
    )
    const marks = new StoreMarks(
      () => performance.now(),
      (marked, revision) => StoreBucket.purge(connection, settings, at, marked, revision)
    )
    // Whoever opens it may not be interrupted, which a forked fiber inherits.
    yield* Effect.forkScoped(Effect.interruptible(Effect.annotateLogs(marks.sweeping, "bucket", at.bucket)))
    const writer = new StoreWriter({ connection, settings, topic: topic.name, at, marks })
    yield* Effect.addFinalizer(() => Effect.sync(() => writer.isClosed = true))
    const reader = new StoreReader(connection, api, settings, at, created, writer, marks)
    return {
      write: (partition, changes, { timeout }) => {
        const issue = issueOf(partition)
        if (issue === undefined) return writer.write(partition, changes, Duration.toMillis(timeout))
        return Effect.succeed(changes.map(() => Either.left(new InvalidMessage({ topic: topic.name, issue }))))
      },
      read: (partition, options = {}) => {
        const failed = (cause: unknown) => new ReadFailed({ topic: topic.name, partition, cause })
        const issue = issueOf(partition)
        if (issue !== undefined) return Stream.fail(failed(issue))
        return Stream.mapError(reader.read(partition, options.after ?? 0, options.keys), (failure) =>
          failed(
            failure._tag === "NatsRequestFailed" && failure.reason === "Denied"
              ? StoreBucket.needs(settings, at, failure)
              : failure
          ))
      }
    }
  })

const checked = (
  group: string,
  topic: string,
  placement: Either.Either<Placement.Placement, string>
) =>
  Either.all([placement, Subject.toDurable(group, topic)]).pipe(
    Either.mapBoth({
      onLeft: (issue) => new InvalidConfiguration({ issues: [issue], topic }),
      onRight: ([place]) => place
    })
  )

class StoreReader {
  constructor(
    private readonly connection: Connection,
    private readonly api: Api.Api,
    private readonly settings: Settings,
    private readonly at: StoreBucket.StoreBucket,
    private readonly created: string,
    private readonly writer: StoreWriter,
    private readonly marks: StoreMarks
  ) {}

  read(
    partition: number,
    after: number,
    keys: ReadonlyArray<string> | undefined
  ): Stream.Stream<StoreEntry, StreamError> {
    if (keys === undefined || keys.length > mostGets) return this.readAll(partition, after)
    const names = Array.from(new Set(keys.filter((key) => StoreNames.keyIssue(key) === undefined)), StoreNames.toToken)
    return names.length === 0 ? Stream.empty : Stream.fromIterableEffect(
      Effect.map(
        this.trying(Effect.suspend(() => this.lasts(partition, names))),
        (entries) => entries.filter(({ revision }) => revision > after).sort((a, b) => a.revision - b.revision)
      )
    )
  }

  private trying<A>(effect: Effect.Effect<A, StreamError>): Effect.Effect<A, StreamError> {
    return Effect.retry(effect, {
      schedule: patience,
      while: (failure) => failure._tag === "NatsRequestFailed" && isTransient(failure)
    })
  }

  /** The stream as its leader has it, if it is the one that was opened. */
  private readonly info: Effect.Effect<Api.StreamInfo & { readonly name: string }, NatsRequestFailed> = Effect.suspend(
    () => this.api.streamInfo(this.at.stream)
  ).pipe(
    Effect.catchIf(
      (failure) => failure.error?.err_code === codes.streamNotFound,
      () => StoreBucket.gone(this.at, "was deleted")
    ),
    Effect.filterOrElse(
      ({ created }) => created === this.created,
      () => StoreBucket.gone(this.at, "was deleted and made again")
    ),
    Effect.map((info) => ({ ...info, name: info.config.name }))
  )

  /**
   * A sequence which the stream's leader has got, with all that was confirmed before it: the one of a mark that is written now. A leader that
   * has just been elected may not have got yet what others have confirmed, and does not say so. Undefined where a server is alone,
   * and where there is no room for a mark.
   */
  private mark(partition: number, { config }: Api.StreamInfo): Effect.Effect<number | undefined, NatsRequestFailed> {
    if ((config.num_replicas ?? 1) === 1) return Effect.succeed(undefined)
    const subject = `${this.at.writes}${partition}.${StoreNames.mark}`
    return Api.request(this.connection, subject, this.settings.requestTimeout, encoder.encode("read")).pipe(
      Effect.map((answer) => (answer as { readonly seq: number }).seq),
      Effect.catchIf(isStorageFull, () => Effect.succeed(undefined))
    )
  }

  /** The last changes of keys, from the leader that has got everything before. */
  private lasts(partition: number, tokens: ReadonlyArray<string>): Effect.Effect<Array<StoreEntry>, NatsRequestFailed> {
    const { at, connection, settings } = this
    return Effect.gen(this, function*() {
      const before = yield* this.info
      const mark = yield* this.mark(partition, before)
      const lasts = yield* Effect.forEach(
        tokens,
        (token) => lastOf(connection, settings, at, `${partition}.${token}`, settings.requestTimeout),
        { concurrency: concurrentGets }
      )
      if (mark !== undefined) {
        const { cluster } = yield* this.info
        if (cluster?.leader !== before.cluster?.leader) return yield* lagging(at.stream, mark)
      }
      return lasts.flatMap((last, i) => {
        const entry = last === undefined
          ? undefined
          : StoreRecord.toEntry(tokens[i]!, last.revision, last.headers, last.data)
        if (entry === undefined) return []
        this.writer.learn(`${partition}.${tokens[i]!}`, entry.revision)
        return [entry]
      })
    })
  }

  /**
   * Reads until there is nothing more at some moment: a key that is written again while it is read moves to the end, and must not be
   * missed for that.
   */
  private readAll(partition: number, after: number): Stream.Stream<StoreEntry, StreamError> {
    return Stream.unwrapScoped(Effect.gen(this, function*() {
      const { at } = this
      const begun = Effect.gen(this, function*() {
        const info = yield* this.info
        return { info, mark: yield* this.mark(partition, info) }
      })
      const { info, mark } = yield* this.trying(begun)
      const pager = new Pager({
        connection: this.connection,
        api: this.api,
        settings: this.settings,
        stream: { name: at.stream, created: this.created },
        filter: `${at.root}${partition}.>`,
        current: this.info,
        batch
      })
      yield* Effect.addFinalizer(() => pager.close)
      // The server has lost its end, and what is written now has revisions that were known for something else.
      const from = after > info.state.last_seq ? 1 : after + 1
      return Stream.paginateChunkEffect(
        from,
        (next) => this.trying(Effect.suspend(() => this.page(pager, partition, next, mark)))
      )
    }))
  }

  private page(pager: Pager, partition: number, next: number, mark: number | undefined) {
    const { at } = this
    return Effect.gen(this, function*() {
      const now = yield* Clock.currentTimeMillis
      const entries: Array<StoreEntry> = []
      const prefix = `${at.root}${partition}.`.length
      const { isExhausted, last } = yield* pager.page(next, (message, { sequence, timestamp }) => {
        const token = message.subject.slice(prefix)
        const entry = StoreRecord.toEntry(token, sequence, headerBlock(message), message.data)
        if (entry === undefined) return true
        const name = `${partition}.${token}`
        if (entry.value === null) this.marks.removed(name, sequence, now - timestamp)
        this.writer.learn(name, sequence)
        entries.push(entry)
        return true
      })
      const then = (last ?? next - 1) + 1
      const isDone = isExhausted && (yield* this.isComplete(partition, then, mark))
      // It has nothing, and there is something: another one is asked.
      if (!isDone && last === undefined) yield* pager.close
      return [Chunk.unsafeFromArray(entries), isDone ? Option.none<number>() : Option.some(then)] as const
    }).pipe(
      // What it gave out is read again.
      Effect.tapError(() => pager.close)
    )
  }

  /** Whether the stream's leader has nothing from there on. Where it does not have what it had before, nobody knows. */
  private isComplete(partition: number, next: number, mark: number | undefined) {
    const { api, at } = this
    return Effect.flatMap(api.nextSequence(at.stream, next, `${at.root}${partition}.>`), (there) => {
      if (there !== undefined) return Effect.succeed(false)
      return mark === undefined || next > mark ? Effect.succeed(true) : Effect.fail(lagging(at.stream, mark))
    })
  }
}
