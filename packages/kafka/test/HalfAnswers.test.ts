/** Brokers that leave out something that they were asked for: what is missing is not taken for nothing. */
import { expect, it } from "@effect/vitest"
import { Chunk, Effect, Either, Fiber, Stream, TestClock } from "effect"
import { describe } from "vitest"
import type { Client } from "../src/internal/Client.js"
import { failure } from "../src/internal/Failure.js"
import * as GroupDriver from "../src/internal/GroupDriver.js"
import type { ListOffsetsRequest } from "../src/internal/logApis.js"
import * as Offsets from "../src/internal/Offsets.js"
import type { ApiName, RequestOf, ResponseOf } from "../src/internal/requests.js"
import * as KafkaConfig from "../src/KafkaConfig.js"
import * as KafkaReader from "../src/KafkaReader.js"
import type { KafkaTopics } from "../src/KafkaTopics.js"
import { batch, clientOf, fetched, response, topicsOf } from "./fakeLog.js"

const orders = { name: "orders", id: "1", leaders: [1, 1], epochs: [0, 0] }
const topics = topicsOf(() => orders)
const settings = KafkaConfig.resolve({ brokers: ["none:1"] })

const answering = (answer: (name: ApiName, request: unknown) => Effect.Effect<object>): Client => ({
  ...clientOf({ fetch: () => Effect.never }),
  call: <Name extends ApiName>(_: unknown, __: unknown, name: Name, request: RequestOf<Name>) =>
    answer(name, request) as Effect.Effect<ResponseOf<Name>>
})

const offsetOf = (partition: number, offset: number) => ({ partition, errorCode: 0, offset })

describe("what a broker leaves out", () => {
  it.effect("of offsets, is a failure of that partition: it is asked for again, instead of never beginning", () =>
    Effect.gen(function*() {
      const client = answering(() => Effect.succeed({ partitions: [offsetOf(0, 5)] }))
      const { failures, offsets } = yield* Offsets.list(client, topics, "role", "orders", [0, 1], "latest")
      expect([...offsets]).toEqual([[0, 5]])
      expect([...failures.keys()]).toEqual([1])
    }))

  it.effect("of a group's positions, is no new beginning", () =>
    Effect.gen(function*() {
      const known = { partition: 0, errorCode: 0, offset: 5, metadata: null }
      const client = answering(() => Effect.succeed({ errorCode: 0, partitions: [known] }))
      const driver = GroupDriver.make({ client, group: "tests", instanceId: undefined, joinRole: "join" })
      expect(Either.isLeft(yield* Effect.either(driver.committed(1, "orders", [0, 1])))).toBe(true)
      expect(yield* driver.committed(1, "orders", [0])).toMatchObject([{ partition: 0, offset: 5 }])
    }))

  it.scoped("of a topic's ends, is waited for by a replay", () =>
    Effect.gen(function*() {
      let asked = 0
      const client = answering((name, request) =>
        Effect.gen(function*() {
          if (name !== "ListOffsets") return yield* Effect.dieMessage(`nobody asks for ${name}`)
          const { partitions } = request as ListOffsetsRequest
          const isHalf = asked++ < 3
          return { partitions: partitions.slice(isHalf ? 1 : 0).map(({ partition }) => offsetOf(partition, 0)) }
        })
      )
      const reader = KafkaReader.make(client, topics, yield* settings)
      const read = yield* Effect.fork(
        reader.read({ topic: { name: "orders", kind: "plain", partitions: 2 }, from: "earliest", to: "now" })
      )
      yield* TestClock.adjust("5 seconds")
      expect((yield* Fiber.join(read)).map(({ partition, to }) => [partition, to])).toEqual([[0, 0], [1, 0]])
    }))
})

describe("a replay while a broker does not know the topic for a moment", () => {
  const replay = (after: string | undefined) =>
    Effect.gen(function*() {
      const records = yield* Effect.promise(() => batch(0, ["0", "1"]))
      let known: { readonly id: string } | undefined = { id: "1" }
      const topic = () => ({ ...orders, leaders: [1], epochs: [0], id: known?.id, at: 0 })
      let isFirst = true
      let looked = 0
      const forgetful: KafkaTopics = {
        ensure: () => Effect.sync(topic),
        // A broker that has just started.
        refresh: () =>
          Effect.suspend(() => {
            known = looked++ === 0 || after === undefined ? undefined : { id: after }
            return known === undefined ? Effect.fail(failure("Metadata", 3)) : Effect.sync(topic)
          }),
        known: () => known === undefined ? undefined : topic(),
        isReady: () => true
      }
      const client = clientOf({
        end: 2,
        fetch: () =>
          Effect.suspend(() => {
            const isRefused = isFirst
            isFirst = false
            return isRefused
              ? Effect.fail(failure("Fetch", 6))
              : Effect.succeed(response([fetched(0, { records, highWatermark: 2, lastStableOffset: 2 })]))
          })
      })
      const reader = KafkaReader.make(client, forgetful, yield* settings)
      const [partition] = yield* reader.read({
        topic: { name: "orders", kind: "plain", partitions: 1 },
        from: "earliest",
        to: "now"
      })
      const read = yield* Effect.fork(Effect.either(Stream.runCollect(partition!.messages)))
      yield* TestClock.adjust("40 seconds")
      return yield* Fiber.join(read)
    }).pipe(Effect.scoped)

  it.effect("waits for it", () =>
    Effect.gen(function*() {
      const read = yield* Effect.flatten(replay("1"))
      expect(Chunk.toReadonlyArray(read).map(({ offset }) => offset)).toEqual([0, 1])
    }))

  it.effect("says that the topic was made again only where it was", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.flatten(replay("2")))
      expect(error.message).toContain("made again")
    }))

  it.effect("says so where the topic is gone", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.flatten(replay(undefined)))
      expect(error.message).toContain("UNKNOWN_TOPIC_OR_PARTITION")
    }))
})
