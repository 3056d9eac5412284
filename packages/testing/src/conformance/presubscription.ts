/**
 * A group joins a topic before there is a handler. Replays run beside it.
 *
 * @since 0.1.0
 */
import { EventBus, EventBusError, Transport } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import { expect } from "vitest"
import { eventually } from "../Eventually.js"
import { inBus, newTopic, orDrop, Step, type Subject, test } from "./Bench.js"

const step = (sequence: number) => new Step({ sequence, fails: 0, dies: 0, takes: 0 })

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

const newOrders = () => {
  const topic = newTopic("presubscribed", 2)
  const seen = new Map<string, Array<number>>()
  let handled = 0
  return {
    topic,
    seen,
    handled: () => handled,
    publish: (from: number, to: number) =>
      Effect.flatMap(EventBus.EventBus, (bus) =>
        bus.publishAll(
          topic,
          range(from, to).flatMap((n) => range(0, 5).map((i) => ({ aggregateId: `order-${i}`, payload: step(n) })))
        )),
    handler: ({ sequence }: Step, { aggregateId }: { readonly aggregateId: string }) =>
      Effect.sync(() => {
        handled++
        seen.set(aggregateId, [...seen.get(aggregateId) ?? [], sequence])
      })
  }
}

/**
 * @since 0.1.0
 * @category rules
 */
export const presubscription = (subject: Subject): void => {
  test("a topic that is joined before its handler holds its messages, and handlers come and go within one assignment", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const { handled, handler, publish, seen, topic } = newOrders()
        const { stats } = yield* bus.presubscribe(topic)
        const epochs = new Map<number, Set<number>>()
        for (let round = 0; round < 3; round++) {
          yield* publish(round * 20, round * 20 + 20)
          expect(handled()).toBe(round * 100)
          expect(yield* stats).toMatchObject({ isAttached: false, skipped: 0 })
          yield* Effect.scoped(Effect.gen(function*() {
            yield* bus.subscribe(topic, (event, delivery) => {
              epochs.set(delivery.partition, (epochs.get(delivery.partition) ?? new Set()).add(delivery.epoch))
              return handler(event, delivery)
            }, orDrop)
            yield* eventually("what was held is handled", () => handled() === round * 100 + 100)
          }))
        }
        expect(seen.size).toBe(5)
        for (const one of seen.values()) expect(one).toEqual(range(0, 60))
        for (const one of epochs.values()) expect(one.size).toBe(1)
      })
    ))

  test("what is held when the process ends is there for the next one", () =>
    Effect.gen(function*() {
      const { handled, handler, publish, seen, topic } = newOrders()
      yield* inBus(
        subject.layer,
        Effect.gen(function*() {
          const bus = yield* EventBus.EventBus
          yield* bus.presubscribe(topic)
          yield* publish(0, 5)
        })
      )
      yield* inBus(
        subject.layer,
        Effect.gen(function*() {
          const bus = yield* EventBus.EventBus
          yield* bus.subscribe(topic, handler, orDrop)
          yield* eventually("all are handled", () => handled() === 25)
        })
      )
      for (const one of seen.values()) expect(one).toEqual(range(0, 5))
    }))

  test("a topic that skips without a handler settles and counts, and its handler gets what comes after", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const { handled, handler, publish, seen, topic } = newOrders()
        const former = yield* bus.presubscribe(topic, { withoutHandler: "skip" })
        yield* publish(0, 10)
        let skipped = 0
        for (let i = 0; i < 1_000 && skipped < 50; i++) {
          yield* Effect.sleep("10 millis")
          skipped = (yield* former.stats).skipped
        }
        expect(skipped).toBe(50)
        const subscription = yield* bus.subscribe(topic, handler, orDrop)
        yield* publish(10, 20)
        yield* eventually("the later ones are handled", () => handled() === 50)
        yield* subscription.close
        yield* former.close
        // The skipped messages are settled, so the group does not get them again.
        yield* publish(20, 21)
        yield* bus.subscribe(topic, handler, orDrop)
        yield* eventually("the last ones are handled", () => handled() >= 55)
        for (const one of seen.values()) expect(one).toEqual(range(10, 21))
      })
    ))

  test("a replay brings all once more, in order per aggregate, or says that the transport can't", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const { read } = yield* Transport.Transport
        const { handled, handler, publish, seen, topic } = newOrders()
        yield* publish(0, 20)
        if (read === undefined) {
          expect(yield* Effect.flip(bus.replay(topic, handler))).toBeInstanceOf(EventBusError.ReplayUnsupported)
          return
        }
        let live = 0
        yield* bus.subscribe(topic, () => Effect.sync(() => live++), orDrop)
        const report = { handled: 100, read: 100, skipped: 0, undecodable: 0, unknownType: 0, tombstones: 0 }
        expect(yield* bus.replay(topic, handler)).toEqual(report)
        for (const one of seen.values()) expect(one).toEqual(range(0, 20))
        expect(yield* bus.replay(topic, handler, { aggregateId: "order-3" })).toMatchObject({ handled: 20 })
        expect(seen.get("order-3")).toEqual([...range(0, 20), ...range(0, 20)])
        expect(handled()).toBe(120)
        yield* publish(20, 21)
        yield* eventually("the subscription is not disturbed", () => live >= 105)
        expect(live).toBe(105)
      })
    ))
}
