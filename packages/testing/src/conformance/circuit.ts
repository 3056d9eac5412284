/**
 * Circuits and the guard: while what the handler needs is away, nothing is given up, and afterwards all go on in order.
 *
 * @since 0.1.0
 */
import { EventBus, FailurePolicy } from "@effect-eventbus/core"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { expect } from "vitest"
import { eventually } from "../Eventually.js"
import { inBus, newTopic, Step, type Subject, test } from "./Bench.js"

class Down extends Data.TaggedError("Down") {}
class Bad extends Data.TaggedError("Bad") {}

const aggregates = ["a", "b", "c", "d"]

const events = (count: number) =>
  Array.from(
    { length: count },
    (_, i) => aggregates.map((aggregateId) => ({ aggregateId, payload: new Step({ sequence: i }) }))
  ).flat()

/** A handler that fails while it is told to. It records what it has handled, and how often it was called. */
const needy = <E>(fail: () => Effect.Effect<never, E>) => {
  const handled = new Map<string, Array<number>>()
  const state = { isDown: true, calls: 0 }
  const count = () => Array.from(handled.values(), ({ length }) => length).reduce((sum, one) => sum + one, 0)
  return {
    handled,
    state,
    count,
    handler: ({ sequence }: Step, { aggregateId }: { readonly aggregateId: string }) =>
      Effect.suspend((): Effect.Effect<void, E> => {
        state.calls++
        if (state.isDown) return fail()
        const all = handled.get(aggregateId) ?? []
        handled.set(aggregateId, [...all, sequence])
        return Effect.void
      })
  }
}

const upTo = (count: number) => Array.from({ length: count }, (_, i) => i)

/**
 * @since 0.1.0
 * @category rules
 */
export const circuit = (subject: Subject): void => {
  test("circuit: while the dependency is away one message at a time probes and none is given up, and then all go on in order", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("circuit", 2)
        const { count, handled, handler, state } = needy(() => new Down())
        const subscription = yield* bus.subscribe(topic, handler, {
          onExhausted: FailurePolicy.drop,
          onError: FailurePolicy.byTag({
            Down: FailurePolicy.circuit({ name: "database", probe: Schedule.spaced("50 millis") })
          })
        })
        yield* bus.publishAll(topic, events(10))
        yield* eventually("it has probed", () => state.calls >= 8)
        expect(count()).toBe(0)
        const [open] = yield* bus.circuits.list
        expect(open).toMatchObject({ name: "database", reason: "Down" })
        expect(["open", "half-open"]).toContain(open!.state)
        const status = yield* subscription.status
        if (status !== undefined) expect(status.problems.map(({ kind }) => kind)).toContain("circuit")
        state.isDown = false
        yield* eventually("all are handled", () => count() === 40)
        for (const aggregate of aggregates) expect(handled.get(aggregate)).toEqual(upTo(10))
        expect(yield* bus.circuits.list).toMatchObject([{ name: "database", state: "closed" }])
        expect(yield* subscription.stats).toMatchObject({ dropped: 0, handled: 40 })
      })
    ))

  test("circuit: what an open circuit kept when its subscription closed comes again to the next one, in order", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("circuit-closed", 1)
        const { count, handled, handler, state } = needy(() => new Down())
        const options = {
          onExhausted: FailurePolicy.drop,
          onError: () => FailurePolicy.circuit({ probe: Schedule.spaced("1 hour") })
        }
        const first = yield* bus.subscribe(topic, handler, options)
        yield* bus.publishAll(topic, events(5))
        yield* eventually("it is open", () => state.calls > 0)
        yield* first.close
        state.isDown = false
        yield* bus.subscribe(topic, handler, options)
        yield* eventually("all are handled", () => count() === 20)
        for (const aggregate of aggregates) expect(handled.get(aggregate)).toEqual(upTo(5))
      })
    ))

  test("circuit: the guard stops a subscription that would give up all its messages, and they are handled once it goes on", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("guard", 1)
        const { count, handled, handler, state } = needy(() => new Bad())
        const { control, stats } = yield* bus.subscribe(topic, handler, {
          onExhausted: FailurePolicy.drop,
          onError: () => FailurePolicy.drop,
          guard: { from: 6 }
        })
        yield* bus.publishAll(topic, events(10))
        yield* eventually("it is stopped", () => state.calls >= 7)
        expect(yield* stats).toMatchObject({ dropped: 6, handled: 0 })
        state.isDown = false
        expect(yield* control.goOn).toBe(true)
        yield* eventually("the rest is handled", () => count() === 34)
        for (const aggregate of aggregates) {
          const all = handled.get(aggregate)!
          expect(all).toEqual(upTo(10).slice(10 - all.length))
        }
      })
    ))
}
