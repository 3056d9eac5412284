/**
 * Rule 1: order.
 *
 * @since 0.1.0
 */
import { type Delivery, EventBus, FailurePolicy } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import { expect } from "vitest"
import { eventually } from "../Eventually.js"
import { OrderOracle } from "../OrderOracle.js"
import { inBus, isLong, newTopic, quietly, Step, type Subject, test } from "./Bench.js"

interface Planned {
  readonly aggregate: string
  readonly step: Step
}

const plan = (oracle: OrderOracle, aggregate: string, rest: Partial<Step> = {}): Planned => ({
  aggregate,
  step: new Step({ fails: 0, dies: 0, takes: 0, ...rest, sequence: oracle.publish(aggregate) })
})

/** A handler that does what the event says. The oracle watches it. */
const observed = (oracle: OrderOracle) => (step: Step, delivery: Delivery.EnvelopeDelivery) =>
  Effect.suspend(() => {
    oracle.start(delivery.aggregateId, step.sequence)
    const ends = delivery.attempt > step.fails + step.dies
    const work = step.takes > 0 ? Effect.sleep(step.takes) : Effect.void
    return Effect.zipRight(
      work,
      Effect.suspend((): Effect.Effect<void, "failed"> => {
        oracle.end(delivery.aggregateId, step.sequence, ends)
        if (delivery.attempt <= step.dies) return Effect.die("died")
        return ends ? Effect.void : Effect.fail("failed")
      })
    )
  })

const runPlan = (subject: Subject, oracle: OrderOracle, planned: ReadonlyArray<Planned>, batch: number) =>
  inBus(
    subject.layer,
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const topic = newTopic("order")
      const publishing = Effect.gen(function*() {
        for (let i = 0; i < planned.length; i += batch) {
          yield* bus.publishAll(
            topic,
            planned.slice(i, i + batch).map(({ aggregate, step }) => ({ aggregateId: aggregate, payload: step }))
          )
        }
      })
      yield* bus.subscribe(topic, observed(oracle), {
        onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop })
      })
      yield* publishing
      yield* eventually("every envelope handled", () => oracle.lost === 0, "60 seconds")
      expect(oracle.violations).toEqual([])
      expect(oracle.duplicates).toBe(0)
    })
  )

const step = FastCheck.record({
  aggregate: FastCheck.integer({ min: 0, max: 7 }),
  fails: FastCheck.oneof({ weight: 6, arbitrary: FastCheck.constant(0) }, FastCheck.integer({ min: 1, max: 4 })),
  dies: FastCheck.oneof({ weight: 9, arbitrary: FastCheck.constant(0) }, FastCheck.integer({ min: 1, max: 3 })),
  takes: FastCheck.oneof({ weight: 3, arbitrary: FastCheck.constant(0) }, FastCheck.integer({ min: 1, max: 8 }))
})

/**
 * @since 0.1.0
 * @category rules
 */
export const order = (subject: Subject): void => {
  // The default strategy is tried most.
  const isOther = subject.strategy !== undefined
  const runs = subject.inProcess !== true ? 6 : isOther ? 15 : 60
  test(
    "rule 1: an aggregate's handlers start in order and never overlap, whatever fails, dies or is slow",
    () =>
      Effect.promise(() =>
        FastCheck.assert(
          FastCheck.asyncProperty(
            FastCheck.array(step, { minLength: 1, maxLength: 120 }),
            FastCheck.integer({ min: 1, max: 40 }),
            async (steps, batch) => {
              const oracle = new OrderOracle()
              const planned = steps.map(({ aggregate, ...rest }) => plan(oracle, `order-${aggregate}`, rest))
              await Effect.runPromise(quietly(runPlan(subject, oracle, planned, batch)))
            }
          ),
          { numRuns: runs * (isLong ? 10 : 1), endOnFailure: true }
        )
      ),
    isLong ? 600_000 : 180_000
  )

  for (
    const [messages, onKafka, onNats] of [[500, 312, 735], [2_000, 1_376, 1_687], [5_000, 3_857, 2_671], [
      10_000,
      6_834,
      2_608
    ]] as const
  ) {
    if (isOther && !isLong && messages < 10_000) continue
    test(
      `rule 1: ${messages} envelopes, where the predecessor saw ${onKafka} violations on Kafka and ${onNats} on NATS`,
      () => {
        const oracle = new OrderOracle()
        const planned = Array.from({ length: messages }, (_, i) =>
          plan(oracle, `account-${(i * 7919) % 100}`, {
            fails: i % 97 === 13 ? 2 : 0,
            dies: i % 499 === 17 ? 1 : 0,
            takes: i % 31 === 5 ? 2 : 0
          }))
        return runPlan(subject, oracle, planned, 500)
      },
      120_000
    )
  }

  test("rule 1: envelopes published one by one are handled in the order of their confirmations", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("order-slow", 1)
        const oracle = new OrderOracle()
        yield* bus.subscribe(topic, observed(oracle), { onExhausted: FailurePolicy.drop })
        // The test publishes one message after the other has been confirmed, so the broker's order is the publishing order.
        for (let i = 0; i < 40; i++) {
          const { aggregate, step } = plan(oracle, `order-${i % 2}`, {
            takes: i % 2 === 0 ? 5 : 0,
            fails: i % 10 === 0 ? 1 : 0
          })
          yield* bus.publish(topic, { aggregateId: aggregate, payload: step })
        }
        yield* eventually("every envelope handled", () => oracle.lost === 0)
        expect(oracle.violations).toEqual([])
      })
    ))
}
