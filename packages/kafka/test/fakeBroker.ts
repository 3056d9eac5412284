/** The producer before one broker that leads everything, and answers as the test says. */
import type { Transport } from "@effect-eventbus/core"
import { Effect } from "effect"
import type { Client, KafkaFailure } from "../src/internal/Client.js"
import type { ProduceRequest, ProduceResponse } from "../src/internal/produce.js"
import * as KafkaConfig from "../src/KafkaConfig.js"
import * as KafkaProducer from "../src/KafkaProducer.js"

export type Answer = (request: ProduceRequest) => Effect.Effect<ProduceResponse, KafkaFailure>

const clientOf = (produce: Answer): Client => {
  const never = () => Effect.never
  let producers = 0
  return {
    addresses: [],
    connect: () => Effect.void,
    isConnected: () => true,
    metadata: never,
    coordinator: never,
    release: () => Effect.void,
    call: <A>(_: unknown, __: unknown, api: string, payload: object) => {
      const answer: Effect.Effect<object, KafkaFailure> = api === "InitProducerId"
        ? Effect.sync(() => ({ errorCode: 0, producerId: String(producers++), producerEpoch: 0 }))
        : produce(payload as ProduceRequest)
      return answer as Effect.Effect<A, KafkaFailure>
    }
  }
}

export const producerOf = (topic: Transport.TopicSpec, produce: Answer) =>
  Effect.gen(function*() {
    const known = {
      name: topic.name,
      id: undefined,
      leaders: Array.from({ length: topic.partitions! }, () => 1),
      epochs: Array.from({ length: topic.partitions! }, () => 0),
      at: 0
    }
    return yield* KafkaProducer.make(clientOf(produce), {
      ensure: () => Effect.succeed(known),
      refresh: () => Effect.succeed(known),
      known: () => known,
      isReady: () => true
    }, yield* KafkaConfig.resolve({ brokers: ["none:1"] }))
  })
