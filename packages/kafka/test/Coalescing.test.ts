import { expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Either } from "effect"
import type { Answer } from "./fakeBroker.js"
import { producerOf } from "./fakeBroker.js"
import { message, spec } from "./Harness.js"

/** It answers a request when it is told to. */
const broker = () => {
  const requests: Array<number> = []
  const answers: Array<() => void> = []
  const produce: Answer = ({ topicData }) =>
    Effect.async((resume) => {
      requests.push(topicData[0]!.partitions.reduce((sum, { messages }) => sum + messages.length, 0))
      answers.push(() =>
        resume(Effect.succeed({
          topics: topicData.map(({ partitions, topic }) => ({
            topic,
            partitions: partitions.map(({ partition }) => ({ partition, errorCode: 0, baseOffset: 0 }))
          }))
        }))
      )
    })
  return { answer: () => answers.shift()!(), produce, requests }
}

it.scopedLive("who has a receipt and publishes again goes with those who have come meanwhile", () =>
  Effect.gen(function*() {
    const { answer, produce, requests } = broker()
    const topic = spec("orders", 4)
    const producer = yield* producerOf(topic, produce)
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
