import {
  EventBus,
  EventBusConfig,
  EventBusError,
  MemoryBroker,
  MemoryTransport,
  Presubscription,
  Transport
} from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Logger, Scope, TestClock } from "effect"
import { WaitingLane } from "../src/internal/waitingLane.js"
import { eventually, settle } from "./Eventually.js"
import { Clicks, dropping, Orders, placed, provideBus, RawOrders, recorder, text } from "./Orders.js"
import { messages, ScriptedAssignment } from "./ScriptedAssignment.js"

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

const publish = (from: number, to: number) =>
  Effect.flatMap(EventBus.EventBus, (bus) => bus.publishAll(Orders, range(from, to).map((n) => placed("a", n))))

const position = Effect.flatMap(
  MemoryBroker.MemoryBroker,
  (broker) => Effect.map(broker.positions("orders", "group"), ([position]) => position!.watermark)
)

/** How often the partition was given to somebody. */
const joins = Effect.flatMap(
  MemoryBroker.MemoryBroker,
  (broker) => Effect.map(broker.journal, (entries) => entries.filter(({ type }) => type === "assigned").length)
)

const withJournal = { journal: 10_000 }

describe("a pre-subscription", () => {
  it("goes on to its other partitions where the transport's resume throws, which is said once", () => {
    const lines: Array<string> = []
    const state = { skips: false, skipped: 0, mostAhead: 10, warn: (line: string) => void lines.push(line) }
    const assignment = new class extends ScriptedAssignment {
      override readonly resume = () => {
        this.resumes++
        throw new Error("full")
      }
    }()
    const lane = new WaitingLane(assignment, state, () => {})
    const handler: Transport.Consumer = {
      assigned: () => ({ offer: () => 0, close: () => Effect.succeed({ unfinished: 0, lost: 0 }) })
    }
    for (const _ of [1, 2]) {
      expect(lane.offer(messages("a", 2))).toBe(0)
      lane.attach(handler)
      lane.detach()
    }
    expect(assignment.resumes).toBe(2)
    expect(lines).toEqual([expect.stringMatching(/^The transport's resume threw \(.*full.*topic\[0\]$/s)])
  })

  it.scoped("holds messages until a handler comes, again when it has gone, and joins once", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { stats } = yield* bus.presubscribe(Orders)
      yield* publish(0, 10)
      yield* settle
      expect(yield* position).toBe(0)
      expect(yield* stats).toEqual({ skipped: 0, waiting: 1, isAttached: false })
      const { ended, handler } = recorder()
      for (let round = 1; round <= 3; round++) {
        yield* Effect.scoped(Effect.gen(function*() {
          yield* bus.subscribe(Orders, handler, dropping)
          yield* eventually("it gets what was held", () => ended.length === round * 10)
          expect(yield* stats).toEqual({ skipped: 0, waiting: 0, isAttached: true })
        }))
        expect(yield* position).toBe(round * 10)
        yield* publish(round * 10, round * 10 + 10)
        yield* settle
        expect(ended).toEqual(range(0, round * 10))
      }
      expect(yield* joins).toBe(1)
    }).pipe(provideBus({}, withJournal)))

  it.scoped("skips where asked for: settled, counted, and never handled", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { stats } = yield* bus.presubscribe(Orders, { withoutHandler: "skip" })
      yield* publish(0, 5)
      expect(yield* stats).toEqual({ skipped: 5, waiting: 0, isAttached: false })
      expect(yield* position).toBe(5)
      const { ended, handler } = recorder()
      const subscription = yield* bus.subscribe(Orders, handler, dropping)
      yield* publish(5, 8)
      yield* eventually("it gets the new ones", () => ended.length === 3)
      yield* subscription.close
      yield* publish(8, 10)
      yield* settle
      expect(ended).toEqual([5, 6, 7])
      expect(yield* stats).toEqual({ skipped: 7, waiting: 0, isAttached: false })
      expect(yield* position).toBe(10)
      expect(yield* joins).toBe(1)
    }).pipe(provideBus({}, withJournal)))

  for (const withoutHandler of ["hold", "skip"] as const) {
    it.scoped(`${withoutHandler}: what a handler took and did not finish goes first to the next one`, () =>
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const { stats } = yield* bus.presubscribe(Orders, { withoutHandler })
        const first = recorder((n) => n === 1 ? Effect.never : Effect.void)
        const subscription = yield* bus.subscribe(Orders, first.handler, dropping)
        yield* publish(0, 4)
        yield* eventually("it hangs", () => first.started.length === 2)
        const closing = yield* Effect.fork(subscription.close)
        yield* settle
        yield* publish(4, 6)
        yield* TestClock.adjust("25 seconds")
        expect(yield* Fiber.join(closing)).toEqual({ unfinished: 3, lost: 0 })
        yield* settle
        expect(yield* position).toBe(1)
        expect(yield* stats).toEqual({ skipped: withoutHandler === "skip" ? 2 : 0, waiting: 1, isAttached: false })
        const seen: Array<[number, boolean]> = []
        yield* bus.subscribe(
          Orders,
          (event, { maybeDuplicate }) =>
            Effect.sync(() => void seen.push([event._tag === "Placed" ? event.n : -1, maybeDuplicate])),
          dropping
        )
        const count = withoutHandler === "skip" ? 3 : 5
        yield* eventually("the next one has them", () => seen.length === count)
        expect(seen.map(([n]) => n)).toEqual(range(1, 1 + count))
        expect(seen.slice(0, 3).every(([, maybeDuplicate]) => maybeDuplicate)).toBe(true)
        expect(yield* position).toBe(6)
      }).pipe(provideBus()))
  }

  it.scoped("skip: says that messages were left, and that the partition stands still behind them", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
      yield* Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const { stats } = yield* bus.presubscribe(Orders, { withoutHandler: "skip" })
        const first = recorder(() => Effect.never)
        const subscription = yield* bus.subscribe(Orders, first.handler, dropping)
        yield* publish(0, 2)
        yield* eventually("it hangs", () => first.started.length === 1)
        const closing = yield* Effect.fork(subscription.close)
        yield* settle
        yield* TestClock.adjust("25 seconds")
        yield* Fiber.join(closing)
        yield* publish(2, 9)
        yield* settle
        expect(yield* stats).toMatchObject({ skipped: 3, waiting: 1 })
        expect(lines.filter((line) => line.startsWith("orders[0]"))).toEqual([
          expect.stringMatching(/^orders\[0\]: 2 messages that the former handler left unfinished are not skipped/),
          expect.stringMatching(/^orders\[0\] stands still: messages were skipped up to 4, and 0 is left unfinished/)
        ])
        const second = recorder()
        yield* bus.subscribe(Orders, second.handler, dropping)
        yield* eventually("it goes on", () => second.ended.length === 6)
        expect(second.ended).toEqual([0, 1, 5, 6, 7, 8])
      }).pipe(provideBus({ maxAboveWatermark: 5 }), Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
    }))

  it.scoped("loses nothing and repeats nothing while handlers come and go under load, with all bounds tight", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* bus.presubscribe(Orders)
      const { ended, handler } = recorder(() => Effect.yieldNow())
      const publishing = yield* Effect.fork(
        Effect.forEach(range(0, 100), (i) => Effect.zipRight(publish(i * 5, i * 5 + 5), Effect.yieldNow()))
      )
      let rounds = 0
      while (ended.length < 500) {
        const before = ended.length
        yield* Effect.scoped(Effect.zipRight(
          bus.subscribe(Orders, handler, dropping),
          eventually("it handles some", () => ended.length > Math.min(before + 20, 499))
        ))
        rounds++
      }
      yield* Fiber.join(publishing)
      expect(ended).toEqual(range(0, 500))
      expect(rounds).toBeGreaterThan(5)
      expect(yield* position).toBe(500)
      expect(yield* joins).toBe(1)
    }).pipe(provideBus({ maxUnfinished: 7, mailboxCapacity: 3, maxAboveWatermark: 9 }, withJournal)))

  it.scoped("of plain messages holds them, and each is handled once", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* bus.presubscribe(Clicks)
      const seen: Array<string> = []
      const send = (n: number) => bus.publish(Clicks, { body: String(n), aggregateId: "a" })
      for (let round = 0; round < 3; round++) {
        for (let i = 0; i < 4; i++) yield* send(round * 4 + i)
        yield* Effect.scoped(Effect.zipRight(
          bus.subscribe(Clicks, (body) => Effect.sync(() => seen.push(text(body)))),
          eventually("they come", () => seen.length >= round * 4 + 2)
        ))
      }
      yield* bus.subscribe(Clicks, (body) => Effect.sync(() => seen.push(text(body))))
      yield* eventually("all come", () => seen.length === 12)
      expect(seen).toEqual(range(0, 12).map(String))
    }).pipe(provideBus()))

  it.scoped("has one handler at a time, and one for each topic and group", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { handler } = recorder()
      const refused = new EventBusError.AlreadySubscribed({ topic: "orders", group: "group" })
      yield* bus.presubscribe(Orders)
      expect(yield* Effect.flip(bus.presubscribe(Orders))).toEqual(refused)
      const subscription = yield* bus.subscribe(Orders, handler, dropping)
      expect(yield* Effect.flip(bus.subscribe(Orders, handler, dropping))).toEqual(refused)
      yield* subscription.close
      yield* bus.subscribe(Orders, handler, dropping)
      // Another group is another matter.
      yield* bus.presubscribe(Orders, { group: "other" })
      yield* bus.subscribe(Orders, handler, { ...dropping, group: "third" })
      expect(yield* Effect.flip(bus.presubscribe(Orders, { group: "third" }))).toBeInstanceOf(
        EventBusError.AlreadySubscribed
      )
    }).pipe(provideBus()))

  it.scoped("decides what has to be known when the group is joined", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { handler } = recorder()
      yield* bus.presubscribe(Orders, { startFrom: "latest" })
      const wrong = yield* Effect.flip(
        bus.subscribe(Orders, handler, { semantics: "at-most-once", startFrom: "earliest" })
      )
      expect(wrong._tag === "InvalidConfiguration" && wrong.issues).toEqual([
        expect.stringContaining("semantics"),
        expect.stringContaining("startFrom")
      ])
      const plain = yield* Effect.flip(bus.subscribe(RawOrders, () => Effect.void))
      expect(plain._tag === "InvalidConfiguration" && plain.issues[0]).toContain("kind")
      // One that was refused leaves its place.
      yield* bus.subscribe(Orders, handler, { ...dropping, startFrom: "latest" })
      const early = yield* Effect.flip(bus.presubscribe(Orders, { group: "b", startFrom: { time: new Date(0) } }))
      expect(early).toBeInstanceOf(EventBusError.InvalidConfiguration)
      expect(yield* Effect.flip(bus.presubscribe(Orders, { group: " " }))).toBeInstanceOf(
        EventBusError.InvalidConfiguration
      )
    }).pipe(provideBus()))

  it.scoped("ends its handler's subscription with itself, and leaves the topic to others", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const former = yield* bus.presubscribe(Orders)
      const release = yield* Deferred.make<void>()
      const { ended, handler } = recorder(() => Deferred.await(release))
      yield* bus.subscribe(Orders, handler, dropping)
      yield* publish(0, 3)
      yield* settle
      const closing = yield* Effect.fork(former.close)
      yield* settle
      expect(closing.unsafePoll()).toBe(null)
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(closing)
      expect(ended).toEqual([0, 1, 2])
      expect(bus.find("orders")._tag).toBe("None")
      yield* former.close
      yield* publish(3, 5)
      const next = recorder()
      yield* bus.subscribe(Orders, next.handler, dropping)
      yield* eventually("the next subscription goes on", () => next.ended.length === 2)
      expect(next.ended).toEqual([3, 4])
    }).pipe(provideBus()))

  it.scoped("can be closed from within its handler", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const former = yield* bus.presubscribe(Orders)
      yield* bus.subscribe(Orders, () => former.close, dropping)
      yield* publish(0, 1)
      yield* settle
      yield* TestClock.adjust("25 seconds")
      yield* former.close
      expect(yield* position).toBe(0)
    }).pipe(provideBus()))

  it.scoped("what was left waits where the next handler has no room for it", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* bus.presubscribe(Orders)
      const hanging = yield* bus.subscribe(Orders, () => Effect.never, dropping)
      yield* bus.publishAll(Orders, [placed("a", 1), placed("b", 2), placed("a", 3)])
      yield* settle
      const closing = yield* Effect.fork(hanging.close)
      yield* settle
      yield* TestClock.adjust("25 seconds")
      yield* Fiber.join(closing)
      // One of the two actors is taken by others.
      const release = yield* Deferred.make<void>()
      yield* bus.subscribe(Clicks, () => Deferred.await(release))
      yield* bus.publish(Clicks, { body: "x", aggregateId: "c" })
      yield* settle
      const { ended, handler, started } = recorder(() => Deferred.await(release))
      yield* bus.subscribe(Orders, handler, dropping)
      yield* settle
      expect(started).toEqual([1])
      yield* Deferred.succeed(release, undefined)
      yield* eventually("all are handled", () => ended.length === 3)
      expect(ended.filter((n) => n !== 2)).toEqual([1, 3])
      expect(yield* position).toBe(3)
    }).pipe(provideBus({ maxActors: 2 })))

  it.scoped("skips nothing while the bus closes: another instance may have a handler", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      // A transport that takes its time to stop.
      const mayStop = yield* Effect.makeLatch(false)
      const memory = yield* MemoryTransport.make
      const slow: Transport.Service = {
        ...memory,
        subscribe: (...args) =>
          Effect.map(memory.subscribe(...args), ({ stop }) => ({ stop: Effect.zipRight(mayStop.await, stop) }))
      }
      const context = yield* Layer.buildWithScope(
        EventBus.layer.pipe(Layer.provide(Layer.succeed(Transport.Transport, slow))),
        scope
      )
      const { handler } = recorder()
      yield* Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const users = yield* Scope.make()
        yield* bus.presubscribe(Orders, { withoutHandler: "skip" }).pipe(Scope.extend(users))
        yield* bus.subscribe(Orders, handler, dropping).pipe(Scope.extend(users))
        yield* publish(0, 1)
      }).pipe(Effect.provide(context))
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* settle
      yield* publish(1, 3)
      yield* settle
      yield* mayStop.open
      yield* Fiber.join(closing)
      const next = recorder()
      const other = yield* EventBus.EventBus
      yield* other.subscribe(Orders, next.handler, dropping)
      yield* eventually("another instance gets them", () => next.ended.length === 2)
      expect(next.ended).toEqual([1, 2])
      expect(
        yield* Effect.flip(
          Effect.provide(Effect.flatMap(EventBus.EventBus, (bus) => bus.presubscribe(Orders)), context)
        )
      )
        .toBeInstanceOf(EventBusError.BusClosed)
    }).pipe(provideBus()))

  it.scoped("as a layer comes before the layers of its handlers and goes after them", () =>
    Effect.gen(function*() {
      const broker = yield* MemoryBroker.MemoryBroker
      const { ended, handler } = recorder()
      const Bus = EventBus.layer.pipe(
        Layer.provide(MemoryTransport.layerBroker),
        Layer.provide(Layer.succeed(MemoryBroker.MemoryBroker, broker)),
        Layer.provide(EventBusConfig.layer({}))
      )
      const App = Orders.toLayer(handler, dropping).pipe(
        Layer.provide(Presubscription.layer(Orders)),
        Layer.provideMerge(Bus)
      )
      yield* Effect.provide(
        Effect.zipRight(publish(0, 3), eventually("all are handled", () => ended.length === 3)),
        App
      )
      expect(yield* position).toBe(3)
      expect(yield* joins).toBe(1)
    }).pipe(Effect.provide(MemoryBroker.layer(withJournal))))

  it.scoped("that is interrupted fails who waits for it, typed", () =>
    Effect.gen(function*() {
      const transport = yield* Transport.Transport
      const asked = yield* Deferred.make<void>()
      const stuck: Transport.Service = {
        ...transport,
        subscribe: () => Effect.zipRight(Deferred.succeed(asked, undefined), Effect.never)
      }
      yield* Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const former = yield* Effect.fork(Effect.scoped(bus.presubscribe(Orders)))
        yield* Deferred.await(asked)
        const subscriber = yield* Effect.fork(
          Effect.scoped(bus.subscribe(Orders, () => Effect.void, dropping))
        )
        yield* settle
        yield* Fiber.interrupt(former)
        expect(yield* Effect.flip(Fiber.join(subscriber))).toBeInstanceOf(EventBusError.SubscribeFailed)
      }).pipe(Effect.provide(EventBus.layer), Effect.provideService(Transport.Transport, stuck))
    }).pipe(Effect.provide(MemoryTransport.layer()), Effect.provide(EventBusConfig.layer({}))))
})
