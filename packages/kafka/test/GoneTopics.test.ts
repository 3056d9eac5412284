/** What becomes of what is published to topics and partitions that are not there any more, or that a broker does not know yet. */
import type { PublishError } from "@effect-eventbus/core/EventBusError"
import { expect, it } from "@effect/vitest"
import { Duration, Effect, Either, Fiber, TestClock } from "effect"
import type { Client } from "../src/internal/Client.js"
import type { KafkaFailure } from "../src/internal/Failure.js"
import { disconnected, failure } from "../src/internal/Failure.js"
import type { ProduceRequest } from "../src/internal/produce.js"
import type { ApiName, RequestOf, ResponseOf } from "../src/internal/requests.js"
import * as KafkaConfig from "../src/KafkaConfig.js"
import * as KafkaProducer from "../src/KafkaProducer.js"
import type { Topic } from "../src/KafkaTopics.js"
import { message, spec } from "./Harness.js"

const UNKNOWN = 3
const topicOf = (partitions: number): Topic => ({
  name: "orders",
  id: undefined,
  leaders: Array.from({ length: partitions }, () => 1),
  epochs: Array.from({ length: partitions }, () => 0),
  at: 0
})

/** Before a broker that has so many partitions of the topic; what is known of it comes from `looks`, one after the other, the last one again. */
const producer = (has: () => number, looks: Array<Effect.Effect<Topic, KafkaFailure>>) =>
  Effect.gen(function*() {
    let known = topicOf(2)
    const client: Client = {
      addresses: [],
      connect: () => Effect.void,
      isConnected: () => true,
      isOpen: () => true,
      metadata: () => Effect.never,
      coordinator: () => Effect.never,
      release: () => Effect.void,
      call: <Name extends ApiName>(_: unknown, __: unknown, name: Name, request: RequestOf<Name>) => {
        const answer: Effect.Effect<object> = name === "InitProducerId"
          ? Effect.succeed({ errorCode: 0, producerId: "1", producerEpoch: 0 })
          : Effect.sync(() => ({
            topics: (request as ProduceRequest).topicData.map(({ partitions, topic }) => ({
              topic,
              partitions: partitions.map(({ partition }) => ({
                partition,
                errorCode: partition < has() ? 0 : UNKNOWN,
                baseOffset: 0
              }))
            }))
          }))
        return answer as Effect.Effect<ResponseOf<Name>>
      }
    }
    return yield* KafkaProducer.make(client, {
      ensure: () => Effect.sync(() => known),
      refresh: () =>
        Effect.suspend(() => looks.length > 1 ? looks.shift()! : looks[0]!).pipe(
          Effect.tap((found) =>
            Effect.sync(() => {
              known = found
            })
          )
        ),
      known: () => known,
      isReady: () => true
    }, yield* KafkaConfig.resolve({ brokers: ["none:1"] }))
  })

const publish = (service: KafkaProducer.KafkaProducer, timeout: Duration.DurationInput) =>
  service.publish(
    { ...spec("orders"), kind: "plain" },
    [message(undefined, "0"), message(undefined, "1")],
    { timeout: Duration.decode(timeout) }
  )

/** By now; whoever still waits would wait for ever, because time stands still. */
const namesOf = (publishing: Fiber.RuntimeFiber<ReadonlyArray<Either.Either<unknown, PublishError>>>) =>
  Effect.map(
    Effect.flatten(Effect.flatten(Fiber.poll(publishing))),
    (results) => results.map((result) => Either.isRight(result) ? "written" : nameOf(result.left))
  )

const nameOf = (error: PublishError): string =>
  error._tag === "PublishFailed"
    ? `${error.outcome}: ${error.reason}, ${(error.cause as { readonly _tag?: string } | undefined)?._tag}`
    : error._tag

it.scoped("a topic that was deleted is said to be unknown within the time of a publish", () =>
  Effect.gen(function*() {
    const service = yield* producer(() => 0, [Effect.fail(failure("Metadata", UNKNOWN))])
    const first = yield* Effect.forkScoped(publish(service, "10 seconds"))
    yield* TestClock.adjust("1 second")
    const behind = yield* Effect.forkScoped(publish(service, "10 seconds"))
    yield* TestClock.adjust("3 seconds")
    expect(yield* Fiber.poll(first)).toMatchObject({ _tag: "None" })
    yield* TestClock.adjust("4 seconds")
    // Brokers say the same of a partition that was taken from them after they had written.
    const sent = "unknown: Rejected, UnknownTopic"
    expect(yield* namesOf(first)).toEqual([sent, sent])
    expect(yield* namesOf(behind)).toEqual(["UnknownTopic", "UnknownTopic"])
  }))

it.scoped("so is a partition that the topic does not have any more, since it was made again; the others are written", () =>
  Effect.gen(function*() {
    const service = yield* producer(() => 1, [Effect.succeed(topicOf(1))])
    const publishing = yield* Effect.forkScoped(publish(service, "10 seconds"))
    yield* TestClock.adjust("8 seconds")
    expect(yield* namesOf(publishing)).toEqual(["written", "unknown: Rejected, UnknownTopic"])
  }))

it.scoped("a broker that comes back after long, and does not know the topic for a moment, is waited for", () =>
  Effect.gen(function*() {
    let partitions = 0
    const away = Array.from({ length: 20 }, () => Effect.fail(disconnected("it is away", false)))
    const unknown = Array.from({ length: 3 }, () => Effect.fail(failure("Metadata", UNKNOWN)))
    const back = Effect.sync(() => {
      partitions = 2
      return topicOf(2)
    })
    const service = yield* producer(() => partitions, [...away, ...unknown, back])
    const publishing = yield* Effect.forkScoped(publish(service, "5 minutes"))
    yield* TestClock.adjust("30 seconds")
    expect(yield* namesOf(publishing)).toEqual(["written", "written"])
  }))
