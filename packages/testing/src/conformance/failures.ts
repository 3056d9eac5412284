/**
 * Rules 4, 7 and 8: failing aggregates, defects and failure policies.
 *
 * @since 0.1.0
 */
import { EventBus, FailurePolicy, Headers, Topic } from "@effect-eventbus/core"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { expect } from "vitest"
import { eventually, throughout } from "../Eventually.js"
import { inBus, newName, newTopic, orDrop, Step, type Subject, test } from "./Bench.js"

class Declined extends Data.TaggedError("Declined")<{ readonly why: string }> {}
class Busy extends Data.TaggedError("Busy") {}

const step = (sequence: number, rest: Partial<Step> = {}) =>
  new Step({ fails: 0, dies: 0, takes: 0, ...rest, sequence })

/**
 * @since 0.1.0
 * @category rules
 */
export const failures = (subject: Subject): void => {
  /** How often a message is run again after a defect. */
  const restarts = subject.strategy?.restart === "never" ? 0 : 3

  test("rule 4: a failing aggregate stops nobody else of its partition", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("isolation", 1)
        const handled: Array<string> = []
        let broken = true
        yield* bus.subscribe(topic, (_, { aggregateId }) =>
          Effect.suspend(() => {
            if (aggregateId === "bad" && broken) return Effect.fail("broken")
            handled.push(aggregateId)
            return Effect.void
          }), { onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop }) })
        yield* bus.publishAll(
          topic,
          Array.from({ length: 500 }, (_, i) => ({
            aggregateId: i % 5 === 0 ? "bad" : `good-${i % 50}`,
            payload: step(i)
          }))
        )
        yield* eventually("all others are handled", () => handled.length === 400)
        expect(handled).not.toContain("bad")
        broken = false
        yield* eventually("the failing one goes on", () => handled.length === 500)
      })
    ))

  test("rule 7: a defect restarts the actor, with the message in hand first and the mailbox kept", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("defects", 1)
        const starts: Array<number> = []
        const subscription = yield* bus.subscribe(topic, (event, { attempt }) =>
          Effect.suspend(() => {
            starts.push(event.sequence)
            if (attempt > event.dies) return Effect.void
            // The handler throws an error, dies, or interrupts itself.
            if (event.sequence === 1) throw new Error("thrown")
            return event.sequence === 2 ? Effect.die("died") : Effect.interrupt
          }), orDrop)
        yield* bus.publishAll(
          topic,
          [0, 1, 2, 3, 4].map((i) => ({
            aggregateId: "order-1",
            payload: step(i, { dies: i >= 1 && i <= 3 ? i : 0 })
          }))
        )
        yield* eventually("all is handled", () => starts.includes(4))
        // Where nothing is restarted, the policy decides at once.
        expect(starts).toEqual(restarts === 0 ? [0, 1, 2, 3, 4] : [0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4])
        expect(yield* subscription.stats).toMatchObject(
          restarts === 0 ? { handled: 2, restarted: 0, dropped: 3 } : { handled: 5, restarted: 6, dropped: 0 }
        )
      })
    ))

  test("rules 7 and 8: what outlives its restarts or retries is dead-lettered, whole and in order", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("dead", 1)
        const dead = Topic.envelope(newName("dead-letters"), Step)
        const letters: Array<
          { sequence: number; header: (name: string) => string | undefined; value: Uint8Array | null }
        > = []
        const originals = new Map<number, Uint8Array | null>()
        const handled: Array<number> = []
        const reported: Array<string> = []
        yield* bus.subscribe(dead, (event, delivery) =>
          Effect.sync(() => {
            letters.push({
              sequence: event.sequence,
              header: (name) => Headers.get(delivery.headers, name),
              value: delivery.value
            })
          }), orDrop)
        const subscription = yield* bus.subscribe(topic, (event, delivery) =>
          Effect.suspend((): Effect.Effect<void, Declined> => {
            originals.set(event.sequence, delivery.value)
            if (event.sequence === 2) {
              return Effect.die(new Error("defect"))
            }
            if (event.sequence % 2 === 1) {
              return new Declined({ why: "no money" })
            }
            handled.push(event.sequence)
            return Effect.void
          }), {
          onExhausted: FailurePolicy.deadLetter(dead),
          onFailure: (failure) =>
            Effect.sync(() =>
              reported.push(failure._tag)
            )
        })
        const receipts = yield* bus.publishAll(
          topic,
          Array.from({ length: 6 }, (_, i) => ({
            aggregateId: "order-1",
            payload: step(i),
            headers: { tenant: "acme", "x-order": `${i}` }
          }))
        )
        yield* eventually("the dead letters arrive", () => letters.length === 4 && handled.length === 2)
        // The dead letter may be handled before the broker's confirmation of it arrives.
        const counted = () => Effect.runSync(subscription.stats).deadLettered
        yield* eventually("they are counted and reported", () => counted() === 4 && reported.length === 4)
        expect(handled).toEqual([0, 4])
        expect(letters.map((letter) => letter.sequence)).toEqual([1, 2, 3, 5])
        for (const letter of letters) {
          expect(letter.value).toEqual(originals.get(letter.sequence))
          expect(letter.header("tenant")).toBe("acme")
          expect(letter.header("X-Order")).toBe(`${letter.sequence}`)
          expect(letter.header("X-Dead-Letter-Topic")).toBe(topic.name)
          expect(letter.header("X-Dead-Letter-Offset")).toBe(String(receipts[letter.sequence]!.offset))
          expect(letter.header("X-Dead-Letter-Group")).toBe("group")
          expect(letter.header("X-Dead-Letter-Error")).toBe(letter.sequence === 2 ? "Error" : "Declined")
          expect(letter.header("X-Dead-Letter-Attempts")).toBe(letter.sequence === 2 ? `${restarts + 1}` : "9")
        }
        expect(reported).toEqual(Array(4).fill("EnvelopeFailure"))
        expect(yield* subscription.stats).toMatchObject({
          handled: 2,
          deadLettered: 4,
          restarted: restarts === 0 ? 0 : 4,
          retried: 24 + restarts
        })
      })
    ))

  test("rule 8: typed failures are retried, dead-lettered or dropped as the subscriber maps them", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("mapped")
        const dead = Topic.plain(newName("mapped-dead"))
        let letters = 0
        const attempts: Array<number> = [0, 0, 0, 0]
        yield* bus.subscribe(dead, () => Effect.sync(() => letters++))
        const subscription = yield* bus.subscribe(topic, (event) =>
          Effect.suspend((): Effect.Effect<void, Declined | Busy> => {
            const attempt = ++attempts[event.sequence]!
            if (event.sequence === 0) {
              return new Declined({ why: "no" })
            }
            if (event.sequence === 1) {
              return attempt < 4 ? new Busy() : Effect.void
            }
            return Effect.void
          }), {
          onExhausted: FailurePolicy.drop,
          onError: FailurePolicy.exhaustive({ Declined: FailurePolicy.deadLetter(dead), Busy: FailurePolicy.retry })
        })
        yield* bus.publishAll(topic, [0, 1, 2, 3].map((i) => ({ aggregateId: "order-1", payload: step(i) })))
        yield* eventually("all have ended", () =>
          attempts[3] === 1 && letters === 1)
        expect(attempts).toEqual([1, 4, 1, 1])
        expect(yield* subscription.stats).toMatchObject({ handled: 3, deadLettered: 1, dropped: 0, retried: 3 })
      })
    ))

  test("rule 8: hold goes on at the cap, is counted, and holds the aggregate's followers", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("hold")
        const handled: Array<number> = []
        let attempts = 0
        let release = false
        const subscription = yield* bus.subscribe(topic, (event) =>
          Effect.suspend((): Effect.Effect<void, "failed"> => {
            if (event.sequence === 0) {
              attempts++
              if (!release) return attempts % 2 === 0 ? Effect.fail("failed") : Effect.die("died")
            }
            handled.push(event.sequence)
            return Effect.void
          }), { onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop }) })
        yield* bus.publishAll(topic, [0, 1].map((i) => ({ aggregateId: "order-1", payload: step(i) })))
        yield* eventually("it is tried past its retries and restarts", () => attempts > 20)
        yield* throughout("nothing passes it", () => handled.length === 0, "50 millis")
        expect((yield* subscription.stats).held).toBe(1)
        release = true
        yield* eventually("both are handled", () => handled.length === 2)
        expect(handled).toEqual([0, 1])
        expect(yield* subscription.stats).toMatchObject({ held: 0, dropped: 0, deadLettered: 0, handled: 2 })
      })
    ))
}
