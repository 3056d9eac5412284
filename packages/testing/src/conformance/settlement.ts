/**
 * Rules 2, 3, 5 and 10: when messages are settled, what a second start sees, and what closing leaves.
 *
 * @since 0.1.0
 */
import { EventBus, FailurePolicy, Topic } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import { expect } from "vitest"
import { eventually, throughout } from "../Eventually.js"
import { inBus, newName, newTopic, orDrop, Step, type Subject, test } from "./Bench.js"

const decoder = new TextDecoder()

const steps = (aggregates: number, each: number) =>
  Array.from({ length: aggregates * each }, (_, i) => ({
    aggregateId: `order-${i % aggregates}`,
    payload: new Step({ sequence: Math.floor(i / aggregates), fails: 0, dies: 0, takes: 0 })
  }))

const name = (aggregateId: string, sequence: number) => `${aggregateId}/${sequence}`

/**
 * @since 0.1.0
 * @category rules
 */
export const settlement = (subject: Subject): void => {
  test("rules 2 and 10: a second start handles exactly what was not finished, in order", () => {
    const topic = newTopic("second-start", 2)
    const finished: Array<string> = []
    const again: Array<string> = []
    const all = steps(20, 15)
    const first = inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        yield* bus.publishAll(topic, all)
        const subscription = yield* bus.subscribe(topic, (step, { aggregateId }) =>
          // Some aggregates hang at some point. The others go on above the watermark.
          Number(aggregateId.slice(6)) % 3 === 0 && step.sequence >= 4
            ? Effect.never
            : Effect.sync(() => finished.push(name(aggregateId, step.sequence))), orDrop)
        // Seven of twenty aggregates stop at their fifth message.
        yield* eventually("all that can be handled is", () => finished.length === 13 * 15 + 7 * 4)
        yield* eventually("the rest is in hand", () => Effect.runSync(subscription.stats).received === all.length)
        const report = yield* subscription.close
        expect(report.unfinished).toBe(7 * 11)
        expect(report.lost).toBe(0)
      }),
      { closeDeadline: "300 millis" }
    )
    const second = inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const flags = new Set<boolean>()
        yield* bus.subscribe(topic, (step, { aggregateId, maybeDuplicate }) =>
          Effect.sync(() => {
            flags.add(maybeDuplicate)
            again.push(name(aggregateId, step.sequence))
          }), orDrop)
        yield* eventually("the rest is handled", () => again.length >= 7 * 11)
        yield* throughout("nothing is handled twice", () => again.length === 7 * 11, "300 millis")
      })
    )
    return Effect.gen(function*() {
      yield* first
      yield* second
      expect(new Set([...finished, ...again]).size).toBe(all.length)
      for (let i = 0; i < 20; i++) {
        const seen = [...finished, ...again].filter((one) => one.startsWith(`order-${i}/`))
        expect(seen).toEqual(Array.from({ length: 15 }, (_, sequence) => name(`order-${i}`, sequence)))
      }
    })
  })

  test("rules 5 and 10: after a clean close nothing comes again", () => {
    const topic = newTopic("clean")
    const seen: Array<string> = []
    const round = (count: number) =>
      inBus(
        subject.layer,
        Effect.gen(function*() {
          const bus = yield* EventBus.EventBus
          yield* bus.subscribe(topic, (step, { aggregateId, maybeDuplicate }) =>
            Effect.sync(() => {
              expect(maybeDuplicate).toBe(false)
              seen.push(name(aggregateId, step.sequence))
            }), orDrop)
          yield* bus.publishAll(topic, steps(10, 10))
          yield* eventually("all is handled", () => seen.length >= count)
        })
      )
    return Effect.gen(function*() {
      yield* round(100)
      yield* round(200)
      expect(seen.length).toBe(200)
    })
  })

  test("rule 10: closing finishes what is in the mailboxes, and reports nothing left", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("drain", 1)
        let handled = 0
        const subscription = yield* bus.subscribe(
          topic,
          () => Effect.zipRight(Effect.sleep("2 millis"), Effect.sync(() => handled++)),
          orDrop
        )
        yield* bus.publishAll(topic, steps(4, 20))
        yield* eventually("the first is handled", () => handled > 0)
        const report = yield* subscription.close
        const { received } = yield* subscription.stats
        expect(report).toEqual({ unfinished: 0, lost: 0 })
        expect(handled).toBe(received)
      })
    ))

  test("rule 3: a plain message is handled once, also when its handler fails or dies", () => {
    const topic = Topic.plain(newName("plain"))
    const seen: Array<string> = []
    const bodies = Array.from({ length: 90 }, (_, i) => `click-${i}`)
    const run = (publish: boolean) =>
      inBus(
        subject.layer,
        Effect.gen(function*() {
          const bus = yield* EventBus.EventBus
          const failures: Array<unknown> = []
          const subscription = yield* bus.subscribe(topic, (body) =>
            Effect.suspend((): Effect.Effect<void, "failed"> => {
              const text = decoder.decode(body)
              seen.push(text)
              if (text.endsWith("3")) return Effect.fail("failed")
              return text.endsWith("7") ? Effect.die("died") : Effect.void
            }), { onFailure: (failure) => Effect.sync(() => failures.push(failure._tag)) })
          if (!publish) return yield* throughout("nothing comes again", () => seen.length === 90, "300 millis")
          yield* bus.publishAll(
            topic,
            bodies.map((body, i) => ({ body, headers: { page: "/" }, key: `user-${i % 7}` }))
          )
          yield* eventually("all are handled", () => seen.length === 90)
          yield* eventually("the failures are reported", () => failures.length === 18)
          const stats = yield* subscription.stats
          expect(stats).toMatchObject({ handled: 72, failed: 18, deadLettered: 0, lost: 0 })
          expect(new Set(failures)).toEqual(new Set(["PlainFailure"]))
        })
      )
    return Effect.gen(function*() {
      yield* run(true)
      yield* run(false)
      expect(new Set(seen)).toEqual(new Set(bodies))
    })
  })

  test("rule 3: a plain message is settled before its handler starts; at most 100 are settled and not handled", () => {
    const topic = Topic.plain(newName("plain-hang"), { partitions: 2 })
    const bodies = Array.from({ length: 400 }, (_, i) => `click-${i}`)
    const started: Array<string> = []
    const later: Array<string> = []
    const first = inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        yield* bus.publishAll(topic, bodies.map((body) => ({ body })))
        const subscription = yield* bus.subscribe(
          topic,
          (body) => Effect.zipRight(Effect.sync(() => started.push(decoder.decode(body))), Effect.never)
        )
        yield* eventually("100 have started", () => started.length === 100)
        yield* throughout("no more than 100 are settled ahead", () => started.length === 100, "200 millis")
        const report = yield* subscription.close
        expect(report.lost).toBe(100)
      }),
      { closeDeadline: "100 millis" }
    )
    const second = inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        yield* bus.subscribe(topic, (body) => Effect.sync(() => later.push(decoder.decode(body))))
        yield* eventually("the rest is handled", () => later.length >= 300)
        yield* throughout("nothing is handled twice", () => later.length === 300, "300 millis")
      })
    )
    return Effect.gen(function*() {
      yield* first
      yield* second
      expect(new Set([...started, ...later])).toEqual(new Set(bodies))
    })
  })

  test("rule 3: a subscription may choose the other semantics by name", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const clicks = Topic.plain(newName("plain-at-least-once"))
        const orders = newTopic("envelope-at-most-once")
        let attempts = 0
        let once = 0
        yield* bus.subscribe(clicks, (_, { attempt }) =>
          Effect.suspend(() => {
            attempts++
            return attempt < 3 ? Effect.fail("again") : Effect.void
          }), { semantics: "at-least-once", onExhausted: FailurePolicy.drop })
        const subscription = yield* bus.subscribe(orders, () =>
          Effect.suspend(() => {
            once++
            return Effect.fail("failed")
          }), { semantics: "at-most-once" })
        yield* bus.publish(clicks, { body: "one" })
        yield* bus.publish(orders, {
          aggregateId: "order-1",
          payload: new Step({ sequence: 0, fails: 0, dies: 0, takes: 0 })
        })
        yield* eventually("the plain message was retried", () => attempts === 3)
        yield* eventually("the envelope was handled", () => once === 1)
        yield* throughout("the envelope is not retried", () => once === 1, "100 millis")
        expect((yield* subscription.stats).failed).toBe(1)
      })
    ))
}
