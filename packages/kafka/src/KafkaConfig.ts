/**
 * The settings of the Kafka transport, each with its meaning, default and unit.
 * `KafkaConfigSpec` has the same ones as keys of the configuration.
 *
 * @since 0.1.0
 */
import * as ConfigSpec from "@effect-eventbus/core/ConfigSpec"
import { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import type { Partitioner } from "@effect-eventbus/core/Partitioner"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type { Codecs, Compression } from "./Compression.js"
import { builtIn } from "./Compression.js"
import { parseAddress } from "./internal/Driver.js"
import { RESERVED_BYTES } from "./internal/outgoing.js"
import { spec } from "./KafkaConfigSpec.js"
import type { ConnectionState } from "./KafkaConnection.js"
import type { TopicSettings } from "./TopicSettings.js"

/**
 * What the transport does about a topic on first use: `create` makes a missing
 * one and leaves an existing one alone; `create-or-update` also changes an existing one to what is
 * set, and leaves its other settings alone; `validate` demands that it exists and is as it is set,
 * and lists the differences; `skip` demands nothing but that it exists.
 *
 * @since 0.1.0
 * @category models
 */
export type TopicStrategy = "create" | "create-or-update" | "validate" | "skip"

/**
 * Which consumer group a subscription is a member of: `per-topic` has one for each topic, `<group>.<topic>`, so that no
 * subscription notices when others come, go or rebalance; `shared` has one for all topics, `<group>`.
 *
 * @since 0.1.0
 * @category models
 */
export type GroupNaming = "per-topic" | "shared"

/**
 * The client of Kafka's protocol that carries requests and answers. All else is the same with each of them.
 *
 * @since 0.1.0
 * @category models
 */
export type DriverName = "kafkajs" | "platformatic"

/**
 * How a user proves who it is.
 *
 * @since 0.1.0
 * @category models
 */
export type SaslMechanism = "plain" | "scram-sha-256" | "scram-sha-512"

/**
 * Who we are: a user with a password, or the bearer of a token.
 *
 * @since 0.1.0
 * @category models
 */
export type Sasl = SaslPassword | SaslToken

/**
 * A token instead of a user (SASL/OAUTHBEARER). The provider is asked before the first connection, and again when four
 * fifths of a token's lifetime are over, or the broker has refused it. Where it fails, connecting fails, and is tried again as
 * when a broker is away.
 *
 * @since 0.1.0
 * @category models
 */
export interface SaslToken {
  readonly mechanism: "oauthbearer"
  readonly token: Effect.Effect<BearerToken, unknown>
}

/**
 * What the provider of tokens gives.
 *
 * @since 0.1.0
 * @category models
 */
export interface BearerToken {
  readonly value: Redacted.Redacted<string>
  /** When it is worth nothing any more, in milliseconds since 1970. Left out, each connection asks for a token of its own. */
  readonly expiresAt?: number | undefined
  /** SASL extensions that go along with it. */
  readonly extensions?: Readonly<Record<string, string>> | undefined
}

/**
 * The user to authenticate as.
 *
 * @since 0.1.0
 * @category models
 */
export interface SaslPassword {
  readonly mechanism: SaslMechanism
  readonly username: string
  readonly password: Redacted.Redacted<string>
}

/**
 * TLS. Each of the certificates and the key is either PEM text or the path of a file with it. Files are read again for each
 * connection, so that what has been renewed is used without a restart.
 *
 * @since 0.1.0
 * @category models
 */
export interface Tls {
  /** The authorities to trust. Default: those that Node.js comes with. */
  readonly ca?: string | undefined
  /** Our certificate, where the broker asks for one. */
  readonly cert?: string | undefined
  /** The key of our certificate. */
  readonly key?: Redacted.Redacted<string> | undefined
  /** The passphrase of our key, where it is encrypted. */
  readonly passphrase?: Redacted.Redacted<string> | undefined
  /** The name that the brokers' certificates have to be for. Default: the host that is connected to. */
  readonly servername?: string | undefined
}

/**
 * The options of `KafkaTransport.layer`. Only `brokers` is required.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Brokers to start from, as `host:port`; the others are learned from them. */
  readonly brokers: ReadonlyArray<string>
  /** The name in the broker's logs and quotas. Default: `effect-eventbus`. */
  readonly clientId?: string | undefined
  /** What connects to the brokers; `platformatic` needs the package `@platformatic/kafka`. Default: `kafkajs`. */
  readonly driver?: DriverName | undefined
  /** Called at each change of whether the brokers can be reached, one after the other; `KafkaConnection` has them as a stream. */
  readonly onConnectionState?: ((state: ConnectionState) => Effect.Effect<void>) | undefined
  /** How long connecting to one broker may take. Default: 5 seconds. */
  readonly connectionTimeout?: Duration.DurationInput | undefined
  /** How long a request waits for its answer, before its connection is given up. Default: 10 seconds. */
  readonly requestTimeout?: Duration.DurationInput | undefined
  /** Default: no authentication. */
  readonly sasl?: Sasl | undefined
  /** Default: no TLS. `true` uses it with the authorities of Node.js. */
  readonly tls?: Tls | boolean | undefined
  /** What is done about topics on first use. Default: `create`. */
  readonly topics?: TopicStrategy | undefined
  /** Partitions of a topic that is created and does not say how many. Default: 4. */
  readonly partitions?: number | undefined
  /** Replicas of a topic that is created; −1 is the broker's default. Default: −1. */
  readonly replicationFactor?: number | undefined
  /** What topics are to be like, by their names. */
  readonly topicSettings?: Readonly<Record<string, TopicSettings>> | undefined
  /** What all topics are to be like, where `topicSettings` does not say otherwise; `TopicSettings` has presets. */
  readonly topicDefaults?: TopicSettings | undefined
  /** After how long topics are looked at again, for new partitions. Default: 1 minute. */
  readonly metadataMaxAge?: Duration.DurationInput | undefined
  /** Which partition a key belongs to. Default: `murmur2`, as in Java's client. */
  readonly partitioner?: Partitioner | undefined
  /** Topics with another partitioner. It has to be the same in every producer of a topic. */
  readonly topicPartitioners?: Readonly<Record<string, Partitioner>> | undefined
  /** How long a batch waits for company when nothing is being sent. Default: 0, for it gathers company while another is sent. */
  readonly linger?: Duration.DurationInput | undefined
  /** Bytes of a partition's batch; at most `maxMessageBytes`, and below the topics' `max.message.bytes`. Default: 900 KiB. */
  readonly batchBytes?: number | undefined
  /** Messages of a partition's batch. Default: 10,000. */
  readonly batchMessages?: number | undefined
  /** How batches are compressed. Default: `none`. */
  readonly compression?: Compression | undefined
  /**
   * Codecs for what is not built in: for publishing with it, and for reading what others published so.
   * Default: gzip, and zstd where Node.js has it (22.15).
   */
  readonly codecs?: Codecs | undefined
  /**
   * How long a batch that was sent is tried again, also when nobody waits for it any more. Then what comes behind it goes on.
   * Default: 2 minutes.
   */
  readonly deliveryTimeout?: Duration.DurationInput | undefined
  /** The largest message, with key, headers and framing, in bytes; Kafka's own default. Default: 1,048,576. */
  readonly maxMessageBytes?: number | undefined
  /** Bytes that may wait to be sent, before publishing waits. Default: 32 MiB. */
  readonly maxQueuedBytes?: number | undefined
  /** After how long without a heartbeat the group gives our partitions to others. Default: 20 seconds. */
  readonly sessionTimeout?: Duration.DurationInput | undefined
  /** How often a heartbeat is sent; at most half of the session timeout. Default: a tenth of it. */
  readonly heartbeatInterval?: Duration.DurationInput | undefined
  /** How long a rebalance waits for its members. Default: 60 seconds. */
  readonly rebalanceTimeout?: Duration.DurationInput | undefined
  /** How long a broker waits for new messages before it answers a fetch. Default: 300 milliseconds. */
  readonly fetchMaxWait?: Duration.DurationInput | undefined
  /** Bytes that a fetch brings of one partition. Default: 1 MiB. */
  readonly fetchPartitionBytes?: number | undefined
  /** Bytes that a fetch brings, and that a subscription keeps for partitions that take no more at the moment. Default: 8 MiB. */
  readonly fetchBytes?: number | undefined
  /**
   * The most bytes that compressed records of a partition unpack to at once. One batch that has more is not unpacked: it goes
   * the way of what can't be read. Default: 64 MiB.
   */
  readonly fetchMaxUnpackedBytes?: number | undefined
  /**
   * Whether the checksum of each record batch is checked before it is read, as `check.crcs` of Java's client says it. It
   * takes about 1 ms per MiB; without it, only damage that leaves no readable records is noticed. Default: true.
   */
  readonly checkCrcs?: boolean | undefined
  /**
   * Where this process runs, as the brokers' `broker.rack` says it (`client.rack`): subscriptions read from replicas that are there,
   * where the brokers allow it (`replica.selector.class`). Default: none, they read from the leaders.
   */
  readonly rack?: string | undefined
  /** How consumer groups are named on the broker, and whether topics share one. Default: `per-topic`. */
  readonly groups?: GroupNaming | undefined
  /**
   * A name that this process keeps over restarts, and no other process has at the same time (`group.instance.id` of Kafka):
   * the group takes the restarted process for the one before, and it goes on at once. Closing then leaves the group's place occupied: its
   * partitions rest until it is back, or the session timeout has passed. Default: none.
   */
  readonly groupInstanceId?: string | undefined
  /** How often finished messages are committed. Default: 1 second. */
  readonly commitInterval?: Duration.DurationInput | undefined
  /** After how many finished messages a commit does not wait for its time. Default: 1,000. */
  readonly commitMessages?: number | undefined
  /**
   * How long subscribing goes on without an answer of the group or of the brokers that it needs. While these answer, it waits, also for longer than a
   * session or a rebalance takes, and says in the log every 10 seconds what for. At least `heartbeatInterval`. Default: 30 seconds.
   */
  readonly subscribeTimeout?: Duration.DurationInput | undefined
  /**
   * How long closing waits for the broker: to confirm what was sent and the last commits, and to leave the groups. One deadline for
   * all that closes together. Default: 5 seconds.
   */
  readonly closeTimeout?: Duration.DurationInput | undefined
}

/**
 * The options with their defaults, in milliseconds and bytes.
 *
 * @since 0.1.0
 * @category models
 */
export interface Settings {
  readonly brokers: ReadonlyArray<string>
  readonly clientId: string
  readonly driver: DriverName
  readonly connectionTimeout: number
  readonly requestTimeout: number
  readonly sasl: Sasl | undefined
  readonly tls: Tls | undefined
  readonly topics: TopicStrategy
  readonly partitions: number
  readonly replicationFactor: number
  readonly topicSettings: Readonly<Record<string, TopicSettings>>
  readonly topicDefaults: TopicSettings
  readonly metadataMaxAge: number
  readonly partitioner: Partitioner
  readonly topicPartitioners: Readonly<Record<string, Partitioner>>
  readonly linger: number
  readonly batchBytes: number
  readonly batchMessages: number
  readonly compression: Compression
  readonly codecs: Codecs
  readonly deliveryTimeout: number
  readonly maxMessageBytes: number
  readonly maxQueuedBytes: number
  readonly sessionTimeout: number
  readonly heartbeatInterval: number
  readonly rebalanceTimeout: number
  readonly fetchMaxWait: number
  readonly fetchPartitionBytes: number
  readonly fetchBytes: number
  readonly fetchMaxUnpackedBytes: number
  readonly checkCrcs: boolean
  readonly rack: string | undefined
  readonly groups: GroupNaming
  readonly groupInstanceId: string | undefined
  readonly commitInterval: number
  readonly commitMessages: number
  readonly subscribeTimeout: number
  readonly closeTimeout: number
}

/** What the protocol and Node.js's timers take is a little more than twice this, and some times are added up. */
const MAX_DAYS = 10
const MAX_INT32 = 0x7fffffff
const MAX_INT16 = 0x7fff
const KIB = 1024
const MIB = 1024 * KIB

/** They have no key in the configuration, or another form there. */
const inCodeOnly = ["onConnectionState", "codecs", "topicSettings", "topicPartitioners"]

const millis = (input: Duration.DurationInput | undefined, otherwise: Duration.DurationInput): number =>
  Duration.toMillis(input ?? otherwise)

/**
 * Options with their defaults filled in, or everything that is wrong with them.
 *
 * @since 0.1.0
 * @category constructors
 */
export const resolve = (given: Options): Effect.Effect<Settings, InvalidConfiguration> => {
  const wrong = ConfigSpec.problems(spec, "kafka", given, inCodeOnly)
  const options: Partial<Options> = Object.fromEntries(Object.entries(given).filter(([name]) => !wrong.has(name)))
  const sessionTimeout = millis(options.sessionTimeout, "20 seconds")
  const settings: Settings = {
    brokers: options.brokers ?? [],
    clientId: options.clientId ?? "effect-eventbus",
    driver: options.driver ?? "kafkajs",
    connectionTimeout: millis(options.connectionTimeout, "5 seconds"),
    requestTimeout: millis(options.requestTimeout, "10 seconds"),
    sasl: options.sasl,
    tls: options.tls === true ? {} : options.tls === false ? undefined : options.tls,
    topics: options.topics ?? "create",
    partitions: options.partitions ?? 4,
    replicationFactor: options.replicationFactor ?? -1,
    topicSettings: options.topicSettings ?? {},
    topicDefaults: options.topicDefaults ?? {},
    metadataMaxAge: millis(options.metadataMaxAge, "1 minute"),
    partitioner: options.partitioner ?? "murmur2",
    topicPartitioners: options.topicPartitioners ?? {},
    linger: millis(options.linger, 0),
    batchBytes: options.batchBytes ?? 900 * KIB,
    batchMessages: options.batchMessages ?? 10_000,
    compression: options.compression ?? "none",
    codecs: { ...builtIn, ...options.codecs },
    deliveryTimeout: millis(options.deliveryTimeout, "2 minutes"),
    maxMessageBytes: options.maxMessageBytes ?? MIB,
    maxQueuedBytes: options.maxQueuedBytes ?? 32 * MIB,
    sessionTimeout,
    heartbeatInterval: millis(options.heartbeatInterval, sessionTimeout / 10),
    rebalanceTimeout: millis(options.rebalanceTimeout, "60 seconds"),
    fetchMaxWait: millis(options.fetchMaxWait, "300 millis"),
    fetchPartitionBytes: options.fetchPartitionBytes ?? MIB,
    fetchBytes: options.fetchBytes ?? 8 * MIB,
    fetchMaxUnpackedBytes: options.fetchMaxUnpackedBytes ?? 64 * MIB,
    checkCrcs: options.checkCrcs ?? true,
    rack: options.rack,
    groups: options.groups ?? "per-topic",
    groupInstanceId: options.groupInstanceId,
    commitInterval: millis(options.commitInterval, "1 second"),
    commitMessages: options.commitMessages ?? 1_000,
    subscribeTimeout: millis(options.subscribeTimeout, "30 seconds"),
    closeTimeout: millis(options.closeTimeout, "5 seconds")
  }
  const issues = [...wrong.values(), ...problems(settings, (...names) => !names.some((name) => wrong.has(name)))]
  return issues.length === 0 ? Effect.succeed(settings) : Effect.fail(new InvalidConfiguration({ issues }))
}

/** What is wrong by itself has a default here instead, of which nothing is said. */
function* problems(
  settings: Settings,
  isAsGiven: (...names: ReadonlyArray<keyof Options>) => boolean
): Iterable<string> {
  if (settings.brokers.length === 0 && isAsGiven("brokers")) {
    yield "kafka.brokers: at least one broker is needed, as host:port"
  }
  for (const broker of settings.brokers) {
    const { host, port } = parseAddress(broker)
    if (host === "" || !Number.isInteger(port) || port < 1 || port > 65_535) {
      yield `kafka.brokers: "${broker}" is not of the form host:port`
    }
  }
  if (settings.replicationFactor === 0) {
    yield "kafka.replicationFactor: expected at least 1, or -1 for the broker's default"
  }
  if (settings.heartbeatInterval * 2 > settings.sessionTimeout && isAsGiven("heartbeatInterval", "sessionTimeout")) {
    yield "kafka.heartbeatInterval: has to be at most half of kafka.sessionTimeout"
  }
  if (settings.subscribeTimeout < settings.heartbeatInterval && isAsGiven("subscribeTimeout", "heartbeatInterval")) {
    yield "kafka.subscribeTimeout: has to be at least kafka.heartbeatInterval, by which the group is asked while it gathers"
  }
  if (settings.compression !== "none" && settings.codecs[settings.compression] === undefined) {
    yield `kafka.compression: there is no codec for "${settings.compression}": give one (option "codecs")`
  }
  if (settings.batchBytes > settings.maxMessageBytes && isAsGiven("batchBytes", "maxMessageBytes")) {
    yield "kafka.batchBytes: has to be at most kafka.maxMessageBytes, because the broker's limit is for a whole batch"
  }
  const times = [
    "connectionTimeout",
    "requestTimeout",
    "sessionTimeout",
    "rebalanceTimeout",
    "fetchMaxWait"
  ] as const
  for (const name of times) {
    if (!(settings[name] > 0)) yield `kafka.${name}: has to be more than 0`
    if (settings[name] > Duration.toMillis(Duration.days(MAX_DAYS))) {
      yield `kafka.${name}: has to be at most ${MAX_DAYS} days`
    }
  }
  const sizes = ["partitions", "batchBytes", "maxMessageBytes", "fetchPartitionBytes", "fetchBytes"] as const
  for (const name of sizes) {
    if (settings[name] > MAX_INT32) yield `kafka.${name}: has to be at most ${MAX_INT32}`
  }
  if (settings.replicationFactor > MAX_INT16) yield `kafka.replicationFactor: has to be at most ${MAX_INT16}`
  if (settings.maxMessageBytes > 0 && settings.maxMessageBytes <= RESERVED_BYTES) {
    yield `kafka.maxMessageBytes: has to be more than ${RESERVED_BYTES}, which are kept for a message's key, headers and framing`
  }
  const positive = [
    "partitions",
    "metadataMaxAge",
    "batchBytes",
    "batchMessages",
    "deliveryTimeout",
    "maxMessageBytes",
    "maxQueuedBytes",
    "heartbeatInterval",
    "fetchPartitionBytes",
    "fetchBytes",
    "fetchMaxUnpackedBytes",
    "commitInterval",
    "commitMessages",
    "subscribeTimeout",
    "closeTimeout"
  ] as const
  for (const name of positive) {
    if (!(settings[name] > 0 && Number.isFinite(settings[name]))) yield `kafka.${name}: has to be more than 0`
  }
}
