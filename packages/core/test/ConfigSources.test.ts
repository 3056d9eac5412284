import { ConfigSpec } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { ConfigError, ConfigProvider, ConfigProviderPathPatch, Duration, Effect, HashSet, Logger } from "effect"

const spec = {
  "transport": ConfigSpec.literal("memory", "kafka")({ description: "" }),
  "group": ConfigSpec.string({ description: "" }),
  "closeDeadline": ConfigSpec.duration({ description: "" }),
  "retryTimes": ConfigSpec.integer({ min: 0, description: "" }),
  "kafka.brokers": ConfigSpec.list({ description: "" }),
  "kafka.clientId": ConfigSpec.string({ description: "" }),
  "nats.name": ConfigSpec.string({ description: "" }),
  "kafka.sasl.password": ConfigSpec.secret({ description: "" })
}

const env = (variables: Record<string, string>, pathDelim = "_") =>
  ConfigProvider.fromMap(new Map(Object.entries(variables)), { pathDelim })
const json = ConfigProvider.fromJson
const load = (provider: ConfigProvider.ConfigProvider) => Effect.withConfigProvider(ConfigSpec.load(spec), provider)
const issuesOf = (provider: ConfigProvider.ConfigProvider) =>
  Effect.map(Effect.flip(load(provider)), ({ issues }) => issues)
const before = (first: ConfigProvider.ConfigProvider, second: ConfigProvider.ConfigProvider) =>
  ConfigProvider.orElse(first, () => second)

/** An effect with what it logs. */
const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
      lines.push(`${logLevel.label} ${String(message)}`)
    })
    return Effect.map(
      Effect.provide(effect, Logger.replace(Logger.defaultLogger, logger)),
      (value) => ({ value, lines })
    )
  })

describe("Two sources", () => {
  const file = json({
    eventbus: {
      group: "file",
      closeDeadline: "10 seconds",
      kafka: { brokers: ["a:1", "b:2", "c:3"], clientId: "file" }
    },
    port: 80
  })

  it.effect("the environment overrides the file, setting by setting", () =>
    Effect.gen(function*() {
      const values = yield* load(before(env({ EVENTBUS_GROUP: "env", EVENTBUS_KAFKA_BROKERS: "x:1, y:2" }), file))
      expect(values).toEqual({
        "group": "env",
        "closeDeadline": Duration.seconds(10),
        "kafka.brokers": ["x:1", "y:2"],
        "kafka.clientId": "file"
      })
    }))

  it.effect("the real environment does, too", () =>
    Effect.acquireUseRelease(
      Effect.sync(() => void (process.env["EVENTBUS_CLOSE_DEADLINE"] = "1 second")),
      () =>
        Effect.map(load(before(ConfigProvider.fromEnv(), file)), (values) => {
          expect(values.closeDeadline).toEqual(Duration.seconds(1))
          expect(values.group).toBe("file")
        }),
      () => Effect.sync(() => delete process.env["EVENTBUS_CLOSE_DEADLINE"])
    ))

  it.effect("the first source goes first whichever it is, and whatever its spelling", () =>
    Effect.gen(function*() {
      expect((yield* load(before(file, env({ EVENTBUS_GROUP: "env" })))).group).toBe("file")
      const dashes = json({ eventbus: { "close-deadline": "2 seconds" } })
      expect((yield* load(before(dashes, file))).closeDeadline).toEqual(Duration.seconds(2))
      expect((yield* load(before(file, dashes))).closeDeadline).toEqual(Duration.seconds(10))
      // Three sources, and one that is wrapped.
      const nested = ConfigProvider.nested(json({ app: { eventbus: { group: "nested" } } }), "app")
      const three = before(before(env({}), nested), before(file, env({ EVENTBUS_GROUP: "env" })))
      expect((yield* load(three)).group).toBe("nested")
      const constant = ConfigProvider.constantCase(env({ EVENTBUS_GROUP: "constant" }))
      expect((yield* load(before(constant, file))).group).toBe("constant")
    }))

  it.effect("a list of the first source is not filled up from the second", () =>
    Effect.gen(function*() {
      const short = json({ eventbus: { kafka: { brokers: ["x:1"] } } })
      expect((yield* load(before(short, file)))["kafka.brokers"]).toEqual(["x:1"])
      const text = json({ eventbus: { kafka: { brokers: "x:1" } } })
      expect((yield* load(before(text, file)))["kafka.brokers"]).toEqual(["x:1"])
    }))

  it.effect("a wrong value of the first source is an error, and does not give way to the second", () =>
    Effect.gen(function*() {
      const wrong = json({ eventbus: { closeDeadline: "soon" } })
      expect(yield* issuesOf(before(wrong, file))).toHaveLength(1)
      expect(yield* issuesOf(before(env({ EVENTBUS_CLOSE_DEADLINE: "soon" }), file))).toEqual([
        `EVENTBUS_CLOSE_DEADLINE: expected a duration such as "10 seconds", above zero and finite, got soon`
      ])
    }))

  it.effect("a setting twice in one of them stays an error", () =>
    Effect.gen(function*() {
      const twice = json({ eventbus: { closeDeadline: "1 second", close_deadline: "2 seconds" } })
      expect(yield* issuesOf(before(env({ EVENTBUS_CLOSE_DEADLINE: "1 second" }), twice))).toEqual([
        `eventbus.close_deadline: "closeDeadline" is set twice, also as eventbus.closeDeadline`
      ])
      expect(yield* issuesOf(env({ EVENTBUS_CLOSEDEADLINE: "1 second", EVENTBUS_CLOSE_DEADLINE: "2 seconds" })))
        .toHaveLength(1)
    }))

  it.effect("shows no secret that both have", () =>
    Effect.gen(function*() {
      const one = json({ eventbus: { kafka: { sasl: { password: "tellnobody" } }, retryTimes: -1 } })
      const two = env({ EVENTBUS_KAFKA_SASL_PASSWORD: "tellnobody", EVENTBUS_KAFKA_SASL_PASWORD: "tellnobody" })
      expect((yield* issuesOf(before(one, two))).join()).not.toContain("tellnobody")
    }))
})

describe("A provider of another kind", () => {
  const files = new Map([["eventbus/group", "mine"], ["eventbus/kafka/brokers", "a:1,b:2"]])
  const tree = (listing: "works" | "fails") =>
    ConfigProvider.fromFlat(ConfigProvider.makeFlat({
      load: (path, primitive, split) => {
        const text = files.get(path.join("/"))
        return text === undefined
          ? Effect.fail(ConfigError.MissingData([...path], "no file"))
          : Effect.forEach(split ? text.split(",") : [text], (part) => primitive.parse(part))
      },
      enumerateChildren: (path) => {
        if (listing === "fails") {
          return Effect.fail(ConfigError.SourceUnavailable([...path], "the disk is gone", {} as never))
        }
        if (files.has(path.join("/"))) {
          return Effect.fail(ConfigError.SourceUnavailable([...path], "no directory", {} as never))
        }
        const below = path.map((name) => `${name}/`).join("")
        const names = [...files.keys()].filter((file) => file.startsWith(below))
        return names.length === 0
          ? Effect.fail(ConfigError.MissingData([...path], "no directory"))
          : Effect.succeed(HashSet.fromIterable(names.map((file) => file.slice(below.length).split("/")[0]!)))
      },
      patch: ConfigProviderPathPatch.empty
    }))

  it.effect("is read, too, though it can't list the children of a value", () =>
    Effect.gen(function*() {
      const all = { "group": "mine", "kafka.brokers": ["a:1", "b:2"] }
      expect(yield* load(tree("works"))).toEqual(all)
      expect(yield* load(before(env({ EVENTBUS_GROUP: "env" }), tree("works")))).toEqual({ ...all, group: "env" })
    }))

  it.effect("is an error where it is out of order", () =>
    Effect.map(issuesOf(tree("fails")), (issues) => expect(issues).toEqual(["the disk is gone"])))
})

describe("A wrong root", () => {
  const settings = { transport: "kafka", kafka: { brokers: ["a:1"] } }

  it.effect("is named, with the one that was meant", () =>
    Effect.gen(function*() {
      for (const root of ["eventBus", "eventbsu", "event-bus", "EventBus", "evenbus", "eventbuss", "eventsbus"]) {
        const issues = yield* issuesOf(json({ [root]: settings, port: 1 }))
        expect(issues).toHaveLength(1)
        expect(issues[0]).toContain(`${root}: did you mean "eventbus"?`)
        expect(issues[0]).toContain(`${root}.kafka.brokers, ${root}.transport`)
      }
      expect(yield* issuesOf(json({ event: { bus: settings } }))).toHaveLength(1)
      expect(yield* issuesOf(json({ "eventbus.transport": "kafka" }))).toHaveLength(1)
      // Also where everything below it is misspelt, and beside the right one.
      expect(yield* issuesOf(json({ eventBus: { trasnport: "kafka" } }))).toHaveLength(1)
      expect(yield* issuesOf(json({ eventbus: { group: "g" }, eventBus: settings }))).toHaveLength(1)
    }))

  it.effect("is named in the environment", () =>
    Effect.gen(function*() {
      for (const root of ["Eventbus", "EVENT_BUS", "EVENTBSU", "EventBus"]) {
        const issues = yield* issuesOf(env({ [`${root}_TRANSPORT`]: "kafka", PATH: "/bin" }))
        expect(issues).toHaveLength(1)
        expect(issues[0]).toContain("did you mean")
        expect(issues[0]).toContain(`${root}_TRANSPORT`)
      }
      const delimiter = yield* issuesOf(env({ EVENTBUS_TRANSPORT: "kafka" }, "__"))
      expect(delimiter).toHaveLength(1)
      expect(delimiter[0]).toContain("EVENTBUS_TRANSPORT: its source takes this for one name")
    }))

  it.effect("is named in the real environment, where only the spelling of the letters is wrong", () =>
    Effect.acquireUseRelease(
      Effect.sync(() => void (process.env["Eventbus_TRANSPORT"] = "kafka")),
      () =>
        Effect.map(issuesOf(ConfigProvider.fromEnv()), (issues) => {
          expect(issues).toHaveLength(1)
          expect(issues[0]).toContain("EVENTBUS_TRANSPORT: ")
          expect(issues[0]).toContain("capital letters")
        }),
      () => Effect.sync(() => delete process.env["Eventbus_TRANSPORT"])
    ))

  it.effect("is missing: settings at the top of a document are an error", () =>
    Effect.gen(function*() {
      for (
        const document of [
          settings,
          { transport: "kafka" },
          { kafka: { brokers: ["a:1"] } },
          { closeDeadline: "1 second", retryTimes: 0 }
        ]
      ) {
        const issues = yield* issuesOf(json(document))
        expect(issues).toHaveLength(1)
        expect(issues[0]).toContain(`stand below "eventbus"`)
      }
      // The environment has a group, the document has no root.
      expect(yield* issuesOf(before(env({ EVENTBUS_GROUP: "g" }), json(settings)))).toHaveLength(1)
      expect(yield* issuesOf(env({ TRANSPORT: "kafka" }))).toHaveLength(1)
    }))

  it.effect("is not seen in an application's own keys", () =>
    Effect.gen(function*() {
      for (
        const own of [
          { group: "mine", transport: "tcp", name: "x", kafka: { topic: "mine" } },
          {
            eventhub: { group: "mine" },
            events: { group: "mine" },
            bus: { group: "mine" },
            eventstore: { group: "x" }
          },
          { event: { bus: { name: "orders", arn: "arn:aws:events:1" } }, eventBus: { name: "orders" } },
          { closeDeadline: "1 second" },
          { eventBus: {} }
        ]
      ) expect(yield* load(json(own))).toEqual({})
      expect(
        yield* load(env({
          KAFKA_BROKERS: "a:1",
          KAFKA_CLIENT_ID: "x",
          GROUP: "g",
          EVENT_BUS_NAME: "orders",
          TRANSPORT: "tcp",
          CLOSE_DEADLINE: "1",
          RETRY_TIMES: "1",
          EVENTHUB_GROUP: "g"
        }))
      ).toEqual({})
      // An application that has settings of Kafka's of its own names those of the bus elsewhere.
      expect(
        yield* load(before(env({ EVENTBUS_TRANSPORT: "memory" }), json({ kafka: { clientId: "own", brokers: ["a"] } })))
      ).toEqual({ transport: "memory" })
      expect(yield* load(before(env({ EVENTBUS_TRANSPORT: "memory" }), json({ transport: "kafka" })))).toEqual({
        transport: "memory"
      })
    }))

  it.effect("is none where a provider has another naming", () =>
    Effect.gen(function*() {
      const pascal = ConfigProvider.mapInputPath(
        json({ Eventbus: { Group: "g", CloseDeadline: "1 second" } }),
        (name) => `${name[0]!.toUpperCase()}${name.slice(1)}`
      )
      const values = { group: "g", closeDeadline: Duration.seconds(1) }
      expect(yield* load(pascal)).toEqual(values)
      expect(yield* load(before(env({}), pascal))).toEqual(values)
    }))
})

describe("Kubernetes", () => {
  const service = (name: string, port = 80, protocol = "TCP") => ({
    [`${name}_SERVICE_HOST`]: "10.0.0.11",
    [`${name}_SERVICE_PORT`]: String(port),
    [`${name}_SERVICE_PORT_HTTP_ALT`]: String(port),
    [`${name}_PORT`]: `${protocol.toLowerCase()}://10.0.0.11:${port}`,
    [`${name}_PORT_${port}_${protocol}`]: `${protocol.toLowerCase()}://10.0.0.11:${port}`,
    [`${name}_PORT_${port}_${protocol}_PROTO`]: protocol.toLowerCase(),
    [`${name}_PORT_${port}_${protocol}_PORT`]: String(port),
    [`${name}_PORT_${port}_${protocol}_ADDR`]: "fd00::11"
  })

  it.effect("sets variables for a Service named eventbus: they are ignored, and named once in the log", () =>
    Effect.gen(function*() {
      for (const own of [service("EVENTBUS"), service("EVENTBUS_KAFKA", 9092), service("EVENTBUS", 53, "UDP")]) {
        const { lines, value } = yield* logged(load(env({ ...own, EVENTBUS_GROUP: "g" })))
        expect(value).toEqual({ group: "g" })
        expect(lines).toHaveLength(1)
        for (const name of Object.keys(own)) expect(lines[0]).toContain(name)
      }
    }))

  it.effect("a variable that only looks like one of them is an unknown setting", () =>
    Effect.gen(function*() {
      for (
        const own of [
          { EVENTBUS_PORT: "8080" },
          { EVENTBUS_SERVICE_HOST: "somewhere" },
          { EVENTBUS_PORT_80_TCP_PROTO: "http" }
        ]
      ) expect(yield* issuesOf(env(own))).toHaveLength(1)
      expect(yield* issuesOf(json({ eventbus: { port: "tcp://10.0.0.11:80" } }))).toHaveLength(1)
    }))
})
