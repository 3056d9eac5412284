/**
 * Rule 4: at a shared bound nobody starves.
 *
 * @since 0.1.0
 */
import { EventBus, FailurePolicy, Topic } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import { expect } from "vitest"
import { eventually } from "../Eventually.js"
import { inBus, newName, newTopic, orDrop, Step, type Subject, test } from "./Bench.js"

/** The quick messages must be done by then. It is far less than the slow ones take, and leaves room for a busy machine. */
const soon = "4 seconds"

const steps = (prefix: string, aggregates: number, count: number, takes: number, filler?: string) =>
  Array.from({ length: count }, (_, i) => ({
    aggregateId: `${prefix}-${i % aggregates}`,
    payload: new Step({ sequence: i, fails: 0, dies: 0, takes, filler })
  }))

const work = (step: Step) => step.takes > 0 ? Effect.sleep(step.takes) : Effect.void

/** Two keys, or aggregates, whose messages go to different partitions of a topic. The transport's own partitioner finds them. */
const apart = (partitionOf: (key: string) => Effect.Effect<number, unknown>) =>
  Effect.gen(function*() {
    const slow = "slow-0"
    const first = yield* partitionOf(slow)
    for (let i = 0; i < 64; i++) {
      const quick = `quick-${i}`
      if ((yield* partitionOf(quick)) !== first) return { slow, quick }
    }
    // If the transport has no partitions, the two share the only one.
    return { slow, quick: "quick-0" }
  })

/**
 * @since 0.1.0
 * @category rules
 */
export const fairness = (subject: Subject): void => {
  test("rule 4: a slow key of plain messages leaves room for another partition's", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const probe = Topic.plain(newName("fair-probe"), { partitions: 2 })
        const topic = Topic.plain(newName("fair-plain"), { partitions: 2 })
        const { quick, slow } = yield* apart((key) =>
          Effect.map(bus.publish(probe, { key, body: "" }), ({ partition }) => partition)
        )
        yield* bus.publishAll(topic, Array.from({ length: 151 }, () => ({ key: slow, body: "slow" })))
        let slowOnes = 0
        let quickOnes = 0
        yield* bus.subscribe(topic, (_, { aggregateId }) =>
          aggregateId === slow
            ? Effect.zipRight(Effect.sync(() => slowOnes++), Effect.sleep(500))
            : Effect.sync(() => quickOnes++))
        yield* eventually("the slow one is under way", () => slowOnes > 0)
        // By now the slow ones hold all that they can get.
        yield* bus.publishAll(topic, Array.from({ length: 150 }, () => ({ key: quick, body: "quick" })))
        yield* eventually("the quick ones are handled", () => quickOnes === 150, soon)
      }),
      { closeDeadline: "0 millis" }
    ))

  test("rule 4: a subscription of many slow aggregates leaves actors for another one", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const a = newTopic("fair-actors-a")
        const b = newTopic("fair-actors-b")
        let slowOnes = 0
        let quickOnes = 0
        yield* bus.publishAll(a, steps("a", 300, 300, 50))
        yield* bus.publishAll(b, steps("b", 50, 50, 0))
        yield* bus.subscribe(a, (step) => Effect.map(work(step), () => slowOnes++), orDrop)
        yield* eventually("the slow ones are under way", () => slowOnes > 8)
        yield* bus.subscribe(b, (step) => Effect.map(work(step), () => quickOnes++), orDrop)
        yield* eventually("the quick ones are handled", () => quickOnes === 50, soon)
        expect(slowOnes).toBeLessThan(300)
      }),
      { maxActors: 4, closeDeadline: "0 millis" }
    ))

  test("rule 4: a large message gets its turn while small ones go on coming", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("fair-bytes", 2)
        const probe = newTopic("fair-bytes-probe", 2)
        const { quick, slow } = yield* apart((aggregateId) =>
          Effect.map(
            bus.publish(probe, { aggregateId, payload: new Step({ sequence: 0, fails: 0, dies: 0, takes: 0 }) }),
            ({ partition }) => partition
          )
        )
        // There are far more small messages than fit, and their handlers take a while. One large message needs three quarters of the bound.
        const small = Array.from({ length: 400 }, (_, sequence) => ({
          aggregateId: slow,
          payload: new Step({ sequence, fails: 0, dies: 0, takes: 20, filler: "x".repeat(2_000) })
        }))
        yield* bus.publishAll(topic, small)
        let smallOnes = 0
        let isLargeHandled = false
        yield* bus.subscribe(topic, (step, { aggregateId }) =>
          aggregateId === quick
            ? Effect.sync(() => {
              isLargeHandled = true
            })
            : Effect.map(work(step), () => smallOnes++), orDrop)
        yield* eventually("the small ones are under way", () => smallOnes > 0)
        yield* bus.publish(topic, {
          aggregateId: quick,
          payload: new Step({ sequence: 0, fails: 0, dies: 0, takes: 0, filler: "x".repeat(70_000) })
        })
        yield* eventually("the large one is handled", () => isLargeHandled, soon)
        expect(smallOnes).toBeLessThan(400)
      }),
      { maxBytes: 100_000, closeDeadline: "0 millis" }
    ))

  test("rule 4: handlers of a slow partition leave permits for another partition's", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const probe = newTopic("fair-permits-probe", 2)
        const topic = newTopic("fair-permits", 2)
        // There are many aggregates. Those of one partition are slow.
        const partitions = new Map<string, number>()
        for (const { aggregateId, payload } of steps("order", 60, 60, 0)) {
          partitions.set(aggregateId, (yield* bus.publish(probe, { aggregateId, payload })).partition)
        }
        const first = partitions.get("order-0")
        const all = Array.from(partitions, ([aggregateId, partition]) => ({
          aggregateId,
          payload: new Step({ sequence: 0, fails: 0, dies: 0, takes: partition === first ? 100 : 0 })
        }))
        const slow = all.filter(({ payload }) => payload.takes > 0)
        const quick = all.filter(({ payload }) => payload.takes === 0)
        // The slow partition has ten messages for each aggregate, and the quick one comes behind it.
        yield* bus.publishAll(topic, slow.flatMap((one) => Array.from({ length: 10 }, () => one)))
        yield* bus.publishAll(topic, quick)
        let slowOnes = 0
        let quickOnes = 0
        yield* bus.subscribe(topic, (step) => Effect.map(work(step), () => step.takes > 0 ? slowOnes++ : quickOnes++), {
          onExhausted: FailurePolicy.drop,
          concurrency: 2
        })
        yield* eventually("the quick ones are handled", () => quickOnes === quick.length, soon)
        expect(slowOnes).toBeLessThan(slow.length * 10)
      }),
      { closeDeadline: "0 millis" }
    ))
}
