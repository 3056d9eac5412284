import { ConfigSpec } from "@effect-eventbus/core"
import { KafkaConfig, KafkaConfigSpec, KafkaTransport, TopicSettings } from "@effect-eventbus/kafka"
import { ConfigProvider, Duration, Effect, Exit, Layer, Redacted } from "effect"
import { describe, expect, it } from "vitest"

const fromEnv = (env: Record<string, string>) =>
  ConfigSpec.load(KafkaConfigSpec.spec).pipe(
    Effect.flatMap(KafkaConfigSpec.fromValues),
    Effect.flatMap((options) => Effect.map(KafkaConfig.resolve(options), (settings) => ({ options, settings }))),
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(env)), { pathDelim: "_" })),
    Effect.either
  )

describe("KafkaConfig", () => {
  it("every setting can come from the environment", async () => {
    const read = await Effect.runPromise(Effect.flatten(fromEnv({
      EVENTBUS_KAFKA_BROKERS: "one:9092,two:9093",
      EVENTBUS_KAFKA_CLIENT_ID: "me",
      EVENTBUS_KAFKA_SASL_MECHANISM: "scram-sha-256",
      EVENTBUS_KAFKA_SASL_USERNAME: "user",
      EVENTBUS_KAFKA_SASL_PASSWORD: "hunter2",
      EVENTBUS_KAFKA_TLS_ENABLED: "true",
      EVENTBUS_KAFKA_TOPICS: "validate",
      EVENTBUS_KAFKA_GROUPS: "shared",
      EVENTBUS_KAFKA_CHECK_CRCS: "false",
      EVENTBUS_KAFKA_TOPIC_PARTITIONERS: "orders=sarama-fnv1a, clicks=murmur2",
      EVENTBUS_KAFKA_REPLICATION_FACTOR: "-1",
      EVENTBUS_KAFKA_TOPIC_DEFAULTS_PARTITIONS: "12",
      EVENTBUS_KAFKA_TOPIC_DEFAULTS_REPLICATION_FACTOR: "3",
      EVENTBUS_KAFKA_TOPIC_DEFAULTS_RETENTION: "2 hours",
      EVENTBUS_KAFKA_TOPIC_DEFAULTS_RETENTION_BYTES: "-1",
      EVENTBUS_KAFKA_TOPIC_DEFAULTS_CLEANUP_POLICY: "compact,delete",
      EVENTBUS_KAFKA_TOPIC_DEFAULTS_COMPRESSION: "lz4",
      EVENTBUS_KAFKA_TOPIC_DEFAULTS_MIN_INSYNC_REPLICAS: "2",
      EVENTBUS_KAFKA_TOPIC_DEFAULTS_CONFIG: "segment.ms=60000, retention.ms=-1",
      EVENTBUS_KAFKA_SESSION_TIMEOUT: "6 seconds"
    })))
    expect(read.settings).toMatchObject({
      brokers: ["one:9092", "two:9093"],
      clientId: "me",
      tls: {},
      topics: "validate",
      groups: "shared",
      checkCrcs: false,
      topicPartitioners: { orders: "sarama-fnv1a", clicks: "murmur2" },
      sessionTimeout: 6_000,
      heartbeatInterval: 600
    })
    expect(read.settings.topicDefaults).toMatchObject({ partitions: 12, replicationFactor: 3 })
    expect(TopicSettings.toConfig(read.settings.topicDefaults)).toEqual({
      "retention.ms": "-1",
      "retention.bytes": "-1",
      "cleanup.policy": "compact,delete",
      "compression.type": "lz4",
      "min.insync.replicas": "2",
      "segment.ms": "60000"
    })
    const { password } = read.settings.sasl as KafkaConfig.SaslPassword
    expect(Redacted.value(password)).toBe("hunter2")
    expect(JSON.stringify(read)).not.toContain("hunter2")
    expect(Object.keys(KafkaConfigSpec.spec).every((key) => key.startsWith("kafka."))).toBe(true)
  })

  it("everything that is wrong is said at once, with the key's name", async () => {
    const resolved = await Effect.runPromise(Effect.either(KafkaConfig.resolve({
      brokers: ["nowhere", "host:0"],
      sessionTimeout: Duration.seconds(1),
      heartbeatInterval: Duration.seconds(1),
      partitions: 0
    })))
    expect(resolved).toMatchObject({
      _tag: "Left",
      left: {
        _tag: "InvalidConfiguration",
        issues: [
          expect.stringContaining("kafka.partitions"),
          expect.stringContaining("\"nowhere\""),
          expect.stringContaining("\"host:0\""),
          expect.stringContaining("kafka.heartbeatInterval")
        ]
      }
    })
    // As those write it who have no types.
    const untyped = {
      brokers: ["a:1"],
      clientId: "",
      topics: "nope",
      partitions: 1.5,
      replicationFactor: 0,
      linger: "soon",
      group: "g",
      topicPartitioners: {}
    } as unknown as KafkaConfig.Options
    expect(await Effect.runPromise(Effect.flip(KafkaConfig.resolve(untyped)))).toMatchObject({
      issues: [
        expect.stringContaining("kafka.clientId: expected a text"),
        expect.stringContaining("kafka.topics: expected one of create"),
        "kafka.partitions: expected a whole number of at least 1, got 1.5",
        expect.stringContaining("kafka.linger: expected a duration"),
        "kafka.group: unknown setting",
        expect.stringContaining("kafka.replicationFactor")
      ]
    })
    const issuesOf = (options: object) =>
      Effect.runPromise(Effect.flip(KafkaConfig.resolve(options as KafkaConfig.Options))).then(({ issues }) => issues)
    expect(await issuesOf({ brokers: "a:1" })).toEqual([expect.stringContaining("kafka.brokers: expected a list")])
    expect(await issuesOf({ brokers: [] })).toEqual(["kafka.brokers: at least one broker is needed, as host:port"])
    // What it waits for may take sessions and rebalances; heartbeats say meanwhile that the coordinator is there.
    expect(await issuesOf({ brokers: ["a:1"], subscribeTimeout: "1 second" })).toEqual([
      expect.stringContaining("kafka.subscribeTimeout: has to be at least kafka.heartbeatInterval")
    ])
    expect(await issuesOf({})).toEqual(["kafka.brokers: at least one broker is needed, as host:port"])
    expect(await issuesOf({ brokers: ["a:1"], sessionTimeout: "short", heartbeatInterval: "20 seconds" })).toEqual([
      expect.stringContaining("kafka.sessionTimeout: expected a duration")
    ])
    expect(await Effect.runPromise(fromEnv({ EVENTBUS_KAFKA_SASL_USERNAME: "user" }))).toMatchObject({
      left: { issues: [expect.stringContaining("kafka.sasl"), expect.stringContaining("kafka.brokers")] }
    })
    expect(
      await Effect.runPromise(fromEnv({
        EVENTBUS_KAFKA_BROKERS: "a:1",
        EVENTBUS_KAFKA_TOPIC_PARTITIONERS: "x=crc",
        EVENTBUS_KAFKA_TOPIC_DEFAULTS_CONFIG: "=1"
      }))
    ).toMatchObject({ left: { issues: [expect.stringContaining("\"x=crc\""), expect.stringContaining("\"=1\"")] } })
  })

  it("what the protocol and timers can't hold is refused, and what they can hold is not", async () => {
    const issuesOf = (options: Partial<KafkaConfig.Options>) =>
      Effect.runPromise(Effect.either(KafkaConfig.resolve({ brokers: ["a:1"], ...options }))).then((resolved) =>
        resolved._tag === "Left" ? resolved.left.issues : []
      )
    const times = ["connectionTimeout", "requestTimeout", "sessionTimeout", "rebalanceTimeout", "fetchMaxWait"] as const
    for (const name of times) {
      const heartbeatInterval = "1 second"
      expect(await issuesOf({ [name]: "10 days", heartbeatInterval })).toEqual([])
      expect(await issuesOf({ [name]: "11 days", heartbeatInterval })).toEqual([
        `kafka.${name}: has to be at most 10 days`
      ])
    }
    for (const name of ["partitions", "maxMessageBytes", "fetchPartitionBytes", "fetchBytes"] as const) {
      expect(await issuesOf({ [name]: 0x7fffffff })).toEqual([])
      expect(await issuesOf({ [name]: 0x80000000 })).toEqual([`kafka.${name}: has to be at most 2147483647`])
    }
    expect(await issuesOf({ replicationFactor: 40_000 })).toEqual(["kafka.replicationFactor: has to be at most 32767"])
    // Nothing at all could be published.
    expect(await issuesOf({ maxMessageBytes: 4_096, batchBytes: 1_000 })).toEqual([
      expect.stringContaining("kafka.maxMessageBytes: has to be more than 4096")
    ])
  })

  it("a certificate that is neither PEM text nor a file is a typed error", async () => {
    const exit = await Effect.runPromise(
      Effect.exit(Effect.scoped(Layer.build(KafkaTransport.layer({ brokers: ["a:1"], tls: { ca: "/no/such/file" } }))))
    )
    expect(Exit.isFailure(exit) && String(exit.cause)).toContain("kafka.tls.ca")
  })
})
