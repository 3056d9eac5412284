import type { EventBusError } from "@effect-eventbus/core"
import {
  ConfigSpec,
  EventBusConfig,
  EventBusError as Errors,
  MemoryTransport,
  Transport,
  TransportConfig
} from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Config, ConfigProvider, Context, Effect, Layer, Logger } from "effect"

const kafka = {
  spec: {
    "kafka.brokers": ConfigSpec.list({ description: "" }),
    "kafka.acks": ConfigSpec.literal("all")({ description: "" })
  },
  layer: (values: object) =>
    Layer.succeed(Transport.Transport, {
      ...(null as never as Transport.Service),
      name: "kafka",
      capabilities: values as never
    }),
  check: (values: { readonly "kafka.brokers"?: ReadonlyArray<string> }) =>
    values["kafka.brokers"] === undefined
      ? new Errors.InvalidConfiguration({ issues: ["kafka.brokers: has to be set", "kafka: is not complete"] })
      : Effect.void
}
const drivers = { memory: MemoryTransport.driver, kafka }

const build = (document: object, options?: TransportConfig.Options<"memory" | "kafka">) =>
  Effect.gen(function*() {
    const transport = yield* Transport.Transport
    const config = yield* EventBusConfig.EventBusConfig
    return { transport, config }
  }).pipe(
    Effect.provide(TransportConfig.layer(drivers, options)),
    Effect.withConfigProvider(ConfigProvider.fromJson(document))
  )

const issuesOf = <A>(loading: Effect.Effect<A, EventBusError.InvalidConfiguration>) =>
  Effect.map(Effect.flip(loading), (error) => error.issues)

const env = (variables: Record<string, string>) =>
  ConfigProvider.fromMap(new Map(Object.entries(variables)), { pathDelim: "_" })

describe("TransportConfig.layer", () => {
  it.effect("makes the transport that is named, from its settings, and gives the bus its own", () =>
    Effect.gen(function*() {
      const { config, transport } = yield* build({
        eventbus: { transport: "kafka", group: "mine", kafka: { brokers: ["a"] } }
      })
      expect(transport.name).toBe("kafka")
      expect(transport.capabilities).toEqual({ "kafka.brokers": ["a"] })
      expect(config.group).toBe("mine")
      const memory = yield* build({ eventbus: { transport: "memory", memory: { maxMessageBytes: 99 } } })
      expect(memory.transport.capabilities.maxMessageBytes).toBe(99)
    }))

  it.effect("says of settings of a transport that its driver is not given", () =>
    Effect.gen(function*() {
      const only = (provider: ConfigProvider.ConfigProvider) =>
        issuesOf(
          Transport.Transport.pipe(
            Effect.provide(TransportConfig.layer({ memory: MemoryTransport.driver })),
            Effect.withConfigProvider(provider)
          )
        )
      expect(yield* only(ConfigProvider.fromJson({ eventbus: { kafka: { brokers: ["a"] } } }))).toEqual([
        "eventbus.kafka.brokers: unknown setting (no driver of the kafka transport is given to TransportConfig.layer)"
      ])
      expect(yield* only(env({ EVENTBUS_NATS_SERVERS: "a" }))).toEqual([
        expect.stringContaining("unknown setting (no driver of the nats transport is given to TransportConfig.layer)")
      ])
    }))

  it.effect("demands a name where there is a choice and no default", () =>
    Effect.gen(function*() {
      expect(yield* issuesOf(build({}))).toEqual([
        "eventbus.transport (EVENTBUS_TRANSPORT): has to be set to one of memory, kafka"
      ])
      expect((yield* build({}, { default: "memory" })).transport.name).toBe("memory")
      const only = TransportConfig.layer({ memory: MemoryTransport.driver })
      expect((yield* Effect.provide(Transport.Transport, only)).name).toBe("memory")
      const none: Record<string, typeof MemoryTransport.driver> = {}
      expect(yield* issuesOf(Effect.provide(Transport.Transport, TransportConfig.layer(none)))).toEqual([
        "no transport is given to choose from"
      ])
      expect(yield* issuesOf(build({}, { default: "nats" as never }))).toEqual([
        `the default transport "nats" is none of memory, kafka`
      ])
    }))

  it.effect("does not run on its default in silence when the root is wrong or missing", () =>
    Effect.gen(function*() {
      for (
        const document of [
          { eventBus: { transport: "kafka" } },
          { eventbsu: { transport: "kafka" } },
          { transport: "kafka", kafka: { brokers: ["a"] } }
        ]
      ) expect(yield* issuesOf(build(document, { default: "memory" }))).toHaveLength(1)
    }))

  it.effect("reports all that is wrong at once, also what only the driver finds", () =>
    Effect.gen(function*() {
      expect(
        yield* issuesOf(
          build({ eventbus: { transport: "kafka", gruop: "g", retryTimes: -1, kafka: { acks: "some" } } })
        )
      ).toEqual([
        `eventbus.gruop: unknown setting (did you mean "group"?)`,
        "eventbus.kafka.acks: expected one of all, got some",
        "eventbus.retryTimes: expected a whole number of at least 0, got -1",
        "kafka.brokers: has to be set",
        "kafka: is not complete"
      ])
      // What is missing only because it is wrong is said once.
      expect(yield* issuesOf(build({ eventbus: { transport: "kafka", kafka: { brokers: [""] } } }))).toEqual([
        "eventbus.kafka.brokers: expected a list of texts that are not blank",
        "kafka: is not complete"
      ])
      expect(yield* issuesOf(build({ eventbus: { transport: "rabbit", gruop: "g" } }))).toHaveLength(2)
      expect(yield* issuesOf(build({ eventbus: { gruop: "g" } }))).toHaveLength(2)
    }))

  it.effect("names the settings of the other transports in one warning, and refuses those that are misspelt", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
        lines.push(`${logLevel.label} ${String(message)}`)
      })
      const both = {
        eventbus: { transport: "memory", kafka: { brokers: ["a"], acks: "all" }, memory: { partitions: 2 } }
      }
      const { transport } = yield* Effect.provide(build(both), Logger.replace(Logger.defaultLogger, logger))
      expect(transport.name).toBe("memory")
      expect(lines).toEqual([
        "WARN These settings are not used, because another transport is chosen: kafka.acks, kafka.brokers"
      ])
      expect(yield* issuesOf(build({ eventbus: { transport: "memory", kafka: { borkers: ["a"] } } }))).toEqual([
        `eventbus.kafka.borkers: unknown setting (did you mean "kafka.brokers"?)`
      ])
      expect(yield* issuesOf(build({ eventbus: { transport: "memory", kafka: { acks: "some" } } }))).toHaveLength(1)
    }))

  it.effect("reads a file below the environment, and leaves the application's provider alone", () =>
    Effect.gen(function*() {
      const file = ConfigProvider.fromJson({ eventbus: { transport: "kafka", group: "file" }, port: 1, host: "file" })
      const SettingsLive = Layer.unwrapEffect(
        Effect.configProviderWith((current) =>
          Effect.succeed(TransportConfig.layer(drivers, { provider: ConfigProvider.orElse(current, () => file) }))
        )
      )
      class Port extends Context.Tag("Port")<Port, number>() {}
      const ServerLive = Layer.effect(Port, Config.integer("PORT"))
      const program = Effect.gen(function*() {
        const transport = yield* Transport.Transport
        const config = yield* EventBusConfig.EventBusConfig
        return {
          transport: transport.name,
          group: config.group,
          port: yield* Port,
          host: yield* Config.string("host").pipe(Config.withDefault("none"))
        }
      })
      const result = yield* program.pipe(
        Effect.provide(Layer.provideMerge(ServerLive, SettingsLive)),
        Effect.withConfigProvider(env({ EVENTBUS_TRANSPORT: "memory", PORT: "8080" }))
      )
      expect(result).toEqual({ transport: "memory", group: "file", port: 8080, host: "none" })
    }))

  it.effect("reads the transport from the environment of the process", () =>
    Effect.acquireUseRelease(
      Effect.sync(() => Object.assign(process.env, { EVENTBUS_TRANSPORT: "kafka", EVENTBUS_KAFKA_BROKERS: "a:1" })),
      () =>
        Effect.map(Effect.provide(Transport.Transport, TransportConfig.layer(drivers)), ({ name }) =>
          expect(name).toBe("kafka")),
      () =>
        Effect.sync(() => {
          delete process.env["EVENTBUS_TRANSPORT"]
          delete process.env["EVENTBUS_KAFKA_BROKERS"]
        })
    ))

  it("documents the defaults that the memory transport has", () => {
    expect(Object.fromEntries(Object.entries(MemoryTransport.spec).map(([name, key]) => [name, key.default]))).toEqual({
      "memory.topics": "create",
      "memory.partitions": "4",
      "memory.maxMessages": "100000",
      "memory.maxMessageBytes": "1048576"
    })
  })
})
