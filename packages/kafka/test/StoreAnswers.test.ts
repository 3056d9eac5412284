/** What a store makes of the answers that brokers give in bad times only. */
import type { Transport } from "@effect-eventbus/core"
import { InvalidConfiguration, UnknownTopic } from "@effect-eventbus/core/EventBusError"
import { it } from "@effect/vitest"
import { Chunk, Duration, Effect, Either, Fiber, Stream, TestClock } from "effect"
import { describe, expect } from "vitest"
import type { Client } from "../src/internal/Client.js"
import { disconnected, KafkaFailure } from "../src/internal/Failure.js"
import type { ProduceAnswer, ProduceRequest } from "../src/internal/produce.js"
import * as KafkaConfig from "../src/KafkaConfig.js"
import * as KafkaProducer from "../src/KafkaProducer.js"
import * as KafkaReader from "../src/KafkaReader.js"
import * as KafkaStore from "../src/KafkaStore.js"
import * as KafkaTopics from "../src/KafkaTopics.js"
import { message } from "./Harness.js"

const timeout = Duration.seconds(10)
const request = { topic: { name: "orders", kind: "envelope", partitions: 2 }, group: "g", name: "n" } as const
const NAME = KafkaStore.topicOf({ topic: "orders", group: "g", name: "n" })

const codes = {
  unknownTopic: 3,
  notLeader: 6,
  denied: 29,
  clusterDenied: 31,
  notController: 41,
  config: 40,
  policy: 44,
  exists: 36
}

interface Sent {
  readonly epoch: number
  readonly sequence: number
  readonly values: ReadonlyArray<string>
}

/** A broker that has the source's topic, and does as the test says with all else. */
class Script {
  /** How many partitions the topics have. */
  readonly topics = new Map<string, number>([["orders", 2]])
  readonly sent: Array<Sent> = []
  readonly asked: Array<string> = []
  policy: string | null = "compact"
  /** One for each request of a kind, and the last one for all that come then; 0 and nothing is what a good broker does. */
  readonly answers: Partial<
    Record<"CreateTopics" | "CreatePartitions" | "DescribeConfigs" | "ListOffsets" | "Metadata", Array<number>>
  > = {}
  produce: (nth: number, request: Sent) => Partial<ProduceAnswer> | KafkaFailure = () => ({})
  private next = 0

  private code(name: keyof Script["answers"]): number {
    const left = this.answers[name] ?? [0]
    return left.length > 1 ? left.shift()! : left[0]!
  }

  private answer(name: string, given: object): Effect.Effect<object, KafkaFailure> {
    this.asked.push(name)
    switch (name) {
      case "InitProducerId":
        return Effect.succeed({ errorCode: 0, producerId: "1", producerEpoch: 0 })
      case "CreateTopics": {
        const { name, partitions } = given as { readonly name: string; readonly partitions: number }
        const errorCode = this.code("CreateTopics")
        if (errorCode === 0) this.topics.set(name, partitions)
        return Effect.succeed({ topics: [{ name, errorCode, errorMessage: errorCode === 0 ? null : "because" }] })
      }
      case "CreatePartitions": {
        const { count, name } = given as { readonly name: string; readonly count: number }
        const errorCode = this.code("CreatePartitions")
        if (errorCode === 0) this.topics.set(name, count)
        return Effect.succeed({ topics: [{ name, errorCode, errorMessage: errorCode === 0 ? null : "because" }] })
      }
      case "DescribeConfigs":
        return Effect.succeed({
          resources: [{
            errorCode: this.code("DescribeConfigs"),
            entries: [{ name: "cleanup.policy", value: this.policy }]
          }]
        })
      case "ListOffsets": {
        const { partitions } = given as { readonly partitions: ReadonlyArray<{ readonly partition: number }> }
        const errorCode = this.code("ListOffsets")
        return Effect.succeed({
          partitions: partitions.map(({ partition }) => ({
            partition,
            errorCode,
            offset: this.next
          }))
        })
      }
      case "Produce":
        return Effect.suspend(() => this.produced(given as ProduceRequest))
      default:
        return Effect.die(`not expected: ${name}`)
    }
  }

  private produced({ producerEpoch, topicData }: ProduceRequest) {
    const { partitions: [{ firstSequence, messages, partition }], topic } = topicData[0] as never as {
      readonly topic: string
      readonly partitions: readonly [ProduceRequest["topicData"][number]["partitions"][number]]
    }
    const sent = { epoch: producerEpoch, sequence: firstSequence, values: messages.map(({ value }) => String(value)) }
    this.sent.push(sent)
    const answer = this.produce(this.sent.length, sent)
    if (answer instanceof KafkaFailure) return Effect.fail(answer)
    const full = { partition, errorCode: 0, baseOffset: this.next, ...answer }
    if (full.errorCode === 0) this.next += messages.length
    return Effect.succeed({ topics: [{ topic, partitions: [full] }] })
  }

  readonly client: Client = {
    addresses: ["broker:1"],
    connect: () => Effect.void,
    isConnected: () => true,
    isOpen: () => true,
    coordinator: () => Effect.never,
    release: () => Effect.void,
    metadata: (names) =>
      Effect.sync(() => ({
        throttleMs: 0,
        brokers: [{ node: 1, host: "broker", port: 1 }],
        controller: 1,
        topics: names.map((name) => {
          const isStore = name === NAME
          const errorCode = isStore ? this.code("Metadata") : 0
          const count = this.topics.get(name)
          return {
            name,
            id: undefined,
            errorCode: errorCode !== 0 ? errorCode : count === undefined ? codes.unknownTopic : 0,
            partitions: Array.from({ length: count ?? 0 }, (_, id) => ({ id, errorCode: 0, leader: 1, replicas: [1] }))
          }
        })
      })),
    call: (_: unknown, __: unknown, name: string, given: unknown) => this.answer(name, given as object) as never
  }

  open(options: Partial<KafkaConfig.Options> = {}) {
    const { client } = this
    return Effect.gen(function*() {
      const settings = yield* KafkaConfig.resolve({ brokers: ["broker:1"], ...options })
      const topics = yield* KafkaTopics.make(client, settings)
      const producer = yield* KafkaProducer.make(client, topics, settings)
      return yield* KafkaStore.make(client, topics, producer, KafkaReader.make(client, topics, settings), settings)
        .open(request)
    })
  }
}

const script = (set: (script: Script) => void = () => {}): Script => {
  const made = new Script()
  set(made)
  return made
}

const write = (store: Transport.Store, values: ReadonlyArray<string>) =>
  Effect.map(
    store.write(0, values.map((value) => ({ key: value.slice(0, 9), value: Buffer.from(value) })), { timeout }),
    (results) =>
      results.map((result) =>
        Either.match(result, {
          onRight: (revision) => revision,
          onLeft: (error) => error._tag === "PublishFailed" ? error.outcome : error._tag
        })
      )
  )

const opened = (set: (script: Script) => void) =>
  Effect.gen(function*() {
    const made = script(set)
    return { broker: made, store: yield* made.open() }
  })

const lost = () => disconnected("cut", true)

describe("opening a store", () => {
  for (
    const [what, answers] of [
      ["may not create topics", { CreateTopics: [codes.denied] }],
      ["may not create topics in the cluster", { CreateTopics: [codes.clusterDenied] }],
      ["may not see the topic", { Metadata: [codes.denied] }],
      ["has a broker whose policy forbids it", { CreateTopics: [codes.policy] }],
      ["has a broker that knows not all settings", { CreateTopics: [codes.config] }]
    ] as const
  ) {
    it.scoped(`a user that ${what} is told what to create by hand`, () =>
      Effect.gen(function*() {
        const made = script((broker) => Object.assign(broker.answers, answers))
        const error = yield* Effect.flip(made.open())
        expect(error).toBeInstanceOf(InvalidConfiguration)
        expect(error).toMatchObject({ topic: NAME })
        expect(error.message).toContain(`--create --topic ${NAME} --partitions 2 --config cleanup.policy=compact`)
        expect(error.message).toContain("Describe, DescribeConfigs, Read and Write")
      }))
  }

  it.scoped("a user that may not add partitions is told which", () =>
    Effect.gen(function*() {
      const made = script((broker) => {
        broker.topics.set(NAME, 1)
        broker.answers.CreatePartitions = [codes.denied]
      })
      const error = yield* Effect.flip(made.open())
      expect(error).toBeInstanceOf(InvalidConfiguration)
      expect(error.message).toContain(`--alter --topic ${NAME} --partitions 2`)
    }))

  it.scopedLive("waits for a topic that was just made, of which not every broker knows, and for a controller", () =>
    Effect.gen(function*() {
      const made = script((broker) => {
        broker.answers.CreateTopics = [codes.notController, codes.exists]
        broker.answers.Metadata = [3, 3, 3, 3, 3, 0]
        broker.topics.set(NAME, 2)
      })
      yield* made.open()
      // Once without a controller, and once with one.
      expect(made.asked.filter((name) => name === "CreateTopics")).toHaveLength(2)
    }))

  it.scoped("a user that may not see the topic's settings can use it", () =>
    Effect.gen(function*() {
      const made = script((broker) => {
        broker.answers.DescribeConfigs = [codes.denied]
      })
      expect(yield* write(yield* made.open(), ["a"])).toEqual([0])
    }))

  it.scoped("a topic that is not there where none is made is unknown", () =>
    Effect.gen(function*() {
      const made = script((broker) => {
        broker.answers.Metadata = [codes.unknownTopic]
      })
      expect(yield* Effect.flip(made.open({ topics: "skip" }))).toBeInstanceOf(UnknownTopic)
      expect(made.asked).not.toContain("CreateTopics")
    }))
})

describe("writing to a store", () => {
  it.scopedLive("goes on with the next leader, in order", () =>
    Effect.gen(function*() {
      const { broker, store } = yield* opened((broker) => {
        broker.produce = (nth) => nth <= 2 ? { errorCode: codes.notLeader } : {}
      })
      expect(yield* write(store, ["a", "b"])).toEqual([0, 1])
      expect(broker.sent.map(({ sequence, values }) => [sequence, ...values])).toEqual([
        [0, "a", "b"],
        [0, "a", "b"],
        [0, "a", "b"]
      ])
    }))

  it.scopedLive("what is behind one that is refused is not written, also if it was in one batch with it", () =>
    Effect.gen(function*() {
      const { broker, store } = yield* opened((broker) => {
        broker.produce = (nth) => nth === 1 ? { errorCode: 87, recordErrors: [{ index: 1, message: "no" }] } : {}
      })
      expect(yield* write(store, ["a", "b", "c", "d"])).toEqual([0, "not-written", "not-written", "not-written"])
      expect(broker.sent.map(({ values }) => values)).toEqual([["a", "b", "c", "d"], ["a"]])
      // Another call is not of the chain.
      expect(yield* write(store, ["e"])).toEqual([1])
    }))

  it.scopedLive("nor behind one that is too large, where the broker does not say which it was", () =>
    Effect.gen(function*() {
      const { broker, store } = yield* opened((broker) => {
        broker.produce = (_, { values }) => values.includes("b") ? { errorCode: 10 } : {}
      })
      expect(yield* write(store, ["a", "b", "c"])).toEqual([0, "MessageTooLarge", "not-written"])
      expect(broker.sent.map(({ values }) => values)).toEqual([["a", "b", "c"], ["a"], ["b"]])
    }))

  it.scopedLive("nothing goes on behind a batch of which nobody knows whether it is written", () =>
    Effect.gen(function*() {
      const { broker, store } = yield* opened((broker) => {
        broker.produce = (nth) => nth === 1 ? { errorCode: -1 } : {}
      })
      const values = Array.from({ length: 5 }, (_, i) => `${i}`.padEnd(400_000, "x"))
      expect(yield* write(store, values)).toEqual(["unknown", "unknown", "not-written", "not-written", "not-written"])
      expect(broker.sent).toHaveLength(1)
      // What is stuck somewhere would be refused from now on.
      expect(yield* write(store, ["a"])).toEqual([0])
      expect(broker.sent[1]).toEqual({ epoch: 1, sequence: 0, values: ["a"] })
    }))

  it.scoped("an older value is not sent behind a newer one: what timed out after it was sent comes first", () =>
    Effect.gen(function*() {
      let isAway = true
      const { broker, store } = yield* opened((broker) => {
        broker.produce = () => isAway ? lost() : {}
      })
      const old = yield* Effect.fork(write(store, ["old"]))
      yield* TestClock.adjust("11 seconds")
      expect(yield* Fiber.join(old)).toEqual(["unknown"])
      const next = yield* Effect.fork(write(store, ["new"]))
      yield* TestClock.adjust("5 seconds")
      isAway = false
      yield* TestClock.adjust("3 seconds")
      expect(yield* Fiber.join(next)).toEqual([1])
      const values = broker.sent.map(({ values }) => values[0])
      expect(values.lastIndexOf("old")).toBeLessThan(values.indexOf("new"))
    }))

  it.scoped("what was never sent is not written later", () =>
    Effect.gen(function*() {
      let isAway = true
      const { broker, store } = yield* opened((broker) => {
        broker.produce = () => isAway ? disconnected("no link", false) : {}
      })
      const old = yield* Effect.fork(write(store, ["old"]))
      yield* TestClock.adjust("11 seconds")
      expect(yield* Fiber.join(old)).toEqual(["not-written"])
      isAway = false
      const next = yield* Effect.fork(write(store, ["new"]))
      yield* TestClock.adjust("3 seconds")
      expect(yield* Fiber.join(next)).toEqual([0])
      expect(broker.sent.at(-1)!.values).toEqual(["new"])
    }))

  it.scopedLive("one whose revision the broker has forgotten has to be written again", () =>
    Effect.gen(function*() {
      const { store } = yield* opened((broker) => {
        broker.produce = (nth) => nth === 1 ? { errorCode: 46 } : {}
      })
      expect(yield* write(store, ["a"])).toEqual(["unknown"])
      expect(yield* write(store, ["a"])).toEqual([0])
    }))

  it.scopedLive("a right that is taken away is an error at once", () =>
    Effect.gen(function*() {
      const { store } = yield* opened((broker) => {
        broker.produce = () => ({ errorCode: codes.denied })
      })
      expect(yield* write(store, ["a", "b"])).toEqual(["InvalidConfiguration", "InvalidConfiguration"])
    }))

  it.scopedLive("an ordinary publish goes on behind a record that is refused: it is no chain", () =>
    Effect.gen(function*() {
      const made = script((broker) => {
        broker.produce = (nth) => nth === 1 ? { errorCode: 87, recordErrors: [{ index: 0, message: "no" }] } : {}
      })
      const settings = yield* KafkaConfig.resolve({ brokers: ["broker:1"], partitions: 2 })
      const topics = yield* KafkaTopics.make(made.client, settings)
      const producer = yield* KafkaProducer.make(made.client, topics, settings)
      const results = yield* producer.publish(request.topic, [message("a", "1"), message("a", "2")], { timeout })
      expect(results.map(Either.isRight)).toEqual([false, true])
    }))
})

describe("reading a store", () => {
  it.scopedLive("begins with a record that is confirmed, and asks only the leader of its partition", () =>
    Effect.gen(function*() {
      const { broker, store } = yield* opened((broker) => {
        // A new leader that does not know yet how far its log is confirmed, and is asked again.
        broker.produce = (nth) => nth === 1 ? { errorCode: codes.notLeader } : {}
        broker.answers.ListOffsets = [78, 0]
      })
      expect(Chunk.toReadonlyArray(yield* Stream.runCollect(store.read(1)))).toEqual([])
      expect(broker.sent.map(({ values }) => values)).toEqual([["null"], ["null"]])
      expect(broker.asked.filter((name) => name === "ListOffsets")).toHaveLength(2)
    }))

  it.scopedLive("who may only read learns from the leader where the log ends", () =>
    Effect.gen(function*() {
      const { broker, store } = yield* opened((broker) => {
        broker.produce = () => ({ errorCode: codes.denied })
        broker.answers.ListOffsets = [78, 5, 0]
      })
      expect(Chunk.toReadonlyArray(yield* Stream.runCollect(store.read(0)))).toEqual([])
      expect(broker.asked.filter((name) => name === "ListOffsets").length).toBeGreaterThan(3)
    }))

  it.scoped("fails within its time where nothing can be confirmed", () =>
    Effect.gen(function*() {
      const made = script((broker) => {
        broker.produce = () => ({ errorCode: 19 })
      })
      const store = yield* made.open({ subscribeTimeout: "3 seconds" })
      const reading = yield* Effect.fork(Effect.flip(Stream.runDrain(store.read(0))))
      yield* TestClock.adjust("4 seconds")
      expect(yield* Fiber.join(reading)).toMatchObject({ _tag: "ReadFailed", partition: 0, topic: NAME })
    }))
})
