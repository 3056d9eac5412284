import { EventBus, EventBusConfig, MemoryTransport, Observer, Strategy, Supervisor } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Logger, Schedule, TestClock } from "effect"
import type { Flight, Subscriber } from "../src/internal/flight.js"
import { Mailboxes } from "../src/internal/mailboxes.js"
import { Waiter } from "../src/internal/quota.js"
import { defaults } from "./Defaults.js"
import { eventually, settle } from "./Eventually.js"
import { Bad, Clicks, dropping, Orders, placed, provideBus, recorder } from "./Orders.js"

/** A bus whose supervisor the test sees. */
const provideSupervised = (config: EventBusConfig.Options) =>
  Effect.provide(
    EventBus.layerSupervised.pipe(
      Layer.provideMerge(Supervisor.layer()),
      Layer.provideMerge(MemoryTransport.layer()),
      Layer.provideMerge(EventBusConfig.layer(config))
    )
  )

describe("an observer that throws", () => {
  for (const semantics of ["at-least-once", "at-most-once"] as const) {
    it.scoped(`breaks nothing, and is said once: ${semantics}`, () => {
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => void lines.push(String(message)))
      const observer: Observer.Service = {
        transition: () => {
          throw new Error("the observer broke")
        },
        event: () => {
          throw new Error("the observer broke")
        }
      }
      return Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const { handler, started } = recorder((n) => n % 3 === 0 ? Effect.fail(new Bad({})) : Effect.void)
        yield* semantics === "at-least-once"
          ? bus.subscribe(Orders, handler, { ...dropping, retry: Schedule.stop, concurrency: 1 })
          : bus.subscribe(Orders, handler, { semantics, concurrency: 1 })
        for (let n = 0; n < 20; n++) yield* bus.publish(Orders, placed(`a${n % 5}`, n))
        yield* eventually("all are handled", () => started.length === 20)
        expect(lines.filter((line) => line.startsWith("The observer threw"))).toHaveLength(1)
      }).pipe(
        provideBus({ maxActors: 2, mailboxCapacity: 2, maxUnfinished: 3, maxBytes: 500 }),
        Effect.provide(Observer.layer(observer)),
        Effect.provide(Logger.replace(Logger.defaultLogger, logger))
      )
    }, 10_000)
  }
})

it.scoped("an observer may be an instance of a class", () => {
  class Counter implements Observer.Service {
    transitions = 0
    events = 0
    transition() {
      this.transitions++
    }
    event() {
      this.events++
    }
  }
  const [one, other] = [new Counter(), new Counter()]
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const { ended, handler } = recorder()
    yield* bus.subscribe(Orders, handler, dropping)
    yield* bus.publish(Orders, placed("a", 0))
    yield* eventually("it is handled", () => ended.length === 1)
    for (const { events, transitions } of [one, other]) expect([transitions, events > 0]).toEqual([3, true])
  }).pipe(provideBus(), Effect.provide(Observer.layer(other)), Effect.provide(Observer.layer(one)))
})

it.scoped("headers that a publisher uses again change nothing that was published", () =>
  Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const bytes = new Uint8Array([1])
    const headers: Record<string, string | Uint8Array | Array<string>> = { n: "0", bytes, list: ["x"] }
    for (let n = 0; n < 3; n++) {
      headers["n"] = String(n)
      bytes[0] = n
      headers["list"] = [String(n)]
      yield* bus.publish(Clicks, { key: "a", body: "", headers })
    }
    headers["n"] = "later"
    const seen: Array<unknown> = []
    yield* bus.subscribe(Clicks, (_, { headers: { bytes, list, n } }) =>
      Effect.sync(() => seen.push([n, Array.from(bytes as Uint8Array), list])))
    yield* eventually("all are handled", () =>
      seen.length === 3)
    expect(seen).toEqual([["0", [0], ["0"]], ["1", [1], ["1"]], ["2", [2], ["2"]]])
  }).pipe(provideBus()))

describe("a logger that throws", () => {
  const broken = Logger.replace(
    Logger.defaultLogger,
    Logger.make(() => {
      throw new Error("the logger broke")
    })
  )
  for (const semantics of ["at-least-once", "at-most-once"] as const) {
    it.scoped(`does not run messages again: ${semantics}`, () =>
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const { handler, started } = recorder((n) => n % 3 === 0 ? Effect.fail(new Bad({})) : Effect.void)
        const subscription = yield* semantics === "at-least-once"
          ? bus.subscribe(Orders, handler, { ...dropping, retry: Schedule.stop })
          : bus.subscribe(Orders, handler, { semantics })
        for (let n = 0; n < 6; n++) yield* bus.publish(Orders, placed("a", n))
        yield* settle
        yield* TestClock.adjust("1 minute")
        yield* settle
        expect(started).toEqual([0, 1, 2, 3, 4, 5])
        expect(yield* subscription.close).toEqual({ unfinished: 0, lost: 0 })
      }).pipe(provideBus(), Effect.provide(broken)), 10_000)
  }

  it.scoped("does not run a message again whose retry schedule has died", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { handler, started } = recorder(() => Effect.fail(new Bad({})))
      const subscription = yield* bus.subscribe(Orders, handler, {
        ...dropping,
        retry: Schedule.tapInput(Schedule.recurs(3), () => Effect.die("the schedule broke"))
      })
      yield* bus.publish(Orders, placed("a", 0))
      yield* settle
      yield* TestClock.adjust("1 minute")
      yield* settle
      expect(started).toEqual([0])
      expect(yield* subscription.stats).toMatchObject({ dropped: 1, restarted: 0 })
    }).pipe(provideBus(), Effect.provide(broken)), 10_000)

  it.scoped("does not run a message again whose retry schedule throws, too", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { handler, started } = recorder((n) => n === 0 ? Effect.fail(new Bad({})) : Effect.void)
      const retry = Schedule.map(Schedule.recurs(1), () => {
        throw new Error("the schedule broke")
      })
      yield* bus.subscribe(Orders, handler, { ...dropping, retry })
      for (let n = 0; n < 3; n++) yield* bus.publish(Orders, placed("a", n))
      yield* settle
      yield* TestClock.adjust("1 minute")
      yield* settle
      expect(started).toEqual([0, 1, 2])
    }).pipe(provideBus(), Effect.provide(broken)), 10_000)
})

describe("a strategy", () => {
  const hostile: ReadonlyArray<readonly [string, (key: string) => number]> = [
    ["throws", () => {
      throw new Error("slotOf broke")
    }],
    ["answers no number", () => Number.NaN],
    ["answers a number beyond its count", (key) => 2 + key.length]
  ]
  for (const [what, slotOf] of hostile) {
    it.scoped(`that ${what} loses nothing, has no more slots than it says, and it is said once`, () => {
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => void lines.push(String(message)))
      const slots = { count: 2, slotOf: (key: string) => key === "a" ? 1 : slotOf(key) }
      return Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const supervisor = yield* Supervisor.Supervisor
        const { ended, handler } = recorder()
        yield* bus.subscribe(Orders, handler, dropping)
        const keys = ["a", "b", "cc", "ddd"]
        for (let n = 0; n < 20; n++) yield* bus.publish(Orders, placed(keys[n % 4]!, n))
        yield* eventually("all are handled", () => ended.length === 20)
        expect(supervisor.live()).toBe(2)
        expect(lines.filter((line) => line.includes("\"hostile\""))).toHaveLength(1)
      }).pipe(
        provideSupervised({}),
        Effect.provide(Strategy.layer({ name: "hostile", slots })),
        Effect.provide(Logger.replace(Logger.defaultLogger, logger))
      )
    })
  }

  it.effect("with a wrong number is an error for whoever subscribes or replays", () =>
    Effect.gen(function*() {
      const one = { count: 1, slotOf: () => 0 }
      const wrong: ReadonlyArray<Strategy.Service> = [
        { name: "0", slots: "per-aggregate", capacity: 0 },
        { name: "NaN", slots: one, capacity: Number.NaN },
        { name: "half", slots: one, capacity: 1.5 },
        { name: "none", slots: { ...one, count: 0 } }
      ]
      for (const strategy of wrong) {
        const errors = yield* Effect.gen(function*() {
          const bus = yield* EventBus.EventBus
          const subscribing = Effect.scoped(bus.subscribe(Orders, () => Effect.void, dropping))
          return [yield* Effect.flip(subscribing), yield* Effect.flip(bus.replay(Orders, () => Effect.void))]
        }).pipe(provideBus(), Effect.provide(Strategy.layer(strategy)))
        for (const error of errors) {
          expect(error._tag).toBe("InvalidConfiguration")
          expect(error.message).toContain("Strategy: ")
        }
      }
    }))
})

describe("places of actors", () => {
  it.scoped("come back from replays that fail while they wait for one", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      for (let n = 0; n < 40; n++) yield* bus.publish(Orders, placed(`a${n}`, n))
      for (let i = 0; i < 4; i++) {
        yield* Effect.flip(
          bus.replay(Orders, ({ _tag }) => Effect.zipRight(settle, Effect.fail(new Bad({ n: _tag.length }))))
        )
        yield* settle
      }
      const { handler, started } = recorder()
      yield* bus.subscribe(Orders, handler, dropping)
      yield* eventually("the subscription has places", () => started.length === 40)
    }).pipe(provideSupervised({ maxActors: 2 })), 20_000)

  it.scoped("come back from replays that are interrupted while they wait for one", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      for (let n = 0; n < 40; n++) yield* bus.publish(Orders, placed(`a${n}`, n))
      for (let i = 0; i < 4; i++) {
        const replaying = yield* Effect.fork(bus.replay(Orders, () => Effect.never))
        yield* settle
        yield* Fiber.interrupt(replaying)
      }
      const { handler, started } = recorder()
      yield* bus.subscribe(Orders, handler, dropping)
      yield* eventually("the subscription has places", () => started.length === 40)
    }).pipe(provideSupervised({ maxActors: 2 })), 20_000)
})

for (const strategy of [Strategy.actorPerAggregate, { name: "one", slots: { count: 1, slotOf: () => 0 } }]) {
  it.scoped(`a supervisor that outlives its buses keeps no places for them, ${strategy.name}`, () =>
    Effect.gen(function*() {
      const supervisor = yield* Supervisor.Supervisor
      for (let i = 0; i < 5; i++) {
        yield* Effect.scoped(Layer.build(Layer.provide(EventBus.layerSupervised, Strategy.layer(strategy))))
      }
      const places = supervisor.places()
      const admitted = Array.from({ length: 40 }, () => supervisor.admit(places, new Waiter(() => {})))
      expect(admitted.every(Boolean)).toBe(true)
    }).pipe(
      Effect.provide(Supervisor.layer()),
      Effect.provide(MemoryTransport.layer()),
      Effect.provide(EventBusConfig.layer({ maxActors: 40 }))
    ))
}

for (
  const strategy of [Strategy.actorPerAggregate, {
    name: "two",
    slots: { count: 2, slotOf: (key: string) => key.length % 2 }
  }]
) {
  describe(`places of actors, ${strategy.name}`, () => {
    it.scoped("come back when others have made the mailbox for which a lane had reserved one", () =>
      Effect.gen(function*() {
        const supervisor = yield* Supervisor.make().pipe(Effect.provide(EventBusConfig.layer({ maxActors: 2 })))
        const other = supervisor.places()
        const waiterOf = () => new Waiter(() => {})
        expect([supervisor.admit(other, waiterOf()), supervisor.admit(other, waiterOf())]).toEqual([true, true])
        const home = yield* supervisor.home<never>("test")
        const mailboxes = new Mailboxes(supervisor, strategy, defaults())
        const book = mailboxes.open({ home } as Subscriber)
        yield* Effect.addFinalizer(() => Effect.zipRight(book.shutdown, mailboxes.shutdown))
        const task = (key: string) =>
          ({ key, home, run: () => Effect.never, interrupted: () => {} }) as unknown as Flight
        const [first, second] = [waiterOf(), waiterOf()]
        expect([book.offer(task("a"), first), book.offer(task("a"), second)]).toEqual([false, false])
        other.give(2)
        // Both places are reserved, and one slot is made.
        expect([book.offer(task("a"), first), book.offer(task("a"), second)]).toEqual([true, true])
        expect(supervisor.live()).toBe(1)
        expect(book.offer(task("bb"), waiterOf())).toBe(true)
      }))
  })
}

describe("a strategy that names no slot of its own", () => {
  let asked = 0
  const ways: ReadonlyArray<readonly [string, (key: string) => number]> = [
    ["out of range", () => 2],
    ["NaN", () => NaN],
    ["a throw", () => {
      throw new Error("the strategy broke")
    }],
    ["every other time", (key) => key === "a1" && asked++ % 2 === 0 ? -1 : 1]
  ]
  for (const [name, slotOf] of ways) {
    it.scoped(`loses nothing, keeps the order, and is said once: ${name}`, () => {
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => void lines.push(String(message)))
      return Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const { ended, handler } = recorder(() => Effect.yieldNow())
        yield* bus.subscribe(Orders, handler, dropping)
        for (let n = 0; n < 60; n++) yield* bus.publish(Orders, placed(`a${n % 3}`, n))
        yield* eventually("all are handled", () => ended.length === 60)
        for (const i of [0, 1, 2]) {
          expect(ended.filter((n) => n % 3 === i)).toEqual(Array.from({ length: 20 }, (_, n) => n * 3 + i))
        }
        const said = lines.filter((line) => /^The strategy "broken" answers no slot/.test(line))
        expect(said).toHaveLength(1)
      }).pipe(
        provideBus({ mailboxCapacity: 3 }),
        Effect.provide(Strategy.layer({ name: "broken", slots: { count: 2, slotOf } })),
        Effect.provide(Logger.replace(Logger.defaultLogger, logger))
      )
    })
  }
})

for (
  const strategy of [Strategy.actorPerAggregate, {
    name: "four",
    slots: { count: 4, slotOf: (key: string) => key.length }
  }]
) {
  it.scoped(`a key has one slot, also where making room wakes a lane that offers the same key at once, ${strategy.name}`, () =>
    Effect.gen(function*() {
      const supervisor = yield* Supervisor.make().pipe(Effect.provide(EventBusConfig.layer({ maxActors: 2 })))
      const home = yield* supervisor.home<never>("test")
      const mailboxes = new Mailboxes(supervisor, { ...strategy, capacity: 1 }, defaults())
      const book = mailboxes.open({ home } as Subscriber)
      yield* Effect.addFinalizer(() => Effect.zipRight(book.shutdown, mailboxes.shutdown))
      const running: Array<string> = []
      const gate = yield* Deferred.make<void>()
      const task = (key: string, until: Effect.Effect<void> = Effect.never) => {
        const flight = {
          key,
          home,
          run: () => Effect.zipRight(Effect.sync(() => running.push(key)), until),
          interrupted: () => {},
          mailbox: undefined as Flight["mailbox"],
          left: () => flight.mailbox?.left()
        }
        return flight as unknown as Flight
      }
      const quiet = () => new Waiter(() => {})
      const offered: Array<boolean> = []
      // Its transport offers from within `resume`.
      const eager = new Waiter(() => void offered.push(book.offer(task("ccc"), new Waiter(() => {}))))
      expect(book.offer(task("a", Deferred.await(gate)), quiet())).toBe(true)
      expect([book.offer(task("a"), quiet()), book.offer(task("a"), eager)]).toEqual([false, false])
      expect(book.offer(task("bb", Deferred.await(gate)), quiet())).toBe(true)
      yield* settle
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      expect(running).toEqual(["a", "bb"])
      // Both slots are idle, and end. The end of the first wakes the eager one.
      const last = book.offer(task("ccc"), quiet())
      yield* settle
      expect(running).toEqual(["a", "bb", "ccc"])
      expect([...offered, last]).toEqual([true, false])
      expect([supervisor.live(), book.live()]).toEqual([1, 1])
    }))
}

describe("closing", () => {
  it.scoped("ends also when an uninterruptible handler closes its own subscription", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const closing = yield* Deferred.make<Effect.Effect<unknown>>()
      let started = 0
      const subscription = yield* bus.subscribe(Orders, () =>
        Effect.fail(new Bad({})).pipe(
          Effect.tapError(() => Effect.sync(() => started++)),
          Effect.onError(() => Effect.flatten(Deferred.await(closing)))
        ), dropping)
      yield* Deferred.succeed(closing, subscription.close)
      yield* bus.publish(Orders, placed("a", 0))
      yield* eventually("it runs", () => started === 1)
      yield* settle
      yield* TestClock.adjust("30 seconds")
      yield* eventually("it is closed", () => bus.find("orders")._tag === "None")
    }).pipe(provideBus()), 10_000)
})
