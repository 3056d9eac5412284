/** The producer before one broker that leads everything, and answers as the test says. */
import type { Transport } from "@effect-eventbus/core"
import { Effect } from "effect"
import type { Client } from "../src/internal/Client.js"
import type { KafkaFailure } from "../src/internal/Failure.js"
import type { ProduceRequest, ProduceResponse } from "../src/internal/produce.js"
import type { ApiName, RequestOf, ResponseOf } from "../src/internal/requests.js"
import * as KafkaConfig from "../src/KafkaConfig.js"
import * as KafkaProducer from "../src/KafkaProducer.js"
import type { KafkaTopics } from "../src/KafkaTopics.js"

export type Answer = (request: ProduceRequest) => Effect.Effect<ProduceResponse, KafkaFailure>

const clientOf = (produce: Answer): Client => {
  const never = () => Effect.never
  let producers = 0
  return {
    addresses: [],
    connect: () => Effect.void,
    isConnected: () => true,
    isOpen: () => true,
    metadata: never,
    coordinator: never,
    release: () => Effect.void,
    call: <Name extends ApiName>(_: unknown, __: unknown, name: Name, request: RequestOf<Name>) => {
      const answer: Effect.Effect<object, KafkaFailure> = name === "InitProducerId"
        ? Effect.sync(() => ({ errorCode: 0, producerId: String(producers++), producerEpoch: 0 }))
        : produce(request as ProduceRequest)
      return answer as Effect.Effect<ResponseOf<Name>, KafkaFailure>
    }
  }
}

export const producerOf = (topic: Transport.TopicSpec, produce: Answer, more: Partial<KafkaTopics> = {}) =>
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
      isReady: () => true,
      ...more
    }, yield* KafkaConfig.resolve({ brokers: ["none:1"] }))
  })
