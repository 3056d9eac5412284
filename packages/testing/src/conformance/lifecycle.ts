/**
 * Rules 10 and 11: closing leaves nothing, and errors are typed.
 *
 * @since 0.1.0
 */
import { EventBus, FailurePolicy, Topic } from "@effect-eventbus/core"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { expect } from "vitest"
import { eventually } from "../Eventually.js"
import { inBus, newName, newTopic, orDrop, Step, type Subject, test } from "./Bench.js"

const step = new Step({ sequence: 0, fails: 0, dies: 0, takes: 0 })

/** How many timers and sockets keep the process alive. */
const resources = () => process.getActiveResourcesInfo().filter((kind) => kind !== "MessagePort").length

/**
 * @since 0.1.0
 * @category rules
 */
export const lifecycle = (subject: Subject): void => {
  test("rule 10: closing in the middle of work leaves no timer, no socket and no unhandled rejection", () => {
    const rejections: Array<unknown> = []
    const listener = (reason: unknown) => rejections.push(reason)
    return Effect.gen(function*() {
      process.on("unhandledRejection", listener)
      const before = resources()
      yield* inBus(
        subject.layer,
        Effect.gen(function*() {
          const bus = yield* EventBus.EventBus
          const topic = newTopic("leak")
          const plain = Topic.plain(newName("leak-plain"))
          let started = 0
          yield* bus.subscribe(topic, () => Effect.zipRight(Effect.sync(() => started++), Effect.never), orDrop)
          yield* bus.subscribe(plain, () => Effect.zipRight(Effect.sync(() => started++), Effect.fail("failed")))
          yield* bus.publishAll(
            topic,
            Array.from({ length: 50 }, (_, i) => ({ aggregateId: `order-${i}`, payload: step }))
          )
          yield* bus.publish(plain, { body: "click" })
          yield* eventually("work is under way", () => started === 51)
          expect(resources()).toBeGreaterThan(0)
        }),
        { closeDeadline: "100 millis" }
      )
      yield* eventually("all resources are given back", () => resources() <= before)
      expect(rejections).toEqual([])
    }).pipe(Effect.ensuring(Effect.sync(() => process.off("unhandledRejection", listener))))
  })

  test("rule 10: closing works off all but what is held, and what waits behind it, and doesn't wait for that", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("held", 1)
        const handled: Array<string> = []
        let started = 0
        const subscription = yield* bus.subscribe(
          topic,
          (_, { aggregateId }) =>
            Effect.suspend((): Effect.Effect<void, "failed"> => {
              if (aggregateId === "held") return Effect.fail("failed")
              started++
              return Effect.zipRight(Effect.sleep(300), Effect.sync(() => handled.push(aggregateId)))
            }),
          { onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop }) }
        )
        yield* bus.publishAll(
          topic,
          ["held", "held", "held", "other"].map((aggregateId) => ({ aggregateId, payload: step }))
        )
        yield* eventually("one is held", () => started === 1 && Effect.runSync(subscription.stats).held === 1)
        yield* bus.publishAll(topic, ["other", "other"].map((aggregateId) => ({ aggregateId, payload: step })))
        yield* eventually("all are taken", () => Effect.runSync(subscription.stats).received === 6)
        const [took, report] = yield* Effect.timed(subscription.close)
        expect(Duration.toMillis(took)).toBeLessThan(8_000)
        expect(handled).toEqual(["other", "other", "other"])
        expect(report).toEqual({ unfinished: 3, lost: 0 })
      }),
      { closeDeadline: "20 seconds" }
    ))

  test("rule 10: closing goes on without a handler that can't be interrupted, and nobody else begins its message at once", () =>
    Effect.gen(function*() {
      const topic = newTopic("stuck", 1)
      const gate = yield* Deferred.make<void>()
      const began: Array<string> = []
      const report = yield* inBus(
        subject.layer,
        Effect.gen(function*() {
          const bus = yield* EventBus.EventBus
          const handler = () =>
            Effect.uninterruptible(Effect.zipRight(Effect.sync(() => began.push("first")), Deferred.await(gate)))
          const subscription = yield* bus.subscribe(topic, handler, orDrop)
          yield* bus.publish(topic, { aggregateId: "order-1", payload: step })
          yield* eventually("it runs", () => began.length === 1)
          const [took, report] = yield* Effect.timed(subscription.close)
          expect(Duration.toMillis(took)).toBeLessThan(10_000)
          return report
        }),
        { closeDeadline: "100 millis" }
      )
      expect(report).toEqual({ unfinished: 1, lost: 0 })
      yield* inBus(
        subject.layer,
        Effect.gen(function*() {
          const bus = yield* EventBus.EventBus
          yield* Effect.forkScoped(
            bus.subscribe(topic, () => Effect.sync(() => began.push("second")), orDrop)
          )
          yield* Effect.sleep("1 seconds")
          // The memory broker keeps the partition until the handler ends. Other brokers keep it until the first member's session or lease ends.
          expect(began).toEqual(["first"])
          yield* Deferred.succeed(gate, undefined)
        })
      )
    }))

  test("rule 10: a subscription can be closed and made again while others go on", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const one = newTopic("again")
        const other = newTopic("other")
        let ones = 0
        let others = 0
        yield* bus.subscribe(other, () => Effect.sync(() => others++), orDrop)
        for (let round = 1; round <= 2; round++) {
          const subscription = yield* bus.subscribe(one, () => Effect.sync(() => ones++), orDrop)
          yield* bus.publish(one, { aggregateId: "order-1", payload: step })
          yield* bus.publish(other, { aggregateId: "order-1", payload: step })
          yield* eventually("both are handled", () => ones === round && others === round)
          yield* subscription.close
        }
        yield* bus.publish(other, { aggregateId: "order-1", payload: step })
        yield* eventually("the other goes on", () => others === 3)
      })
    ))

  test("a group that starts at the latest sees only what comes after it", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("latest")
        const seen: Array<number> = []
        const publish = (sequence: number) =>
          bus.publish(topic, { aggregateId: "order-1", payload: new Step({ ...step, sequence }) })
        for (let i = 0; i < 5; i++) yield* publish(i)
        yield* bus.subscribe(topic, (event) => Effect.sync(() => seen.push(event.sequence)), {
          ...orDrop,
          startFrom: "latest"
        })
        for (let i = 5; i < 10; i++) yield* publish(i)
        yield* eventually("the later ones are handled", () => seen.length === 5)
        expect(seen).toEqual([5, 6, 7, 8, 9])
      })
    ))

  test("groups have positions of their own", () =>
    inBus(
      subject.layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("groups")
        let a = 0
        let b = 0
        yield* bus.subscribe(topic, () => Effect.sync(() => a++), { ...orDrop, group: "a" })
        yield* bus.publishAll(
          topic,
          Array.from({ length: 10 }, (_, i) => ({ aggregateId: `order-${i}`, payload: step }))
        )
        yield* bus.subscribe(topic, () => Effect.sync(() => b++), { ...orDrop, group: "b" })
        yield* eventually("both groups have handled all", () => a === 10 && b === 10)
      })
    ))

  test("rule 11: misuse and bad input are typed errors", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const escaped = yield* inBus(
        subject.layer,
        Effect.gen(function*() {
          const bus = yield* EventBus.EventBus
          const topic = newTopic("errors")
          yield* bus.subscribe(topic, () => Effect.void, orDrop)
          const twice = yield* Effect.flip(bus.subscribe(topic, () => Effect.void, orDrop))
          expect(twice).toMatchObject({ _tag: "AlreadySubscribed", topic: topic.name, group: "group" })
          const blank = yield* Effect.flip(bus.publish(topic, { aggregateId: "not valid!", payload: step }))
          expect(blank._tag).toBe("InvalidMessage")
          expect(blank.message).toContain("aggregate_id")
          const filler = "x".repeat(20 * 1024 * 1024)
          const large = yield* Effect.flip(
            bus.publish(topic, { aggregateId: "order-1", payload: new Step({ ...step, filler }) })
          )
          expect(large).toMatchObject({ _tag: "MessageTooLarge", topic: topic.name })
          // The test subscribes in a scope that outlives the bus.
          const late = yield* bus.subscribe(newTopic("late"), () => Effect.void, orDrop).pipe(Scope.extend(scope))
          return { bus, late }
        })
      )
      const topic = newTopic("closed")
      expect(yield* Effect.flip(escaped.bus.publish(topic, { aggregateId: "order-1", payload: step }))).toMatchObject({
        _tag: "BusClosed"
      })
      expect(yield* Effect.flip(Effect.scoped(escaped.bus.subscribe(topic, () => Effect.void, orDrop)))).toMatchObject({
        _tag: "BusClosed"
      })
      expect(yield* escaped.late.close).toEqual({ unfinished: 0, lost: 0 })
      yield* Scope.close(scope, Exit.void)
    }))

  test("rule 11: an unknown topic is a typed error, at publishing and at subscribing", () =>
    inBus(
      subject.strict,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const topic = newTopic("unknown")
        const published = yield* Effect.flip(bus.publish(topic, { aggregateId: "order-1", payload: step }))
        const subscribed = yield* Effect.flip(bus.subscribe(topic, () => Effect.void, orDrop))
        expect(published).toMatchObject({ _tag: "UnknownTopic", topic: topic.name })
        expect(subscribed).toMatchObject({ _tag: "UnknownTopic", topic: topic.name })
      })
    ))
}
