/**
 * Which topics exist, how many partitions they have and who leads them. A topic
 * is made or checked on first use, with one request however many ask at once,
 * and remembered until an error says that it has changed.
 *
 * @since 0.1.0
 */
import { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import type { TopicSpec } from "@effect-eventbus/core/Transport"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Client, TopicMetadata } from "./internal/Client.js"
import { failure, KafkaFailure } from "./internal/Client.js"
import { errorType } from "./internal/Wire.js"
import type { Settings } from "./KafkaConfig.js"

/**
 * A topic as the cluster has it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Topic {
  readonly name: string
  /** The leader of each partition, by its number; −1 while there is none. */
  readonly leaders: ReadonlyArray<number>
  /** When this was known, in milliseconds since the epoch. */
  readonly at: number
}

/**
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
}

const LEADERS_WITHIN = "10 seconds"
const CREATE_WITHIN = 10_000

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (client: Client, settings: Settings): Effect.Effect<KafkaTopics, never, Scope.Scope> =>
  Effect.gen(function*() {
    const topics = new Map<string, Topic>()
    const fork = yield* FiberSet.makeRuntime<never>()
    const running = new Map<string, Array<(exit: Exit.Exit<Topic, KafkaFailure>) => void>>()

    /** One request for all who ask while it is under way, which is answered in the order they asked. */
    const shared = (key: string, request: Effect.Effect<Topic, KafkaFailure>) =>
      Effect.async<Topic, KafkaFailure>((resume) => {
        const others = running.get(key)
        if (others !== undefined) {
          others.push(resume)
          return
        }
        const waiting: Array<(exit: Exit.Exit<Topic, KafkaFailure>) => void> = [resume]
        running.set(key, waiting)
        fork(Effect.exit(request).pipe(Effect.map((exit) => {
          running.delete(key)
          for (const resume of waiting) resume(exit)
        })))
      })

    const look = Effect.fnUntraced(function*(name: string) {
      const found = yield* client.metadata([name])
      const topic = found.topicMetadata.find(({ topic }) => topic === name)
      const code = topic?.topicErrorCode ?? 0
      if (topic === undefined || code !== 0) {
        topics.delete(name)
        return yield* topic === undefined
          ? new KafkaFailure({ type: "UNKNOWN_TOPIC_OR_PARTITION", sent: true, cause: "The broker has no such topic" })
          : failure("Metadata", code)
      }
      const known: Topic = { name, leaders: leadersOf(topic), at: yield* Clock.currentTimeMillis }
      topics.set(name, known)
      return known
    })

    const createMissing = (spec: TopicSpec) =>
      look(spec.name).pipe(
        Effect.catchIf(
          (error) => error.type === "UNKNOWN_TOPIC_OR_PARTITION" && settings.topics === "create",
          () => Effect.zipRight(create(client, spec, settings), Effect.mapError(look(spec.name), notYet))
        ),
        // A topic that was just made has no leaders for a moment, and not every broker knows of it.
        Effect.filterOrFail(
          (topic) => !topic.leaders.includes(-1),
          () => new KafkaFailure({ type: "LEADER_NOT_AVAILABLE", sent: true, cause: "A partition has no leader" })
        ),
        Effect.retry({
          while: (error) => error.type === "LEADER_NOT_AVAILABLE" || error.type === "NOT_CONTROLLER",
          schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo(LEADERS_WITHIN))
        }),
        // One partition without a leader does not make the others useless.
        Effect.catchIf((error) => error.type === "LEADER_NOT_AVAILABLE", () => look(spec.name))
      )

    const fits = (topic: Topic, spec: TopicSpec) =>
      settings.topics === "validate" && spec.partitions !== undefined && spec.partitions !== topic.leaders.length
        ? Effect.fail(
          new InvalidConfiguration({
            topic: spec.name,
            issues: [`it has ${topic.leaders.length} partitions, and ${spec.partitions} are demanded`]
          })
        )
        : Effect.succeed(topic)

    return {
      ensure: (spec) =>
        Effect.suspend(() => {
          const known = topics.get(spec.name)
          return known !== undefined
            ? fits(known, spec)
            : Effect.flatMap(shared(`ensure ${spec.name}`, createMissing(spec)), (topic) => fits(topic, spec))
        }),
      refresh: (name) => shared(`refresh ${name}`, look(name)),
      known: (name) => topics.get(name)
    }
  })

const notYet = (error: KafkaFailure): KafkaFailure =>
  error.type === "UNKNOWN_TOPIC_OR_PARTITION"
    ? new KafkaFailure({ type: "LEADER_NOT_AVAILABLE", sent: true, cause: error })
    : error

const leadersOf = (topic: TopicMetadata): ReadonlyArray<number> => {
  const leaders: Array<number> = []
  for (const { leader, partitionErrorCode, partitionId } of topic.partitionMetadata) {
    // Code 9: a replica is missing, which is no matter to the leader.
    leaders[partitionId] = partitionErrorCode === 0 || partitionErrorCode === 9 ? leader : -1
  }
  return Array.from(leaders, (leader) => leader ?? -1)
}

const create = Effect.fnUntraced(function*(client: Client, spec: TopicSpec, settings: Settings) {
  const { controllerId } = yield* client.metadata([spec.name])
  const { topicErrors } = yield* client.call<{
    readonly topicErrors: ReadonlyArray<{ readonly errorCode: number; readonly errorMessage?: string | null }>
  }>(controllerId, "admin", "CreateTopics", {
    topics: [{
      topic: spec.name,
      numPartitions: spec.partitions ?? settings.partitions,
      replicationFactor: settings.replicationFactor
    }],
    validateOnly: false,
    timeout: CREATE_WITHIN
  }, CREATE_WITHIN + settings.requestTimeout)
  for (const { errorCode, errorMessage } of topicErrors) {
    const type = errorType(errorCode)
    if (errorCode !== 0 && type !== "TOPIC_ALREADY_EXISTS") {
      return yield* new KafkaFailure({
        type,
        sent: true,
        cause: errorMessage ?? `CreateTopics was answered with error ${errorCode}`
      })
    }
  }
  yield* Effect.logDebug("Created a topic").pipe(
    Effect.annotateLogs({ topic: spec.name, partitions: spec.partitions ?? settings.partitions })
  )
})
