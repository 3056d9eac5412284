/** Makes topics, changes them, and says how they differ from what is wanted. */
import { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import type { TopicSpec } from "@effect-eventbus/core/Transport"
import * as Effect from "effect/Effect"
import type { Settings } from "../KafkaConfig.js"
import * as TopicSettings from "../TopicSettings.js"
import type { Client } from "./Client.js"
import type { TopicMetadata, TopicResults } from "./clusterApis.js"
import * as ErrorCode from "./ErrorCode.js"
import { failure, KafkaFailure } from "./Failure.js"
import type { ApiName, RequestOf, ResponseOf } from "./requests.js"

const WITHIN = 10_000

/** What is asked for explicitly. */
interface Wanted {
  readonly partitions: number | undefined
  readonly replicationFactor: number | undefined
  readonly config: Readonly<Record<string, string>>
}

const wantedOf = (spec: TopicSpec, settings: Settings): Wanted => {
  const { topicDefaults } = settings
  const topic = settings.topicSettings[spec.name]
  const own = { ...topicDefaults, ...topic, config: { ...topicDefaults.config, ...topic?.config } }
  return {
    partitions: spec.partitions ?? own.partitions,
    replicationFactor: own.replicationFactor,
    config: TopicSettings.toConfig(own)
  }
}

const accepted = (request: string, { topics }: TopicResults, except: ErrorCode.ErrorName) =>
  Effect.forEach(
    topics,
    ({ errorCode, errorMessage }) =>
      errorCode === 0 || ErrorCode.nameOf(errorCode) === except ? Effect.void : Effect.fail(
        new KafkaFailure({
          type: isFenced(ErrorCode.nameOf(errorCode), errorMessage) ? "NOT_CONTROLLER" : ErrorCode.nameOf(errorCode),
          sent: true,
          cause: errorMessage ?? `${request} was answered with error ${errorCode}`
        })
      ),
    { discard: true }
  )

/** A cluster that has just come back may not know its controller yet, or not have it among its brokers. */
const controllerOf = (client: Client, topic: string) =>
  Effect.filterOrFail(
    Effect.map(client.metadata([topic]), ({ brokers, controller }) =>
      brokers.some(({ node }) => node === controller) ? controller : undefined),
    (controller) =>
      controller !== undefined,
    () =>
      new KafkaFailure({ type: "NOT_CONTROLLER", sent: false, cause: "The cluster has no controller at the moment" })
  )

/**
 * Asks the controller. With KRaft the one that is named is any broker that the cluster believes to be alive, and each carries the request
 * on; so another one is asked where that one can't be reached from here. Before KRaft it says that it is not the controller.
 */
const askController = <Name extends ApiName>(
  client: Client,
  topic: string,
  name: Name,
  request: RequestOf<Name>,
  timeoutMs?: number
): Effect.Effect<ResponseOf<Name>, KafkaFailure> =>
  Effect.flatMap(controllerOf(client, topic), (controller) =>
    Effect.catchIf(
      client.call(controller, "admin", name, request, timeoutMs),
      (error) => error.isUnreachable,
      () => client.call("any", "admin", name, request, timeoutMs)
    ))

/** As long as all brokers are fenced, because they stood still, no number of replicas is small enough. */
const isFenced = (type: ErrorCode.ErrorName, message: string | null | undefined): boolean =>
  type === "INVALID_REPLICATION_FACTOR" && message?.includes("fenced") === true

export const create = Effect.fnUntraced(function*(client: Client, spec: TopicSpec, settings: Settings) {
  const { config, partitions = settings.partitions, replicationFactor = settings.replicationFactor } = wantedOf(
    spec,
    settings
  )
  const answer = yield* askController(client, spec.name, "CreateTopics", {
    name: spec.name,
    partitions,
    replicationFactor,
    config,
    timeoutMs: WITHIN
  }, WITHIN + settings.requestTimeout)
  yield* accepted("CreateTopics", answer, "TOPIC_ALREADY_EXISTS")
  yield* Effect.logInfo("Created a topic").pipe(Effect.annotateLogs({ topic: spec.name, partitions }))
})

/** The settings of a topic as the broker has them. */
export const configOf = Effect.fnUntraced(function*(client: Client, name: string, names: ReadonlyArray<string>) {
  const { resources } = yield* client.call("any", "admin", "DescribeConfigs", { topic: name, names })
  const found = new Map<string, string | null>()
  for (const { entries, errorCode } of resources) {
    if (errorCode !== 0) return yield* failure("DescribeConfigs", errorCode)
    for (const { name, value } of entries) found.set(name, value)
  }
  return found
})

/** The settings that are not as they are wanted. */
const changed = Effect.fnUntraced(function*(client: Client, name: string, { config }: Wanted) {
  const names = Object.keys(config)
  if (names.length === 0) return []
  const found = yield* configOf(client, name, names)
  return names.filter((key) => !isSame(found.get(key), config[key]!)).map((key) => ({
    key,
    is: found.get(key),
    wanted: config[key]!
  }))
})

/** Lists are in no particular order. */
const isSame = (is: string | null | undefined, wanted: string): boolean =>
  is === wanted || sorted(is ?? "") === sorted(wanted)

const sorted = (list: string): string => list.split(",").map((part) => part.trim()).sort().join(",")

/** What can't be changed, or must not be: in words, for the error. */
const differences = (topic: TopicMetadata, wanted: Wanted, mayGrow: boolean): ReadonlyArray<string> => {
  const issues: Array<string> = []
  const count = topic.partitions.length
  if (wanted.partitions !== undefined && (mayGrow ? count > wanted.partitions : count !== wanted.partitions)) {
    issues.push(
      `it has ${count} partitions, and ${wanted.partitions} are demanded` +
        (mayGrow ? "; Kafka can't take partitions away" : "")
    )
  }
  const replicas = topic.partitions[0]?.replicas.length
  if (wanted.replicationFactor !== undefined && wanted.replicationFactor > 0 && replicas !== wanted.replicationFactor) {
    issues.push(`it has ${replicas} replicas, and ${wanted.replicationFactor} are demanded`)
  }
  return issues
}

/** Fails with everything in which an existing topic is not as it is wanted. */
export const validate = Effect.fnUntraced(function*(
  client: Client,
  topic: TopicMetadata,
  spec: TopicSpec,
  settings: Settings
) {
  const wanted = wantedOf(spec, settings)
  const issues = [
    ...differences(topic, wanted, false),
    ...(yield* changed(client, spec.name, wanted)).map(({ is, key, wanted }) =>
      is === undefined
        ? `${key} is demanded, and the broker knows no such setting`
        : `${key} is ${is}, and ${wanted} is demanded`
    )
  ]
  if (issues.length > 0) return yield* new InvalidConfiguration({ topic: spec.name, issues })
})

/** Changes what differs and can be changed, and nothing else. */
export const update = Effect.fnUntraced(function*(
  client: Client,
  topic: TopicMetadata,
  spec: TopicSpec,
  settings: Settings
) {
  const wanted = wantedOf(spec, settings)
  const issues = differences(topic, wanted, true)
  if (issues.length > 0) return yield* new InvalidConfiguration({ topic: spec.name, issues })
  const changes = yield* changed(client, spec.name, wanted)
  if (changes.length > 0) {
    const { errorCode, errorMessage } = yield* askController(client, spec.name, "IncrementalAlterConfigs", {
      topic: spec.name,
      settings: Object.fromEntries(changes.map(({ key, wanted }) => [key, wanted]))
    })
    if (errorCode !== 0) {
      return yield* new KafkaFailure({
        type: ErrorCode.nameOf(errorCode),
        sent: true,
        cause: errorMessage ?? "refused"
      })
    }
    yield* Effect.logInfo("Changed the settings of a topic").pipe(
      Effect.annotateLogs({ topic: spec.name, ...Object.fromEntries(changes.map(({ key, wanted }) => [key, wanted])) })
    )
  }
  if (wanted.partitions === undefined || wanted.partitions === topic.partitions.length) return
  yield* grow(client, spec.name, topic.partitions.length, wanted.partitions, settings)
})

/** Adds partitions. */
export const grow = Effect.fnUntraced(function*(
  client: Client,
  topic: string,
  from: number,
  to: number,
  settings: Settings
) {
  const answer = yield* askController(client, topic, "CreatePartitions", {
    name: topic,
    count: to,
    timeoutMs: WITHIN
  }, WITHIN + settings.requestTimeout)
  // Another instance may have been quicker.
  yield* accepted("CreatePartitions", answer, "INVALID_PARTITIONS")
  yield* Effect.logInfo("Added partitions to a topic").pipe(Effect.annotateLogs({ topic, from, to }))
})
