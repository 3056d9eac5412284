import { type Dispatch, EventBus, FailurePolicy, Observer, Strategy } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, HashMap, Layer, Logger, Option, TestClock } from "effect"
import { eventually, settle } from "./Eventually.js"
import { Clicks, dropping, Orders, placed, provideBus, recorder, text } from "./Orders.js"

const pool = (size: number, more: Partial<Strategy.PoolOptions> = {}) => Strategy.pool({ name: "pool", size, ...more })

/** An observer's events, and what is logged. */
const watched = (strategy: Strategy.Service) => {
  const events: Array<Observer.Event> = []
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ logLevel, message }) =>
    void lines.push(`${logLevel.label} ${String(message)}`)
  )
  const layer = Layer.mergeAll(
    Strategy.layer(strategy),
    Observer.layer({ event: (event) => void events.push(event) }),
    Logger.replace(Logger.defaultLogger, logger)
  )
  return { events, lines, layer }
}

describe("a mailbox that is full for long", () => {
  const workers = Strategy.pool({ ...Strategy.keyedWorkers, size: 1, capacity: 2 })

  it.scoped("is told to the observer and logged after 500 ms, waiting goes on, and its end is told", () => {
    const { events, layer, lines } = watched(workers)
    const bounds = () => events.filter((event) => event._tag === "Bound" && event.bound === "mailbox")
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const gate = yield* Deferred.make<void>()
      const seen = recorder(() => Deferred.await(gate))
      yield* bus.subscribe(Orders, seen.handler, dropping)
      for (let n = 0; n < 5; n++) yield* bus.publish(Orders, placed("a", n))
      yield* eventually("one is in hand", () => seen.started.length === 1)
      yield* settle
      yield* TestClock.adjust("499 millis")
      yield* settle
      expect(bounds()).toEqual([])
      yield* TestClock.adjust("1 millis")
      yield* eventually("it is told", () => bounds().length === 1)
      const told = { _tag: "Bound", bound: "mailbox", subscription: undefined, strategy: "keyed-workers" }
      expect(bounds()).toEqual([{ ...told, slot: "keyed-workers-0", isReached: true }])
      const warnings = () =>
        lines.filter((line) => /^WARN keyed-workers-0: its mailbox has been full for 500ms/.test(line))
      yield* eventually("it is logged", () => warnings().length === 1)
      yield* TestClock.adjust("10 minutes")
      expect([bounds().length, warnings().length]).toEqual([1, 1])
      yield* Deferred.succeed(gate, undefined)
      yield* eventually("all are handled", () => seen.ended.length === 5)
      expect(seen.ended).toEqual([0, 1, 2, 3, 4])
      expect(bounds()[1]).toEqual({ ...told, slot: "keyed-workers-0", isReached: false })
    }).pipe(provideBus(), Effect.provide(layer))
  })

  it.scoped("for less is not told", () => {
    const { events, layer } = watched(workers)
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen = recorder(() => Effect.sleep("100 millis"))
      yield* bus.subscribe(Orders, seen.handler, dropping)
      for (let n = 0; n < 4; n++) yield* bus.publish(Orders, placed("a", n))
      for (let i = 0; i < 10; i++) {
        yield* settle
        yield* TestClock.adjust("100 millis")
      }
      yield* eventually("all are handled", () => seen.ended.length === 4)
      yield* TestClock.adjust("10 minutes")
      expect(events.filter((event) => event._tag === "Bound" && event.bound === "mailbox")).toEqual([])
    }).pipe(provideBus(), Effect.provide(layer))
  })
})

describe("messages without a key", () => {
  it.scoped("take turns over all slots of a pool, evenly, whatever slotOf says", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const slots = new Map<string, number>()
      yield* bus.subscribe(Clicks, () =>
        Effect.map(Effect.logAnnotations, (annotations) => {
          const slot = String(Option.getOrThrow(HashMap.get(annotations, "eventbus.actor")))
          slots.set(slot, (slots.get(slot) ?? 0) + 1)
        }), { semantics: "at-least-once", ...dropping })
      yield* bus.publishAll(Clicks, Array.from({ length: 300 }, () => ({ body: "x" })))
      yield* eventually("all are handled", () => Array.from(slots.values()).reduce((a, b) => a + b, 0) === 300)
      expect(Array.from(slots.keys()).sort()).toEqual(Array.from({ length: 10 }, (_, i) => `ten-${i}`))
      for (const count of slots.values()) expect(Math.abs(count - 30)).toBeLessThanOrEqual(10)
    }).pipe(provideBus(), Effect.provide(Strategy.layer({ name: "ten", slots: { count: 10, slotOf: () => 0 } }))))
})

describe("switching", () => {
  it.scoped("moves each aggregate when its last message is done, and says which have not moved, and why", () => {
    const { events, layer, lines } = watched(Strategy.actorPerAggregate)
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const gate = yield* Deferred.make<void>()
      const slots: Array<string> = []
      yield* bus.subscribe(Orders, (event) =>
        Effect.gen(function*() {
          const n = event._tag === "Placed" ? event.n : -1
          slots.push(`${n} ${String(Option.getOrThrow(HashMap.get(yield* Effect.logAnnotations, "eventbus.actor")))}`)
          if (n < 2) yield* Deferred.await(gate)
        }), dropping)
      yield* bus.publish(Orders, placed("idle", 10))
      yield* eventually("the idle one is done", () => slots.length === 1)
      for (const n of [0, 2, 3]) yield* bus.publish(Orders, placed("busy", n))
      yield* bus.publish(Orders, placed("other", 1))
      yield* eventually("two are in hand", () => slots.length === 3)
      yield* settle
      const report: Dispatch.Report = yield* bus.dispatch.switchTo(pool(1))
      expect(report.strategy.name).toBe("pool")
      expect(report.remaining).toBe(2)
      expect(report.aggregates).toMatchObject([
        {
          subscription: "orders/group",
          key: "busy",
          strategy: "actor-per-aggregate",
          slot: "busy",
          messages: 3,
          state: "running",
          attempt: 1
        },
        { key: "other", messages: 1, state: "running" }
      ])
      // What is idle has moved; what comes for a busy one goes behind what it has.
      yield* bus.publish(Orders, placed("idle", 11))
      yield* bus.publish(Orders, placed("busy", 4))
      yield* eventually("the idle one has moved", () => slots.includes("11 pool-0"))
      expect((yield* bus.dispatch.report).remaining).toBe(2)
      expect(events.some(({ _tag }) => _tag === "Moved")).toBe(false)
      yield* Deferred.succeed(gate, undefined)
      expect(yield* bus.dispatch.moved("1 minute")).toMatchObject({ remaining: 0, aggregates: [] })
      yield* bus.publish(Orders, placed("busy", 5))
      yield* eventually("all are handled", () => slots.length === 8)
      expect(slots.filter((line) => line.includes("busy") || line === "5 pool-0")).toEqual([
        "0 busy",
        "2 busy",
        "3 busy",
        "4 busy",
        "5 pool-0"
      ])
      const switched = events.filter(({ _tag }) => _tag === "Switched" || _tag === "Moved")
      expect(switched).toEqual(
        ["Switched", "Moved"].map((_tag) => ({ _tag, from: "actor-per-aggregate", to: "pool" }))
      )
      expect(lines.filter((line) => /INFO Dispatch: (from|all)/.test(line))).toHaveLength(2)
      // The actors of before have ended.
      expect((yield* (yield* bus.subscriptions)[0]!.stats).actors).toBe(0)
    }).pipe(provideBus(), Effect.provide(layer))
  })

  for (const strategy of [pool(1), { ...Strategy.actorPerAggregate, name: "other" }]) {
    it.scoped(`to ${strategy.name} moves a backlog as well if it is asked to, when the message in hand is done`, () =>
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const gates = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const slots: Array<string> = []
        yield* bus.subscribe(Orders, (event, { aggregateId }) =>
          Effect.gen(function*() {
            const n = event._tag === "Placed" ? event.n : -1
            const actor = String(Option.getOrThrow(HashMap.get(yield* Effect.logAnnotations, "eventbus.actor")))
            slots.push(`${aggregateId}${n} ${actor}`)
            if (n < 2) yield* Deferred.await(gates[n]!)
          }), dropping)
        yield* bus.publishAll(Orders, Array.from({ length: 6 }, (_, n) => placed("a", n)))
        yield* bus.publishAll(Orders, [placed("b", 6)])
        yield* eventually("two are in hand", () => slots.length === 1)
        yield* settle
        // The former pool has one slot, so `b` waits behind `a` and has nothing in hand.
        expect((yield* bus.dispatch.switchTo(strategy, { waiting: "move" })).aggregates).toMatchObject([{ key: "a" }])
        yield* eventually("b has moved", () => slots.length === 2)
        yield* Deferred.succeed(gates[0]!, undefined)
        yield* eventually("a's next one is in hand", () => slots.length === 3)
        expect((yield* bus.dispatch.report).remaining).toBe(0)
        yield* Deferred.succeed(gates[1]!, undefined)
        yield* eventually("all are handled", () => slots.length === 7)
        const slot = (key: string) => strategy.slots === "per-aggregate" ? key : "pool-0"
        expect(slots).toEqual(["a0 former-0", `b6 ${slot("b")}`, ...[1, 2, 3, 4, 5].map((n) => `a${n} ${slot("a")}`)])
      }).pipe(provideBus(), Effect.provide(Strategy.layer({ ...pool(1), name: "former" }))))
  }

  it.scoped("keeps what is held where it is, and the caller need not wait for ever", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      let isBroken = true
      const subscription = yield* bus.subscribe(
        Orders,
        () => Effect.suspend(() => isBroken ? Effect.fail("broken") : Effect.void),
        { onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop }) }
      )
      yield* bus.publish(Orders, placed("a", 0))
      yield* eventually("it is held", () => Effect.runSync(subscription.stats).held === 1)
      yield* bus.dispatch.switchTo("actor-pool")
      const waiting = yield* Effect.fork(bus.dispatch.moved("1 minute"))
      yield* settle
      yield* TestClock.adjust("1 minute")
      const report = yield* waiting
      expect(report.aggregates).toMatchObject([{ key: "a", state: "held", messages: 1 }])
      isBroken = false
      yield* TestClock.adjust("1 minute")
      yield* eventually("it has moved", () => Effect.runSync(bus.dispatch.report).remaining === 0)
    }).pipe(provideBus({ retryTimes: 0 })))

  it.scoped("lets those go on that waited for room in a slot that is stuck, or for a place", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen = recorder((n) => n === 0 ? Effect.never : Effect.void)
      yield* bus.subscribe(Orders, seen.handler, dropping)
      yield* bus.publishAll(Orders, [placed("stuck", 0), placed("b", 1), placed("c", 2)])
      yield* eventually("one is stuck", () => seen.started.length === 1)
      yield* settle
      yield* bus.dispatch.switchTo({ ...pool(64), name: "larger" })
      yield* eventually("the one that waited goes on", () => seen.ended.includes(2))
      // It waits in the slot, so its aggregate stays.
      expect((yield* bus.dispatch.report).aggregates.map(({ key, state }) => `${key} ${state}`)).toEqual([
        "stuck running",
        "b queued"
      ])
    }).pipe(
      provideBus({ maxActors: 2, closeDeadline: "0 millis" }),
      Effect.provide(Strategy.layer(pool(1, { capacity: 2 })))
    ))

  it.scopedLive("keeps the order of keys that are no ids, and loses no message without a key", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen = new Map<string, Array<number>>()
      let keyless = 0
      yield* bus.subscribe(Clicks, (body, { key }) =>
        Effect.gen(function*() {
          yield* Effect.yieldNow()
          if (key === null) return void keyless++
          const name = text(key)
          seen.set(name, [...seen.get(name) ?? [], Number(text(body))])
          if (Number(text(body)) % 7 === 3) yield* Effect.sleep(1)
        }), { semantics: "at-least-once", ...dropping })
      const ways: ReadonlyArray<Strategy.Service | Strategy.Name> = [
        pool(1),
        "actor-pool",
        { ...Strategy.actorPerAggregate, capacity: 1 },
        "keyed-workers",
        "actor-per-aggregate",
        pool(3, { capacity: 2 })
      ]
      for (let n = 0; n < 120; n++) {
        yield* bus.publishAll(Clicks, [
          ...["user@example.com", "bestellung-ü", "order 1"].map((key) => ({ key, body: `${n}` })),
          { body: "x" }
        ])
        if (n % 5 === 0) yield* bus.dispatch.switchTo(ways[(n / 5) % ways.length]!)
        if (n % 11 === 0) yield* settle
      }
      yield* eventually("all are handled", () => keyless === 120 && Array.from(seen.values()).flat().length === 360)
      for (const order of seen.values()) expect(order).toEqual(Array.from({ length: 120 }, (_, n) => n))
      expect(seen.size).toBe(3)
      expect(yield* bus.dispatch.moved("1 minute")).toMatchObject({ remaining: 0 })
    }).pipe(provideBus()))

  it.scoped("to a wrong strategy is a typed error, and nothing changes", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* EventBus.EventBus
      const error = yield* Effect.flip(dispatch.switchTo(pool(0, { reportFullAfter: -1 })))
      expect(error.issues).toEqual([
        "Strategy: slots.count: expected a whole number of at least 1, got 0",
        expect.stringContaining("Strategy: reportFullAfter")
      ])
      expect((yield* dispatch.report).strategy).toBe(Strategy.actorPerAggregate)
    }).pipe(provideBus()))

  it.scoped("from a handler, and fifty times, leaves no actor, no place and no memory of strategies behind", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen = recorder((n) =>
        Effect.asVoid(Effect.orDie(bus.dispatch.switchTo(pool(1 + n % 4, { name: `${n}` }))))
      )
      const { stats } = yield* bus.subscribe(Orders, seen.handler, dropping)
      for (let n = 0; n < 50; n++) yield* bus.publish(Orders, placed(`a${n % 5}`, n))
      yield* eventually("all are handled", () => seen.ended.length === 50)
      yield* bus.dispatch.moved("1 minute")
      yield* settle
      yield* bus.dispatch.switchTo("actor-per-aggregate")
      yield* settle
      expect((yield* stats).actors).toBe(0)
      // A place is free for each of as many aggregates as there may be actors.
      yield* bus.publishAll(Orders, Array.from({ length: 4 }, (_, n) => placed(`b${n}`, 100 + n)))
      yield* eventually("all are handled", () => seen.ended.length === 54)
    }).pipe(provideBus({ maxActors: 4 })))
})

describe("a canary", () => {
  const ids = Array.from({ length: 200 }, (_, n) => `order-${n}`)

  it.scoped("gives a share of the aggregates to the candidate, which keeps them when it grows, and is promoted or rolled back", () => {
    const sides = new Map<string, string>()
    const states = new Set<string>()
    const observer = Observer.layer({
      transition: ({ aggregateId, state, strategy }) => {
        states.add(`${state} ${strategy}`)
        if (state === "ended") sides.set(aggregateId!, strategy!)
      }
    })
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      let handled = 0
      yield* bus.subscribe(Orders, () => Effect.sync(() => handled++), dropping)
      const candidates = Effect.gen(function*() {
        sides.clear()
        handled = 0
        yield* bus.publishAll(Orders, ids.map((id, n) => placed(id, n)))
        yield* eventually("all are handled", () => handled === ids.length && sides.size === ids.length)
        return new Set(ids.filter((id) => sides.get(id) === "actor-pool"))
      })
      expect((yield* candidates).size).toBe(0)
      const report = yield* bus.dispatch.canary("actor-pool", 0.1)
      expect([report.strategy.name, report.canary?.strategy.name]).toEqual(["actor-per-aggregate", "actor-pool"])
      const tenth = yield* candidates
      expect(tenth.size).toBeGreaterThan(5)
      expect(tenth.size).toBeLessThan(40)
      expect(yield* candidates).toEqual(tenth)
      yield* bus.dispatch.canary("actor-pool", 0.5)
      const half = yield* candidates
      expect(half.size).toBeGreaterThan(70)
      expect(half.size).toBeLessThan(130)
      for (const id of tenth) expect(half).toContain(id)
      // Rolled back.
      expect((yield* bus.dispatch.switchTo("actor-per-aggregate")).canary).toBeUndefined()
      expect((yield* candidates).size).toBe(0)
      // By a function, and promoted.
      yield* bus.dispatch.canary(
        "actor-pool",
        (key, subscription) => key < "order-2" && subscription === "orders/group"
      )
      expect(yield* candidates).toEqual(new Set(ids.filter((id) => id < "order-2")))
      yield* bus.dispatch.switchTo("actor-pool")
      expect((yield* candidates).size).toBe(ids.length)
      expect(yield* bus.dispatch.moved("1 minute")).toMatchObject({ remaining: 0, canary: undefined })
      expect(Array.from(states).some((state) => state.includes("undefined"))).toBe(false)
    }).pipe(provideBus(), Effect.provide(observer))
  })

  it.scoped("goes to the present strategy where its function throws, which is said once", () => {
    const { layer, lines } = watched(pool(2))
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen = recorder()
      yield* bus.subscribe(Orders, seen.handler, dropping)
      yield* bus.dispatch.canary("keyed-workers", () => {
        throw new Error("the share broke")
      })
      yield* bus.publishAll(Orders, [placed("a", 0), placed("b", 1), placed("a", 2)])
      yield* eventually("all are handled", () => seen.ended.length === 3)
      expect(lines.filter((line) => /^WARN The canary's share threw/.test(line))).toHaveLength(1)
    }).pipe(provideBus(), Effect.provide(layer))
  })

  it.scoped("of no share, or of the present strategy, is a typed error", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* EventBus.EventBus
      const issues = (share: number) =>
        Effect.map(Effect.flip(dispatch.canary("actor-per-aggregate", share)), (error) => error.issues)
      expect(yield* issues(NaN)).toEqual([
        "canary: share: expected a number from 0 to 1, or a function, got NaN",
        "canary: actor-per-aggregate is the present strategy already"
      ])
    }).pipe(provideBus()))
})
