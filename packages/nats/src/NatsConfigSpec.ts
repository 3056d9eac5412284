/**
 * The settings of the NATS transport as keys of the configuration: `ackWait` is `nats.ackWait` in JSON and YAML, and
 * `EVENTBUS_NATS_ACK_WAIT` in the environment.
 *
 * @since 0.1.0
 */
import * as ConfigSpec from "@effect-eventbus/core/ConfigSpec"
import type { Options } from "./NatsConfig.js"

/**
 * The defaults, as `Options` say them.
 *
 * @since 0.1.0
 * @category defaults
 */
export const defaults = {
  servers: ["localhost:4222"],
  name: "effect-eventbus",
  inboxPrefix: "_INBOX",
  connectTimeout: "5 seconds",
  connectAttempts: 3,
  reconnectWait: "500 millis",
  pingInterval: "10 seconds",
  requestTimeout: "5 seconds",
  closeTimeout: "5 seconds",
  streams: "create",
  storage: "file",
  plainStorage: "memory",
  duplicateWindow: "2 minutes",
  partitioner: "murmur2",
  leaseDuration: "10 seconds",
  leaseBucket: "eventbus-leases",
  maxInFlight: 1_000,
  ackTimeout: "3 seconds",
  discard: "old",
  retention: "limits",
  compression: "none",
  messageTtl: false,
  sharedStreams: [],
  consumers: "update",
  ackWait: "30 seconds",
  latest: "new",
  deleteConsumers: false,
  preflight: "warn",
  prefetchMessages: 500,
  prefetchBytes: 8 * 1_048_576
} as const satisfies Options

/**
 * The keys of the configuration.
 *
 * @since 0.1.0
 * @category configuration
 */
export const spec = {
  "nats.servers": ConfigSpec.list({
    default: "localhost:4222",
    description: "Addresses of servers, `host:port` or `nats://host:port`."
  }),
  "nats.name": ConfigSpec.string({
    default: defaults.name,
    description: "The name of the connection in the server's lists."
  }),
  "nats.user": ConfigSpec.string({ description: "User name, with `nats.password`." }),
  "nats.password": ConfigSpec.secret({ description: "The user's password." }),
  "nats.token": ConfigSpec.secret({ description: "An authentication token." }),
  "nats.credentials": ConfigSpec.secret({ description: "The text of a credentials file (JWT and seed)." }),
  "nats.credentialsFile": ConfigSpec.string({ description: "The path of a credentials file." }),
  "nats.nkeySeed": ConfigSpec.secret({ description: "The seed of an NKey, `SU…`." }),
  "nats.tls": ConfigSpec.boolean({
    description:
      "Whether TLS is demanded. By default it is if another TLS setting is given; a server that demands TLS gets it anyway."
  }),
  "nats.tlsCaFile": ConfigSpec.string({ description: "PEM file with the certificate authorities to trust." }),
  "nats.tlsCertFile": ConfigSpec.string({ description: "PEM file with the client's certificate." }),
  "nats.tlsKeyFile": ConfigSpec.string({ description: "PEM file with the client's key." }),
  "nats.tlsHandshakeFirst": ConfigSpec.boolean({
    default: "false",
    description: "Begin with the TLS handshake, as servers with `handshake_first` want it."
  }),
  "nats.domain": ConfigSpec.string({ description: "The JetStream domain." }),
  "nats.apiPrefix": ConfigSpec.string({
    default: "$JS.API",
    description:
      "The subject of JetStream's API, where another account's is imported under another one. Not together with `nats.domain`."
  }),
  "nats.inboxPrefix": ConfigSpec.string({
    default: defaults.inboxPrefix,
    description: "The prefix of subjects for replies, for accounts that restrict it."
  }),
  "nats.connectTimeout": ConfigSpec.duration({
    default: defaults.connectTimeout,
    description: "How long one attempt to connect may take; several addresses share it, with at least 1 second each."
  }),
  "nats.connectAttempts": ConfigSpec.integer({
    default: "3",
    description: "How often the first connection is attempted; afterwards reconnecting never ends."
  }),
  "nats.reconnectWait": ConfigSpec.duration({
    default: defaults.reconnectWait,
    description: "The wait between attempts to reconnect; up to as much is added at random."
  }),
  "nats.pingInterval": ConfigSpec.duration({
    default: defaults.pingInterval,
    description: "How often the server is pinged; after two without an answer the connection is dropped."
  }),
  "nats.requestTimeout": ConfigSpec.duration({
    default: defaults.requestTimeout,
    description: "How long a request to JetStream may take."
  }),
  "nats.closeTimeout": ConfigSpec.duration({
    default: defaults.closeTimeout,
    description: "How long closing waits for the server, all steps together."
  }),
  "nats.streams": ConfigSpec.literal("create", "update", "validate", "skip")({
    default: defaults.streams,
    description:
      "The stream of a topic on first use: make it when it is missing, make it or change it, compare it with the settings, or only look up its name."
  }),
  "nats.storage": ConfigSpec.literal("file", "memory")({
    default: defaults.storage,
    description: "Storage of streams for envelopes."
  }),
  "nats.plainStorage": ConfigSpec.literal("file", "memory")({
    default: defaults.plainStorage,
    description: "Storage of streams for plain messages."
  }),
  "nats.replicas": ConfigSpec.integer({ default: "the server's (1)", description: "Replicas of a stream, 1 to 5." }),
  "nats.maxAge": ConfigSpec.duration({ default: "for ever", description: "How long a stream keeps a message." }),
  "nats.maxBytes": ConfigSpec.integer({
    default: "no limit",
    description: "How many bytes a stream keeps; then `nats.discard` decides."
  }),
  "nats.maxMessages": ConfigSpec.integer({
    default: "no limit",
    description: "How many messages a stream keeps; then `nats.discard` decides."
  }),
  "nats.discard": ConfigSpec.literal("old", "new")({
    default: defaults.discard,
    description: "At the limits: drop the oldest messages, or refuse new ones."
  }),
  "nats.retention": ConfigSpec.literal("limits", "interest", "workqueue")({
    default: defaults.retention,
    description:
      "When a stream drops a message: at its limits, when all subscribed groups have acknowledged it, or when its only group has."
  }),
  "nats.compression": ConfigSpec.literal("none", "s2")({
    default: defaults.compression,
    description: "Compression of streams in files, by servers from 2.10 on."
  }),
  "nats.maxMessageSize": ConfigSpec.integer({
    unit: "bytes",
    default: "no limit",
    description: "How large a message in a stream may be, its headers included; a larger one is `MessageTooLarge`."
  }),
  "nats.maxMessagesPerSubject": ConfigSpec.integer({
    unit: "messages",
    default: "no limit",
    description:
      "How many messages a stream keeps of each subject; then `nats.discard` decides. With partitions each aggregate has a subject."
  }),
  "nats.placementCluster": ConfigSpec.string({
    default: "the server's choice",
    description: "The name of the cluster, within a super-cluster, that a stream is made in."
  }),
  "nats.placementTags": ConfigSpec.list({
    default: "none",
    description: "The tags (`server_tags`) that all servers have which a stream is made on."
  }),
  "nats.streamMetadata": ConfigSpec.list({
    default: "none",
    description: "What a stream says of itself, each `name=value`. Needs nats-server 2.10."
  }),
  "nats.messageTtl": ConfigSpec.boolean({
    default: "false",
    description: "Whether messages may say for how long the stream keeps them (`MessageTtl`). Needs nats-server 2.11."
  }),
  "nats.sharedStreams": ConfigSpec.list({
    default: "none",
    description: "Subject patterns such as `orders.>`, each with one stream for all topics that it covers."
  }),
  "nats.duplicateWindow": ConfigSpec.duration({
    default: defaults.duplicateWindow,
    description: "For how long the server recognizes a message id that it has seen."
  }),
  "nats.partitions": ConfigSpec.integer({
    default: "none",
    description:
      "How many partitions a topic has that says nothing about it, 1 to 1024. Without, its subject is the topic, and one instance of a group reads it."
  }),
  "nats.partitioner": ConfigSpec.literal("murmur2", "sarama-fnv1a")({
    default: defaults.partitioner,
    description: "Which hash of the aggregate id is its partition; the same in all producers of a topic."
  }),
  "nats.leaseDuration": ConfigSpec.duration({
    default: defaults.leaseDuration,
    description:
      "After what time without a renewal others take over an instance's partitions; at least 1 second. The instance interrupts its handlers earlier, by `drainDeadline` or a third of this, if that is less."
  }),
  "nats.leaseRenewInterval": ConfigSpec.duration({
    default: "a third of `nats.leaseDuration`",
    description: "How often an instance renews its lease; at most a third of `nats.leaseDuration`."
  }),
  "nats.leaseBucket": ConfigSpec.string({
    default: defaults.leaseBucket,
    description: "The key-value bucket of the leases."
  }),
  "nats.maxInFlight": ConfigSpec.integer({
    default: "1000",
    description: "How many published messages can wait for their acknowledgement at once."
  }),
  "nats.ackTimeout": ConfigSpec.duration({
    default: defaults.ackTimeout,
    description: "After what time without an acknowledgement a message is sent again, with the same message id."
  }),
  "nats.consumers": ConfigSpec.literal("update", "validate")({
    default: defaults.consumers,
    description: "A durable consumer with other settings: change it, or fail with the differences."
  }),
  "nats.consumerReplicas": ConfigSpec.integer({
    default: "as many as the stream has",
    description: "Replicas of a group's position, 1 to 5, and no more than the stream has."
  }),
  "nats.consumerMetadata": ConfigSpec.list({
    default: "none",
    description: "What a durable consumer says of itself, each `name=value`. Needs nats-server 2.10."
  }),
  "nats.ackWait": ConfigSpec.duration({
    default: defaults.ackWait,
    description:
      "After what time without a sign of life the server delivers a message again; at least 1 second. Signs are sent every third of it."
  }),
  "nats.inactiveThreshold": ConfigSpec.duration({
    default: "never",
    description:
      "After what time without a reader the server deletes a durable consumer, and with it the group's position; at least 1 second."
  }),
  "nats.latest": ConfigSpec.literal("new", "last")({
    default: defaults.latest,
    description: "Whether a new group that begins at `latest` gets the last message there is."
  }),
  "nats.deleteConsumers": ConfigSpec.boolean({
    default: "false",
    description: "Whether closing a subscription deletes its durable consumer, and the group's position."
  }),
  "nats.preflight": ConfigSpec.literal("warn", "off")({
    default: defaults.preflight,
    description: "Whether settings on the server that weaken the promises for envelopes are logged as warnings."
  }),
  "nats.prefetchMessages": ConfigSpec.integer({
    default: "500",
    description: "How many messages a subscription fetches ahead of its actors, over all its partitions."
  }),
  "nats.prefetchBytes": ConfigSpec.integer({
    default: "8388608 (8 MiB)",
    description:
      "How many bytes a subscription fetches ahead of its actors, over all its partitions; of each partition at least one message of the largest size."
  })
} satisfies ConfigSpec.Spec

/**
 * What reading the configuration gives.
 *
 * @since 0.1.0
 * @category configuration
 */
export type Values = ConfigSpec.Values<typeof spec>

/**
 * The options that the configuration holds.
 *
 * @since 0.1.0
 * @category configuration
 */
export const fromValues = (values: Values): Options => {
  const options: Record<string, unknown> = {}
  for (const [path, value] of Object.entries(values)) options[path.slice("nats.".length)] = value
  return options
}
