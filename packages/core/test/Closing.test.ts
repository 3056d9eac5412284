import {
  EventBus,
  EventBusConfig,
  FailurePolicy,
  MemoryBroker,
  MemoryTransport,
  Observer,
  Strategy,
  type Subscription,
  Topic,
  Transport
} from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Exit, Fiber, Layer, Logger, Schedule, Scope, TestClock } from "effect"
import { eventually, settle } from "./Eventually.js"
import { Bad, Clicks, dropping, Orders, Placed, placed, provideBus, recorder, text } from "./Orders.js"

describe("closing", () => {
  it.scoped("works off what was taken, settles it, reports nothing left, and answers the same report again", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const broker = yield* MemoryBroker.MemoryBroker
      const seen = recorder(() => Effect.sleep("10 millis"))
      const subscription = yield* bus.subscribe(Orders, seen.handler, dropping)
      yield* bus.publishAll(Orders, Array.from({ length: 20 }, (_, n) => placed("a", n)))
      const closers = yield* Effect.forkAll([subscription.close, subscription.close])
      for (let i = 0; i < 30; i++) yield* TestClock.adjust("10 millis")
      expect(yield* Fiber.join(closers)).toEqual([{ unfinished: 0, lost: 0 }, { unfinished: 0, lost: 0 }])
      expect(seen.ended).toHaveLength(20)
      expect(yield* broker.positions("orders", "group")).toEqual([{ watermark: 20, end: 20 }])
      expect(yield* subscription.close).toEqual({ unfinished: 0, lost: 0 })
    }).pipe(provideBus()))

  it.scoped("interrupts what does not end by the deadline; the next subscription gets exactly what is unsettled", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen = recorder((n) => n === 2 ? Effect.never : Effect.void)
      const subscription = yield* bus.subscribe(Orders, seen.handler, dropping)
      yield* bus.publishAll(Orders, Array.from({ length: 6 }, (_, n) => placed(n < 4 ? "a" : "b", n)))
      yield* eventually("the others are handled", () => seen.ended.length === 4)
      const closer = yield* Effect.fork(subscription.close)
      yield* TestClock.adjust("24 seconds")
      expect(closer.unsafePoll()).toBeNull()
      yield* TestClock.adjust("2 seconds")
      expect(yield* Fiber.join(closer)).toEqual({ unfinished: 2, lost: 0 })
      const duplicates: Array<boolean> = []
      const again: Array<number> = []
      yield* bus.subscribe(Orders, (event, { epoch, maybeDuplicate }) =>
        Effect.sync(() => {
          again.push(event._tag === "Placed" ? event.n : -1)
          duplicates.push(maybeDuplicate)
          expect(epoch).toBe(2)
        }), dropping)
      yield* bus.publish(Orders, placed("a", 6))
      yield* eventually("they are handled", () => again.length === 3)
      yield* settle
      expect(again).toEqual([2, 3, 6])
      expect(duplicates).toEqual([true, true, false])
    }).pipe(provideBus()))

  it.scoped("counts plain messages that were settled and not handled as lost, and leaves the others for the next", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const subscription = yield* bus.subscribe(Clicks, () => Effect.never)
      yield* bus.publishAll(Clicks, Array.from({ length: 150 }, (_, n) => ({ body: String(n), key: "k" })))
      yield* settle
      const closer = yield* Effect.fork(subscription.close)
      yield* TestClock.adjust("26 seconds")
      expect(yield* Fiber.join(closer)).toEqual({ unfinished: 50, lost: 100 })
      expect((yield* subscription.stats).lost).toBe(100)
      const seen: Array<string> = []
      yield* bus.subscribe(Clicks, (body) => Effect.sync(() => seen.push(text(body))))
      yield* eventually("the others are handled", () => seen.length === 50)
      expect(seen[0]).toBe("100")
    }).pipe(provideBus()))

  it.scoped("lets the attempt of a held message end that runs, and waits for no further one", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const gate = yield* Deferred.make<void>()
      const seen = recorder((n, attempt) =>
        attempt === 1 || n > 0 ? Effect.fail(new Bad({})) : Effect.zipRight(Deferred.await(gate), Effect.void)
      )
      const subscription = yield* bus.subscribe(Orders, seen.handler, {
        onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop }),
        retry: Schedule.stop
      })
      yield* bus.publish(Orders, placed("a", 0))
      yield* settle
      yield* TestClock.adjust("30 seconds")
      yield* eventually("the second attempt runs", () => seen.started.length === 2)
      const closing = yield* Effect.fork(subscription.close)
      yield* settle
      expect(seen.ended).toEqual([])
      yield* Deferred.succeed(gate, undefined)
      expect(yield* Fiber.join(closing)).toEqual({ unfinished: 0, lost: 0 })
      expect(seen.ended).toEqual([0])
      // The attempt of the next one fails while it closes: then it is held, and nothing is waited for.
      const second = yield* Deferred.make<void>()
      const next = recorder((_, attempt) =>
        attempt === 1 ? Effect.fail(new Bad({})) : Effect.zipRight(Deferred.await(second), Effect.fail(new Bad({})))
      )
      const again = yield* bus.subscribe(Orders, next.handler, {
        onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop }),
        retry: Schedule.stop
      })
      yield* bus.publish(Orders, placed("a", 1))
      yield* settle
      yield* TestClock.adjust("30 seconds")
      yield* eventually("the second attempt runs", () => next.started.length === 2)
      const closed = yield* Effect.fork(again.close)
      yield* settle
      yield* Deferred.succeed(second, undefined)
      expect(yield* Fiber.join(closed)).toEqual({ unfinished: 1, lost: 0 })
    }).pipe(provideBus()))

  it.scoped("ends also when a handler closes its own subscription", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const handle: { subscription?: Subscription.Subscription<unknown> } = {}
      let started = 0
      const subscription = yield* bus.subscribe(Orders, () =>
        Effect.suspend(() => {
          started++
          return handle.subscription!.close
        }), dropping)
      handle.subscription = subscription
      yield* bus.publish(Orders, placed("a", 0))
      yield* eventually("it runs", () => started === 1)
      yield* TestClock.adjust("30 seconds")
      yield* eventually("it is closed", () => bus.find("orders")._tag === "None")
      expect(yield* subscription.close).toEqual({ unfinished: 1, lost: 0 })
    }).pipe(provideBus()))

  it.effect("ends with its scope, which waits for it, also when somebody was interrupted who had asked for it", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(EventBus.layer.pipe(Layer.provide(MemoryTransport.layer())), scope)
      const bus = Context.get(context, EventBus.EventBus)
      const gate = yield* Deferred.make<void>()
      const seen = recorder(() => Deferred.await(gate))
      const subscription = yield* Scope.extend(bus.subscribe(Orders, seen.handler, dropping), scope)
      yield* bus.publish(Orders, placed("a", 0))
      yield* eventually("it runs", () => seen.started.length === 1)
      const asker = yield* Effect.fork(subscription.close)
      yield* settle
      yield* Effect.fork(Fiber.interrupt(asker))
      yield* settle
      const closer = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* settle
      expect(closer.unsafePoll()).toBeNull()
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(closer)
      expect(seen.ended).toEqual([0])
    }))

  it.scoped("stops fetching first, then closes its lanes, and leaves the group last", () =>
    Effect.gen(function*() {
      const transport = yield* Transport.Transport
      const log: Array<string> = []
      const say = (line: string) => Effect.sync(() => void log.push(line))
      const spied: Transport.Service = {
        ...transport,
        subscribe: (request, consumer) =>
          Effect.zipRight(
            Effect.addFinalizer(() => say("left")),
            transport.subscribe(request, {
              assigned: (assignment) => {
                const lane = consumer.assigned({
                  ...assignment,
                  finish: (message) => {
                    log.push("finished")
                    assignment.finish(message)
                  }
                })
                return lane
              }
            })
          ).pipe(Effect.map(({ stop }) => ({ stop: Effect.zipRight(say("stopped"), stop) })))
      }
      const context = yield* Layer.build(EventBus.layer.pipe(Layer.provide(Layer.succeed(Transport.Transport, spied))))
      const bus = Context.get(context, EventBus.EventBus)
      const gate = yield* Deferred.make<void>()
      const subscription = yield* bus.subscribe(Orders, () => Deferred.await(gate), dropping)
      yield* bus.publishAll(Orders, [placed("a", 0), placed("b", 1)])
      yield* settle
      const closer = yield* Effect.fork(subscription.close)
      yield* settle
      expect(log).toEqual(["stopped"])
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(closer)
      expect(log).toEqual(["stopped", "finished", "finished", "left"])
      expect((yield* subscription.stats).actors).toBe(0)
    }).pipe(provideBus()))

  it.scoped("ends, with the defect, also when the transport dies at closing", () =>
    Effect.gen(function*() {
      const transport = yield* Transport.Transport
      const broken: Transport.Service = {
        ...transport,
        subscribe: (request, consumer) =>
          Effect.zipRight(
            Effect.addFinalizer(() => Effect.die("the driver broke")),
            transport.subscribe(request, consumer)
          )
      }
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(
        EventBus.layer.pipe(Layer.provide(Layer.succeed(Transport.Transport, broken))),
        scope
      )
      const bus = Context.get(context, EventBus.EventBus)
      const subscription = yield* Scope.extend(bus.subscribe(Orders, () => Effect.void, dropping), scope)
      for (let i = 0; i < 2; i++) {
        const exit = yield* Effect.timeoutOption(Effect.exit(subscription.close), Duration.seconds(5)).pipe(Effect.fork)
        yield* TestClock.adjust("6 seconds")
        const closed = yield* Fiber.join(exit)
        expect(closed._tag === "Some" && Exit.isFailure(closed.value)).toBe(true)
      }
    }).pipe(provideBus()))

  it.effect("leaves no fiber: handlers are interrupted when the bus closes, and nothing runs afterwards", () =>
    Effect.gen(function*() {
      const fibers = new Set<Fiber.RuntimeFiber<unknown, unknown>>()
      const live = EventBus.layer.pipe(
        Layer.provide(MemoryTransport.layer()),
        Layer.provide(EventBusConfig.layer({ closeDeadline: "1 seconds" }))
      )
      const program = Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const hang = Effect.withFiberRuntime((fiber) => {
          fibers.add(fiber)
          return Effect.never
        })
        yield* bus.subscribe(Orders, () => hang, dropping)
        yield* bus.subscribe(Clicks, () => hang)
        yield* bus.publishAll(Orders, Array.from({ length: 30 }, (_, n) => placed(`a${n % 3}`, n)))
        yield* bus.publishAll(Clicks, Array.from({ length: 30 }, () => ({ body: "x" })))
        yield* eventually("they run", () => fibers.size === 33)
      })
      const done = yield* Effect.fork(program.pipe(Effect.scoped, Effect.provide(live)))
      yield* eventually("they run", () => fibers.size === 33)
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(done)
      for (const fiber of fibers) expect(fiber.unsafePoll()).not.toBeNull()
    }))
})

describe("an at-most-once handler that crashed", () => {
  for (const where of ["the wait for its restart", "its report"] as const) {
    it.scoped(`has failed, not been lost, when closing interrupts ${where}; the defect is logged at once`, () => {
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => void lines.push(String(message)))
      return Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        let reported = 0
        const subscription = yield* bus.subscribe(Clicks, () => Effect.die(new Error("the handler broke")), {
          onFailure: () =>
            Effect.zipRight(Effect.sync(() => reported++), where === "its report" ? Effect.never : Effect.void)
        })
        yield* bus.publish(Clicks, { body: "one", key: "k" })
        yield* eventually("it is reported", () => reported === 1)
        expect(lines.filter((line) => line.includes("the handler broke"))).toHaveLength(1)
        const closing = yield* Effect.fork(subscription.close)
        yield* settle
        yield* TestClock.adjust("26 seconds")
        expect(yield* Fiber.join(closing)).toEqual({ unfinished: 0, lost: 0 })
        expect(yield* subscription.stats).toMatchObject({ failed: 1, lost: 0, restarted: 1 })
      }).pipe(provideBus({ restartBase: "1 hours" }), Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
    })
  }

  it.scoped("is not told as restarted where the strategy never restarts", () =>
    Effect.gen(function*() {
      const told: Array<string> = []
      yield* Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        let dropped = 0
        const subscription = yield* bus.subscribe(Orders, () => Effect.die("broke"), {
          ...dropping,
          onFailure: () => Effect.sync(() => dropped++)
        })
        yield* bus.publish(Orders, placed("a", 0))
        yield* eventually("it is dropped", () => dropped === 1)
        expect(yield* subscription.stats).toMatchObject({ dropped: 1, restarted: 0 })
      }).pipe(
        provideBus(),
        Effect.provide(Strategy.layer({ ...Strategy.actorPerAggregate, restart: "never" })),
        Effect.provide(Observer.layer({ event: ({ _tag }) => void told.push(_tag) }))
      )
      expect(told).toContain("GivenUp")
      expect(told).not.toContain("Restarted")
    }))
})

describe("a rebalance", () => {
  it.scoped("does not wait for retries: a handler that fails while its partition goes is not started again", () =>
    Effect.gen(function*() {
      const Two = Topic.envelope("two", Placed, { partitions: 2 })
      const bus = yield* EventBus.EventBus
      const other = Context.get(yield* Layer.build(Layer.fresh(EventBus.layer)), EventBus.EventBus)
      const gate = yield* Deferred.make<void>()
      const log: Array<string> = []
      const handler =
        (name: string) =>
        (_: Placed, { aggregateId, partition }: { readonly aggregateId: string; readonly partition: number }) =>
          Effect.suspend(() => {
            log.push(`${name} ${partition} ${aggregateId}`)
            return name === "first" ? Effect.zipRight(Deferred.await(gate), new Bad({})) : Effect.void
          })
      yield* bus.subscribe(Two, handler("first"), { onExhausted: FailurePolicy.drop })
      yield* bus.publishAll(Two, Array.from({ length: 20 }, (_, n) => placed(`a${n}`, n)))
      yield* eventually("all run", () => log.length === 20)
      const joining = yield* Effect.fork(other.subscribe(Two, handler("second"), { onExhausted: FailurePolicy.drop }))
      yield* settle
      yield* Deferred.succeed(gate, undefined)
      // No clock is moved.
      yield* eventually("the other has joined", () => joining.unsafePoll() !== null)
      yield* settle
      const moved = log.filter((line) => line.startsWith("first 1"))
      expect(moved.length).toBeGreaterThan(0)
      expect(log.filter((line) => line.startsWith("second")).sort()).toEqual(
        moved.map((line) => line.replace("first", "second")).sort()
      )
      // The retries of what stayed end before the bus closes.
      for (let i = 0; i < 40; i++) yield* TestClock.adjust("1 seconds")
      expect(log.filter((line) => line.startsWith("first 1"))).toHaveLength(moved.length)
    }).pipe(provideBus()))
})
