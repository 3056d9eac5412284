/**
 * Rule 6: memory is bounded. The bus pauses the source at a bound, and resumes it when there is room.
 *
 * @since 0.1.0
 */
import { EventBus, type Subscription, Transport } from "@effect-eventbus/core"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { expect } from "vitest"
import { eventually, throughout } from "../Eventually.js"
import { inBus, newTopic, orDrop, Step, type Subject, test } from "./Bench.js"

const steps = (count: number, aggregates: number, filler?: string) =>
  Array.from({ length: count }, (_, i) => ({
    aggregateId: `order-${i % aggregates}`,
    payload: new Step({ sequence: Math.floor(i / aggregates), fails: 0, dies: 0, takes: 0, filler })
  }))

/** Handlers that hang until the test releases them, and the order in which they end then. */
const gate = Effect.gen(function*() {
  const open = yield* Deferred.make<void>()
  const seen = new Map<string, Array<number>>()
  let handled = 0
  return {
    open: Deferred.succeed(open, undefined),
    handled: () => handled,
    inOrder: () => Array.from(seen.values()).every((list) => list.every((sequence, i) => sequence === i)),
    handler: (step: Step, delivery: { readonly aggregateId: string }) =>
      Effect.map(Deferred.await(open), () => {
        handled++
        const list = seen.get(delivery.aggregateId)
        if (list === undefined) seen.set(delivery.aggregateId, [step.sequence])
        else list.push(step.sequence)
      })
  }
})

const received = (subscription: Subscription.Subscription<unknown>) => Effect.runSync(subscription.stats).received

/**
 * @since 0.1.0
 * @category rules
 */
export const bounds = (subject: Subject): void => {
  test("rule 6: hanging handlers pause the source at 1,000 messages of a partition; ten times as many wait at the broker", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("hang", 1)
        const { handled, handler, inOrder, open } = yield* gate
        const all = steps(10_000, 100, "x".repeat(1_000))
        for (let i = 0; i < all.length; i += 500) yield* bus.publishAll(topic, all.slice(i, i + 500))
        const subscription = yield* bus.subscribe(topic, handler, orDrop)
        yield* eventually("the bound is reached", () => received(subscription) === 1_000)
        const before = process.memoryUsage().rss
        const cpu = process.cpuUsage()
        yield* throughout("nothing more is taken", () => received(subscription) === 1_000, "1500 millis")
        const spent = process.cpuUsage(cpu)
        expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024)
        // A paused source sleeps: it only sends heartbeats and polls.
        expect((spent.user + spent.system) / 1_000).toBeLessThan(1_000)
        yield* open
        yield* eventually("all is handled", () => handled() === all.length, "60 seconds")
        expect(inOrder()).toBe(true)
      })
    ))

  test("rule 6: the bytes of a subscription are bounded", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("bytes", 2)
        const { handled, handler, inOrder, open } = yield* gate
        for (const one of steps(60, 10, "x".repeat(100_000))) yield* bus.publish(topic, one)
        const subscription = yield* bus.subscribe(topic, handler, orDrop)
        yield* eventually("the bound is reached", () => received(subscription) === 9)
        yield* throughout("nothing more is taken", () => received(subscription) === 9, "500 millis")
        yield* open
        yield* eventually("all is handled", () => handled() === 60)
        expect(inOrder()).toBe(true)
      }),
      { maxBytes: 1_000_000 }
    ))

  test("rule 6: live actors are capped, idle ones make room, and everything is handled in order", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("actors")
        const { handled, handler, inOrder, open } = yield* gate
        yield* bus.publishAll(topic, steps(1_200, 300))
        const subscription = yield* bus.subscribe(topic, handler, orDrop)
        const actors = () => Effect.runSync(subscription.stats).actors
        yield* eventually("the cap is reached", () => actors() === 50)
        yield* throughout("it is kept", () => actors() === 50, "200 millis")
        yield* open
        yield* eventually("all is handled", () => actors() <= 50 && handled() === 1_200)
        expect(inOrder()).toBe(true)
      }),
      { maxActors: 50 }
    ))

  test("rule 6: a full mailbox drops nothing", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("mailbox", 1)
        const { handled, handler, inOrder, open } = yield* gate
        yield* bus.publishAll(topic, steps(500, 2))
        const subscription = yield* bus.subscribe(topic, handler, orDrop)
        yield* eventually("the mailboxes are full", () => received(subscription) === 20)
        yield* throughout("nothing more is taken", () => received(subscription) === 20, "200 millis")
        yield* open
        yield* eventually("all is handled", () => handled() === 500)
        expect(inOrder()).toBe(true)
      }),
      { mailboxCapacity: 10 }
    ))

  test("rule 6: finished messages run ahead of an unfinished one only so far, where settlement is a position", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("ahead", 1)
        const { handled, handler, inOrder, open } = yield* gate
        let fast = 0
        yield* bus.publishAll(topic, [
          { aggregateId: "slow", payload: new Step({ sequence: 0, fails: 0, dies: 0, takes: 0 }) },
          ...steps(1_000, 100)
        ])
        yield* bus.subscribe(
          topic,
          (step, delivery) => delivery.aggregateId === "slow" ? handler(step, delivery) : Effect.sync(() => fast++),
          orDrop
        )
        const { capabilities } = yield* Transport.Transport
        const reach = capabilities.settlement === "position" ? 199 : 1_000
        yield* eventually("the others go as far as they may", () => fast === reach)
        yield* throughout("and no further", () => fast === reach, "200 millis")
        yield* open
        yield* eventually("all is handled", () => handled() === 1 && fast === 1_000)
        expect(inOrder()).toBe(true)
      }),
      { maxAboveWatermark: 200 }
    ))
}
