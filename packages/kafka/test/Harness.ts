/** What the tests of this package share: a plain hand-written consumer, and Kafka through kafkajs's own client. */
import { Kafka } from "@effect-eventbus/brokers"
import type { EventBusError, Transport } from "@effect-eventbus/core"
import type { KafkaConfig } from "@effect-eventbus/kafka"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { eventually, throughout } from "@effect-eventbus/testing/Eventually"
import { Duration, Effect, Either, Exit, Scope } from "effect"
import kafkajs from "kafkajs"
import { afterAll, beforeAll, inject } from "vitest"
import { driverName } from "./driver.js"

export const shared = (): ReadonlyArray<string> => inject("kafkaBrokers")

/** Brokers of its own for the tests of a `describe`: they may be hurt. */
export const ownCluster = (options: Kafka.Options) => {
  let cluster: Kafka.KafkaCluster | undefined
  const scope = Effect.runSync(Scope.make())
  beforeAll(async () => {
    cluster = await Effect.runPromise(Scope.extend(Kafka.make({ ...options, own: true }), scope))
  }, 120_000)
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)), 30_000)
  return () => cluster!
}

let topics = 0
export const topicName = (): string => `test-${process.pid}-${Date.now()}-${topics++}`

export const spec = (name = topicName(), partitions = 1): Transport.TopicSpec => ({
  name,
  kind: "envelope",
  partitions
})

export const transport = (options: Partial<KafkaConfig.Options> = {}) =>
  KafkaTransport.make({ brokers: shared(), driver: driverName, ...options })

export const message = (
  aggregateId: string | undefined,
  value: string | Uint8Array | null,
  more: Partial<Transport.OutgoingMessage> = {}
): Transport.OutgoingMessage => ({
  id: undefined,
  aggregateId,
  key: null,
  value: typeof value === "string" ? Buffer.from(value) : value,
  headers: {},
  timestamp: undefined,
  ...more
})

export const text = (bytes: Uint8Array | null): string => bytes === null ? "" : Buffer.from(bytes).toString()

/** Publishes and expects it to succeed; the receipts. */
export const published = (
  service: Transport.Service,
  topic: Transport.TopicSpec,
  messages: ReadonlyArray<Transport.OutgoingMessage>,
  timeout: Duration.DurationInput = "15 seconds"
) =>
  Effect.flatMap(
    service.publish(topic, messages, { timeout: Duration.decode(timeout) }),
    (results): Effect.Effect<ReadonlyArray<Transport.Receipt>, EventBusError.PublishError> => Either.all(results)
  )

export const numbered = (count: number, aggregateId: (i: number) => string = () => "a") =>
  Array.from({ length: count }, (_, i) => message(aggregateId(i), String(i)))

export const request = (
  topic: Transport.TopicSpec,
  more: Partial<Transport.SubscribeRequest> = {}
): Transport.SubscribeRequest => ({
  topic,
  group: "tests",
  semantics: "at-least-once",
  startFrom: "earliest",
  maxAboveWatermark: 10_000,
  maxUnfinished: 1_000,
  drainDeadline: Duration.seconds(2),
  ...more
})

/** One partition as the bus would hold it. */
export interface Held {
  readonly assignment: Transport.Assignment
  readonly taken: Array<Transport.IncomingMessage>
  isClosed: boolean
}

/** A consumer that keeps what it takes. `room` says how many more a partition takes; `onTake` may finish at once. */
export const makeConsumer = (options: {
  readonly room?: (held: Held) => number
  readonly onTake?: (held: Held, message: Transport.IncomingMessage) => void
  readonly onClose?: (held: Held) => Effect.Effect<void>
} = {}) => {
  const lanes: Array<Held> = []
  const consumer: Transport.Consumer = {
    assigned: (assignment) => {
      const held: Held = { assignment, taken: [], isClosed: false }
      lanes.push(held)
      return {
        offer: (messages) => {
          if (held.isClosed) return 0
          const count = Math.min(messages.length, options.room?.(held) ?? Infinity)
          for (const message of messages.slice(0, count)) {
            held.taken.push(message)
            options.onTake?.(held, message)
          }
          return count
        },
        close: () =>
          Effect.suspend(() => {
            held.isClosed = true
            return Effect.as(options.onClose?.(held) ?? Effect.void, { unfinished: 0, lost: 0 })
          })
      }
    }
  }
  return {
    consumer,
    lanes,
    all: () => lanes.flatMap(({ taken }) => taken),
    values: () => lanes.flatMap(({ taken }) => taken.map(({ value }) => text(value))),
    open: () => lanes.filter(({ isClosed }) => !isClosed),
    lane: (partition: number) => lanes.find((held) => !held.isClosed && held.assignment.partition === partition)!
  }
}

export const finishing = () => makeConsumer({ onTake: ({ assignment }, message) => assignment.finish(message) })

export { eventually, throughout }

/** Kafka without our code. */
export const kafka = (brokers: ReadonlyArray<string> = shared()) =>
  new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.NOTHING })

/** kafkajs's own wait for the leaders of new topics fails where the broker has not heard of the topics yet. */
const createTopics = (admin: kafkajs.Admin): kafkajs.Admin["createTopics"] => async (options) => {
  const made = await admin.createTopics({ ...options, waitForLeaders: false })
  for (let i = 0; i < 500; i++) {
    const known = await admin.listTopics()
    if (options.topics.every(({ topic }) => known.includes(topic))) return made
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error("the broker does not know the new topics")
}

export const withAdmin = <A>(use: (admin: kafkajs.Admin) => Promise<A>, brokers = shared()) =>
  Effect.promise(async () => {
    const admin = kafka(brokers).admin()
    await admin.connect()
    try {
      return await use({ ...admin, createTopics: createTopics(admin) })
    } finally {
      await admin.disconnect()
    }
  })

/** The committed offset of a partition, or −1. */
export const committed = (topic: string, partition = 0, group = "tests", brokers = shared()) =>
  withAdmin(async (admin) => {
    const [found] = await admin.fetchOffsets({ groupId: `${group}.${topic}`, topics: [topic] })
    const entry = found?.partitions.find((entry) => entry.partition === partition)
    return { offset: Number(entry?.offset ?? -1), metadata: entry?.metadata ?? "" }
  }, brokers)

/** Polls until the commit is there. */
export const eventuallyCommitted = (topic: string, offset: number, partition = 0) =>
  Effect.gen(function*() {
    let last = -1
    for (let i = 0; i < 200; i++) {
      last = (yield* committed(topic, partition)).offset
      if (last === offset) return
      yield* Effect.sleep("25 millis")
    }
    return yield* Effect.dieMessage(`the commit is ${last} and not ${offset}`)
  })
