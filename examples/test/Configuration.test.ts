import {
  ConfigSpec,
  EventBusConfig,
  type EventBusError,
  MemoryTransport,
  Transport,
  TransportConfig
} from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { NatsTransport } from "@effect-eventbus/nats"
import { describe, expect, it } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, Redacted } from "effect"
import { parse } from "yaml"

const drivers = { memory: MemoryTransport.driver, kafka: KafkaTransport.driver, nats: NatsTransport.driver }

const fromYaml = (yaml: string) => ConfigProvider.fromJson(parse(yaml) ?? {})

const issuesOf = (yaml: string) =>
  Transport.Transport.pipe(
    Effect.provide(TransportConfig.layer(drivers, { provider: fromYaml(yaml) })),
    Effect.flip,
    Effect.map((error) => (error as EventBusError.InvalidConfiguration).issues)
  )

describe("Settings from YAML", () => {
  it.effect("are read as they are written there", () =>
    Effect.gen(function*() {
      const values = yield* Effect.withConfigProvider(
        ConfigSpec.load({ ...EventBusConfig.spec, ...KafkaTransport.driver.spec }),
        fromYaml(`
# the bus
eventbus:
  group: g
  retryTimes: 0
  publish-timeout: 3 seconds
  kafka:
    client-id: me
    brokers: [ "a:1", "b:2" ]
    sasl: { password: "hush,hush" }
    topics: validate
    checkCrcs: no
    tls:
      # ca: a file
`)
      )
      expect({ ...values, "kafka.sasl.password": Redacted.value(values["kafka.sasl.password"]!) }).toEqual({
        "group": "g",
        "retryTimes": 0,
        "publishTimeout": Duration.seconds(3),
        "kafka.clientId": "me",
        "kafka.brokers": ["a:1", "b:2"],
        "kafka.sasl.password": "hush,hush",
        "kafka.topics": "validate",
        "kafka.checkCrcs": false
      })
      for (const empty of ["", "# only a comment", "eventbus:", "eventbus: {}"]) {
        expect(yield* Effect.withConfigProvider(ConfigSpec.load(EventBusConfig.spec), fromYaml(empty))).toEqual({})
      }
    }))

  it.effect("have all their mistakes reported before anything connects, also those that only Kafka's transport sees", () =>
    Effect.gen(function*() {
      expect(
        yield* issuesOf(`
eventbus:
  transport: kafka
  gruop: g
  closeDeadline: -1 seconds
  kafka:
    linger: soon
    sasl: { username: me }
    heartbeatInterval: 20 seconds
`)
      ).toEqual([
        `eventbus.gruop: unknown setting (did you mean "group"?)`,
        `eventbus.closeDeadline: expected a duration such as "10 seconds", zero or above and finite, got -1 seconds`,
        `eventbus.kafka.linger: expected a duration such as "10 seconds", zero or above and finite, got soon`,
        "kafka.sasl: mechanism, username and password belong together, and not all of them are set",
        "kafka.brokers: has to be set, as host:port (EVENTBUS_KAFKA_BROKERS in the environment)"
      ])
      expect(
        yield* issuesOf("eventbus: { transport: kafka, kafka: { brokers: [nowhere], heartbeatInterval: 20 seconds } }")
      ).toEqual([
        expect.stringContaining(`"nowhere"`),
        expect.stringContaining("kafka.heartbeatInterval: has to be at most half")
      ])
    }))

  it.effect("and those that only NATS's transport sees", () =>
    Effect.gen(function*() {
      expect(
        yield* issuesOf(`
eventbus:
  transport: nats
  nats: { replicas: 6, password: hush, tlsCertFile: cert.pem, maxAge: 0 seconds }
`)
      ).toEqual([
        `eventbus.nats.maxAge: expected a duration such as "10 seconds", above zero and finite, got 0 seconds`,
        "nats.replicas: expected 1 to 5",
        "nats.password: expected nats.user, too",
        "nats: tlsCertFile and tlsKeyFile have to be set together"
      ])
    }))

  it.effect("may be there for all brokers, while one name switches between them", () =>
    Effect.gen(function*() {
      const yaml = `
eventbus:
  transport: memory
  kafka: { brokers: ["a:1"] }
  nats: { servers: ["b:2"] }
`
      const { name } = yield* Effect.provide(
        Transport.Transport,
        TransportConfig.layer(drivers, { provider: fromYaml(yaml) })
      )
      expect(name).toBe("memory")
    }))

  it.effect("name no transport: then there is none", () =>
    Effect.gen(function*() {
      const choice = "eventbus.transport (EVENTBUS_TRANSPORT): has to be set to one of memory, kafka, nats"
      expect(yield* issuesOf("")).toEqual([choice])
      expect(yield* issuesOf("eventBus: { transport: kafka }")).toEqual([
        expect.stringContaining(`eventBus: did you mean "eventbus"?`),
        choice
      ])
      expect(yield* issuesOf("transport: kafka")).toEqual([expect.stringContaining(`stand below "eventbus"`), choice])
    }))
})
