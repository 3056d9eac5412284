/**
 * The streams behind the topics: made or checked on first use, with one request
 * however many ask at once, and remembered until somebody finds them missing.
 */
import { InvalidConfiguration, UnknownTopic } from "@effect-eventbus/core/EventBusError"
import type { TopicSpec } from "@effect-eventbus/core/Transport"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberId from "effect/FiberId"
import type * as Scope from "effect/Scope"
import type { Settings } from "../NatsConfig.js"
import { codes, isRefused, type NatsRequestFailed } from "../NatsErrors.js"
import * as Subject from "../Subject.js"
import type { Api, StreamConfig, StreamInfo } from "./Api.js"
import * as Bucket from "./Bucket.js"
import type { Connection } from "./Connection.js"
import { streamWarnings } from "./NatsPreflight.js"
import * as PartitionCounts from "./PartitionCounts.js"
import * as Placement from "./Placement.js"
import * as StreamSettings from "./StreamSettings.js"

/**
 * A stream that holds a topic's subject.
 */
export interface Stream {
  readonly name: string
  readonly subjects: ReadonlyArray<string>
  /** Another time of creation means another stream, whose sequences begin again. */
  readonly created: string
  /** The last sequence at the time it was looked at. */
  readonly last: number
  /** When the last message at that time was stored, in milliseconds since the epoch; 0 where there was none. */
  readonly lastAt: number
  readonly replicas: number
  /**
   * Whether a restart of its server can make it forget the ids of messages that it has had: those in memory are gone, and where
   * messages are removed once they are acknowledged nothing is left to know the id by.
   */
  readonly forgets: boolean
  /** For how long it knows a message's id, in milliseconds. */
  readonly duplicateWindow: number
  /** What makes it drop a message: `limits` (which it is where nothing is said), `interest` or `workqueue`. */
  readonly retention?: string | undefined
  readonly storage?: string | undefined
}

/**
 * Why there is no stream for a topic.
 */
export type StreamError = UnknownTopic | InvalidConfiguration | NatsRequestFailed

/**
 * What the transport knows of the streams of its topics.
 */
export interface NatsStreams {
  /** The topic's stream, from the cache where it is known. */
  readonly get: (topic: TopicSpec) => Effect.Effect<Stream, StreamError>
  /** The topic's stream as the server has it now: what is gone is made again, or missed, as the strategy says. */
  readonly refresh: (topic: TopicSpec) => Effect.Effect<Stream, StreamError>
  /** The topic's stream as the server has it now, which is left as it is; undefined when there is none. */
  readonly look: (topic: TopicSpec) => Effect.Effect<Stream | undefined, InvalidConfiguration | NatsRequestFailed>
  /** Refuses a pattern that would miss the messages of topics with partitions, which it names. */
  readonly checkPattern: (topic: TopicSpec) => Effect.Effect<void, InvalidConfiguration | NatsRequestFailed>
}

/**
 * The scope is the transport's: a request that several wait for survives the one who asked first.
 */
export const make = (
  connection: Connection,
  api: Api,
  settings: Settings
): Effect.Effect<NatsStreams, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => {
    const known = new Map<string, Stream>()
    const seen = new Set<string>()
    const asked = new Map<string, Deferred.Deferred<Stream, StreamError>>()
    const warned = new Map<string, string>()

    /** Once for each stream, and again when its settings have changed for the worse or the better. */
    const preflight = (topic: TopicSpec, { config }: StreamInfo): Effect.Effect<void> =>
      Effect.suspend(() => {
        const warnings = settings.preflight === "off" ? [] : streamWarnings(topic.kind, config)
        const text = warnings.join("; ")
        if (warnings.length === 0 || warned.get(config.name) === text) return Effect.void
        warned.set(config.name, text)
        return Effect.logWarning("The stream's settings are weaker than what the bus promises").pipe(
          Effect.annotateLogs({ stream: config.name, topic: topic.name, reasons: text })
        )
      })

    const refresh = (topic: TopicSpec): Effect.Effect<Stream, StreamError> =>
      Effect.suspend(() => {
        const running = asked.get(topic.name)
        if (running !== undefined) return Deferred.await(running)
        const answer = Deferred.unsafeMake<Stream, StreamError>(FiberId.none)
        asked.set(topic.name, answer)
        known.delete(topic.name)
        return ensure(api, settings, topic, seen.has(topic.name)).pipe(
          Effect.tap((info) => checkCount(connection, settings, topic, info)),
          Effect.tap((info) => preflight(topic, info)),
          Effect.map(toStream),
          Effect.tap((stream) =>
            Effect.sync(() => {
              known.set(topic.name, stream)
              seen.add(topic.name)
            })
          ),
          Effect.onExit((exit) => {
            asked.delete(topic.name)
            return Deferred.done(answer, exit)
          }),
          Effect.interruptible,
          Effect.forkIn(scope),
          Effect.zipRight(Deferred.await(answer))
        )
      })

    return {
      refresh,
      look: (topic) =>
        Effect.flatMap(placementOf(settings, topic), (placement) =>
          Effect.map(
            find(api, StreamSettings.toConfig(api, settings, topic, placement).name, placement.subject),
            (info) => info === undefined ? undefined : toStream(info)
          )),
      checkPattern: (topic) =>
        Subject.isPattern(topic.name) ? checkPattern(connection, api, settings, topic) : Effect.void,
      get: (topic) =>
        Effect.suspend(() => {
          const stream = known.get(topic.name)
          return stream === undefined ? refresh(topic) : Effect.succeed(stream)
        })
    }
  })

/**
 * A server before 2.10 removes the files of a deleted stream a little later, and those of one of the same name that was made
 * meanwhile with them: its messages are acknowledged, counted, and gone.
 */
const untilRemoved = "1 second"

const ensure = (
  api: Api,
  settings: Settings,
  topic: TopicSpec,
  wasThere: boolean
): Effect.Effect<StreamInfo, StreamError> =>
  Effect.gen(function*() {
    const placement = yield* placementOf(settings, topic)
    const { subject } = placement
    const wanted = StreamSettings.toConfig(api, settings, topic, placement)
    const existing = yield* find(api, wanted.name, subject)
    if (existing !== undefined) return yield* check(api, settings, topic, placement, existing)
    if (settings.streams !== "create" && settings.streams !== "update") {
      const cause = `the setting nats.streams is "${settings.streams}": only "create" and "update" make streams`
      return yield* new UnknownTopic({ topic: topic.name, transport: "nats", cause })
    }
    if (wasThere && !api.isAtLeast(2, 10)) yield* Effect.sleep(untilRemoved)
    const created = yield* api.createStream(wanted).pipe(
      Effect.catchIf(
        // Another process made it, or one that holds the subject, in the meantime.
        (failure) =>
          failure.error?.err_code === codes.subjectsOverlap || failure.error?.err_code === codes.streamNameInUse,
        (failure) =>
          find(api, wanted.name, subject).pipe(
            Effect.flatMap((found) =>
              found === undefined ? Effect.fail(failure) : check(api, settings, topic, placement, found)
            )
          )
      ),
      Effect.catchIf(
        (failure) => failure._tag === "NatsRequestFailed" && failure.error !== undefined && isRefused(failure.error),
        (cause) => new InvalidConfiguration({ issues: [cause.message], topic: topic.name, cause })
      )
    )
    yield* Effect.logInfo("Created a JetStream stream").pipe(
      Effect.annotateLogs({ stream: created.config.name, topic: topic.name })
    )
    const ignored = StreamSettings.differences(api, settings, topic, placement, created.config)
    if (ignored.length > 0) {
      yield* Effect.logWarning("The server has ignored settings of the stream").pipe(
        Effect.annotateLogs({ stream: created.config.name, settings: ignored.map(([name]) => name).join(", ") })
      )
    }
    if (settings.compression !== "none" && wanted.compression === undefined) {
      yield* Effect.logWarning("The stream is not compressed: the server is older than 2.10").pipe(
        Effect.annotateLogs("stream", created.config.name)
      )
    }
    return created
  })

const placementOf = (settings: Settings, topic: TopicSpec): Either.Either<Placement.Placement, InvalidConfiguration> =>
  Either.mapLeft(
    Placement.of(settings, topic),
    (issue) => new InvalidConfiguration({ issues: [issue], topic: topic.name })
  )

/** All have to mean the same partitions: also of a topic of which the stream doesn't say it. */
const checkCount = (
  connection: Connection,
  settings: Settings,
  topic: TopicSpec,
  info: StreamInfo
): Effect.Effect<void, InvalidConfiguration | NatsRequestFailed> =>
  Effect.flatMap(placementOf(settings, topic), (placement) => {
    if (!PartitionCounts.isRecorded(topic.name, placement, info)) return Effect.void
    const replicas = Math.max(settings.options.replicas ?? 1, info.config.num_replicas ?? 1)
    const bucket = Bucket.make(connection, settings, settings.requestTimeout, replicas)
    return PartitionCounts.check(bucket, settings, topic.name, placement, info)
  })

const checkPattern = (
  connection: Connection,
  api: Api,
  settings: Settings,
  { name }: TopicSpec
): Effect.Effect<void, InvalidConfiguration | NatsRequestFailed> => {
  const invalid = (what: string) =>
    new InvalidConfiguration({
      issues: [
        `"${name}" does not match the messages of ${what}: with partitions their subjects have two more words. ` +
        "Subscribe to each of them, or to a pattern with > at its end"
      ],
      topic: name
    })
  if (settings.options.partitions !== undefined && !name.endsWith(">")) {
    return invalid("topics that it names, which nats.partitions gives partitions")
  }
  const bucket = Bucket.make(connection, settings, settings.requestTimeout, settings.options.replicas ?? 1)
  return Effect.flatMap(
    PartitionCounts.missedBy(api, bucket, name),
    (topics) => topics.length === 0 ? Effect.void : invalid(topics.map((topic) => `"${topic}"`).join(", "))
  )
}

/** Why a stream can't be a topic's, whatever the strategy says; undefined where it can. */
const unfitness = ({ mirror, name, subject_transform }: StreamConfig, subject: string): string | undefined => {
  if (mirror !== undefined) {
    return `stream "${name}" is a mirror of "${mirror.name}": nothing can be published to it, and acknowledging there says nothing to its ` +
      `origin. Use the origin (nats.domain, or another server), or rename the mirror`
  }
  if (subject_transform === undefined) return undefined
  const { dest, src = "" } = subject_transform
  const source = src === "" ? ">" : src
  return Subject.covers(source, subject) || Subject.covers(subject, source)
    ? `stream "${name}" stores "${source}" as "${dest}" (subject_transform): what is published to "${subject}" would be found under ` +
      "another subject. Remove the transform, or use the subject that the stream stores as the topic"
    : undefined
}

/** What the strategy says to a stream that is there. */
const check = (
  api: Api,
  settings: Settings,
  topic: TopicSpec,
  placement: Placement.Placement,
  existing: StreamInfo
): Effect.Effect<StreamInfo, InvalidConfiguration | NatsRequestFailed> => {
  const unfit = unfitness(existing.config, placement.subject)
  if (unfit !== undefined) return new InvalidConfiguration({ issues: [unfit], topic: topic.name })
  if (existing.config.no_ack === true && settings.streams !== "update") {
    const issue = `stream "${existing.config.name}" has no_ack: it confirms nothing, so no publish would ever succeed`
    return new InvalidConfiguration({ issues: [issue], topic: topic.name })
  }
  const { description } = placement
  const others = existing.config.description ?? ""
  if (description !== undefined && others !== description && /^effect-eventbus: /.test(others)) {
    const issue = `stream "${existing.config.name}" says "${others}", but this is "${description}"`
    return new InvalidConfiguration({ issues: [issue], topic: topic.name })
  }
  if (settings.streams !== "update" && settings.streams !== "validate") return Effect.succeed(existing)
  const different = StreamSettings.differences(api, settings, topic, placement, existing.config)
  if (different.length === 0) return Effect.succeed(existing)
  const { config } = existing
  const issues = different.map(([name, value]) =>
    `stream "${config.name}" has ${name} ${StreamSettings.inWords(config[name])}, but ${
      StreamSettings.inWords(value)
    } is configured`
  )
  const invalid = (more: ReadonlyArray<string>, cause?: unknown) =>
    Effect.fail(new InvalidConfiguration({ issues: [...issues, ...more], topic: topic.name, cause }))
  if (settings.streams === "validate") return invalid([])
  const changed: StreamConfig = { ...config, ...Object.fromEntries(different) }
  const { duplicate_window = 0, max_age = 0 } = changed
  // The server refuses a window that is longer than the messages live.
  const capped = max_age > 0 && duplicate_window > max_age ? { ...changed, duplicate_window: max_age } : changed
  return api.updateStream(capped).pipe(
    Effect.tap(() =>
      Effect.logInfo("Changed a JetStream stream").pipe(
        Effect.annotateLogs({ stream: config.name, topic: topic.name, before: issues.join("; ") })
      )
    ),
    Effect.catchIf(
      (failure) => failure.error !== undefined && isRefused(failure.error),
      (failure) => invalid([`the server does not change that: ${failure.error?.description}`], failure)
    )
  )
}

/** The stream by our name for it, or another one that holds the subject. */
const find = (
  api: Api,
  name: string,
  subject: string
): Effect.Effect<StreamInfo | undefined, NatsRequestFailed | InvalidConfiguration> =>
  Effect.gen(function*() {
    const info = (name: string) =>
      api.streamInfo(name).pipe(
        Effect.catchIf(
          (failure) => failure.error?.err_code === codes.streamNotFound,
          () => Effect.succeed(undefined)
        )
      )
    const holds = (stream: StreamInfo | undefined) =>
      stream?.config.subjects?.some((held) => Subject.covers(held, subject)) === true
    const own = yield* info(name)
    if (holds(own)) return own
    const names = yield* api.streamNamesOf(subject)
    // A mirror has the name, and can't have the subject.
    if (names.length === 0) return own?.config.mirror === undefined ? undefined : own
    const other = names.length > 1 ? undefined : names[0] === name ? own : yield* info(names[0]!)
    if (names.length === 1 && (other === undefined || holds(other))) return other
    return yield* new InvalidConfiguration({
      issues: [
        `"${subject}" is spread over streams (${names.join(", ")}), and a subscription reads one stream: ` +
        `let its topics share one (nats.sharedStreams: "${subject}") before they are used, or subscribe to each of them`
      ],
      topic: subject
    })
  })

const toStream = (info: StreamInfo): Stream => ({
  name: info.config.name,
  subjects: info.config.subjects ?? [],
  created: info.created,
  last: info.state.last_seq,
  // Of a stream without any message it is the year 1.
  lastAt: Math.max(0, Date.parse(info.state.last_ts ?? "") || 0),
  replicas: info.config.num_replicas ?? 1,
  forgets: (info.config.storage === "memory" || (info.config.retention ?? "limits") !== "limits") &&
    (info.config.num_replicas ?? 1) < 3,
  duplicateWindow: (info.config.duplicate_window ?? 0) / 1e6,
  retention: info.config.retention,
  storage: info.config.storage
})
