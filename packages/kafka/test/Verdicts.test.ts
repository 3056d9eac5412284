/** What becomes of a batch for each error code of Produce, before a broker that gives it. */
import { it } from "@effect/vitest"
import { Duration, Effect, Either, Fiber, TestClock } from "effect"
import { describe, expect } from "vitest"
import * as ErrorCode from "../src/internal/ErrorCode.js"
import { KafkaFailure } from "../src/internal/Failure.js"
import type { ProduceAnswer, ProducePartition, ProduceRequest } from "../src/internal/produce.js"
import { producerOf } from "./fakeBroker.js"
import { message, spec } from "./Harness.js"

type Expected = {
  /** The first message is written in the end, or fails so. */
  readonly outcome: "written" | "not-written" | "unknown" | "InvalidConfiguration" | "MessageTooLarge" | "UnknownTopic"
  /** The batch is sent again. */
  readonly retried: boolean
  /** The numbers of the producer go on: the message that comes next has the same id and epoch. */
  readonly goesOn: boolean
}

const again: Expected = { outcome: "written", retried: true, goesOn: true }
const uncounted: Expected = { outcome: "written", retried: true, goesOn: false }
const refused: Expected = { outcome: "not-written", retried: false, goesOn: true }
const misconfigured: Expected = { ...refused, outcome: "InvalidConfiguration" }
const unknown: Expected = { outcome: "unknown", retried: false, goesOn: false }

const table: ReadonlyArray<readonly [code: number, Expected]> = [
  [-1, unknown],
  [2, again], // CORRUPT_MESSAGE
  [3, again], // UNKNOWN_TOPIC_OR_PARTITION
  [5, again], // LEADER_NOT_AVAILABLE
  [6, again], // NOT_LEADER_OR_FOLLOWER
  [7, again], // REQUEST_TIMED_OUT
  [8, again], // BROKER_NOT_AVAILABLE
  [9, again], // REPLICA_NOT_AVAILABLE
  [10, { outcome: "MessageTooLarge", retried: false, goesOn: true }],
  [13, again], // NETWORK_EXCEPTION
  [17, misconfigured], // INVALID_TOPIC_EXCEPTION
  [18, { outcome: "MessageTooLarge", retried: false, goesOn: true }], // RECORD_LIST_TOO_LARGE
  [19, again], // NOT_ENOUGH_REPLICAS
  [20, again], // NOT_ENOUGH_REPLICAS_AFTER_APPEND
  [21, refused], // INVALID_REQUIRED_ACKS
  [29, misconfigured], // TOPIC_AUTHORIZATION_FAILED
  [31, misconfigured], // CLUSTER_AUTHORIZATION_FAILED
  [32, refused], // INVALID_TIMESTAMP
  [35, refused], // UNSUPPORTED_VERSION
  [42, refused], // INVALID_REQUEST
  [43, refused], // UNSUPPORTED_FOR_MESSAGE_FORMAT
  [44, misconfigured], // POLICY_VIOLATION
  [45, uncounted], // OUT_OF_ORDER_SEQUENCE_NUMBER
  [46, { outcome: "written", retried: false, goesOn: true }], // DUPLICATE_SEQUENCE_NUMBER
  [47, uncounted], // INVALID_PRODUCER_EPOCH
  [48, unknown], // INVALID_TXN_STATE
  [49, unknown], // INVALID_PRODUCER_ID_MAPPING
  [51, unknown], // CONCURRENT_TRANSACTIONS
  [53, unknown], // TRANSACTIONAL_ID_AUTHORIZATION_FAILED
  [56, again], // KAFKA_STORAGE_ERROR
  [59, uncounted], // UNKNOWN_PRODUCER_ID
  [74, again], // FENCED_LEADER_EPOCH
  [75, again], // UNKNOWN_LEADER_EPOCH
  [76, refused], // UNSUPPORTED_COMPRESSION_TYPE
  [87, refused], // INVALID_RECORD
  [89, again], // THROTTLING_QUOTA_EXCEEDED
  [90, uncounted], // PRODUCER_FENCED
  [100, again], // UNKNOWN_TOPIC_ID
  [103, again], // INCONSISTENT_TOPIC_ID
  [12345, unknown] // of a later Kafka
]

interface Sent extends ProducePartition {
  readonly producerId: string
  readonly producerEpoch: number
}

const sentOf = ({ producerEpoch, producerId, topicData }: ProduceRequest): Sent => ({
  producerId,
  producerEpoch,
  ...topicData[0]!.partitions[0]!
})
const answered = (request: ProduceRequest, answer: Omit<ProduceAnswer, "partition">) => ({
  topics: request.topicData.map(({ partitions, topic }) => ({
    topic,
    partitions: partitions.map(({ partition }) => ({ partition, ...answer }))
  }))
})

const timeout = Duration.seconds(10)
const publishing = (topic: ReturnType<typeof spec>, answer: (sent: Sent, nth: number) => number) =>
  Effect.gen(function*() {
    const sent: Array<Sent> = []
    const producer = yield* producerOf(topic, (request) =>
      Effect.sync(() => {
        sent.push(sentOf(request))
        const errorCode = answer(sentOf(request), sent.length)
        return answered(request, { errorCode, baseOffset: 7 })
      }))
    return {
      sent,
      publish: (value: string) =>
        Effect.map(producer.publish(topic, [message("a", value)], { timeout }), ([result]) => result!)
    }
  })

describe("what an answer to a batch means", () => {
  for (const [code, { goesOn, outcome, retried }] of table) {
    it.scopedLive(
      `${code} ${ErrorCode.nameOf(code)}: ${outcome}${retried ? ", retried" : ""}`,
      () =>
        Effect.gen(function*() {
          const { publish, sent } = yield* publishing(spec(), (_, nth) => nth === 2 ? code : 0)
          expect(yield* publish("0")).toMatchObject({ _tag: "Right" })
          const result = yield* publish("1")
          expect(
            Either.isRight(result)
              ? "written"
              : result.left._tag === "PublishFailed"
              ? result.left.outcome
              : result.left._tag
          ).toBe(outcome)
          expect(yield* publish("2")).toMatchObject({ _tag: "Right" })
          expect(sent).toHaveLength(retried ? 4 : 3)
          const [first, second] = sent
          const last = sent.at(-1)!
          expect([first!.firstSequence, second!.firstSequence, second!.producerId]).toEqual([0, 1, first!.producerId])
          const isWritten = outcome === "written"
          if (goesOn) {
            // A number is taken by what was written, and by nothing else.
            expect([last.producerId, last.firstSequence]).toEqual([first!.producerId, isWritten ? 2 : 1])
            if (retried) expect(sent[2]).toEqual(second)
          } else {
            // What is stuck somewhere is refused by the broker once it has seen the next epoch.
            if (outcome === "unknown") {
              expect([last.producerId, last.producerEpoch]).toEqual([first!.producerId, first!.producerEpoch + 1])
            } else expect(last.producerId).not.toBe(first!.producerId)
            expect(last.firstSequence).toBe(isWritten ? 1 : 0)
          }
        }),
      10_000
    )
  }

  it.scoped("a batch that nobody answers is given up after its deadline, and what comes behind it is sent", () =>
    Effect.gen(function*() {
      const topic = spec()
      let isStuck = true
      const { publish, sent } = yield* publishing(topic, () => isStuck ? 20 : 0)
      const first = yield* Effect.fork(publish("0"))
      yield* TestClock.adjust("11 seconds")
      expect(yield* Fiber.join(first)).toMatchObject({ left: { _tag: "PublishFailed", outcome: "unknown" } })
      yield* TestClock.adjust("2 minutes")
      isStuck = false
      const second = yield* Effect.fork(publish("1"))
      yield* TestClock.adjust("5 seconds")
      expect(yield* Fiber.join(second)).toMatchObject({ _tag: "Right" })
      expect(sent.at(-1)).toMatchObject({ producerId: sent[0]!.producerId, producerEpoch: 1 })
      expect(sent.at(-1)).toMatchObject({ firstSequence: 0, messages: [{ value: Buffer.from("1") }] })
    }))

  for (
    const [code, outcome, why] of [
      [2, "not-written", "this attempt wrote nothing"],
      [19, "not-written", "this attempt wrote nothing"],
      [6, "unknown", "the leader may have written it before it lost its office"],
      [20, "unknown", "it is written"]
    ] as const
  ) {
    it.scoped(`${code} ${ErrorCode.nameOf(code)} until the time is over: ${outcome}, because ${why}`, () =>
      Effect.gen(function*() {
        let isStuck = true
        const { publish, sent } = yield* publishing(spec(), () => isStuck ? code : 0)
        const first = yield* Effect.fork(publish("0"))
        yield* TestClock.adjust("11 seconds")
        expect(yield* Fiber.join(first)).toMatchObject({ left: { _tag: "PublishFailed", outcome } })
        const isWritten = outcome === "unknown"
        yield* TestClock.adjust("3 seconds")
        isStuck = false
        const second = yield* Effect.fork(publish("1"))
        yield* TestClock.adjust("3 seconds")
        expect(yield* Fiber.join(second)).toMatchObject({ _tag: "Right" })
        // What nobody waits for is not sent once it is known that it is not there.
        expect(sent.at(-1)).toMatchObject({
          producerId: sent[0]!.producerId,
          firstSequence: isWritten ? 1 : 0,
          messages: [{ value: Buffer.from("1") }]
        })
      }))
  }

  it.scoped("what was put off after an attempt without an answer is not taken for unsent", () =>
    Effect.gen(function*() {
      const topic = spec()
      let calls = 0
      const producer = yield* producerOf(topic, (request) =>
        ++calls === 1
          ? Effect.fail(new KafkaFailure({ type: "Timeout", sent: true, cause: "no answer" }))
          : Effect.succeed(answered(request, { errorCode: 19, baseOffset: -1 })))
      const publishing = yield* Effect.fork(producer.publish(topic, [message("a", "1")], { timeout }))
      yield* TestClock.adjust("11 seconds")
      expect(yield* Fiber.join(publishing)).toMatchObject([{ left: { outcome: "unknown" } }])
      expect(calls).toBeGreaterThan(2)
    }))

  it.scopedLive("a mistake of ours while it is sent leaves nothing behind: it is sent again", () =>
    Effect.gen(function*() {
      const topic = spec()
      let calls = 0
      const producer = yield* producerOf(topic, (request) => {
        if (calls++ === 0) throw new Error("a mistake")
        return Effect.succeed(answered(request, { errorCode: 0, baseOffset: 7 }))
      })
      const results = yield* producer.publish(topic, [message("a", "1")], { timeout })
      expect(results).toMatchObject([{ _tag: "Right" }])
      const failing = yield* producerOf(topic, (request) => {
        if (calls++ % 2 === 0) return Effect.die(new KafkaFailure({ type: "Client", sent: true, cause: "a mistake" }))
        return Effect.succeed(answered(request, { errorCode: 0, baseOffset: 7 }))
      })
      expect(yield* failing.publish(topic, [message("a", "1")], { timeout })).toMatchObject([{ _tag: "Right" }])
    }))

  it.scoped("a broker that holds us to a quota is asked for nothing until its time is over", () =>
    Effect.gen(function*() {
      const topic = spec()
      let calls = 0
      const producer = yield* producerOf(topic, (request) => {
        calls++
        return Effect.succeed({ ...answered(request, { errorCode: 0, baseOffset: 7 }), throttleMs: 3_000 })
      })
      const publish = Effect.fork(producer.publish(topic, [message("a", "1")], { timeout }))
      yield* Fiber.join(yield* publish)
      const second = yield* publish
      yield* TestClock.adjust("2 seconds")
      expect(calls).toBe(1)
      yield* TestClock.adjust("2 seconds")
      expect(yield* Fiber.join(second)).toMatchObject([{ _tag: "Right" }])
      expect(calls).toBe(2)
    }))
})
