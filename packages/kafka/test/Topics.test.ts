import { TopicSettings } from "@effect-eventbus/kafka"
import { it } from "@effect/vitest"
import { Duration, Effect, Logger } from "effect"
import { describe, expect } from "vitest"
import { finishing, message, published, request, spec, topicName, transport, withAdmin } from "./Harness.js"

const configOf = (topic: string) =>
  withAdmin(async (admin) => {
    const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type: 2, name: topic }] })
    return Object.fromEntries(
      resources[0]!.configEntries.map(({ configName, configValue }) => [configName, configValue])
    )
  })

const partitionsOf = (topic: string) =>
  withAdmin(async (admin) => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0]!.partitions.length)

const named = (name = topicName()) => ({ ...spec(name), partitions: undefined })

describe("topics", () => {
  it.scopedLive("that are made, and groups that are joined, are one line of the log each", () => {
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
      if (logLevel.label === "INFO") lines.push(String(message))
    })
    return Effect.gen(function*() {
      const service = yield* transport()
      yield* service.subscribe(request({ ...spec(topicName()), partitions: 6 }), finishing().consumer)
      expect(lines).toEqual(["Created a topic", "Joined the group"])
    }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
  })

  it.scopedLive(
    "are made with everything that is set; what the definition says comes first",
    () =>
      Effect.gen(function*() {
        const one = named()
        const other = { ...named(), partitions: 2 }
        const service = yield* transport({
          topicDefaults: { ...TopicSettings.lowThroughput, config: { "segment.ms": "1", "max.message.bytes": "5000" } },
          topicSettings: {
            [one.name]: {
              retention: Duration.hours(2),
              retentionBytes: 1_000_000,
              cleanupPolicy: "compact,delete",
              compression: "gzip",
              minInsyncReplicas: 1,
              replicationFactor: 1,
              config: { "segment.ms": "60000" }
            },
            [other.name]: { partitions: 7, retention: Duration.infinity }
          }
        })
        yield* published(service, one, [message("a", "1")])
        yield* published(service, other, [message("a", "1")])
        expect(yield* configOf(one.name)).toMatchObject({
          "retention.ms": "7200000",
          "retention.bytes": "1000000",
          "cleanup.policy": "compact,delete",
          "compression.type": "gzip",
          "min.insync.replicas": "1",
          "segment.ms": "60000",
          "max.message.bytes": "5000"
        })
        expect(yield* partitionsOf(one.name)).toBe(3)
        expect(yield* configOf(other.name)).toMatchObject({ "retention.ms": "-1", "cleanup.policy": "delete" })
        expect(yield* partitionsOf(other.name)).toBe(2)
      }),
    30_000
  )

  it.scopedLive(
    "create leaves what exists alone; create-or-update changes what is set and nothing else",
    () =>
      Effect.gen(function*() {
        const topic = named()
        yield* withAdmin((admin) =>
          admin.createTopics({
            topics: [{
              topic: topic.name,
              numPartitions: 2,
              configEntries: [{ name: "segment.ms", value: "60000" }, { name: "retention.ms", value: "1000000" }]
            }]
          })
        )
        const topicSettings = { [topic.name]: { partitions: 5, retention: Duration.hours(1) } }
        yield* published(yield* transport({ topicSettings }), topic, [message("a", "1")])
        expect(yield* partitionsOf(topic.name)).toBe(2)
        expect(yield* configOf(topic.name)).toMatchObject({ "retention.ms": "1000000", "segment.ms": "60000" })
        const updating = yield* transport({ topicSettings, topics: "create-or-update" })
        const receipts = yield* published(
          updating,
          topic,
          Array.from({ length: 10 }, () => message(undefined, "x"))
        )
        expect(new Set(receipts.map(({ partition }) => partition)).size).toBe(5)
        expect(yield* configOf(topic.name)).toMatchObject({ "retention.ms": "3600000", "segment.ms": "60000" })
        // Partitions can't be taken away.
        const fewer = yield* transport({
          topicSettings: { [topic.name]: { partitions: 3 } },
          topics: "create-or-update"
        })
        const error = yield* Effect.flip(fewer.subscribe(request(topic), finishing().consumer))
        expect(error).toMatchObject({ _tag: "InvalidConfiguration", topic: topic.name })
        expect(error.message).toContain("take partitions away")
        // One that is missing is made.
        const missing = { ...named(), partitions: 2 }
        yield* published(updating, missing, [message("a", "1")])
        expect(yield* partitionsOf(missing.name)).toBe(2)
      }),
    30_000
  )

  it.scopedLive("validate lists all differences, at subscribe and at publish, each time", () =>
    Effect.gen(function*() {
      const topic = named()
      yield* published(yield* transport(), { ...topic, partitions: 2 }, [message("a", "1")])
      const strict = yield* transport({
        topics: "validate",
        topicSettings: {
          [topic.name]: {
            partitions: 3,
            replicationFactor: 2,
            retention: Duration.hours(1),
            cleanupPolicy: "delete",
            config: { "no.such.setting": "1" }
          }
        }
      })
      for (let i = 0; i < 2; i++) {
        const error = yield* Effect.flip(strict.subscribe(request(topic), finishing().consumer))
        expect(error).toMatchObject({ _tag: "InvalidConfiguration", topic: topic.name })
        expect(error._tag === "InvalidConfiguration" && error.issues).toEqual([
          "it has 2 partitions, and 3 are demanded",
          "it has 1 replicas, and 2 are demanded",
          "retention.ms is 604800000, and 3600000 is demanded",
          "no.such.setting is demanded, and the broker knows no such setting"
        ])
      }
      const [result] = yield* strict.publish(topic, [message("a", "1")], { timeout: Duration.seconds(5) })
      expect(result).toMatchObject({ _tag: "Left", left: { _tag: "InvalidConfiguration" } })
      expect(yield* configOf(topic.name)).toMatchObject({ "retention.ms": "604800000" })
      const fitting = yield* transport({
        topics: "validate",
        topicSettings: { [topic.name]: { partitions: 2, retention: Duration.days(7) } }
      })
      yield* published(fitting, topic, [message("a", "1")])
      const lax = yield* transport({ topics: "skip", topicSettings: { [topic.name]: { partitions: 9 } } })
      yield* published(lax, topic, [message("a", "1")])
    }), 30_000)

  it.scopedLive("a setting that the broker does not accept is a typed error", () =>
    Effect.gen(function*() {
      const topic = named()
      const service = yield* transport({ topicSettings: { [topic.name]: { config: { "retention.ms": "soon" } } } })
      const error = yield* Effect.flip(service.subscribe(request(topic), finishing().consumer))
      expect(error).toMatchObject({ _tag: "InvalidConfiguration", topic: topic.name })
    }), 30_000)
})
