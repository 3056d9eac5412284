/**
 * Dead letters by hand, where a transport can read a topic and has a store.
 *
 * @since 0.1.0
 */
import { DeadLetters, EventBus, FailurePolicy, Headers, Topic, Transport } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { expect } from "vitest"
import { eventually } from "../Eventually.js"
import { inBus, newName, newTopic, Step, type Subject, test } from "./Bench.js"

const by = { who: "tests", why: "it is repaired" }

/**
 * @since 0.1.0
 * @category rules
 */
export const lettersByHand = (subject: Subject): void => {
  test("dead letters by hand: released in order, also at once, and remembered by whoever comes next", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const transport = yield* Transport.Transport
        if (transport.read === undefined || transport.store === undefined) return
        const topic = newTopic("letters", 2)
        const dead = Topic.envelope(newName("letters-dead"), Step, { partitions: 2 })
        let isRepaired = false
        const handled: Array<string> = []
        const headers: Array<Headers.Headers> = []
        const subscription = yield* bus.subscribe(topic, ({ sequence }, delivery) =>
          Effect.suspend(() => {
            if (!isRepaired) return Effect.fail("broken" as const)
            headers.push(delivery.headers)
            handled.push(`${delivery.aggregateId} ${sequence}`)
            return Effect.void
          }), { onExhausted: FailurePolicy.deadLetter(dead), retry: Schedule.recurs(0) })
        const ids = ["a", "b", "c"]
        const events = Array.from({ length: 15 }, (_, i) => ({
          aggregateId: ids[i % ids.length]!,
          payload: new Step({ sequence: Math.floor(i / ids.length), fails: 0, dies: 0, takes: 0 })
        }))
        yield* bus.publishAll(topic, events)
        yield* eventually("all are dead-lettered", () =>
          Effect.runSync(subscription.stats).deadLettered === events.length)
        isRepaired = true
        const letters = yield* DeadLetters.make(dead, { topics: [topic] })
        expect(yield* letters.groups()).toMatchObject([{ letters: 15, aggregates: 3 }])
        // The broker knows the events still, by their ids.
        expect(yield* letters.release({ aggregate: "b" }, by)).toMatchObject({ letters: 5, recognized: 0, refusals: 0 })
        yield* eventually("they are handled", () =>
          handled.length === 5)
        expect(
          yield* letters.discard({ where: ({ aggregate, content }) => aggregate === "c" && content.attempts === 1 }, by)
        )
          .toMatchObject({ letters: 5, done: 5 })
        const next = yield* DeadLetters.make(dead, { topics: [topic] })
        expect(yield* next.groups()).toMatchObject([{ letters: 5, aggregates: 1 }])
        expect(yield* next.release("all", by)).toMatchObject({ letters: 5, recognized: 0, done: 10 })
        yield* eventually("all are handled", () => handled.length === 10)
        for (const id of ["a", "b"]) {
          expect(handled.filter((one) => one.startsWith(id))).toEqual([0, 1, 2, 3, 4].map((n) => `${id} ${n}`))
        }
        expect(["X-Released-By", "X-Released-Count"].map((name) => Headers.get(headers[0]!, name))).toEqual([
          "tests",
          "1"
        ])
        expect(yield* next.groups()).toEqual([])
        expect(yield* next.release("all", by)).toMatchObject({ letters: 0, done: 15 })
      })
    ))
}
