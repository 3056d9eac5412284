/**
 * Control by hand: what is paused waits, in order and unsettled, and keeps nobody else waiting.
 *
 * @since 0.1.0
 */
import { EventBus, FailurePolicy } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { expect } from "vitest"
import { eventually } from "../Eventually.js"
import { inBus, newTopic, Step, type Subject, test } from "./Bench.js"

const events = (aggregateId: string, from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => ({ aggregateId, payload: new Step({ sequence: from + i }) }))

/** A handler that records what it is given. */
const recorder = () => {
  const seen: Array<string> = []
  return {
    seen,
    of: (aggregate: string) => seen.filter((one) => one.startsWith(`${aggregate} `)),
    handler: ({ sequence }: Step, { aggregateId }: { readonly aggregateId: string }) =>
      Effect.sync(() => void seen.push(`${aggregateId} ${sequence}`))
  }
}

const named = (aggregate: string, from: number, to: number) =>
  events(aggregate, from, to).map(({ payload }) => `${aggregate} ${payload.sequence}`)

/**
 * @since 0.1.0
 * @category rules
 */
export const control = (subject: Subject): void => {
  test("control: a paused aggregate waits while others of its partition go on, and then goes on in order", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("control-aggregate", 1)
        const { handler, of, seen } = recorder()
        const { control } = yield* bus.subscribe(topic, handler, { onExhausted: FailurePolicy.drop })
        yield* control.pauseAggregate("paused")
        yield* bus.publishAll(topic, [...events("paused", 1, 20), ...events("other", 1, 100)])
        yield* eventually("the other is handled", () => seen.length === 100)
        expect(of("paused")).toEqual([])
        yield* control.resumeAggregate("paused")
        yield* bus.publishAll(topic, events("paused", 21, 30))
        yield* eventually("the paused one goes on", () => seen.length === 130)
        expect(of("paused")).toEqual(named("paused", 1, 30))
        expect(of("other")).toEqual(named("other", 1, 100))
      })
    ))

  test("control: what is paused when the subscription closes comes again to the next one, in order", () => {
    const topic = newTopic("control-closed", 1)
    const { handler, of, seen } = recorder()
    const first = inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const { close, control } = yield* bus.subscribe(topic, handler, { onExhausted: FailurePolicy.drop })
        yield* control.pauseAggregate("paused")
        yield* bus.publishAll(topic, [...events("paused", 1, 5), ...events("other", 1, 5)])
        yield* eventually("the other is handled", () => seen.length === 5)
        yield* control.pause()
        yield* bus.publishAll(topic, events("other", 6, 10))
        expect(seen.length).toBe(5)
        yield* close
      })
    )
    const second = inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        yield* bus.subscribe(topic, handler, { onExhausted: FailurePolicy.drop })
        yield* eventually("the rest is handled", () => new Set(seen).size === 15)
        expect(Array.from(new Set(of("paused")))).toEqual(named("paused", 1, 5))
        expect(Array.from(new Set(of("other")))).toEqual(named("other", 1, 10))
      })
    )
    return Effect.zipRight(first, second)
  })

  test("control: a publisher that stops refuses the later messages of an aggregate after one that failed, and goes on when told to", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("control-publish")
        const { handler, of, seen } = recorder()
        yield* bus.subscribe(topic, handler, { onExhausted: FailurePolicy.drop })
        const wrong = { aggregateId: "a", payload: { _tag: "Step", sequence: 0.5 } as Step }
        const failed = yield* Effect.flip(bus.publishAll(topic, [
          ...events("a", 1, 2),
          ...events("b", 1, 1),
          wrong,
          ...events("b", 2, 2),
          ...events("a", 3, 4)
        ]))
        const tags = failed.results.map((result) => Either.isRight(result) ? "written" : result.left._tag)
        expect(tags).toEqual([
          "written",
          "written",
          "written",
          "InvalidMessage",
          "written",
          "PublishStopped",
          "PublishStopped"
        ])
        const [again] = events("a", 3, 3)
        expect(yield* Effect.flip(bus.publish(topic, again!))).toMatchObject({
          _tag: "PublishStopped",
          aggregate: "a",
          cause: { _tag: "InvalidMessage" }
        })
        yield* bus.publishAll(topic, events("b", 3, 4))
        expect(yield* bus.publishing.resume(topic, "a")).toBe(true)
        yield* bus.publishAll(topic, events("a", 3, 4))
        yield* eventually("all are handled", () => seen.length === 8)
        expect([of("a"), of("b")]).toEqual([named("a", 1, 4), named("b", 1, 4)])
      }),
      { stopAfterFailedPublish: true }
    ))

  test("control: a paused subscription begins nothing, keeps its partitions and goes on in order", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("control-all", 1)
        const { handler, of, seen } = recorder()
        const { control } = yield* bus.subscribe(topic, handler, { onExhausted: FailurePolicy.drop })
        yield* bus.publishAll(topic, events("a", 1, 5))
        yield* eventually("the first are handled", () => seen.length === 5)
        yield* control.pause({ until: "400 millis" })
        yield* bus.publishAll(topic, [...events("a", 6, 10), ...events("b", 1, 5)])
        expect(seen.length).toBe(5)
        yield* eventually("the rest is handled", () => seen.length === 15)
        expect([of("a"), of("b")]).toEqual([named("a", 1, 10), named("b", 1, 5)])
      })
    ))
}
