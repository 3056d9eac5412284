/**
 * The streams behind the topics: made or checked on first use, with one request
 * however many ask at once, and remembered until somebody finds them missing.
 *
 * @since 0.1.0
 */
import { InvalidConfiguration, UnknownTopic } from "@effect-eventbus/core/EventBusError"
import type { TopicSpec } from "@effect-eventbus/core/Transport"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberId from "effect/FiberId"
import type * as Scope from "effect/Scope"
import type { Api, StreamConfig, StreamInfo } from "./internal/Api.js"
import * as Placement from "./internal/Placement.js"
import type { Settings } from "./NatsConfig.js"
import { codes, type NatsRequestFailed } from "./NatsErrors.js"
import { streamWarnings } from "./NatsPreflight.js"
import * as Subject from "./Subject.js"

/**
 * A stream that holds a topic's subject.
 *
 * @since 0.1.0
 * @category models
 */
export interface Stream {
  readonly name: string
  /** Another time of creation means another stream, whose sequences begin again. */
  readonly created: string
  /** The last sequence at the time it was looked at. */
  readonly last: number
}

/**
 * @since 0.1.0
 * @category models
 */
export type StreamError = UnknownTopic | InvalidConfiguration | NatsRequestFailed

/**
 * @since 0.1.0
 * @category models
 */
export interface NatsStreams {
  /** The topic's stream, from the cache where it is known. */
  readonly get: (topic: TopicSpec) => Effect.Effect<Stream, StreamError>
  /** The topic's stream as the server has it now: what is gone is made again, or missed, as the strategy says. */
  readonly refresh: (topic: TopicSpec) => Effect.Effect<Stream, StreamError>
}

/**
 * The scope is the transport's: a request that several wait for survives the one who asked first.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (api: Api, settings: Settings): Effect.Effect<NatsStreams, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => {
    const known = new Map<string, Stream>()
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
        return look(api, settings, topic).pipe(
          Effect.tap((info) => preflight(topic, info)),
          Effect.map(toStream),
          Effect.tap((stream) => Effect.sync(() => known.set(topic.name, stream))),
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
      get: (topic) =>
        Effect.suspend(() => {
          const stream = known.get(topic.name)
          return stream === undefined ? refresh(topic) : Effect.succeed(stream)
        })
    }
  })

const look = (api: Api, settings: Settings, topic: TopicSpec): Effect.Effect<StreamInfo, StreamError> =>
  Effect.gen(function*() {
    const placement = yield* Either.mapLeft(
      Placement.of(settings, topic),
      (issue) => new InvalidConfiguration({ issues: [issue], topic: topic.name })
    )
    const { subject } = placement
    const wanted = { ...toConfig(settings, topic), subjects: [subject], description: placement.description }
    const existing = yield* find(api, wanted.name, subject)
    if (existing === undefined) {
      if (settings.streams !== "create") {
        const cause = `the setting nats.streams is "${settings.streams}": only "create" makes streams`
        return yield* new UnknownTopic({ topic: topic.name, transport: "nats", cause })
      }
      const created = yield* api.createStream(wanted).pipe(
        Effect.catchIf(
          // Another process made it, or one that holds the subject, in the meantime.
          (failure) =>
            failure.error?.err_code === codes.subjectsOverlap || failure.error?.err_code === codes.streamNameInUse,
          (failure) =>
            find(api, wanted.name, subject).pipe(
              Effect.flatMap((found) => found === undefined ? Effect.fail(failure) : Effect.succeed(found))
            )
        ),
        Effect.catchIf(
          (failure) => failure.error !== undefined && failure.error.code >= 400 && failure.error.code < 500,
          (cause) => new InvalidConfiguration({ issues: [cause.message], topic: topic.name, cause })
        )
      )
      yield* Effect.logInfo("Created a JetStream stream").pipe(
        Effect.annotateLogs({ stream: created.config.name, topic: topic.name })
      )
      return created
    }
    const others = existing.config.description ?? ""
    if (placement.description !== undefined && others !== placement.description && /^effect-eventbus: /.test(others)) {
      const issue = `stream "${existing.config.name}" says "${others}", but this is "${placement.description}"`
      return yield* new InvalidConfiguration({ issues: [issue], topic: topic.name })
    }
    if (settings.streams === "validate") {
      const issues = differences(settings, topic, existing.config)
      if (issues.length > 0) return yield* new InvalidConfiguration({ issues, topic: topic.name })
    }
    return existing
  })

/** The stream by our name for it, or another one that holds the subject. */
const find = (
  api: Api,
  name: string,
  subject: string
): Effect.Effect<StreamInfo | undefined, NatsRequestFailed> => {
  const info = (name: string) =>
    api.streamInfo(name).pipe(
      Effect.catchIf(
        (failure) => failure.error?.err_code === codes.streamNotFound,
        () => Effect.succeed(undefined)
      )
    )
  return info(name).pipe(
    Effect.flatMap((own) =>
      own?.config.subjects?.includes(subject) === true
        ? Effect.succeed(own)
        : Effect.flatMap(
          api.streamNameOf(subject),
          (other) =>
            other === undefined ? Effect.succeed(undefined) : other === name ? Effect.succeed(own) : info(other)
        )
    ),
    // One that holds some of a topic's partitions is not the topic's.
    Effect.map((found) =>
      found?.config.subjects?.some((pattern) => Subject.covers(pattern, subject)) === true ? found : undefined
    )
  )
}

const toStream = (info: StreamInfo): Stream => ({
  name: info.config.name,
  created: info.created,
  last: info.state.last_seq
})

const nanos = (input: Duration.DurationInput): number => Math.round(Duration.toMillis(input) * 1e6)

const toConfig = (settings: Settings, topic: TopicSpec): StreamConfig => {
  const { maxAge, maxBytes, maxMessages, replicas } = settings.options
  const window = settings.duplicateWindow * 1e6
  return {
    name: Subject.toStream(topic.name),
    subjects: [topic.name],
    storage: topic.kind === "envelope" ? settings.storage : settings.plainStorage,
    retention: "limits",
    discard: "old",
    num_replicas: replicas ?? 1,
    max_age: maxAge === undefined ? 0 : nanos(maxAge),
    max_bytes: maxBytes ?? -1,
    max_msgs: maxMessages ?? -1,
    // The server refuses a window that is longer than the messages live.
    duplicate_window: maxAge === undefined ? window : Math.min(window, nanos(maxAge))
  }
}

/** What was set by the application, and the storage, have to be what the stream has. */
const differences = (settings: Settings, topic: TopicSpec, actual: StreamConfig): ReadonlyArray<string> => {
  const wanted = toConfig(settings, topic)
  const { duplicateWindow, maxAge, maxBytes, maxMessages, replicas } = settings.options
  const checked: ReadonlyArray<readonly [name: keyof StreamConfig, isSet: boolean]> = [
    ["storage", true],
    ["num_replicas", replicas !== undefined],
    ["max_age", maxAge !== undefined],
    ["max_bytes", maxBytes !== undefined],
    ["max_msgs", maxMessages !== undefined],
    ["duplicate_window", duplicateWindow !== undefined]
  ]
  return checked.flatMap(([name, isSet]) =>
    !isSet || wanted[name] === actual[name]
      ? []
      : [`stream "${actual.name}" has ${name} ${String(actual[name])}, but ${String(wanted[name])} is configured`]
  )
}
