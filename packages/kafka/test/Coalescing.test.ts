import { expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Either } from "effect"
import type { Client } from "../src/internal/Client.js"
import type { ProduceRequest } from "../src/internal/produce.js"
import * as KafkaConfig from "../src/KafkaConfig.js"
import * as KafkaProducer from "../src/KafkaProducer.js"
import { message, spec } from "./Harness.js"

/** One broker that leads everything, and answers a request when it is told to. */
const broker = () => {
  const requests: Array<number> = []
  const answers: Array<() => void> = []
  const never = () => Effect.never
  const client: Client = {
    addresses: [],
    connect: () => Effect.void,
    metadata: never,
    coordinator: never,
    release: () => Effect.void,
    call: <A>(_: unknown, __: unknown, api: string, payload: object) => {
      if (api === "InitProducerId") return Effect.succeed({ errorCode: 0, producerId: "1", producerEpoch: 0 } as A)
      const { topicData } = payload as ProduceRequest
      return Effect.async<A>((resume) => {
        requests.push(topicData[0]!.partitions.reduce((sum, { messages }) => sum + messages.length, 0))
        answers.push(() =>
          resume(Effect.succeed({
            topics: topicData.map(({ partitions, topic }) => ({
              topicName: topic,
              partitions: partitions.map(({ partition }) => ({ partition, errorCode: 0, baseOffset: "0" }))
            }))
          } as A))
        )
      })
    }
  }
  return { answer: () => answers.shift()!(), client, requests }
}

it.scopedLive("who has a receipt and publishes again goes with those who have come meanwhile", () =>
  Effect.gen(function*() {
    const { answer, client, requests } = broker()
    const settings = yield* KafkaConfig.resolve({ brokers: ["none:1"] })
    const topic = spec("orders", 4)
    const known = { name: topic.name, id: undefined, leaders: [1, 1, 1, 1], at: 0 }
    const producer = yield* KafkaProducer.make(client, {
      ensure: () => Effect.succeed(known),
      refresh: () => Effect.succeed(known),
      known: () => known,
      isReady: () => true
    }, settings)
    const rounds = 3
    const publisher = (id: string) =>
      Effect.forEach(Array.from({ length: rounds }), () =>
        Effect.map(
          producer.publish(topic, [message(id, "x")], { timeout: Duration.seconds(10) }),
          (results) => expect(results.every(Either.isRight)).toBe(true)
        ), { discard: true })
    const turn = Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 5)))
    const begin = (name: string) =>
      Effect.forkScoped(
        Effect.forEach(Array.from({ length: 5 }, (_, i) => `${name}-${i}`), publisher, {
          concurrency: "unbounded",
          discard: true
        })
      )
    const done = yield* Deferred.make<void>()
    const first = yield* begin("first")
    yield* turn
    const second = yield* begin("second")
    yield* turn
    yield* Effect.forkScoped(
      Effect.zipRight(Effect.all([first.await, second.await]), Deferred.succeed(done, undefined))
    )
    while (!(yield* Deferred.isDone(done))) {
      answer()
      yield* turn
    }
    expect(requests).toEqual([5, 10, 10, 5])
  }))
