/** What one would write on the nats client. */
import { AckPolicy, connect, type JsMsg, type NatsConnection } from "nats"
import { randomUUID } from "node:crypto"
import { chains, promising } from "../Handlers.js"
import { wire, type WireStep } from "../Load.js"
import type { Meter } from "../Meter.js"
import type { Work } from "../Workload.js"

const streamOf = async (nc: NatsConnection, subject: string): Promise<string> => {
  const manager = await nc.jetstreamManager()
  return manager.streams.find(subject)
}

export interface Source {
  readonly nats: ReadonlyArray<string>
  readonly topic: string
}

/** How many messages are fetched ahead; the server waits for the acknowledgement of twice as many. */
const ahead = 1_000

/** Begins to consume, and answers how to end it. */
export const consume = async (
  system: string,
  { nats, topic }: Source,
  work: Work,
  meter: Meter
): Promise<() => Promise<void>> => {
  const nc = await connect({ servers: [...nats] })
  const stream = await streamOf(nc, topic)
  const manager = await nc.jetstreamManager()
  const name = `bench-${randomUUID()}`
  await manager.consumers.add(stream, {
    name,
    durable_name: name,
    ack_policy: AckPolicy.Explicit,
    filter_subject: topic,
    max_ack_pending: 2 * ahead
  })
  const consumer = await nc.jetstream().consumers.get(stream, name)
  const messages = await consumer.consume({ max_messages: ahead })
  const handle = promising(work, meter)
  const chain = chains(handle)
  const ack = (message: JsMsg) => () => message.ack()
  const loop = async () => {
    for await (const message of messages) {
      if (meter.isOver) return
      const { aggregate_id, payload } = JSON.parse(message.string()) as WireStep
      if (system === "nats chains") {
        void chain(aggregate_id, payload).then(ack(message))
        continue
      }
      const running = handle(payload)
      if (running !== undefined) await running
      message.ack()
    }
  }
  const ended = loop()
  return async () => {
    messages.stop()
    await ended
    await manager.consumers.delete(stream, name)
    await nc.close()
  }
}

/** Publishes steps at once. */
export const publisher = async (nats: ReadonlyArray<string>, topic: string) => {
  const nc = await connect({ servers: [...nats] })
  const js = nc.jetstream()
  const encoder = new TextEncoder()
  return {
    publish: async (steps: ReadonlyArray<readonly [aggregate: number, sequence: number]>): Promise<void> => {
      await Promise.all(
        steps.map(([aggregate, sequence]) => js.publish(topic, encoder.encode(wire(aggregate, sequence))))
      )
    },
    close: () => nc.close()
  }
}

export const createStream = async (nats: ReadonlyArray<string>, topic: string): Promise<void> => {
  const nc = await connect({ servers: [...nats] })
  const manager = await nc.jetstreamManager()
  await manager.streams.add({ name: topic.replaceAll(".", "~"), subjects: [topic] })
  await nc.close()
}

/** Deletes the streams of a run. */
export const clean = async (nats: ReadonlyArray<string>, prefix: string): Promise<void> => {
  const nc = await connect({ servers: [...nats] })
  const manager = await nc.jetstreamManager()
  for await (const { config } of manager.streams.list()) {
    if (config.subjects.some((subject) => subject.startsWith(prefix))) await manager.streams.delete(config.name)
  }
  await nc.close()
}
