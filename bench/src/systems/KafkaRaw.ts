/** What one would write on kafkajs. */
import type { EachBatchPayload, Kafka as KafkaClient } from "kafkajs"
import Kafkajs from "kafkajs"
import { randomUUID } from "node:crypto"
import { chains, promising } from "../Handlers.js"
import { idOf, type Step, wire, type WireStep } from "../Load.js"
import type { Meter } from "../Meter.js"
import type { Work } from "../Workload.js"

export const client = (brokers: ReadonlyArray<string>): KafkaClient =>
  new Kafkajs.Kafka({ brokers: [...brokers], logLevel: Kafkajs.logLevel.NOTHING })

const read = (value: Buffer | null): WireStep => JSON.parse(value!.toString()) as WireStep

export interface Source {
  readonly kafka: ReadonlyArray<string>
  readonly topic: string
}

/** Begins to consume, and answers how to end it. */
export const consume = async (
  system: string,
  { kafka, topic }: Source,
  work: Work,
  meter: Meter
): Promise<() => Promise<void>> => {
  const consumer = client(kafka).consumer({ groupId: `bench-${randomUUID()}`, maxWaitTimeInMs: 300 })
  const handle = promising(work, meter)
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  const common = { partitionsConsumedConcurrently: 4 }
  if (system === "kafkajs eachMessage") {
    await consumer.run({
      ...common,
      eachMessage: async ({ message }) => handle(read(message.value).payload)
    })
  } else if (system === "kafkajs eachBatch") {
    await consumer.run({ ...common, eachBatch: eachInTurn(handle, meter) })
  } else {
    await consumer.run({ ...common, eachBatch: eachInChains(handle, meter) })
  }
  return () => consumer.disconnect()
}

const eachInTurn =
  (handle: (step: Step) => Promise<void> | void, meter: Meter) =>
  async ({ batch, heartbeat, resolveOffset }: EachBatchPayload): Promise<void> => {
    for (const message of batch.messages) {
      if (meter.isOver) return
      const running = handle(read(message.value).payload)
      if (running !== undefined) await running
      resolveOffset(message.offset)
    }
    await heartbeat()
  }

const eachInChains = (handle: (step: Step) => Promise<void> | void, meter: Meter) => {
  const chain = chains(handle)
  return async ({ batch, resolveOffset }: EachBatchPayload): Promise<void> => {
    if (meter.isOver) return
    await Promise.all(batch.messages.map((message) => {
      const { aggregate_id, payload } = read(message.value)
      return chain(aggregate_id, payload)
    }))
    resolveOffset(batch.lastOffset())
  }
}

/** Publishes steps in one call. */
export const publisher = async (kafka: ReadonlyArray<string>, topic: string) => {
  const producer = client(kafka).producer({ createPartitioner: Kafkajs.Partitioners.DefaultPartitioner })
  await producer.connect()
  return {
    publish: async (steps: ReadonlyArray<readonly [aggregate: number, sequence: number]>): Promise<void> => {
      await producer.send({
        topic,
        messages: steps.map(([aggregate, sequence]) => ({ key: idOf(aggregate), value: wire(aggregate, sequence) }))
      })
    },
    close: () => producer.disconnect()
  }
}

export const createTopic = async (kafka: ReadonlyArray<string>, topic: string, partitions: number): Promise<void> => {
  const admin = client(kafka).admin()
  await admin.connect()
  // Its own wait for leaders fails where the broker has not heard of the topic yet.
  await admin.createTopics({
    topics: [{ topic, numPartitions: partitions, replicationFactor: 1 }],
    waitForLeaders: false
  })
  while (!(await admin.listTopics()).includes(topic)) await new Promise((resolve) => setTimeout(resolve, 20))
  await admin.disconnect()
}

/** Deletes the topics of a run. */
export const clean = async (kafka: ReadonlyArray<string>, prefix: string): Promise<void> => {
  const admin = client(kafka).admin()
  await admin.connect()
  const topics = (await admin.listTopics()).filter((topic) => topic.startsWith(prefix))
  if (topics.length > 0) await admin.deleteTopics({ topics })
  await admin.disconnect()
}
