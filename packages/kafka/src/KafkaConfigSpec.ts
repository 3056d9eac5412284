/**
 * The settings of the Kafka transport as keys of the configuration: the environment, JSON or YAML.
 *
 * @since 0.1.0
 */
import * as ConfigSpec from "@effect-eventbus/core/ConfigSpec"
import { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import type { Partitioner } from "@effect-eventbus/core/Partitioner"
import * as Effect from "effect/Effect"
import type { Options, SaslPassword, Tls } from "./KafkaConfig.js"

/**
 * The keys of the configuration, below `eventbus`.
 *
 * @since 0.1.0
 * @category configuration
 */
export const spec = {
  "kafka.brokers": ConfigSpec.list({ description: "Brokers to start from, as `host:port`. Needed for Kafka." }),
  "kafka.driver": ConfigSpec.literal("kafkajs", "platformatic")({
    default: "kafkajs",
    description:
      "The client that connects to the brokers; `platformatic` needs the package `@platformatic/kafka` of version 1."
  }),
  "kafka.clientId": ConfigSpec.string({
    default: "effect-eventbus",
    description: "The name in the broker's logs and quotas."
  }),
  "kafka.connectionTimeout": ConfigSpec.duration({
    default: "5 seconds",
    description: "How long connecting to one broker may take."
  }),
  "kafka.requestTimeout": ConfigSpec.duration({
    default: "10 seconds",
    description: "How long a request waits for its answer, before its connection is given up."
  }),
  "kafka.sasl.mechanism": ConfigSpec.literal("plain", "scram-sha-256", "scram-sha-512")({
    description: "How to authenticate; user and password are needed, too. Without it there is no authentication."
  }),
  "kafka.sasl.username": ConfigSpec.string({ description: "The user to authenticate as." }),
  "kafka.sasl.password": ConfigSpec.secret({ description: "The user's password." }),
  "kafka.tls.enabled": ConfigSpec.boolean({
    default: "false",
    description: "Whether to use TLS. It is also used as soon as one of the other `kafka.tls` keys is set."
  }),
  "kafka.tls.ca": ConfigSpec.string({
    default: "those of Node.js",
    description: "The authorities to trust: PEM text, or the path of a file with it."
  }),
  "kafka.tls.cert": ConfigSpec.string({ description: "Our certificate: PEM text, or the path of a file with it." }),
  "kafka.tls.key": ConfigSpec.secret({ description: "The key of our certificate: PEM text, or the path of a file." }),
  "kafka.tls.passphrase": ConfigSpec.secret({ description: "The passphrase of our key, where it is encrypted." }),
  "kafka.tls.servername": ConfigSpec.string({
    default: "the host that is connected to",
    description: "The name that the brokers' certificates have to be for."
  }),
  "kafka.topics": ConfigSpec.literal("create", "create-or-update", "validate", "skip")({
    default: "create",
    description:
      "What is done about topics on first use: create missing ones, also change those that differ, demand that they fit, or only that they exist."
  }),
  "kafka.partitions": ConfigSpec.integer({
    default: "4",
    description: "Partitions of a topic that is created and does not say how many."
  }),
  "kafka.replicationFactor": ConfigSpec.integer({
    default: "-1",
    min: -1,
    description: "Replicas of a topic that is created; −1 is the broker's default."
  }),
  "kafka.topicDefaults.retention": ConfigSpec.duration({
    description:
      "How long the messages of all topics are kept (`retention.ms`); for ever with `retention.ms=-1` in `kafka.topicDefaults.config`."
  }),
  "kafka.topicDefaults.retentionBytes": ConfigSpec.integer({
    min: -1,
    description: "How many bytes of a partition are kept (`retention.bytes`); −1 for no limit."
  }),
  "kafka.topicDefaults.cleanupPolicy": ConfigSpec.literal("delete", "compact", "compact,delete")({
    description: "What is removed: what is old, all but the last message of each key, or both (`cleanup.policy`)."
  }),
  "kafka.topicDefaults.compression": ConfigSpec.literal(
    "producer",
    "uncompressed",
    "gzip",
    "snappy",
    "lz4",
    "zstd"
  )({
    description: "How the broker stores batches (`compression.type`); `producer`, its own default, is as they come."
  }),
  "kafka.topicDefaults.minInsyncReplicas": ConfigSpec.integer({
    description: "How many replicas have to have a message before it is acknowledged (`min.insync.replicas`)."
  }),
  "kafka.topicDefaults.partitions": ConfigSpec.integer({
    description:
      "Partitions of all topics that don't say it themselves; unlike `kafka.partitions` also compared with those of existing topics, as `kafka.topics` says."
  }),
  "kafka.topicDefaults.replicationFactor": ConfigSpec.integer({
    description:
      "Replicas of all topics; unlike `kafka.replicationFactor` also compared with those of existing topics, as `kafka.topics` says."
  }),
  "kafka.topicDefaults.config": ConfigSpec.list({
    description: "Other settings of all topics by Kafka's names, as `segment.ms=3600000`."
  }),
  "kafka.metadataMaxAge": ConfigSpec.duration({
    default: "1 minute",
    description: "After how long topics are looked at again, for new partitions."
  }),
  "kafka.partitioner": ConfigSpec.literal("murmur2", "sarama-fnv1a")({
    default: "murmur2",
    description: "Which partition a key belongs to: as in Java's client, or as in Go's Sarama."
  }),
  "kafka.topicPartitioners": ConfigSpec.list({
    description: "Topics with another partitioner, as `topic=murmur2` or `topic=sarama-fnv1a`."
  }),
  "kafka.linger": ConfigSpec.duration({
    zero: true,
    default: "0 millis",
    description: "How long a batch waits for company when nothing is being sent."
  }),
  "kafka.batchBytes": ConfigSpec.integer({
    default: "921600",
    description:
      "Bytes of a partition's batch; at most `kafka.maxMessageBytes`, and below the topics' `max.message.bytes`."
  }),
  "kafka.batchMessages": ConfigSpec.integer({ default: "10000", description: "Messages of a partition's batch." }),
  "kafka.compression": ConfigSpec.literal("none", "gzip", "snappy", "lz4", "zstd")({
    default: "none",
    description:
      "How batches are compressed. `gzip` is built in, and `zstd` from Node.js 22.15 on; the others need a codec, which is given in code."
  }),
  "kafka.deliveryTimeout": ConfigSpec.duration({
    default: "2 minutes",
    description:
      "How long a batch that was sent is tried again, also when nobody waits for it any more. Then what comes behind it goes on."
  }),
  "kafka.maxMessageBytes": ConfigSpec.integer({
    default: "1048576",
    description: "The largest message, with key, headers and framing, in bytes."
  }),
  "kafka.maxQueuedBytes": ConfigSpec.integer({
    default: "33554432",
    description: "Bytes that may wait to be sent, before publishing waits."
  }),
  "kafka.sessionTimeout": ConfigSpec.duration({
    default: "20 seconds",
    description: "After how long without a heartbeat the group gives our partitions to others."
  }),
  "kafka.heartbeatInterval": ConfigSpec.duration({
    default: "a tenth of the session timeout",
    description: "How often a heartbeat is sent; at most half of the session timeout."
  }),
  "kafka.rebalanceTimeout": ConfigSpec.duration({
    default: "60 seconds",
    description: "How long a rebalance waits for its members."
  }),
  "kafka.fetchMaxWait": ConfigSpec.duration({
    default: "300 millis",
    description: "How long a broker waits for new messages before it answers a fetch."
  }),
  "kafka.fetchPartitionBytes": ConfigSpec.integer({
    default: "1048576",
    description: "Bytes that a fetch brings of one partition."
  }),
  "kafka.fetchBytes": ConfigSpec.integer({
    default: "8388608",
    description:
      "Bytes that a fetch brings, and that a subscription keeps for partitions that take no more at the moment."
  }),
  "kafka.fetchMaxUnpackedBytes": ConfigSpec.integer({
    default: "67108864",
    description:
      "The most bytes that compressed records of a partition unpack to at once. One batch that has more goes the way of what can't be read."
  }),
  "kafka.checkCrcs": ConfigSpec.boolean({
    default: "true",
    description: "Whether the checksum of each record batch is checked before it is read; about 1 ms per MiB."
  }),
  "kafka.rack": ConfigSpec.string({
    default: "none, leaders are read from",
    description:
      "Where this process runs, as the brokers' `broker.rack` says it (`client.rack`): subscriptions read from replicas that are there, where the brokers allow it."
  }),
  "kafka.groups": ConfigSpec.literal("per-topic", "shared")({
    default: "per-topic",
    description:
      "The consumer group of a subscription: `<group>.<topic>`, one for each topic, or `<group>`, which all topics share."
  }),
  "kafka.groupInstanceId": ConfigSpec.string({
    description:
      "A name that this process keeps over restarts (`group.instance.id`): the group takes the restarted process for the one before, and it goes on at once. While it is away, its partitions rest, up to the session timeout."
  }),
  "kafka.commitInterval": ConfigSpec.duration({
    default: "1 second",
    description: "How often finished messages are committed."
  }),
  "kafka.commitMessages": ConfigSpec.integer({
    default: "1000",
    description: "After how many finished messages a commit does not wait for its time."
  }),
  "kafka.subscribeTimeout": ConfigSpec.duration({
    default: "30 seconds",
    description:
      "How long subscribing goes on without an answer of the group or of the brokers that it needs. While these answer, it waits, also for longer than a session or a rebalance takes, and says in the log what for. At least `heartbeatInterval`."
  }),
  "kafka.closeTimeout": ConfigSpec.duration({
    default: "5 seconds",
    description:
      "How long closing waits for the broker: to confirm what was sent and the last commits, and to leave the groups. One deadline for all that closes together."
  })
} as const satisfies ConfigSpec.Spec

/**
 * The options that a configuration says, or everything that is wrong with it.
 *
 * @since 0.1.0
 * @category configuration
 */
export const fromValues = (values: ConfigSpec.Values<typeof spec>): Effect.Effect<Options, InvalidConfiguration> => {
  const issues: Array<string> = []
  const sasl = saslOf(values, issues)
  const topicPartitioners = partitionersOf(values["kafka.topicPartitioners"] ?? [], issues)
  const config = settingsOf(values["kafka.topicDefaults.config"] ?? [], issues)
  if (values["kafka.brokers"] === undefined) {
    issues.push("kafka.brokers: has to be set, as host:port (EVENTBUS_KAFKA_BROKERS in the environment)")
  }
  if (issues.length > 0) return Effect.fail(new InvalidConfiguration({ issues }))
  return Effect.succeed({
    brokers: values["kafka.brokers"] ?? [],
    driver: values["kafka.driver"],
    clientId: values["kafka.clientId"],
    connectionTimeout: values["kafka.connectionTimeout"],
    requestTimeout: values["kafka.requestTimeout"],
    sasl,
    tls: tlsOf(values),
    topics: values["kafka.topics"],
    partitions: values["kafka.partitions"],
    replicationFactor: values["kafka.replicationFactor"],
    topicDefaults: {
      retention: values["kafka.topicDefaults.retention"],
      retentionBytes: values["kafka.topicDefaults.retentionBytes"],
      cleanupPolicy: values["kafka.topicDefaults.cleanupPolicy"],
      compression: values["kafka.topicDefaults.compression"],
      minInsyncReplicas: values["kafka.topicDefaults.minInsyncReplicas"],
      partitions: values["kafka.topicDefaults.partitions"],
      replicationFactor: values["kafka.topicDefaults.replicationFactor"],
      config
    },
    metadataMaxAge: values["kafka.metadataMaxAge"],
    partitioner: values["kafka.partitioner"],
    topicPartitioners,
    linger: values["kafka.linger"],
    batchBytes: values["kafka.batchBytes"],
    batchMessages: values["kafka.batchMessages"],
    compression: values["kafka.compression"],
    deliveryTimeout: values["kafka.deliveryTimeout"],
    maxMessageBytes: values["kafka.maxMessageBytes"],
    maxQueuedBytes: values["kafka.maxQueuedBytes"],
    sessionTimeout: values["kafka.sessionTimeout"],
    heartbeatInterval: values["kafka.heartbeatInterval"],
    rebalanceTimeout: values["kafka.rebalanceTimeout"],
    fetchMaxWait: values["kafka.fetchMaxWait"],
    fetchPartitionBytes: values["kafka.fetchPartitionBytes"],
    fetchBytes: values["kafka.fetchBytes"],
    fetchMaxUnpackedBytes: values["kafka.fetchMaxUnpackedBytes"],
    checkCrcs: values["kafka.checkCrcs"],
    rack: values["kafka.rack"],
    groups: values["kafka.groups"],
    groupInstanceId: values["kafka.groupInstanceId"],
    commitInterval: values["kafka.commitInterval"],
    commitMessages: values["kafka.commitMessages"],
    subscribeTimeout: values["kafka.subscribeTimeout"],
    closeTimeout: values["kafka.closeTimeout"]
  })
}

const saslOf = (values: ConfigSpec.Values<typeof spec>, issues: Array<string>): SaslPassword | undefined => {
  const mechanism = values["kafka.sasl.mechanism"]
  const username = values["kafka.sasl.username"]
  const password = values["kafka.sasl.password"]
  if (mechanism === undefined && username === undefined && password === undefined) return undefined
  if (mechanism === undefined || username === undefined || password === undefined) {
    issues.push("kafka.sasl: mechanism, username and password belong together, and not all of them are set")
    return undefined
  }
  return { mechanism, username, password }
}

const tlsOf = (values: ConfigSpec.Values<typeof spec>): Tls | boolean => {
  const ca = values["kafka.tls.ca"]
  const cert = values["kafka.tls.cert"]
  const key = values["kafka.tls.key"]
  const passphrase = values["kafka.tls.passphrase"]
  const servername = values["kafka.tls.servername"]
  const given = [ca, cert, key, passphrase, servername]
  return given.every((value) => value === undefined)
    ? values["kafka.tls.enabled"] ?? false
    : { ca, cert, key, passphrase, servername }
}

const partitionersOf = (
  entries: ReadonlyArray<string>,
  issues: Array<string>
): Readonly<Record<string, Partitioner>> => {
  const found: Record<string, Partitioner> = {}
  for (const entry of entries) {
    const [topic, partitioner, ...rest] = entry.split("=").map((part) => part.trim())
    if (topic === undefined || rest.length > 0 || (partitioner !== "murmur2" && partitioner !== "sarama-fnv1a")) {
      issues.push(`kafka.topicPartitioners: "${entry}" is not of the form topic=murmur2 or topic=sarama-fnv1a`)
    } else {
      found[topic] = partitioner
    }
  }
  return found
}

const settingsOf = (entries: ReadonlyArray<string>, issues: Array<string>): Readonly<Record<string, string>> => {
  const found: Record<string, string> = {}
  for (const entry of entries) {
    const at = entry.indexOf("=")
    if (at < 1) issues.push(`kafka.topicDefaults.config: "${entry}" is not of the form name=value`)
    else found[entry.slice(0, at).trim()] = entry.slice(at + 1).trim()
  }
  return found
}
