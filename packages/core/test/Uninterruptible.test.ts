import {
  EventBus,
  EventBusConfig,
  FailurePolicy,
  MemoryBroker,
  MemoryTransport,
  type Subscription
} from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import {
  Context,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  RuntimeFlags,
  RuntimeFlagsPatch,
  Scope,
  TestClock
} from "effect"
import { eventually, settle } from "./Eventually.js"
import { Clicks, dropping, Orders, placed, provideBus, recorder } from "./Orders.js"

/** The lines that were logged. */
const logging = () => {
  const lines: Array<string> = []
  const logger = Logger.make(({ message }) => void lines.push(String(message)))
  return { lines, layer: Logger.replace(Logger.defaultLogger, logger) }
}

const disableInterruption = Effect.patchRuntimeFlags(RuntimeFlagsPatch.disable(RuntimeFlags.Interruption))

describe("a handler that can't be interrupted", () => {
  for (const how of ["is uninterruptible", "switches interruption off", "has a finalizer that never ends"] as const) {
    it.scoped(`${how}: closing goes on soon after its deadline, and names the aggregate`, () => {
      const { layer, lines } = logging()
      return Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const broker = yield* MemoryBroker.MemoryBroker
        const gate = yield* Deferred.make<void>()
        const seen = recorder((n) => {
          const wait = Deferred.await(gate)
          return n !== 1
            ? Effect.void
            : how === "is uninterruptible"
            ? Effect.uninterruptible(wait)
            : how === "switches interruption off"
            ? Effect.zipRight(disableInterruption, wait)
            : Effect.ensuring(Effect.never, wait)
        })
        const subscription = yield* bus.subscribe(Orders, seen.handler, dropping)
        yield* bus.publishAll(Orders, [placed("fine", 0), placed("stuck", 1), placed("stuck", 2)])
        yield* eventually("it runs", () => seen.started.length === 2)
        const closing = yield* Effect.fork(subscription.close)
        yield* TestClock.adjust("25 seconds")
        yield* settle
        expect(closing.unsafePoll()).toBeNull()
        yield* TestClock.adjust("2 seconds")
        yield* settle
        // The memory broker's look at the lane.
        yield* TestClock.adjust("100 millis")
        yield* eventually("it is closed", () => closing.unsafePoll() !== null)
        expect(yield* Fiber.join(closing)).toEqual({ unfinished: 2, lost: 0 })
        expect(lines.filter((line) => line.includes("orders[0]") && line.includes("stuck"))).toHaveLength(1)
        // What was finished is settled.
        expect(yield* broker.positions("orders", "group")).toEqual([{ watermark: 1, end: 3 }])
        // Nothing of the aggregate starts elsewhere in this process: neither in this bus nor in another.
        const again = recorder()
        expect(yield* Effect.flip(bus.subscribe(Orders, again.handler, dropping))).toMatchObject({
          _tag: "AlreadySubscribed"
        })
        const other = Context.get(yield* Layer.build(Layer.fresh(EventBus.layer)), EventBus.EventBus)
        yield* other.subscribe(Orders, again.handler, dropping)
        yield* settle
        expect(again.started).toEqual([])
        yield* Deferred.succeed(gate, undefined)
        yield* eventually("the other bus has them", () => again.ended.length === 2)
        expect(again.ended).toEqual([1, 2])
        expect(seen.started).toEqual([0, 1])
        yield* bus.subscribe(Orders, again.handler, dropping)
      }).pipe(provideBus(), Effect.provide(layer))
    })
  }

  it.scoped("does not keep its bus from closing", () => {
    const { layer, lines } = logging()
    return Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(Layer.fresh(EventBus.layer), scope)
      const bus = Context.get(context, EventBus.EventBus)
      const gate = yield* Deferred.make<void>()
      let runs = 0
      yield* Scope.extend(
        bus.subscribe(Clicks, () => Effect.uninterruptible(Effect.suspend(() => (runs++, Deferred.await(gate))))),
        scope
      )
      yield* bus.publishAll(Clicks, [{ body: "one", key: "k" }, { body: "two", key: "l" }])
      yield* eventually("both run", () => runs === 2)
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* settle
      for (let i = 0; i < 30; i++) yield* Effect.zipRight(TestClock.adjust("1 seconds"), settle)
      yield* eventually("it is closed", () => closing.unsafePoll() !== null)
      expect(lines.filter((line) => /^2 handlers of clicks\[0\] .*: k, l$/.test(line))).toHaveLength(1)
      expect(lines.some((line) => line.includes("2 lost"))).toBe(true)
      expect(lines.filter((line) => line.includes("fibers"))).toEqual([])
      yield* Deferred.succeed(gate, undefined)
    }).pipe(provideBus(), Effect.provide(layer))
  })

  it.scoped("does not keep a replay from ending", () => {
    const { layer, lines } = logging()
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const gate = yield* Deferred.make<void>()
      const seen = recorder((n) => n === 0 ? Effect.uninterruptible(Deferred.await(gate)) : Effect.fail("bad" as const))
      yield* bus.publishAll(Orders, [placed("stuck", 0), placed("b", 1)])
      const replaying = yield* Effect.fork(Effect.exit(bus.replay(Orders, seen.handler)))
      yield* eventually("both run", () => seen.started.length === 2)
      yield* settle
      for (let i = 0; i < 5; i++) yield* Effect.zipRight(TestClock.adjust("1 seconds"), settle)
      yield* eventually("it has ended", () => replaying.unsafePoll() !== null)
      expect(Exit.isFailure(yield* Fiber.join(replaying))).toBe(true)
      expect(lines.filter((line) => line.includes("stuck"))).toHaveLength(1)
      yield* Deferred.succeed(gate, undefined)
    }).pipe(provideBus(), Effect.provide(layer))
  })
})

describe("what a handler leaves behind", () => {
  it.scoped("a child that can't be interrupted: closing goes on, and names the aggregate", () => {
    const { layer, lines } = logging()
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const gate = yield* Deferred.make<void>()
      const seen = recorder((n) => n === 0 ? Effect.fork(Effect.uninterruptible(Deferred.await(gate))) : Effect.void)
      const subscription: Subscription.Subscription<unknown> = yield* bus.subscribe(Orders, seen.handler, dropping)
      yield* bus.publishAll(Orders, [placed("parent", 0), placed("b", 1)])
      yield* eventually("they are handled", () => seen.ended.length === 2)
      const closing = yield* Effect.fork(subscription.close)
      yield* settle
      for (let i = 0; i < 5; i++) yield* Effect.zipRight(TestClock.adjust("1 seconds"), settle)
      yield* eventually("it is closed", () => closing.unsafePoll() !== null)
      expect(yield* Fiber.join(closing)).toEqual({ unfinished: 0, lost: 0 })
      expect(lines.filter((line) => line.includes("parent") && line.includes("orders/group"))).toHaveLength(1)
      yield* Deferred.succeed(gate, undefined)
    }).pipe(provideBus(), Effect.provide(layer))
  })

  it.scoped("interruption that is switched off is on again for the next message, and an idle actor ends", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen = recorder((n) =>
        n === 0
          ? disableInterruption
          : n === 1
          ? Effect.zipRight(disableInterruption, Effect.fail("bad"))
          : Effect.never
      )
      const subscription = yield* bus.subscribe(Orders, seen.handler, {
        onExhausted: FailurePolicy.drop,
        onError: () => FailurePolicy.drop,
        handlerTimeout: "1 seconds"
      })
      yield* bus.publish(Orders, placed("a", 0))
      yield* eventually("the first is handled", () => seen.ended.length === 1)
      yield* bus.publishAll(Orders, [placed("a", 1), placed("a", 2)])
      yield* eventually("the third runs", () => seen.started.length === 3)
      yield* TestClock.adjust("1 seconds")
      yield* eventually("its time is over", () => Effect.runSync(subscription.stats).dropped === 2)
      yield* bus.publish(Orders, placed("b", 0))
      yield* eventually("b's is handled", () => seen.ended.length === 2)
      expect(yield* Effect.map(subscription.close, ({ unfinished }) => unfinished)).toBe(0)
      expect((yield* subscription.stats).actors).toBe(0)
    }).pipe(provideBus()))
})

describe("closing", () => {
  it.live("waits a moment for what a handler does when it is interrupted", () =>
    Effect.gen(function*() {
      let cleaned = false
      yield* Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        let runs = 0
        yield* bus.subscribe(Orders, () =>
          Effect.suspend(() => (runs++, Effect.never)).pipe(
            Effect.onInterrupt(() => Effect.delay(Effect.sync(() => (cleaned = true)), "200 millis"))
          ), dropping)
        yield* bus.publish(Orders, placed("a", 0))
        yield* eventually("it runs", () => runs === 1)
      }).pipe(
        Effect.scoped,
        Effect.provide(EventBus.layer.pipe(
          Layer.provide(MemoryTransport.layer()),
          Layer.provide(EventBusConfig.layer({ closeDeadline: "10 millis" }))
        ))
      )
      expect(cleaned).toBe(true)
    }))
})
