/**
 * Which topics exist, how many partitions they have and who leads them. A topic
 * is made or checked on first use, with one request however many ask at once,
 * and remembered until an error says that it has changed.
 *
 * @since 0.1.0
 */
import { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import type { TopicSpec } from "@effect-eventbus/core/Transport"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Client } from "./internal/Client.js"
import type { TopicMetadata } from "./internal/clusterApis.js"
import * as ErrorCode from "./internal/ErrorCode.js"
import { failure, KafkaFailure } from "./internal/Failure.js"
import { monotonic, upTo } from "./internal/monotonic.js"
import * as TopicAdmin from "./internal/TopicAdmin.js"
import * as TopicNumbers from "./internal/topicNumbers.js"
import type { Settings } from "./KafkaConfig.js"

/**
 * A topic as the cluster has it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Topic {
  readonly name: string
  /** Another one says that the topic was deleted and made again; undefined on brokers before 2.8. */
  readonly id: string | undefined
  /** The leader of each partition, by its number; −1 while there is none. */
  readonly leaders: ReadonlyArray<number>
  /** How often each partition's leader has changed, as the broker counts it; −1 on brokers before 2.8. */
  readonly epochs: ReadonlyArray<number>
  /** When this was known, in milliseconds of a monotonic clock. */
  readonly at: number
}

/**
 * What the transport knows of its topics.
 *
 * @since 0.1.0
 * @category models
 */
export interface KafkaTopics {
  /** The topic, made or checked as the settings say. It fails with the protocol's error, or for a topic that does not fit. */
  readonly ensure: (spec: TopicSpec) => Effect.Effect<Topic, KafkaFailure | InvalidConfiguration>
  /** The topic as it is now, asked for again: leaders move, and partitions are added. */
  readonly refresh: (name: string) => Effect.Effect<Topic, KafkaFailure>
  /** What is known, without asking. */
  readonly known: (name: string) => Topic | undefined
  /** Whether `ensure` can answer without asking the broker. */
  readonly isReady: (name: string) => boolean
}

type Failure = KafkaFailure | InvalidConfiguration
type Resume<E> = (exit: Exit.Exit<Topic, E>) => void

const LEADERS_WITHIN = "10 seconds"

/**
 * The topics of a client. For the transport itself: applications set `topics`, `topicSettings` and `topicDefaults`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (client: Client, settings: Settings): Effect.Effect<KafkaTopics, never, Scope.Scope> =>
  Effect.gen(function*() {
    const now = monotonic(yield* Effect.clock)
    const topics = new Map<string, Topic>()
    const fork = yield* FiberSet.makeRuntime<never>()
    const refreshing = new Map<string, Array<Resume<KafkaFailure>>>()
    const ensuring = new Map<string, Array<Resume<Failure>>>()

    let isClosed = false
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        isClosed = true
        for (const waiting of [...refreshing.values(), ...ensuring.values()]) {
          for (const resume of waiting) resume(closed)
        }
      })
    )

    /** One request for all who ask while it is under way, which is answered in the order they asked. */
    const shared = <E>(
      running: Map<string, Array<Resume<E | KafkaFailure>>>,
      name: string,
      request: Effect.Effect<Topic, E>
    ) =>
      Effect.async<Topic, E | KafkaFailure>((resume) => {
        if (isClosed) return resume(closed)
        const others = running.get(name)
        if (others !== undefined) {
          others.push(resume)
          return
        }
        const waiting: Array<Resume<E | KafkaFailure>> = [resume]
        running.set(name, waiting)
        fork(
          Effect.exit(request).pipe(Effect.map((exit) => {
            running.delete(name)
            for (const resume of waiting) resume(exit)
          }))
        )
      })

    /** Those that were made as they are wanted, or checked. */
    const checked = new Set<string>()

    const describe = Effect.fnUntraced(function*(name: string) {
      const found = yield* client.metadata([name])
      const topic = found.topics.find((topic) => topic.name === name)
      const code = topic?.errorCode ?? 0
      if (topic === undefined || code !== 0) {
        topics.delete(name)
        checked.delete(name)
        return yield* topic === undefined
          ? new KafkaFailure({ type: "UNKNOWN_TOPIC_OR_PARTITION", sent: true, cause: "The broker has no such topic" })
          : failure("Metadata", code)
      }
      if (!topic.partitions.every(({ id }) => id >= 0 && id < MAX_PARTITIONS)) return yield* noSuchPartition
      return topic
    })

    const look = Effect.fnUntraced(function*(name: string) {
      const topic = yield* describe(name)
      const known: Topic = { name, id: topic.id, leaders: leadersOf(topic), epochs: epochsOf(topic), at: now() }
      topics.set(name, known)
      return known
    })

    const refresh = (name: string) => shared(refreshing, name, look(name))

    const createMissing = (spec: TopicSpec) =>
      look(spec.name).pipe(
        Effect.catchIf(
          (error) => error.type === "UNKNOWN_TOPIC_OR_PARTITION" && settings.topics.startsWith("create"),
          () => Effect.zipRight(TopicAdmin.create(client, spec, settings), Effect.mapError(look(spec.name), notYet))
        ),
        // A topic that was just made has no leaders for a moment, and not every broker knows of it.
        Effect.filterOrFail(
          (topic) => !topic.leaders.includes(-1),
          () => new KafkaFailure({ type: "LEADER_NOT_AVAILABLE", sent: true, cause: "A partition has no leader" })
        ),
        Effect.retry({
          while: (error) => error.type === "LEADER_NOT_AVAILABLE" || error.type === "NOT_CONTROLLER",
          schedule: upTo(Schedule.spaced("50 millis"), LEADERS_WITHIN)
        }),
        // One partition without a leader does not make the others useless.
        Effect.catchIf((error) => error.type === "LEADER_NOT_AVAILABLE", () => look(spec.name))
      )

    /** The first time: afterwards somebody else may have good reasons for a change. */
    const check = Effect.fnUntraced(function*(spec: TopicSpec) {
      const issues = TopicNumbers.problems({ partitions: spec.partitions })
      if (issues.length > 0) return yield* new InvalidConfiguration({ topic: spec.name, issues })
      const topic = yield* createMissing(spec)
      if (checked.has(spec.name) || settings.topics === "create" || settings.topics === "skip") return topic
      const found = yield* describe(spec.name)
      if (settings.topics === "validate") yield* TopicAdmin.validate(client, found, spec, settings)
      else {
        yield* Effect.retry(TopicAdmin.update(client, found, spec, settings), {
          while: (error) => error._tag === "KafkaFailure" && error.type === "NOT_CONTROLLER",
          schedule: upTo(Schedule.spaced("50 millis"), LEADERS_WITHIN)
        })
      }
      checked.add(spec.name)
      return settings.topics === "validate" ? topic : yield* createMissing(spec)
    })

    const fits = (topic: Topic, spec: TopicSpec) =>
      settings.topics === "validate" && spec.partitions !== undefined && spec.partitions !== topic.leaders.length
        ? Effect.fail(
          new InvalidConfiguration({
            topic: spec.name,
            issues: [`it has ${topic.leaders.length} partitions, and ${spec.partitions} are demanded`]
          })
        )
        : Effect.succeed(topic)

    const isReady = (name: string): boolean =>
      topics.has(name) && (checked.has(name) || settings.topics === "create" || settings.topics === "skip")

    return {
      ensure: (spec) =>
        Effect.suspend(() => {
          const known = topics.get(spec.name)
          if (known === undefined || !isReady(spec.name)) {
            return Effect.flatMap(shared<Failure>(ensuring, spec.name, check(spec)), (topic) => fits(topic, spec))
          }
          if (
            now() - known.at > settings.metadataMaxAge && !refreshing.has(spec.name)
          ) {
            // The old metadata is good enough meanwhile. If it is wrong, the request that uses it fails, and looks again.
            fork(Effect.catchAll(refresh(spec.name), (error) =>
              Effect.annotateLogs(Effect.logDebug("A topic can't be looked at again", error.message), {
                topic: spec.name
              })))
          }
          return fits(known, spec)
        }),
      refresh,
      known: (name) => topics.get(name),
      isReady
    }
  })

const closed = Exit.fail(new KafkaFailure({ type: "Connection", sent: false, cause: "The transport is closed" }))

/** What is known of partitions is kept by their numbers: one that no topic can have would take all memory. */
const MAX_PARTITIONS = 1_000_000

const noSuchPartition = new KafkaFailure({
  type: "Client",
  sent: true,
  cause: "The broker names a partition with a number that none can have"
})

const notYet = (error: KafkaFailure): KafkaFailure =>
  error.type === "UNKNOWN_TOPIC_OR_PARTITION"
    ? new KafkaFailure({ type: "LEADER_NOT_AVAILABLE", sent: true, cause: error })
    : error

const epochsOf = (topic: TopicMetadata): ReadonlyArray<number> => {
  const epochs: Array<number> = []
  for (const { id, leaderEpoch } of topic.partitions) epochs[id] = leaderEpoch ?? -1
  return Array.from(epochs, (epoch) => epoch ?? -1)
}

const leadersOf = (topic: TopicMetadata): ReadonlyArray<number> => {
  const leaders: Array<number> = []
  for (const { errorCode, id, leader } of topic.partitions) {
    // That a replica is missing is no matter to the leader.
    leaders[id] = errorCode === 0 || ErrorCode.nameOf(errorCode) === "REPLICA_NOT_AVAILABLE" ? leader : -1
  }
  return Array.from(leaders, (leader) => leader ?? -1)
}
