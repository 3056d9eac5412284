/**
 * The broker inside the process: a log per topic with partitions, and groups with positions of their own.
 * It keeps what Kafka would keep. So two buses that run on it one after the other see what two processes on one Kafka would see.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ConfigSpec from "./ConfigSpec.js"
import { InvalidConfiguration, TakeOverRefused, UnknownTopic } from "./EventBusError.js"
import * as MemoryGroup from "./internal/memoryGroup.js"
import { Journal, type JournalEntry, MemoryTopic } from "./internal/memoryLog.js"
import { MemoryStore } from "./internal/memoryStore.js"
import type { TopicSpec } from "./Transport.js"

const keys = {
  /** Whether a topic is made on first use, or unknown. Default: `create`. */
  topics: ConfigSpec.literal("create", "validate")({
    default: "create",
    description: "Whether a topic is made on first use, or unknown."
  }),
  /** Partitions of a topic that names no number. Default: `4`. */
  partitions: ConfigSpec.integer({ default: 4, description: "Partitions of a topic that names no number." }),
  /** Messages kept per partition. Beyond it the oldest go, but none that a group has not settled: then publishing waits for room. Default: `100000`. */
  maxMessages: ConfigSpec.integer({
    unit: "messages",
    default: 100_000,
    description:
      "Messages kept per partition. Beyond it the oldest go, but none that a group has not settled: then publishing waits for room."
  }),
  /** The largest value of a message. Default: `1048576`. */
  maxMessageBytes: ConfigSpec.integer({
    unit: "bytes",
    default: 1_048_576,
    description: "The largest value of a message."
  })
}

/** The journal is for tests, and is set in code only. */
const withJournal = {
  ...keys,
  journal: ConfigSpec.integer({
    min: 0,
    unit: "entries",
    default: 0,
    description: "How many journal entries are kept, the newest ones; 0 keeps none."
  })
}

/**
 * The settings that the configuration has, below `eventbus.memory`, in the one place where each of them stands.
 *
 * @since 0.1.0
 * @category configuration
 */
export const spec: ConfigSpec.Below<"memory", typeof keys> = ConfigSpec.below("memory", keys)

/**
 * The bounds of a broker in memory, all with defaults; `spec` says what each means. `journal` is for tests: how
 * many journal entries are kept, the newest ones (0).
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends ConfigSpec.Options<typeof withJournal> {}

export type {
  /**
   * What happened on the broker, for tests.
   *
   * @since 0.1.0
   * @category models
   */
  JournalEntry
} from "./internal/memoryLog.js"

type Topic = MemoryTopic<MemoryGroup.MemoryGroup>

/**
 * What the memory transport needs of its broker, and what tests look at.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly maxMessageBytes: number
  readonly maxMessages: number
  /** The topic, made on first use where the settings say so. */
  readonly topic: (spec: TopicSpec) => Effect.Effect<Topic, UnknownTopic | InvalidConfiguration>
  /** The group of a topic; it begins to exist here, at the given end of the log. */
  readonly group: (topic: Topic, name: string, startFrom: "earliest" | "latest") => MemoryGroup.MemoryGroup
  /** What a group keeps beside a topic, by its name: made on first use, with room for `maxMessages` keys in each partition. */
  readonly store: (topic: Topic, group: string, name: string) => MemoryStore
  /** The group of a topic; if there is none, it begins to exist here, where another one has stopped that is not alive. */
  readonly successor: (
    topic: Topic,
    name: string,
    from: string
  ) => Effect.Effect<MemoryGroup.MemoryGroup, TakeOverRefused | InvalidConfiguration>
  /** Makes a topic, for brokers that validate. */
  readonly createTopic: (name: string, partitions?: number) => Effect.Effect<void>
  /** How far a group is: for each partition its watermark and the end of the log. Empty where there is no such group. */
  readonly positions: (
    topic: string,
    group: string
  ) => Effect.Effect<ReadonlyArray<{ readonly watermark: number; readonly end: number }>>
  /** Topics that messages were published to and that nobody has subscribed to or read. Each is answered once, at the third look. */
  readonly unheard: Effect.Effect<ReadonlyArray<string>>
  /** The newest entries of the journal, in the order in which they happened. */
  readonly journal: Effect.Effect<ReadonlyArray<JournalEntry>>
}

/**
 * The broker that `MemoryTransport.layerBroker` uses.
 *
 * @since 0.1.0
 * @category tags
 */
export class MemoryBroker extends Context.Tag("@effect-eventbus/core/MemoryBroker")<MemoryBroker, Service>() {}

/**
 * A broker with no topics yet. It fails with every option that is wrong.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options = {}): Effect.Effect<Service, InvalidConfiguration> =>
  Effect.gen(function*() {
    const { clock, settings } = {
      clock: yield* Effect.clock,
      settings: yield* ConfigSpec.make(withJournal, "memory", options)
    }
    const now = () => clock.unsafeCurrentTimeMillis()
    const journal = new Journal(settings.journal)
    const topics = new Map<string, Topic>()
    const stores = new Map<string, MemoryStore>()

    const create = (name: string, partitions: number): Topic => {
      const topic: Topic = new MemoryTopic(name, partitions, settings.maxMessages, journal, now)
      topics.set(name, topic)
      return topic
    }

    return MemoryBroker.of({
      maxMessageBytes: settings.maxMessageBytes,
      maxMessages: settings.maxMessages,
      topic: (spec) =>
        Effect.suspend((): Effect.Effect<Topic, UnknownTopic | InvalidConfiguration> => {
          const found = topics.get(spec.name)
          if (spec.partitions !== undefined && !(Number.isSafeInteger(spec.partitions) && spec.partitions > 0)) {
            return new InvalidConfiguration({
              topic: spec.name,
              issues: [`partitions: expected a whole number of at least 1, got ${spec.partitions}`]
            })
          }
          if (found === undefined) {
            return settings.topics === "create"
              ? Effect.sync(() => create(spec.name, spec.partitions ?? settings.partitions))
              : new UnknownTopic({ topic: spec.name, transport: "memory" })
          }
          return spec.partitions === undefined || spec.partitions === found.partitions.length
            ? Effect.succeed(found)
            : new InvalidConfiguration({
              topic: spec.name,
              issues: [`partitions: ${spec.partitions} are asked for, but the topic has ${found.partitions.length}`]
            })
        }),
      group: (topic, name, startFrom) =>
        topic.group(name, () => new MemoryGroup.MemoryGroup(topic, name, startFrom, journal)),
      store: ({ name: topic, partitions }, group, name) => {
        const id = JSON.stringify([topic, group, name])
        const store = stores.get(id) ??
          new MemoryStore(
            `${topic}/${group}/${name}`,
            partitions.length,
            settings.maxMessages,
            settings.maxMessageBytes
          )
        stores.set(id, store)
        return store
      },
      successor: (topic, name, from) =>
        Effect.suspend((): Effect.Effect<MemoryGroup.MemoryGroup, TakeOverRefused | InvalidConfiguration> => {
          const known = topic.groups.get(name)
          if (known !== undefined) return Effect.succeed(known)
          if (name === from) {
            const issue = `startFrom.group: "${from}" is this group itself`
            return new InvalidConfiguration({ topic: topic.name, issues: [issue] })
          }
          const refused = (reason: TakeOverRefused["reason"], details: ReadonlyArray<string>) =>
            new TakeOverRefused({ topic: topic.name, group: name, from, reason, details })
          const former = topic.groups.get(from)
          if (former === undefined) {
            const isElsewhere = Array.from(topics.values()).some(({ groups }) => groups.has(from))
            return refused(isElsewhere ? "OtherTopic" : "Unknown", [from])
          }
          const { alive } = former
          return alive.length > 0
            ? refused("Alive", alive)
            : Effect.succeed(topic.group(name, () => new MemoryGroup.MemoryGroup(topic, name, former, journal)))
        }),
      createTopic: (name, partitions) =>
        Effect.sync(() => {
          if (!topics.has(name)) create(name, partitions ?? settings.partitions)
        }),
      positions: (topic, group) => Effect.sync(() => topics.get(topic)?.groups.get(group)?.positions() ?? []),
      unheard: Effect.sync(() => {
        const found = Array.from(topics.values()).filter((topic) => topic.isUnheard && ++topic.looks === 3)
        return found.map(({ name }) => name)
      }),
      journal: Effect.sync(() => journal.entries())
    })
  })

/**
 * A broker as a layer. Share it if several buses use one broker, or if a bus is started again.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<MemoryBroker, InvalidConfiguration> =>
  Layer.effect(MemoryBroker, make(options))
