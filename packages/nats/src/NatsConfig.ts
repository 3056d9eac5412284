/**
 * The settings of the NATS transport, each with its meaning, default and unit.
 * `NatsConfigSpec` has the same ones as keys of the configuration.
 *
 * @since 0.1.0
 */
import * as ConfigSpec from "@effect-eventbus/core/ConfigSpec"
import { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import type { Partitioner } from "@effect-eventbus/core/Partitioner"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Redacted from "effect/Redacted"
import { addressIssues, metadataIssues } from "./internal/settingIssues.js"
import { defaults, spec } from "./NatsConfigSpec.js"
import type { ConnectionState } from "./NatsConnection.js"
import * as Subject from "./Subject.js"

/**
 * What happens with the stream of a topic on first use: `create` makes one that is missing and uses an existing one
 * as it is, `update` makes one that is missing and changes an existing one where it differs from what is set,
 * `validate` compares an existing one with the settings, `skip` only looks up its name.
 *
 * @since 0.1.0
 * @category models
 */
export type StreamStrategy = "create" | "update" | "validate" | "skip"

/**
 * When a stream drops a message: at its limits; or when all groups that are subscribed have acknowledged it; or when the
 * one group that reads it has.
 *
 * @since 0.1.0
 * @category models
 */
export type Retention = "limits" | "interest" | "workqueue"

/**
 * What happens with a durable consumer that has other settings than ours: `update` changes it,
 * `validate` fails with the differences.
 *
 * @since 0.1.0
 * @category models
 */
export type ConsumerStrategy = "update" | "validate"

/**
 * Where a stream keeps its messages.
 *
 * @since 0.1.0
 * @category models
 */
export type Storage = "file" | "memory"

/**
 * A connection of the package `nats`, or of its successor `@nats-io/nats-core`. Only what tells one from other values is named here, so that the
 * types of these packages are no part of ours.
 *
 * @since 0.1.0
 * @category models
 */
export interface GivenConnection {
  readonly getServer: () => string
  readonly isClosed: () => boolean
  readonly closed: () => Promise<unknown>
  readonly flush: () => Promise<void>
}

/**
 * The options of `NatsTransport.layer`, all with defaults.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Addresses of servers, `host:port` or `nats://host:port`. Default: `localhost:4222`. */
  readonly servers?: ReadonlyArray<string> | undefined
  /** The name of the connection in the server's lists. Default: `effect-eventbus`. */
  readonly name?: string | undefined
  /** The user to log in as, with `password`. Of the ways to log in only one can be used. Default: none. */
  readonly user?: string | undefined
  readonly password?: Redacted.Redacted<string> | undefined
  /** An authentication token. */
  readonly token?: Redacted.Redacted<string> | undefined
  /** The text of a credentials file (JWT and seed). */
  readonly credentials?: Redacted.Redacted<string> | undefined
  /** The path of a credentials file; read again at each reconnect. */
  readonly credentialsFile?: string | undefined
  /** The seed of an NKey, `SU…`. */
  readonly nkeySeed?: Redacted.Redacted<string> | undefined
  /** Demand TLS. Default: `true` where one of the other TLS settings is given, and else what the server demands. */
  readonly tls?: boolean | undefined
  /** Path of the PEM file with the certificate authorities to trust. Default: those of Node. */
  readonly tlsCaFile?: string | undefined
  /** Path of the PEM file with the client's certificate. */
  readonly tlsCertFile?: string | undefined
  /** Path of the PEM file with the client's key. */
  readonly tlsKeyFile?: string | undefined
  /** Begin with the TLS handshake, as servers with `handshake_first` want it. Default: `false`. */
  readonly tlsHandshakeFirst?: boolean | undefined
  /** The JetStream domain. Default: none. */
  readonly domain?: string | undefined
  /**
   * The subject of JetStream's API, where another account's is imported under another one, without the dot at its end. Writes to the
   * leases' bucket go below it as well, to `<apiPrefix>.$KV.<leaseBucket>`. Not together with `domain`. Default: `$JS.API`.
   */
  readonly apiPrefix?: string | undefined
  /** The prefix of subjects for replies, for accounts that restrict it. Default: `_INBOX`. */
  readonly inboxPrefix?: string | undefined
  /** How long one attempt to connect may take; several addresses share it, with at least 1 second each. Default: 5 seconds. */
  readonly connectTimeout?: Duration.DurationInput | undefined
  /** How often the first connection is attempted; afterwards reconnecting never ends. Default: 3. */
  readonly connectAttempts?: number | undefined
  /** The wait between attempts to reconnect, to which up to as much is added at random. Default: 500 millis. */
  readonly reconnectWait?: Duration.DurationInput | undefined
  /** How often the server is pinged; after two pings without an answer the connection is dropped. Default: 10 seconds. */
  readonly pingInterval?: Duration.DurationInput | undefined
  /**
   * A connection that the application has already, of the package `nats`: it is used beside the application's own use, and never closed.
   * It has to be connected; how it connects again is its own affair, and with `maxReconnectAttempts: -1` it never gives up. The
   * settings of connecting and of logging in can't be given as well. Not a key of the configuration. Default: none.
   */
  readonly connection?: GivenConnection | undefined
  /** Called with the state of the connection whenever it changes. Not a key of the configuration. Default: none. */
  readonly onConnectionState?: ((state: ConnectionState) => Effect.Effect<void>) | undefined
  /** How long a request to JetStream may take. Default: 5 seconds. */
  readonly requestTimeout?: Duration.DurationInput | undefined
  /** How long closing waits for the server, all steps together. Default: 5 seconds. */
  readonly closeTimeout?: Duration.DurationInput | undefined
  /** See {@link StreamStrategy}. Default: `create`. */
  readonly streams?: StreamStrategy | undefined
  /** Storage of streams for envelopes. Default: `file`. */
  readonly storage?: Storage | undefined
  /** Storage of streams for plain messages. Default: `memory`. */
  readonly plainStorage?: Storage | undefined
  /** Replicas of a stream, 1 to 5. Default: the server's (1). */
  readonly replicas?: number | undefined
  /** How long a stream keeps a message. Default: for ever. */
  readonly maxAge?: Duration.DurationInput | undefined
  /** How many bytes a stream keeps; then `discard` decides. Default: no limit. */
  readonly maxBytes?: number | undefined
  /** How many messages a stream keeps; then `discard` decides. Default: no limit. */
  readonly maxMessages?: number | undefined
  /** At the limits: drop the oldest messages, or refuse new ones (`StorageFull`). Default: `old`. */
  readonly discard?: "old" | "new" | undefined
  /** See {@link Retention}. Default: `limits`. */
  readonly retention?: Retention | undefined
  /** Compression of streams in files; a server before 2.10 has none, which is logged. Default: `none`. */
  readonly compression?: "none" | "s2" | undefined
  /** How large a message in a stream may be, its headers included, in bytes; a larger one is `MessageTooLarge`. Default: no limit. */
  readonly maxMessageSize?: number | undefined
  /**
   * How many messages a stream keeps of each subject; then `discard` decides. With partitions each aggregate has a subject of its own.
   * Default: no limit.
   */
  readonly maxMessagesPerSubject?: number | undefined
  /** The name of the cluster, within a super-cluster, that a stream is made in. Default: the server's choice. */
  readonly placementCluster?: string | undefined
  /** The tags (`server_tags`) that all servers have which a stream is made on. Default: none. */
  readonly placementTags?: ReadonlyArray<string> | undefined
  /** What a stream says of itself, each `name=value`; other entries stay. Needs nats-server 2.10. Default: none. */
  readonly streamMetadata?: ReadonlyArray<string> | undefined
  /**
   * Whether messages may say for how long the stream keeps them, by `MessageTtl`; it can't be turned off again. Needs nats-server 2.11.
   * Default: `false`.
   */
  readonly messageTtl?: boolean | undefined
  /**
   * Subject patterns such as `orders.>`, each of which has one stream for all topics that it covers, so that they can be
   * read with wildcards. Default: none; a topic has a stream of its own.
   */
  readonly sharedStreams?: ReadonlyArray<string> | undefined
  /** For how long the server recognizes a message id that it has seen; at least 100 millis. Default: 2 minutes. */
  readonly duplicateWindow?: Duration.DurationInput | undefined
  /**
   * How many partitions a topic has that says nothing about it, 1 to 1,024. A topic with partitions has its aggregates in the subjects
   * `<topic>.<partition>.<aggregate id>`. Default: none; the subject is the topic, and one instance of a group reads it.
   */
  readonly partitions?: number | undefined
  /** Which hash of the aggregate id is its partition; the same in all producers of a topic. Default: `murmur2`. */
  readonly partitioner?: Partitioner | undefined
  /**
   * After what time without a renewal others take over an instance's partitions; at least 1 second. An instance that could not renew
   * for this time, less `drainDeadline` (a third of this at most), stops its handlers. Default: 10 seconds.
   */
  readonly leaseDuration?: Duration.DurationInput | undefined
  /** How often an instance renews its lease; at least 100 millis. Default: a third of `leaseDuration`, which is also the most. */
  readonly leaseRenewInterval?: Duration.DurationInput | undefined
  /** The key-value bucket of the leases; letters, digits, `-` and `_`. Default: `eventbus-leases`. */
  readonly leaseBucket?: string | undefined
  /** How many published messages can wait for their acknowledgement at once. Default: 1,000. */
  readonly maxInFlight?: number | undefined
  /** After what time without an acknowledgement a message is sent again, with the same message id; at least 100 millis. Default: 3 seconds. */
  readonly ackTimeout?: Duration.DurationInput | undefined
  /** See {@link ConsumerStrategy}. Default: `update`. */
  readonly consumers?: ConsumerStrategy | undefined
  /** Replicas of a group's position, 1 to 5, and no more than the stream has. Default: as many as the stream has. */
  readonly consumerReplicas?: number | undefined
  /** What a durable consumer says of itself, each `name=value`; other entries stay. Needs nats-server 2.10. Default: none. */
  readonly consumerMetadata?: ReadonlyArray<string> | undefined
  /**
   * After what time without a sign of life the server delivers a message again. Signs of life are sent for all messages
   * in hand every third of it, so handlers may take longer. At least 1 second. Default: 30 seconds.
   */
  readonly ackWait?: Duration.DurationInput | undefined
  /**
   * After what time without a reader the server deletes a durable consumer, and with it the group's position; at least 1 second.
   * Default: never.
   */
  readonly inactiveThreshold?: Duration.DurationInput | undefined
  /** Whether a new group that begins at `latest` gets the last message there is (`last`) or not (`new`). Default: `new`. */
  readonly latest?: "new" | "last" | undefined
  /** Whether closing a subscription deletes its durable consumer, and with it the group's position. Default: `false`. */
  readonly deleteConsumers?: boolean | undefined
  /** Whether settings on the server that weaken the promises for envelopes are logged as warnings. Default: `warn`. */
  readonly preflight?: "warn" | "off" | undefined
  /** How many messages a subscription fetches ahead of its actors, over all its partitions. Default: 500. */
  readonly prefetchMessages?: number | undefined
  /** How many bytes a subscription fetches ahead of its actors, over all its partitions; of each partition at least one message of the largest size. Default: 8 MiB. */
  readonly prefetchBytes?: number | undefined
}

/**
 * The settings with their defaults applied; times are milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface Settings {
  readonly options: Options
  readonly servers: ReadonlyArray<string>
  readonly name: string
  readonly apiPrefix: string
  readonly inboxPrefix: string
  readonly connectTimeout: number
  readonly connectAttempts: number
  readonly reconnectWait: number
  readonly pingInterval: number
  readonly requestTimeout: number
  readonly closeTimeout: number
  readonly streams: StreamStrategy
  readonly storage: Storage
  readonly plainStorage: Storage
  readonly duplicateWindow: number
  readonly partitioner: Partitioner
  readonly leaseDuration: number
  readonly leaseRenewInterval: number
  readonly leaseBucket: string
  readonly maxInFlight: number
  readonly ackTimeout: number
  readonly discard: "old" | "new"
  readonly retention: Retention
  readonly compression: "none" | "s2"
  readonly messageTtl: boolean
  readonly sharedStreams: ReadonlyArray<string>
  readonly consumers: ConsumerStrategy
  readonly ackWait: number
  /** 0 for never. */
  readonly inactiveThreshold: number
  readonly latest: "new" | "last"
  readonly deleteConsumers: boolean
  readonly preflight: "warn" | "off"
  readonly prefetchMessages: number
  readonly prefetchBytes: number
}

/**
 * Applies the defaults and checks what the types can't.
 *
 * @since 0.1.0
 * @category settings
 */
export const resolve = (given: Options): Either.Either<Settings, InvalidConfiguration> => {
  const wrong = ConfigSpec.problems(spec, "nats", given, ["onConnectionState", "connection"])
  const options: Options = Object.fromEntries(Object.entries(given).filter(([name]) => !wrong.has(name)))
  const issues = [...wrong.values(), ...metadataIssues(options), ...addressIssues(options)]
  const set = <K extends keyof typeof defaults>(key: K) => options[key] ?? defaults[key]
  const time = (key: DurationKey, min: number): number => {
    const millis = Duration.toMillis(set(key))
    if (!(millis >= min && millis < 2 ** 31)) issues.push(`nats.${key}: expected a duration of at least ${min} millis`)
    return Math.ceil(millis)
  }
  const count = (key: CountKey): number => {
    const value = set(key)
    if (!Number.isSafeInteger(value) || value < 1) issues.push(`nats.${key}: expected a whole number of at least 1`)
    return value
  }
  const servers: ReadonlyArray<string> = options.connection === undefined
    ? set("servers")
    : [options.connection.getServer()]
  if (servers.length === 0) issues.push("nats.servers: expected at least one address")
  for (const name of ["replicas", "consumerReplicas"] as const) {
    const replicas = options[name]
    if (replicas !== undefined && !(replicas >= 1 && replicas <= 5)) issues.push(`nats.${name}: expected 1 to 5`)
  }
  const { partitions } = options
  if (partitions !== undefined && !(Number.isSafeInteger(partitions) && partitions >= 1 && partitions <= 1_024)) {
    issues.push("nats.partitions: expected a whole number from 1 to 1024")
  }
  const leaseDuration = time("leaseDuration", 1_000)
  const leaseRenewInterval = Duration.toMillis(options.leaseRenewInterval ?? Math.floor(leaseDuration / 3))
  if (!(leaseRenewInterval >= 100 && leaseRenewInterval <= leaseDuration / 3)) {
    issues.push("nats.leaseRenewInterval: expected at least 100 millis, and at most a third of nats.leaseDuration")
  }
  if (!/^[A-Za-z0-9_-]{1,200}$/.test(set("leaseBucket"))) {
    issues.push("nats.leaseBucket: expected letters, digits, - and _")
  }
  const sharedStreams: ReadonlyArray<string> = set("sharedStreams")
  for (const pattern of sharedStreams) {
    const subject = Subject.toFilter(pattern)
    if (Either.isLeft(subject)) issues.push(`nats.sharedStreams: ${subject.left}`)
  }
  const threshold = options.inactiveThreshold === undefined
    ? 0
    : Math.ceil(Duration.toMillis(options.inactiveThreshold))
  if (!(threshold === 0 && options.inactiveThreshold === undefined || threshold >= 1_000 && threshold < 2 ** 43)) {
    issues.push("nats.inactiveThreshold: expected a duration of at least 1000 millis")
  }
  const logins = (["user", "token", "credentials", "credentialsFile", "nkeySeed"] as const).filter((key) =>
    options[key] !== undefined
  )
  if (options.password !== undefined && options.user === undefined) {
    issues.push("nats.password: expected nats.user, too")
  }
  if (logins.length > 1) issues.push(`nats: ${logins.join(" and ")} are set, but only one way to log in can be used`)
  if ((options.tlsCertFile === undefined) !== (options.tlsKeyFile === undefined)) {
    issues.push("nats: tlsCertFile and tlsKeyFile have to be set together")
  }
  const settings: Settings = {
    options,
    servers,
    name: set("name"),
    apiPrefix: options.apiPrefix ?? (options.domain === undefined ? "$JS.API" : `$JS.${options.domain}.API`),
    inboxPrefix: set("inboxPrefix"),
    connectTimeout: time("connectTimeout", 1),
    connectAttempts: count("connectAttempts"),
    reconnectWait: time("reconnectWait", 1),
    pingInterval: time("pingInterval", 100),
    requestTimeout: time("requestTimeout", 1),
    closeTimeout: time("closeTimeout", 1),
    streams: set("streams"),
    storage: set("storage"),
    plainStorage: set("plainStorage"),
    duplicateWindow: time("duplicateWindow", 100),
    partitioner: set("partitioner"),
    leaseDuration,
    leaseRenewInterval,
    leaseBucket: set("leaseBucket"),
    maxInFlight: count("maxInFlight"),
    ackTimeout: time("ackTimeout", 100),
    discard: set("discard"),
    retention: set("retention"),
    compression: set("compression"),
    messageTtl: set("messageTtl"),
    sharedStreams,
    consumers: set("consumers"),
    ackWait: time("ackWait", 1_000),
    inactiveThreshold: threshold,
    latest: set("latest"),
    deleteConsumers: set("deleteConsumers"),
    preflight: set("preflight"),
    prefetchMessages: count("prefetchMessages"),
    prefetchBytes: count("prefetchBytes")
  }
  return issues.length === 0 ? Either.right(settings) : Either.left(new InvalidConfiguration({ issues }))
}

type DurationKey =
  | "connectTimeout"
  | "reconnectWait"
  | "pingInterval"
  | "requestTimeout"
  | "closeTimeout"
  | "duplicateWindow"
  | "leaseDuration"
  | "ackTimeout"
  | "ackWait"

type CountKey = "connectAttempts" | "maxInFlight" | "prefetchMessages" | "prefetchBytes"
