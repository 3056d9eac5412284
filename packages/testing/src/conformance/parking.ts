/**
 * Parking: the failed message and all that follow of its aggregate are letters in the group's store, over closings too, and are handled in order
 * when somebody releases them. Transports without a store refuse the policy.
 *
 * @since 0.1.0
 */
import { EventBus, FailurePolicy, type Subscription, Transport } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { expect } from "vitest"
import { eventually } from "../Eventually.js"
import { inBus, newTopic, Step, type Subject, test } from "./Bench.js"

const by = { who: "conformance", why: "the law says so" }

const events = (aggregateId: string, from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => ({ aggregateId, payload: new Step({ sequence: from + i }) }))

const named = (aggregate: string, from: number, to: number) =>
  events(aggregate, from, to).map(({ payload }) => `${aggregate} ${payload.sequence}`)

/** A handler that fails for what is in `failing`, and records what it handles. */
const shop = () => {
  const handled: Array<string> = []
  const started: Array<string> = []
  const failing = new Set<string>()
  return {
    handled,
    started,
    failing,
    of: (aggregate: string) => handled.filter((one) => one.startsWith(`${aggregate} `)),
    handler: ({ sequence }: Step, { aggregateId }: { readonly aggregateId: string }) =>
      Effect.suspend((): Effect.Effect<void, "refused"> => {
        const one = `${aggregateId} ${sequence}`
        started.push(one)
        if (failing.has(one)) return Effect.fail("refused")
        handled.push(one)
        return Effect.void
      })
  }
}

const options = (more: Partial<FailurePolicy.Park> = {}) => ({
  retry: Schedule.recurs(0),
  onExhausted: FailurePolicy.park({ undecodable: FailurePolicy.drop, ...more })
})

/** Waits until the aggregate has so many letters; 0: it is not parked. */
const letters = ({ control }: Subscription.Subscription<unknown>, aggregate: string, count: number) =>
  Effect.gen(function*() {
    let now = -1
    for (let i = 0; i < 1_200; i++) {
      const { aggregates } = yield* control.parked()
      now = aggregates.find((one) => one.aggregate === aggregate)?.letters ?? 0
      if (now === count) return
      yield* Effect.sleep("25 millis")
    }
    expect(now, `letters of ${aggregate}`).toBe(count)
  })

/** Without a store there is nothing to test. */
const withStore = <A, E, R>(work: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Transport.Transport, ({ store }) => store === undefined ? Effect.void : work)

/**
 * @since 0.1.0
 * @category rules
 */
export const parking = (subject: Subject): void => {
  test("parking: an aggregate that fails is parked while strangers of its partition go on, and is released in order", () =>
    inBus(
      subject.layer,
      withStore(Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("parking", 1)
        const { failing, handled, handler, of } = shop()
        failing.add("poison 3")
        const subscription = yield* bus.subscribe(topic, handler, options())
        yield* bus.publishAll(topic, [...events("poison", 1, 20), ...events("other", 1, 50)])
        yield* eventually("strangers are handled", () => of("other").length === 50)
        yield* letters(subscription, "poison", 18)
        yield* bus.publishAll(topic, events("poison", 21, 25))
        yield* letters(subscription, "poison", 23)
        expect(of("poison")).toEqual(named("poison", 1, 2))
        failing.clear()
        yield* subscription.control.release({ aggregate: "poison" }, by)
        yield* bus.publishAll(topic, events("poison", 26, 30))
        yield* eventually("all are handled", () => handled.length === 80)
        yield* letters(subscription, "poison", 0)
        expect(of("poison")).toEqual(named("poison", 1, 30))
      }))
    ))

  test("parking: what is parked is known to the next owner before its first message, and a release stops at a failure", () => {
    const topic = newTopic("parking-next", 1)
    const { failing, handler, of, started } = shop()
    failing.add("poison 1").add("poison 5")
    const life = (work: (subscription: Subscription.Subscription<unknown>) => Effect.Effect<void, unknown>) =>
      inBus(
        subject.layer,
        withStore(Effect.gen(function*() {
          const bus = yield* EventBus.EventBus
          const subscription = yield* bus.subscribe(topic, handler, options())
          yield* work(subscription)
        }))
      )
    const publish = (from: number, to: number) =>
      Effect.flatMap(EventBus.EventBus, (bus) => bus.publishAll(topic, events("poison", from, to)))
    return inBus(subject.layer, withStore(publish(1, 8))).pipe(
      Effect.zipRight(life((subscription) => letters(subscription, "poison", 8))),
      Effect.zipRight(inBus(subject.layer, withStore(publish(9, 12)))),
      Effect.zipRight(life((subscription) =>
        Effect.gen(function*() {
          yield* letters(subscription, "poison", 12)
          expect(started).toEqual(["poison 1"])
          failing.delete("poison 1")
          yield* subscription.control.release("all", by)
          yield* letters(subscription, "poison", 8)
          yield* eventually("the fifth fails", () => started.at(-1) === "poison 5")
        })
      )),
      Effect.zipRight(life((subscription) =>
        Effect.gen(function*() {
          yield* letters(subscription, "poison", 8)
          const [first] = yield* subscription.control.letters("poison")
          expect(first!.failures).toMatchObject([{ attempts: 1, released: by }])
          failing.clear()
          yield* subscription.control.release("all", by)
          yield* letters(subscription, "poison", 0)
          expect(of("poison")).toEqual(named("poison", 1, 12))
        })
      ))
    )
  })

  test("parking: a letter is the whole message, and discarding it tells of the gap", () =>
    inBus(
      subject.layer,
      withStore(Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("parking-gap", 1)
        const { failing, handler, of } = shop()
        const gaps: Array<FailurePolicy.Gap> = []
        failing.add("poison 1")
        const onDiscarded = (gap: FailurePolicy.Gap) => Effect.sync(() => gaps.push(gap))
        const subscription = yield* bus.subscribe(topic, handler, options({ onDiscarded }))
        yield* bus.publishAll(topic, [
          { aggregateId: "poison", payload: new Step({ sequence: 1 }), headers: { "x-note": "whole" } },
          ...events("poison", 2, 3)
        ])
        yield* letters(subscription, "poison", 3)
        const [first] = yield* subscription.control.letters("poison", { payload: true, limit: 1 })
        expect(new TextDecoder().decode(first!.message!.value!)).toContain("\"poison\"")
        expect(Object.keys(first!.message!.headers).map((name) => name.toLowerCase())).toContain("x-note")
        yield* subscription.control.discard({ aggregate: "poison" }, { ...by, offset: first!.position.offset })
        yield* letters(subscription, "poison", 2)
        expect(gaps).toMatchObject([{ aggregate: "poison", offset: first!.position.offset, by }])
        yield* subscription.control.release("all", by)
        yield* letters(subscription, "poison", 0)
        expect(of("poison")).toEqual(named("poison", 2, 3))
      }))
    ))
}
