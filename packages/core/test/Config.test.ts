import type { EventBusError } from "@effect-eventbus/core"
import { ConfigSpec, EventBusConfig } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, Redacted } from "effect"

const spec = {
  "group": ConfigSpec.string({ description: "" }),
  "kafka.clientId": ConfigSpec.string({ description: "" }),
  "kafka.brokers": ConfigSpec.list({ description: "" }),
  "kafka.sasl.password": ConfigSpec.secret({ description: "" }),
  "kafka.acks": ConfigSpec.literal("all", "one")({ description: "" }),
  "kafka.retries": ConfigSpec.integer({ min: 0, description: "" }),
  "kafka.partitions": ConfigSpec.integer({ description: "" }),
  "kafka.idempotent": ConfigSpec.boolean({ description: "" }),
  "publishTimeout": ConfigSpec.duration({ description: "" })
}

const load = (provider: ConfigProvider.ConfigProvider) => Effect.withConfigProvider(ConfigSpec.load(spec), provider)

const fromJson = (json: unknown) => load(ConfigProvider.fromJson(json))

const issuesOf = (loading: Effect.Effect<unknown, EventBusError.InvalidConfiguration>) =>
  Effect.map(Effect.flip(loading), (error) => error.issues)

/** Sets variables of this process for as long as an effect runs. */
const withEnv = (variables: Record<string, string>) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => Object.assign(process.env, variables)),
    () => effect,
    () => Effect.sync(() => Object.keys(variables).forEach((name) => delete process.env[name]))
  )

const all = {
  group: "g",
  kafka: {
    clientId: "me",
    brokers: ["a:1", "b:2"],
    sasl: { password: "hush,hush" },
    acks: "all",
    retries: 0,
    partitions: 3,
    idempotent: true
  },
  publishTimeout: "3 seconds"
}

const expectAll = (values: ConfigSpec.Values<typeof spec>) => {
  expect(Duration.toMillis(values.publishTimeout!)).toBe(3_000)
  expect(Redacted.value(values["kafka.sasl.password"]!)).toBe("hush,hush")
  expect({ ...values, publishTimeout: 0, "kafka.sasl.password": 0 }).toEqual({
    "group": "g",
    "kafka.clientId": "me",
    "kafka.brokers": ["a:1", "b:2"],
    "kafka.sasl.password": 0,
    "kafka.acks": "all",
    "kafka.retries": 0,
    "kafka.partitions": 3,
    "kafka.idempotent": true,
    "publishTimeout": 0
  })
}

const environment = {
  EVENTBUS_GROUP: "g",
  EVENTBUS_KAFKA_CLIENT_ID: "me",
  EVENTBUS_KAFKA_BROKERS: "a:1,b:2",
  EVENTBUS_KAFKA_SASL_PASSWORD: "hush,hush",
  EVENTBUS_KAFKA_ACKS: "all",
  EVENTBUS_KAFKA_RETRIES: "0",
  EVENTBUS_KAFKA_PARTITIONS: "3",
  EVENTBUS_KAFKA_IDEMPOTENT: "true",
  EVENTBUS_PUBLISH_TIMEOUT: "3 seconds"
}

describe("ConfigSpec", () => {
  it.effect("reads every kind of setting from the environment", () =>
    Effect.gen(function*() {
      expectAll(yield* load(ConfigProvider.fromEnv()))
    }).pipe(withEnv(environment)))

  it.effect("reads the environment with another delimiter", () =>
    Effect.gen(function*() {
      expectAll(yield* load(ConfigProvider.fromEnv({ pathDelim: "__" })))
    }).pipe(withEnv({
      EVENTBUS__GROUP: "g",
      EVENTBUS__KAFKA__CLIENT_ID: "me",
      EVENTBUS__KAFKA__BROKERS: "a:1,b:2",
      EVENTBUS__KAFKA__SASL__PASSWORD: "hush,hush",
      EVENTBUS__KAFKA__ACKS: "all",
      EVENTBUS__KAFKA__RETRIES: "0",
      EVENTBUS__KAFKA__PARTITIONS: "3",
      EVENTBUS__KAFKA__IDEMPOTENT: "true",
      EVENTBUS__PUBLISH_TIMEOUT: "3 seconds"
    })))

  it.effect("reads JSON", () =>
    Effect.gen(function*() {
      expectAll(yield* load(ConfigProvider.fromJson({ eventbus: all, unrelated: { a: 1 } })))
    }))

  it.effect("reads providers that are nested or have another naming", () =>
    Effect.gen(function*() {
      expectAll(yield* load(ConfigProvider.nested(ConfigProvider.fromJson({ app: { eventbus: all } }), "app")))
      expectAll(
        yield* load(
          ConfigProvider.constantCase(ConfigProvider.fromMap(new Map(Object.entries(environment)), { pathDelim: "_" }))
        )
      )
      expectAll(yield* load(ConfigProvider.fromMap(new Map(Object.entries(environment)), { pathDelim: "_" })))
    }))

  it.effect("answers nothing where nothing is set", () =>
    Effect.gen(function*() {
      expect(yield* load(ConfigProvider.fromMap(new Map()))).toEqual({})
      expect(yield* load(ConfigProvider.fromJson({ other: 1 }))).toEqual({})
      expect(yield* fromJson({ eventbus: null })).toEqual({})
    }))

  it.effect("lists every issue in one error, with the path as it was written", () =>
    Effect.gen(function*() {
      const issues = yield* issuesOf(load(ConfigProvider.fromJson({
        eventbus: {
          gruop: "g",
          kafka: { acks: "some", retries: -1, partitions: 0, idempotent: "maybe", brokers: [""] },
          publishTimeout: "soon"
        }
      })))
      expect(issues).toHaveLength(7)
      for (
        const path of [
          "eventbus.gruop: unknown setting",
          "eventbus.kafka.acks: ",
          "eventbus.kafka.retries: expected a whole number of at least 0, got -1",
          "eventbus.kafka.partitions: expected a whole number of at least 1, got 0",
          "eventbus.kafka.idempotent: ",
          "eventbus.kafka.brokers: ",
          "eventbus.publishTimeout: "
        ]
      ) expect(issues.filter((issue) => issue.startsWith(path))).toHaveLength(1)
    }))

  it.effect("says an unknown key of the environment as the variable it is, with the key that was meant", () =>
    Effect.gen(function*() {
      const issues = yield* issuesOf(load(ConfigProvider.fromEnv()))
      expect(issues).toEqual([`EVENTBUS_KAFKA_CLIENT: unknown setting (did you mean "EVENTBUS_KAFKA_CLIENT_ID"?)`])
    }).pipe(withEnv({ EVENTBUS_KAFKA_CLIENT: "x" })))

  it.effect("refuses a key that is set twice under two spellings", () =>
    Effect.gen(function*() {
      const issues = yield* issuesOf(
        load(ConfigProvider.fromJson({ eventbus: { publishTimeout: "1 second", "publish-timeout": "2 seconds" } }))
      )
      expect(issues).toEqual([
        `eventbus.publishTimeout: "publishTimeout" is set twice, also as eventbus.publish-timeout`
      ])
    }))

  it.effect("refuses a key that is set both as a value and as a section", () =>
    Effect.gen(function*() {
      const issues = yield* issuesOf(load(ConfigProvider.fromEnv()))
      expect(issues).toHaveLength(1)
      expect(issues[0]).toContain("EVENTBUS_KAFKA: unknown setting")
    }).pipe(withEnv({ EVENTBUS_KAFKA: "x", EVENTBUS_KAFKA_ACKS: "all" })))

  it.effect("refuses a value in place of the whole section: it is not ignored", () =>
    Effect.gen(function*() {
      expect((yield* issuesOf(fromJson({ eventbus: "memory" })))[0]).toContain("eventbus: ")
      expect((yield* issuesOf(fromJson({ eventbus: ["memory"] })))[0]).toContain("eventbus: ")
    }))

  it.effect("treats an empty value as a mistake, not as unset", () =>
    Effect.gen(function*() {
      expect(yield* issuesOf(load(ConfigProvider.fromJson({ eventbus: { group: "" } })))).toHaveLength(1)
      // A section may be empty.
      expect(yield* load(ConfigProvider.fromJson({ eventbus: { kafka: { sasl: {} } } }))).toEqual({})
      expect(yield* fromJson({ eventbus: { kafka: null } })).toEqual({})
    }))

  it.effect("refuses a whole number that is none", () =>
    Effect.gen(function*() {
      for (const partitions of ["1.5", "9007199254740993", "many", "1e400", " "]) {
        expect(yield* issuesOf(load(ConfigProvider.fromJson({ eventbus: { kafka: { partitions } } })))).toHaveLength(1)
      }
    }))

  it.effect("refuses a section or a list where a value is wanted, in words that say what to write", () =>
    Effect.gen(function*() {
      expect(yield* issuesOf(fromJson({ eventbus: { group: { name: "g" } } }))).toEqual([
        `eventbus.group.name: unknown setting ("group" is a text that is not blank, with nothing below it)`
      ])
      for (const group of [["g"], ["g", "h"], []]) {
        expect(yield* issuesOf(fromJson({ eventbus: { group } }))).toEqual([
          "eventbus.group: expected a text that is not blank, got a list (write a single value, without brackets)"
        ])
      }
    }))

  it.effect("reads a list that is empty, or a single text", () =>
    Effect.gen(function*() {
      expect(yield* fromJson({ eventbus: { kafka: { brokers: [] } } })).toEqual({ "kafka.brokers": [] })
      expect(yield* fromJson({ eventbus: { kafka: { brokers: "a:1" } } })).toEqual({ "kafka.brokers": ["a:1"] })
    }))

  it.effect("shows no secret in an error", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(load(ConfigProvider.fromJson({
        eventbus: { kafka: { sasl: { password: ["tellnobody", "tellnobody2"], pasword: "tellnobody" }, partitions: 0 } }
      })))
      expect(`${error.message} ${String(error)} ${JSON.stringify(error)}`).not.toContain("tellnobody")
    }))
})

describe("EventBusConfig", () => {
  const read = (eventbus: object) =>
    Effect.provide(EventBusConfig.EventBusConfig, EventBusConfig.layerConfig).pipe(
      Effect.withConfigProvider(ConfigProvider.fromJson({ eventbus }))
    )

  it.effect("has the defaults of the delivery contract where nothing is set", () =>
    Effect.gen(function*() {
      expect(yield* EventBusConfig.EventBusConfig).toEqual(EventBusConfig.defaults)
      expect(yield* read({})).toEqual(EventBusConfig.defaults)
      expect(
        Object.fromEntries(
          Object.entries(EventBusConfig.defaults).map((
            [name, value]
          ) => [name, Duration.isDuration(value) ? Duration.toMillis(value) : value])
        )
      ).toEqual({
        group: "group",
        publishTimeout: 10_000,
        stopAfterFailedPublish: false,
        closeDeadline: 25_000,
        drainDeadline: 10_000,
        mailboxCapacity: 1_000,
        maxUnfinished: 1_000,
        maxAboveWatermark: 10_000,
        maxBytes: 67_108_864,
        maxActors: 10_000,
        actorIdleTimeout: 300_000,
        maxSettledAhead: 100,
        retryTimes: 8,
        retryBase: 100,
        retryCap: 30_000,
        restartTimes: 3,
        restartBase: 100,
        holdInterval: 30_000,
        guard: true,
        guardFrom: 200,
        guardPercent: 50,
        guardWindow: 300_000
      })
    }))

  it.effect("documents exactly the defaults that it has", () =>
    Effect.gen(function*() {
      const documented = Object.fromEntries(
        Object.entries(EventBusConfig.spec).map(([name, key]) => [name, key.default])
      )
      expect(yield* read(documented)).toEqual(EventBusConfig.defaults)
    }))

  it.effect("refuses durations that are negative, and those that make no sense as zero or without end", () =>
    Effect.gen(function*() {
      const negative: ReadonlyArray<Duration.DurationInput> = ["-1 seconds", -1, NaN, -1n, [-1, 0]]
      for (const closeDeadline of negative) {
        expect(yield* issuesOf(EventBusConfig.make({ closeDeadline }))).toHaveLength(1)
      }
      const issues = yield* issuesOf(EventBusConfig.make({
        closeDeadline: "-1 seconds",
        publishTimeout: Duration.infinity,
        holdInterval: 0
      }))
      expect(issues).toEqual([
        `closeDeadline: expected a duration such as "10 seconds", zero or above and finite, got -1 seconds`,
        `publishTimeout: expected a duration such as "10 seconds", above zero and finite`,
        `holdInterval: expected a duration such as "10 seconds", above zero and finite, got 0`
      ])
      expect(yield* issuesOf(read({ closeDeadline: "-1 seconds", publishTimeout: "0 seconds" }))).toHaveLength(2)
      const right = yield* EventBusConfig.make({ closeDeadline: 0, actorIdleTimeout: Duration.infinity, retryBase: 0 })
      expect(Duration.toMillis(right.closeDeadline)).toBe(0)
    }))

  it.effect("changes what is set and nothing else", () =>
    Effect.gen(function*() {
      const config = yield* Effect.provide(
        EventBusConfig.EventBusConfig,
        EventBusConfig.layer({ group: "g", retryTimes: 0, holdInterval: "1 second", maxBytes: undefined })
      )
      expect(Duration.toMillis(config.holdInterval)).toBe(1_000)
      expect({ ...config, holdInterval: EventBusConfig.defaults.holdInterval }).toEqual({
        ...EventBusConfig.defaults,
        group: "g",
        retryTimes: 0
      })
    }))

  it.effect("lists one issue for each bad option", () =>
    Effect.gen(function*() {
      const issues = yield* issuesOf(EventBusConfig.make({
        group: " ",
        mailboxCapacity: 0,
        retryTimes: -1,
        maxBytes: 1.5,
        holdInterval: "soon" as never,
        ...{ toString: 1, mailboxSize: 3 }
      }))
      expect(issues).toHaveLength(7)
      expect(issues.filter((issue) => issue.includes("unknown setting"))).toEqual([
        "toString: unknown setting",
        "mailboxSize: unknown setting"
      ])
    }))
})
