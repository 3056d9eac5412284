/** The room of those who publish: who has it, and who waits for it. Before brokers of which one is gone. */
import { expect, it } from "@effect/vitest"
import { Duration, Effect, Either, Fiber, TestClock } from "effect"
import type { Client } from "../src/internal/Client.js"
import { disconnected } from "../src/internal/Failure.js"
import type { ProduceRequest } from "../src/internal/produce.js"
import type { ApiName, RequestOf, ResponseOf } from "../src/internal/requests.js"
import * as KafkaConfig from "../src/KafkaConfig.js"
import * as KafkaProducer from "../src/KafkaProducer.js"
import type { Topic } from "../src/KafkaTopics.js"
import { message, spec } from "./Harness.js"

const DEAD = 1
const ALIVE = 2

const producer = (maxQueuedBytes: number) =>
  Effect.gen(function*() {
    const never = () => Effect.never
    const client: Client = {
      addresses: [],
      connect: (node) => node === DEAD ? Effect.fail(disconnected("it is gone", false)) : Effect.void,
      isConnected: () => true,
      isOpen: () => true,
      metadata: never,
      coordinator: never,
      release: () => Effect.void,
      call: <Name extends ApiName>(_: unknown, __: unknown, name: Name, request: RequestOf<Name>) => {
        const answer: Effect.Effect<object> = name === "InitProducerId"
          ? Effect.succeed({ errorCode: 0, producerId: "1", producerEpoch: 0 })
          : Effect.succeed({
            topics: (request as ProduceRequest).topicData.map(({ partitions, topic }) => ({
              topic,
              partitions: partitions.map(({ partition }) => ({ partition, errorCode: 0, baseOffset: 0 }))
            }))
          })
        return answer as Effect.Effect<ResponseOf<Name>>
      }
    }
    const topicOf = (name: string): Topic => {
      const leader = name.startsWith("dead") ? DEAD : ALIVE
      return { name, id: undefined, leaders: [leader, leader], epochs: [0, 0], at: 0 }
    }
    return yield* KafkaProducer.make(client, {
      ensure: ({ name }) => Effect.succeed(topicOf(name)),
      refresh: (name) => Effect.succeed(topicOf(name)),
      known: topicOf,
      isReady: () => true
    }, yield* KafkaConfig.resolve({ brokers: ["none:1"], maxQueuedBytes }))
  })

const publish = (service: KafkaProducer.KafkaProducer, topic: string, count: number, bytes = 1_000) =>
  service.publish(
    { ...spec(topic), kind: "plain" },
    Array.from({ length: count }, () => message(undefined, Buffer.alloc(bytes))),
    { timeout: Duration.seconds(10) }
  )

it.scoped("a broker that is gone does not keep all the room for itself: others publish on", () =>
  Effect.gen(function*() {
    const service = yield* producer(20_000)
    for (let i = 0; i < 5; i++) {
      yield* Effect.forkScoped(publish(service, "dead", 100))
      yield* Effect.yieldNow()
    }
    yield* TestClock.adjust("1 second")
    const other = yield* Effect.forkScoped(publish(service, "alive", 100))
    yield* TestClock.adjust("1 second")
    const done = yield* Fiber.poll(other)
    expect(done._tag).toBe("Some")
    expect((yield* Fiber.join(other)).every(Either.isRight)).toBe(true)
  }))

it.scoped("a large message gets its turn, also beside many small ones that came before and after it", () =>
  Effect.gen(function*() {
    const service = yield* producer(20_000)
    const small = () => Effect.forkScoped(publish(service, "alive-small", 60, 400))
    yield* Effect.forEach([1, 2, 3], small)
    const large = yield* Effect.forkScoped(publish(service, "alive-large", 3, 30_000))
    yield* Effect.forEach([1, 2, 3], small)
    yield* TestClock.adjust("1 second")
    expect((yield* Fiber.poll(large))._tag).toBe("Some")
    expect((yield* Fiber.join(large)).every(Either.isRight)).toBe(true)
  }))
