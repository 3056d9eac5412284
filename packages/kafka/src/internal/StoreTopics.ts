/** The topic on which a store is kept: its name, how it is made and grown, and what an existing one has to be like. */
import { InvalidConfiguration, UnknownTopic } from "@effect-eventbus/core/EventBusError"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { createHash } from "node:crypto"
import type { Settings } from "../KafkaConfig.js"
import type { KafkaTopics, Topic } from "../KafkaTopics.js"
import * as TopicSettings from "../TopicSettings.js"
import type { Client } from "./Client.js"
import { isDenied, KafkaFailure } from "./Failure.js"
import { upTo } from "./monotonic.js"
import * as TopicAdmin from "./TopicAdmin.js"

export interface StoreName {
  readonly topic: string
  readonly group: string
  readonly name: string
}

export const PREFIX = "eventbus-store."

/** A name of Kafka has at most 249 characters: these, three dots and the hash have 240. */
const LENGTHS = { topic: 100, group: 70, name: 28 }
const HASH_CHARS = 24

/**
 * Readable, and of one store only: the hash is of the three texts as they are. Kafka takes no two names that differ in dots and
 * underscores only, so even where all characters are allowed and short the hash is what tells names apart.
 */
export const nameOf = ({ group, name, topic }: StoreName): string => {
  const hash = createHash("sha256").update(JSON.stringify([topic, group, name])).digest("hex").slice(0, HASH_CHARS)
  const part = (text: string, length: number) => text.slice(0, length).replace(/[^A-Za-z0-9._-]/g, "-")
  return `${PREFIX}${part(topic, LENGTHS.topic)}.${part(group, LENGTHS.group)}.${part(name, LENGTHS.name)}.${hash}`
}

/** So the log cleaner comes by before 1 GiB is written: it leaves the segment alone that is being written. */
const SEGMENT_BYTES = 64 * 1024 * 1024
const LEADERS_WITHIN = "10 seconds"
const POLICY = "cleanup.policy"

/** What the source has in common with its store. */
const INHERITED = ["min.insync.replicas", "max.message.bytes"]

/** The settings with which the store's topic is made: replicas and their number in sync as the source's topic has them. */
const settingsOf = (settings: Settings, source: string, name: string): Settings => {
  const { topicDefaults } = settings
  const own = settings.topicSettings[name]
  const beside = settings.topicSettings[source]
  const above = TopicSettings.toConfig({
    ...topicDefaults,
    ...beside,
    config: { ...topicDefaults.config, ...beside?.config }
  })
  const inherited = Object.fromEntries(Object.entries(above).filter(([key]) => INHERITED.includes(key)))
  const config = {
    "segment.bytes": String(SEGMENT_BYTES),
    ...inherited,
    ...(own === undefined ? {} : TopicSettings.toConfig(own)),
    [POLICY]: "compact"
  }
  const replicationFactor = own?.replicationFactor ?? beside?.replicationFactor ?? topicDefaults.replicationFactor
  return { ...settings, topicDefaults: {}, topicSettings: { [name]: { config, replicationFactor } } }
}

const byHand = (name: string, partitions: number): string =>
  `create it by hand with ${partitions} partitions and ${POLICY}=compact ` +
  `(kafka-topics.sh --create --topic ${name} --partitions ${partitions} --config ${POLICY}=compact), ` +
  `and give the user the rights Describe, DescribeConfigs, Read and Write on it. ` +
  `Rights on the prefix "${PREFIX}" are rights on all stores`

export type OpeningFailure = InvalidConfiguration | KafkaFailure | UnknownTopic

/** What can't be mended by trying again is said together with what somebody has to do. */
const explained = (name: string, partitions: number) => (error: OpeningFailure): OpeningFailure => {
  if (error._tag !== "KafkaFailure") return error
  const refused = isDenied(error) || error.type === "POLICY_VIOLATION" || error.type === "INVALID_CONFIG"
  if (!refused) return error
  const why = isDenied(error) ? "the user may not create or see it" : "the broker does not take its settings"
  return new InvalidConfiguration({
    topic: name,
    issues: [`${why} (${error.message}): ${byHand(name, partitions)}`],
    cause: error
  })
}

/** The topic of a store with at least so many partitions. It is made, grown and checked, each where it is needed and allowed. */
export const prepare = (
  client: Client,
  topics: KafkaTopics,
  settings: Settings,
  source: string,
  name: string,
  partitions: number
): Effect.Effect<Topic, OpeningFailure> => {
  const mayMake = settings.topics === "create" || settings.topics === "create-or-update"
  const spec = { name, kind: "envelope", partitions } as const
  const own = settingsOf(settings, source, name)

  // What is done is done once: afterwards not every broker knows of it yet.
  let isCreated = false
  let isGrown = false
  const missing = (cause: KafkaFailure): Effect.Effect<Topic, OpeningFailure> => {
    if (isCreated) return Effect.fail(notYet(cause))
    return mayMake
      ? Effect.flatMap(TopicAdmin.create(client, spec, own), () => {
        isCreated = true
        return Effect.mapError(topics.refresh(name), notYet)
      })
      : Effect.fail(
        new UnknownTopic({
          topic: name,
          transport: "kafka",
          cause: `${cause.message}. kafka.topics is "${settings.topics}": ${byHand(name, partitions)}`
        })
      )
  }
  const made = Effect.catchAll(
    topics.refresh(name),
    (error) => error.type === "UNKNOWN_TOPIC_OR_PARTITION" ? missing(error) : Effect.fail(error)
  )

  const grown = (topic: Topic): Effect.Effect<Topic, OpeningFailure> => {
    const found = topic.leaders.length
    if (found >= partitions) return topic.leaders.includes(-1) ? Effect.fail(noLeader) : Effect.succeed(topic)
    const add = `kafka-topics.sh --alter --topic ${name} --partitions ${partitions}`
    const issue = `it has ${found} partitions, and topic "${source}" has ${partitions}: add them (${add})`
    if (isGrown) return Effect.fail(noLeader)
    return mayMake
      ? TopicAdmin.grow(client, name, found, partitions, settings).pipe(
        Effect.mapError((error) =>
          isDenied(error) ? new InvalidConfiguration({ topic: name, issues: [issue], cause: error }) : error
        ),
        Effect.flatMap(() => {
          isGrown = true
          return Effect.fail(noLeader)
        })
      )
      : Effect.fail(new InvalidConfiguration({ topic: name, issues: [issue] }))
  }

  return Effect.flatMap(made, grown).pipe(
    Effect.retry({
      while: (error) =>
        error._tag === "KafkaFailure" && (error.type === "LEADER_NOT_AVAILABLE" || error.type === "NOT_CONTROLLER"),
      schedule: upTo(Schedule.spaced("50 millis"), LEADERS_WITHIN)
    }),
    // One partition without a leader does not make the others useless.
    Effect.catchIf(
      (error): error is KafkaFailure => error._tag === "KafkaFailure" && error.type === "LEADER_NOT_AVAILABLE",
      (error) => Effect.filterOrFail(topics.refresh(name), (topic) => topic.leaders.length >= partitions, () => error)
    ),
    Effect.tap(checked(client, name)),
    Effect.mapError(explained(name, partitions))
  )
}

/** A topic from which the broker deletes what is old loses the store, and nobody would notice. */
const checked = (client: Client, name: string) =>
  TopicAdmin.configOf(client, name, [POLICY]).pipe(
    Effect.flatMap((found) => {
      const policy = found.get(POLICY)
      if (policy === "compact") return Effect.void
      if (policy === undefined || policy === null) return unchecked(name, "the broker does not say it")
      const alter = `kafka-configs.sh --alter --entity-type topics --entity-name ${name} --add-config ${POLICY}=compact`
      return Effect.fail(
        new InvalidConfiguration({
          topic: name,
          issues: [
            `${POLICY} is ${policy}, and has to be compact: what the store keeps would be deleted, and some of it may be already. ` +
            `Change it (${alter})`
          ]
        })
      )
    }),
    Effect.catchIf(
      (error): error is KafkaFailure => error._tag === "KafkaFailure" && isDenied(error),
      (error) => unchecked(name, error.message)
    )
  )

const unchecked = (topic: string, why: string) =>
  Effect.annotateLogs(
    Effect.logWarning(
      `Whether the topic of a store has ${POLICY}=compact can't be checked; without it, what is kept is lost`,
      why
    ),
    { topic }
  )

const noLeader = new KafkaFailure({ type: "LEADER_NOT_AVAILABLE", sent: true, cause: "A partition has no leader" })

const notYet = (error: KafkaFailure): KafkaFailure =>
  error.type === "UNKNOWN_TOPIC_OR_PARTITION"
    ? new KafkaFailure({ type: "LEADER_NOT_AVAILABLE", sent: true, cause: error })
    : error
