import { EventBus, EventBusError, MemoryBroker, MemoryTransport, Replay, Topic, Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Schema, Scope, TestClock } from "effect"
import { eventually, settle } from "./Eventually.js"
import { Bad, dropping, Orders, Placed, placed, provideBus, RawOrders, recorder } from "./Orders.js"

const Spread = Topic.envelope("spread", Schema.Union(Placed), { partitions: 3 })

/** `perAggregate` events of each of 10 aggregates, over all partitions. */
const publish = (perAggregate: number) =>
  Effect.flatMap(EventBus.EventBus, (bus) =>
    bus.publishAll(
      Spread,
      Array.from({ length: 10 * perAggregate }, (_, i) => placed(`a${i % 10}`, Math.floor(i / 10)))
    ))

describe("replay", () => {
  it.scoped("handles all that is in the topic, in order per aggregate, and says what it did", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* publish(100)
      const seen = new Map<string, Array<number>>()
      const deliveries = new Set<unknown>()
      let running = 0
      let most = 0
      const report = yield* bus.replay(
        Spread,
        ({ n }, { aggregateId, epoch, group, maybeDuplicate }) =>
          Effect.gen(function*() {
            most = Math.max(most, ++running)
            yield* Effect.yieldNow()
            running--
            seen.set(aggregateId, [...seen.get(aggregateId) ?? [], n])
            deliveries.add(JSON.stringify([epoch, group, maybeDuplicate]))
          })
      )
      expect(report).toEqual({ read: 1_000, handled: 1_000, skipped: 0, undecodable: 0, unknownType: 0, tombstones: 0 })
      expect(seen.size).toBe(10)
      for (const one of seen.values()) expect(one).toEqual(Array.from({ length: 100 }, (_, n) => n))
      expect([...deliveries]).toEqual([`[0,"replay",true]`])
      expect(most).toBeGreaterThan(3)
    }).pipe(provideBus()))

  it.scoped("is bounded: it goes on when mailboxes and memory are full, and no more is taken than they hold", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* publish(60)
      let handled = 0
      const report = yield* bus.replay(Spread, () => Effect.sync(() => handled++), { concurrency: 2 })
      expect(report.handled).toBe(600)
      expect(handled).toBe(600)
    }).pipe(provideBus({ maxUnfinished: 7, maxBytes: 500, mailboxCapacity: 2, maxActors: 3 })))

  it.scoped("ends where the topic ended when it began, also while more is published", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* publish(1)
      const report = yield* bus.replay(Spread, ({ n }) => bus.publish(Spread, placed("a1", n + 1)).pipe(Effect.orDie))
      expect(report).toMatchObject({ read: 10, handled: 10 })
    }).pipe(provideBus()))

  it.scoped("of an empty topic, or of nothing, ends at once", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const nothing = { read: 0, handled: 0, skipped: 0, undecodable: 0, unknownType: 0, tombstones: 0 }
      expect(yield* bus.replay(Spread, () => Effect.void)).toEqual(nothing)
      yield* publish(1)
      const offsets = { 0: 2, 1: 2, 2: 2 }
      expect(yield* bus.replay(Spread, () => Effect.void, { from: { offsets }, to: { offsets } })).toEqual(nothing)
    }).pipe(provideBus()))

  it.scoped("takes a part by offsets, by times and by partitions", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      for (let n = 0; n < 5; n++) {
        yield* bus.publish(Orders, placed("a", n))
        yield* TestClock.adjust("1 minute")
      }
      const numbers = (options: Replay.Options) => {
        const { handler, started } = recorder()
        return Effect.as(bus.replay(Orders, handler, options), started)
      }
      const minute = (n: number) => ({ time: new Date(n * 60_000) })
      expect(yield* numbers({ from: { offsets: { 0: 1 } }, to: { offsets: { 0: 3 } } })).toEqual([1, 2])
      expect(yield* numbers({ from: { offsets: { 0: 3 } }, to: { offsets: { 0: 99 } } })).toEqual([3, 4])
      expect(yield* numbers({ to: { offsets: { 0: 2 } } })).toEqual([0, 1])
      expect(yield* numbers({ from: minute(1), to: minute(3) })).toEqual([1, 2])
      expect(yield* numbers({ from: minute(4) })).toEqual([4])
      expect(yield* numbers({ from: minute(9) })).toEqual([])
      expect(yield* numbers({ partitions: [0] })).toEqual([0, 1, 2, 3, 4])
      expect(yield* Effect.flip(numbers({ partitions: [1] }))).toBeInstanceOf(EventBusError.InvalidConfiguration)
    }).pipe(provideBus()))

  it.scoped("of one aggregate handles only its messages", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* publish(20)
      const { handler, started } = recorder()
      const report = yield* bus.replay(Spread, handler, { aggregateId: "a3" })
      expect(started).toEqual(Array.from({ length: 20 }, (_, n) => n))
      expect(report).toEqual({ read: 200, handled: 20, skipped: 180, undecodable: 0, unknownType: 0, tombstones: 0 })
    }).pipe(provideBus()))

  it.scoped("ends with the first handler that fails, typed, and interrupts the others", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* publish(3)
      const after: Array<number> = []
      const others = { running: 0, interrupted: 0 }
      const failure = yield* Effect.flip(bus.replay(Spread, ({ n }, { aggregateId }) => {
        if (aggregateId !== "a4") {
          others.running++
          return Effect.onInterrupt(Effect.never, () => Effect.sync(() => others.interrupted++))
        }
        after.push(n)
        return n < 1 ? Effect.void : Effect.zipRight(settle, new Bad({ n }))
      }))
      expect(failure).toBeInstanceOf(Replay.ReplayFailed)
      if (failure._tag !== "ReplayFailed") return
      expect(Cause.squash(failure.cause)).toEqual(new Bad({ n: 1 }))
      expect(failure).toMatchObject({ aggregateId: "a4", report: { handled: 1 }, position: { topic: "spread" } })
      expect(failure.message).toContain(`spread[${failure.position.partition}]@${failure.position.offset}`)
      expect(after).toEqual([0, 1])
      expect(others).toEqual({ running: 9, interrupted: 9 })
    }).pipe(provideBus()))

  it.scoped("ends with a handler that throws before it has made its effect", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* bus.publish(Orders, placed("a", 1))
      let calls = 0
      const failure = yield* Effect.flip(bus.replay(Orders, (): Effect.Effect<void> => {
        calls++
        throw new Error("thrown")
      }))
      expect(failure).toMatchObject({ _tag: "ReplayFailed", report: { read: 1, handled: 0 } })
      expect(failure.message).toContain("thrown")
      expect(calls).toBe(1)
    }).pipe(provideBus()))

  it.scoped("ends with a handler that dies or takes too long, in the same way", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* bus.publish(Orders, placed("a", 1))
      const died = yield* Effect.flip(bus.replay(Orders, () => Effect.die("boom")))
      expect(died._tag === "ReplayFailed" && Cause.squash(died.cause)).toBe("boom")
      const slow = yield* Effect.fork(
        Effect.flip(bus.replay(Orders, () => Effect.never, { handlerTimeout: "1 second" }))
      )
      yield* settle
      yield* TestClock.adjust("1 second")
      const late = yield* Fiber.join(slow)
      expect(late._tag === "ReplayFailed" && Cause.squash(late.cause)).toBeInstanceOf(EventBusError.HandlerTimeout)
    }).pipe(provideBus()))

  it.scoped("passes over what can't be decoded, and counts it", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* bus.publish(RawOrders, { body: "no envelope", aggregateId: "a" })
      yield* bus.publish(Orders, placed("a", 1))
      yield* bus.publish(RawOrders, { body: "neither", aggregateId: "b" })
      const { handler, started } = recorder()
      expect(yield* bus.replay(Orders, handler)).toEqual({
        read: 3,
        handled: 1,
        skipped: 0,
        undecodable: 2,
        unknownType: 0,
        tombstones: 0
      })
      expect(yield* bus.replay(Orders, handler, { aggregateId: "a" })).toEqual({
        read: 3,
        handled: 1,
        skipped: 1,
        undecodable: 1,
        unknownType: 0,
        tombstones: 0
      })
      expect(started).toEqual([1, 1])
    }).pipe(provideBus()))

  it.scoped("has no effect on a subscription and its position", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const broker = yield* MemoryBroker.MemoryBroker
      const { ended, handler } = recorder()
      yield* bus.subscribe(Orders, handler, dropping)
      for (let n = 0; n < 5; n++) yield* bus.publish(Orders, placed("a", n))
      yield* eventually("all are handled", () => ended.length === 5)
      const before = yield* broker.positions("orders", "group")
      yield* bus.replay(Orders, () => Effect.void)
      expect(yield* broker.positions("orders", "group")).toEqual(before)
      expect(yield* broker.positions("orders", "replay")).toEqual([])
      expect(ended).toEqual([0, 1, 2, 3, 4])
    }).pipe(provideBus()))

  it.scoped("ends with the bus, which waits for it, and none begins on a closed one", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(EventBus.layer.pipe(Layer.provide(MemoryTransport.layer())), scope)
      yield* Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        yield* bus.publish(Orders, placed("a", 1))
        const begun = yield* Deferred.make<void>()
        let isOver = false
        const replaying = yield* bus.replay(Orders, () =>
          Deferred.succeed(begun, undefined).pipe(
            Effect.zipRight(Effect.never),
            Effect.ensuring(Effect.zipRight(settle, Effect.sync(() => isOver = true)))
          )).pipe(Effect.flip, Effect.fork)
        yield* Deferred.await(begun)
        yield* Scope.close(scope, Exit.void)
        expect(isOver).toBe(true)
        expect(yield* Fiber.join(replaying)).toBeInstanceOf(EventBusError.BusClosed)
        expect(yield* Effect.flip(bus.replay(Orders, () => Effect.void))).toBeInstanceOf(EventBusError.BusClosed)
      }).pipe(Effect.provide(context))
    }))

  it.scoped("says so where the transport can't, and where the options are wrong", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const wrong = yield* Effect.flip(bus.replay(Orders, () => Effect.void, {
        aggregateId: "not valid",
        from: { time: new Date("never") },
        concurrency: 0
      }))
      expect(wrong._tag === "InvalidConfiguration" && wrong.issues).toHaveLength(3)
      const unable = Layer.map(
        MemoryTransport.layer(),
        (context) => Transport.Transport.context({ ...context.unsafeMap.get(Transport.Transport.key), read: undefined })
      )
      const error = yield* EventBus.EventBus.pipe(
        Effect.flatMap((bus) => bus.replay(Orders, () => Effect.void)),
        Effect.flip,
        Effect.provide(EventBus.layer.pipe(Layer.provide(unable)))
      )
      expect(error).toEqual(new EventBusError.ReplayUnsupported({ topic: "orders", transport: "memory" }))
    }).pipe(provideBus()))
})
