import { type Circuit, EventBus, FailurePolicy, Observer, Strategy, type Subscription } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Data, Deferred, Effect, Fiber, Logger, LogLevel, Option, Schedule, Stream, TestClock } from "effect"
import { eventually, settle } from "./Eventually.js"
import { Bad, Clicks, Dead, Orders, placed, provideBus, text } from "./Orders.js"

class Down extends Data.TaggedError("Down")<{ readonly message: string }> {}

const deadLetters = { onExhausted: FailurePolicy.deadLetter(Dead) }
const quiet = Logger.withMinimumLogLevel(LogLevel.None)
const every = (wait: "1 second" | "1 minute") => Schedule.spaced(wait)
const db = FailurePolicy.circuit({ name: "db", probe: every("1 second") })
const failing = { ...deadLetters, onError: FailurePolicy.byTag({ Down: db }) }

/** A handler that needs a database. */
const database = () => {
  const seen: Array<string> = []
  const calls: Array<string> = []
  const state = { isDown: false }
  const handler = (event: { readonly _tag: string; readonly n?: number }, delivery: { readonly aggregateId: string }) =>
    Effect.suspend((): Effect.Effect<void, Down> => {
      const name = `${delivery.aggregateId}${event.n}`
      calls.push(name)
      if (state.isDown) return Effect.fail(new Down({ message: "connection refused" }))
      seen.push(name)
      return Effect.void
    })
  return { seen, calls, state, handler }
}

const publish = (aggregate: string, ...numbers: ReadonlyArray<number>) =>
  Effect.flatMap(EventBus.EventBus, (bus) => bus.publishAll(Orders, numbers.map((n) => placed(aggregate, n))))

const circuits = Effect.flatMap(EventBus.EventBus, ({ circuits }) => circuits.list)

const pass = (time: "1 second" | "2 seconds" | "30 seconds" | "3 minutes" | "250 millis") =>
  Effect.zipRight(TestClock.adjust(time), settle)

const problemsOf = (subscription: Subscription.Subscription<unknown>) =>
  Effect.map(subscription.status, (status) => status?.problems ?? [])

/** Keeps the lines of the log. */
const logged = () => {
  const lines: Array<string> = []
  const logger = Logger.replace(
    Logger.defaultLogger,
    Logger.make(({ logLevel, message }) => void lines.push(`${logLevel.label} ${String(message)}`))
  )
  return { lines, logger }
}

const strategies = [
  Strategy.actorPerAggregate,
  Strategy.pool({ name: "one", size: 1 }),
  Strategy.pool({ name: "two", size: 2 })
]

describe("a circuit", () => {
  for (const strategy of strategies) {
    it.scoped(`keeps every message and its order while the dependency is away, with one call a probe (${strategy.name})`, () =>
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const { calls, handler, seen, state } = database()
        state.isDown = true
        const subscription = yield* bus.subscribe(Orders, handler, failing)
        for (const aggregate of ["a", "b", "c"]) yield* publish(aggregate, 1, 2, 3)
        yield* settle
        const before = calls.length
        expect(before).toBeLessThanOrEqual(3)
        expect(yield* circuits).toMatchObject([{
          name: "db",
          kind: "circuit",
          state: "open",
          subscriptions: ["orders/group"]
        }])
        for (let i = 0; i < 10; i++) yield* pass("1 second")
        expect(calls.length).toBe(before + 10)
        yield* publish("d", 1)
        yield* settle
        expect(calls.length).toBe(before + 10)
        expect(yield* problemsOf(subscription)).toEqual([{
          kind: "circuit",
          since: 0,
          message: "It waits for the dependency \"db\", which is down: Down: connection refused"
        }])
        state.isDown = false
        yield* pass("1 second")
        yield* eventually("all are handled", () => seen.length === 10)
        for (const aggregate of ["a", "b", "c"]) {
          expect(seen.filter((one) => one.startsWith(aggregate))).toEqual([1, 2, 3].map((n) => `${aggregate}${n}`))
        }
        expect(yield* circuits).toMatchObject([{ state: "closed", openedAt: undefined, reason: undefined }])
        expect(yield* problemsOf(subscription)).toEqual([])
        expect(yield* subscription.stats).toMatchObject({ deadLettered: 0, handled: 10 })
      }).pipe(provideBus(), Effect.provide(Strategy.layer(strategy)), quiet))
  }

  it.scoped("lets others in hand finish, and those that fail keep their retries, with a concurrency of 1", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const gate = yield* Deferred.make<void>()
      const attempts: Array<string> = []
      let isDown = true
      const subscription = yield* bus.subscribe(Orders, (event, { aggregateId, attempt }) =>
        Effect.gen(function*() {
          attempts.push(`${aggregateId}${attempt}`)
          if (aggregateId === "slow") return yield* Deferred.await(gate)
          if (aggregateId === "retried" && attempt === 1) return yield* new Bad({})
          if (isDown && aggregateId !== "retried") return yield* new Down({ message: "no" })
        }), { ...failing, concurrency: 2, retry: Schedule.recurs(1).pipe(Schedule.addDelay(() => "5 seconds")) })
      yield* publish("slow", 1)
      yield* publish("retried", 1)
      yield* settle
      yield* publish("down", 1)
      yield* settle
      expect(attempts).toEqual(["slow1", "retried1", "down1"])
      expect(Option.getOrThrow(yield* subscription.control.inspect("down"))).toMatchObject({
        waitsFor: "circuit",
        inHand: { state: "waiting", attempts: 1 }
      })
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      expect(yield* subscription.stats).toMatchObject({ handled: 1 })
      isDown = false
      yield* pass("1 second")
      expect(attempts).toEqual(["slow1", "retried1", "down1", "down2", "retried2"])
      expect(yield* subscription.stats).toMatchObject({ handled: 3, deadLettered: 0 })
    }).pipe(provideBus(), quiet))

  it.scoped("stops all subscriptions of the bus that have it, and at-most-once ones settle nothing more", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const one = database()
      const other = database()
      const plain: Array<string> = []
      yield* bus.subscribe(Orders, one.handler, { ...failing, group: "one" })
      yield* bus.subscribe(Orders, other.handler, { ...failing, group: "other" })
      const clicks = yield* bus.subscribe(Clicks, (body) => Effect.sync(() => plain.push(text(body))), {
        circuits: [db]
      })
      one.state.isDown = true
      yield* publish("a", 1)
      yield* settle
      const before = other.calls.length
      yield* publish("a", 2)
      yield* bus.publish(Clicks, { body: "click" })
      yield* settle
      expect([one.calls.length, other.calls.length, plain, (yield* clicks.stats).received]).toEqual([1, before, [], 0])
      one.state.isDown = false
      yield* pass("1 second")
      yield* eventually("all go on", () => one.seen.length === 2 && other.seen.length === 2 && plain.length === 1)
    }).pipe(provideBus(), quiet))

  it.scoped("closes when the probe fails by something else, which goes its policy's way", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      let failure: Down | Bad = new Down({ message: "no" })
      const subscription = yield* bus.subscribe(
        Orders,
        (event): Effect.Effect<void, Down | Bad> => event._tag === "Placed" && event.n === 1 ? failure : Effect.void,
        { ...deadLetters, onError: FailurePolicy.byTag({ Down: db, Bad: FailurePolicy.deadLetter(Dead) }) }
      )
      yield* publish("a", 1, 2)
      yield* settle
      failure = new Bad({})
      yield* pass("1 second")
      yield* eventually("the other is handled", () => true)
      yield* settle
      expect(yield* subscription.stats).toMatchObject({ deadLettered: 1, handled: 1 })
      expect(yield* circuits).toMatchObject([{ state: "closed" }])
    }).pipe(provideBus(), quiet))

  it.scoped("closes when the probe dies, and the message goes its supervisor's way", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      let isDown = true
      const subscription = yield* bus.subscribe(
        Orders,
        (event) =>
          event._tag !== "Placed" || event.n !== 1
            ? Effect.void
            : isDown
            ? new Down({ message: "no" })
            : Effect.die("died"),
        failing
      )
      yield* publish("a", 1, 2)
      yield* settle
      isDown = false
      yield* pass("1 second")
      expect(yield* circuits).toMatchObject([{ state: "closed" }])
      yield* pass("30 seconds")
      yield* eventually("both have ended", () => true)
      expect(yield* subscription.stats).toMatchObject({ deadLettered: 1, handled: 1, restarted: 4 - 1 + 1 })
    }).pipe(provideBus(), quiet))

  it.scoped("takes another message to probe with where one never gets through", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      let isDown = true
      const handled: Array<string> = []
      yield* bus.subscribe(Orders, (_, { aggregateId }) =>
        isDown || aggregateId === "poison"
          ? new Down({ message: "no" })
          : Effect.sync(() => handled.push(aggregateId)), failing)
      yield* publish("poison", 1)
      yield* settle
      yield* publish("a", 1)
      isDown = false
      for (let i = 0; i < 10; i++) yield* pass("1 second")
      expect(handled).toEqual(["a"])
    }).pipe(provideBus(), quiet))

  it.scoped("that has no message to probe with takes the next one that comes", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { calls, handler, state } = database()
      state.isDown = true
      const subscription = yield* bus.subscribe(Orders, handler, failing)
      yield* publish("a", 1)
      yield* settle
      expect(yield* subscription.control.giveUp("a")).toBe(true)
      yield* settle
      expect(yield* subscription.stats).toMatchObject({ deadLettered: 1 })
      yield* pass("2 seconds")
      expect(yield* circuits).toMatchObject([{ state: "half-open" }])
      state.isDown = false
      yield* publish("b", 1, 2)
      yield* settle
      yield* pass("250 millis")
      yield* eventually("they are handled", () => calls.length === 3)
      expect(yield* circuits).toMatchObject([{ state: "closed" }])
    }).pipe(provideBus(), quiet))

  it.scoped("keeps messages without a key as well, and what has no probe dies no more of its schedule", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const handled: Array<string> = []
      let isDown = true
      yield* bus.subscribe(
        Clicks,
        (body) => isDown ? new Down({ message: "no" }) : Effect.sync(() => handled.push(text(body))),
        {
          semantics: "at-least-once",
          ...deadLetters,
          onError: () => ({ ...db, name: 7, probe: "soon" } as never)
        }
      )
      for (const body of ["1", "2", "3", "4"]) yield* bus.publish(Clicks, { body })
      yield* settle
      yield* pass("30 seconds")
      isDown = false
      yield* pass("3 minutes")
      expect(handled.slice().sort()).toEqual(["1", "2", "3", "4"])
      expect(yield* circuits).toMatchObject([{ name: "clicks/group", state: "closed" }])
    }).pipe(provideBus(), quiet))

  it.scoped("is asked for by right options only", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const refused = yield* Effect.flip(
        bus.subscribe(Orders, () => Effect.void, {
          ...deadLetters,
          circuits: ["db"] as never,
          guard: { from: 0, percent: 0.5, window: "soon" as never, probe: 7 as never }
        })
      )
      expect(refused).toMatchObject({ _tag: "InvalidConfiguration" })
      expect((refused as { readonly issues: ReadonlyArray<string> }).issues.map((issue) => issue.split(":")[0]))
        .toEqual([
          "circuits",
          "guard.from",
          "guard.percent",
          "guard.window",
          "guard.probe"
        ])
      const others = yield* Effect.flip(
        bus.subscribe(Orders, () => Effect.void, { ...deadLetters, guard: { percent: 101, form: 1 } as never })
      )
      expect((others as { readonly issues: ReadonlyArray<string> }).issues).toEqual([
        expect.stringContaining("guard.percent: expected a whole number from 1 to 100"),
        "guard.form: there is no such option"
      ])
    }).pipe(provideBus()))

  it.scoped("does not probe what is paused by hand, and closes when that goes on", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { calls, handler, seen, state } = database()
      state.isDown = true
      const { control } = yield* bus.subscribe(Orders, handler, failing)
      yield* publish("a", 1, 2)
      yield* settle
      yield* control.pause()
      state.isDown = false
      for (let i = 0; i < 5; i++) yield* pass("1 second")
      expect(calls.length).toBe(1)
      expect(yield* control.resume).toBe(true)
      yield* settle
      expect(calls.length).toBe(1)
      yield* pass("1 second")
      expect(seen).toEqual(["a1", "a2"])
    }).pipe(provideBus(), quiet))

  it.scoped("closes with its subscription at once, and what it kept comes again", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { handler, seen, state } = database()
      state.isDown = true
      const { close } = yield* bus.subscribe(Orders, handler, failing)
      yield* publish("a", 1, 2)
      yield* publish("b", 1)
      yield* settle
      expect(yield* close).toEqual({ unfinished: 3, lost: 0 })
      expect(yield* circuits).toEqual([])
      state.isDown = false
      yield* bus.subscribe(Orders, handler, failing)
      yield* eventually("all are handled", () => seen.length === 3)
      expect(seen.filter((one) => one.startsWith("a"))).toEqual(["a1", "a2"])
    }).pipe(provideBus(), quiet))

  it.scoped("is opened and closed by hand, tells each change, and has its lines in the log", () => {
    const { lines, logger } = logged()
    const told: Array<Circuit.Change> = []
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { handler, seen, state } = database()
      yield* bus.subscribe(Orders, handler, failing)
      const changes = yield* Effect.fork(Stream.runCollect(Stream.take(bus.circuits.changes, 2)))
      yield* settle
      expect(yield* bus.circuits.open("unknown")).toBe(false)
      expect(yield* bus.circuits.open("db", { reason: "it is being moved" })).toBe(true)
      yield* publish("a", 1)
      yield* pass("30 seconds")
      expect(seen).toEqual([])
      expect(yield* circuits).toMatchObject([{ isByHand: true, reason: "it is being moved" }])
      expect(yield* bus.circuits.close("db")).toBe(true)
      expect(yield* bus.circuits.close("db")).toBe(false)
      yield* eventually("it is handled", () => seen.length === 1)
      expect(Array.from(yield* Fiber.join(changes), ({ from, state }) => `${from} ${state}`)).toEqual([
        "closed open",
        "open closed"
      ])
      state.isDown = true
      yield* publish("a", 2)
      yield* settle
      state.isDown = false
      yield* pass("1 second")
      expect(told.map(({ from, state }) => `${from} ${state}`)).toEqual([
        "closed open",
        "open closed",
        "closed open",
        "open half-open",
        "half-open closed"
      ])
      expect(lines.filter((line) => line.includes("db"))).toEqual([
        "WARN Circuit \"db\" is open, and nothing begins in orders/group until somebody closes it: it is being moved",
        "INFO Circuit \"db\" is closed after 30 s, and all go on: orders/group",
        "WARN Circuit \"db\" is open, and nothing begins in orders/group until a message that probes has succeeded: Down: connection refused",
        "INFO Circuit \"db\" is closed after 1 s, and all go on: orders/group"
      ])
    }).pipe(
      provideBus(),
      Effect.provide(
        Observer.layer({ event: (event) => void (event._tag === "Circuit" ? told.push(event.change) : 0) })
      ),
      Effect.provide(logger)
    )
  })

  it.scoped("goes on with the default schedule where its own dies, and stays open where that has ended", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { calls, handler, seen, state } = database()
      state.isDown = true
      const dying = Schedule.spaced("1 second").pipe(Schedule.tapOutput(() => Effect.die("died")))
      yield* bus.subscribe(Orders, handler, {
        ...deadLetters,
        onError: () => FailurePolicy.circuit({ probe: dying })
      })
      yield* publish("a", 1)
      yield* pass("30 seconds")
      expect(calls.length).toBeGreaterThan(2)
      state.isDown = false
      yield* pass("3 minutes")
      expect(seen).toEqual(["a1"])
      state.isDown = true
      yield* bus.subscribe(Orders, handler, {
        ...deadLetters,
        group: "ends",
        onError: () => FailurePolicy.circuit({ probe: Schedule.recurs(1) })
      })
      yield* pass("3 minutes")
      expect(yield* circuits).toMatchObject([{ state: "closed" }, { state: "open", name: "orders/ends" }])
      state.isDown = false
      expect(yield* bus.circuits.close("orders/ends")).toBe(true)
      yield* eventually("it is handled", () => seen.length === 2)
    }).pipe(provideBus(), quiet))
})

describe("an outage of 120 s under load", () => {
  it.scoped(
    "leaves no dead letter with a circuit, and all are handled in order afterwards",
    () =>
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const { calls, handler, seen, state } = database()
        const subscription = yield* bus.subscribe(Orders, handler, {
          ...deadLetters,
          onError: FailurePolicy.byTag({ Down: FailurePolicy.circuit({ name: "db" }) })
        })
        const aggregates = Array.from({ length: 200 }, (_, i) => `a-${i}-`)
        state.isDown = true
        for (let n = 1; n <= 5; n++) {
          for (const aggregate of aggregates) yield* publish(aggregate, n)
          yield* pass("30 seconds")
        }
        yield* settle
        const during = calls.length
        state.isDown = false
        yield* pass("30 seconds")
        yield* pass("30 seconds")
        yield* eventually("all are handled", () => seen.length === 1_000)
        for (const aggregate of aggregates) {
          expect(seen.filter((one) => one.startsWith(aggregate))).toEqual(
            [1, 2, 3, 4, 5].map((n) => `${aggregate}${n}`)
          )
        }
        expect(yield* subscription.stats).toMatchObject({ deadLettered: 0 })
        expect(during).toBeLessThan(300)
      }).pipe(provideBus({}, { partitions: 1 }), quiet),
    30_000
  )

  it.scoped("leaves 200 dead letters with the guard alone; the rest is handled in order once somebody says so", () => {
    const { lines, logger } = logged()
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { calls, handler, seen, state } = database()
      const subscription = yield* bus.subscribe(Orders, handler, {
        ...deadLetters,
        retry: Schedule.recurs(3)
      })
      const aggregates = Array.from({ length: 200 }, (_, i) => `a-${i}-`)
      state.isDown = true
      for (const aggregate of aggregates) yield* publish(aggregate, 1, 2, 3, 4, 5)
      yield* eventually("it is stopped", () => calls.length >= 4 * 200)
      yield* settle
      expect(yield* subscription.stats).toMatchObject({ deadLettered: 200, handled: 0 })
      const before = calls.length
      expect(yield* circuits).toMatchObject([{ kind: "guard", state: "open", name: "orders/group" }])
      expect(yield* problemsOf(subscription)).toMatchObject([{ kind: "guard" }])
      state.isDown = false
      yield* pass("3 minutes")
      expect(calls.length).toBe(before)
      expect(yield* subscription.control.goOn).toBe(true)
      expect(yield* subscription.control.goOn).toBe(false)
      yield* eventually("the rest is handled", () => seen.length === 800)
      expect(lines.filter((line) => line.startsWith("WARN The guard"))).toEqual([
        "WARN The guard has stopped subscription orders/group, because too many messages would be given up: 200 messages in a row were given up; the last one: Down: connection refused. Nothing more is begun or lost. Mend what they fail at, then say control.goOn. Or set other bounds, or guard: \"off\""
      ])
      for (const aggregate of aggregates) {
        const of = seen.filter((one) => one.startsWith(aggregate))
        expect(of).toEqual([...of].sort())
        // Of the first ones all were given up.
        expect(of.at(-1) ?? `${aggregate}5`).toBe(`${aggregate}5`)
      }
    }).pipe(provideBus(), Effect.provide(logger))
  }, 30_000)
})

describe("the guard", () => {
  const bad = (n: number) => n % 2 === 0 ? new Bad({}) : Effect.void

  it.scoped("does not mind some bad messages, nor many among more good ones", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const subscription = yield* bus.subscribe(
        Orders,
        (event) => event._tag === "Placed" && event.n % 3 === 0 ? bad(0) : Effect.void,
        { ...deadLetters, onError: () => FailurePolicy.drop }
      )
      yield* publish("a", ...Array.from({ length: 900 }, (_, n) => n))
      yield* settle
      expect(yield* subscription.stats).toMatchObject({ dropped: 300, handled: 600 })
      expect(yield* subscription.control.goOn).toBe(false)
    }).pipe(provideBus(), quiet))

  it.scoped("stops where a share of them would be given up, counts bytes and unknown types, and keeps the order", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const handled: Array<number> = []
      const subscription = yield* bus.subscribe(
        Orders,
        (event) => event._tag === "Placed" && event.n < 40 ? bad(event.n) : Effect.sync(() => void handled.push(1)),
        { ...deadLetters, onError: () => FailurePolicy.drop, guard: { from: 10, percent: 50 } }
      )
      yield* publish("a", ...Array.from({ length: 100 }, (_, n) => n))
      yield* settle
      expect(yield* subscription.stats).toMatchObject({ dropped: 10, handled: 10 })
      expect(yield* subscription.control.goOn).toBe(true)
      yield* settle
      expect(yield* subscription.stats).toMatchObject({ dropped: 20, handled: 20 + 60 })
    }).pipe(provideBus(), quiet))

  it.scoped("goes on by itself where a message may probe", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { calls, handler, seen, state } = database()
      state.isDown = true
      yield* bus.subscribe(Orders, handler, {
        ...deadLetters,
        retry: Schedule.recurs(1),
        guard: { from: 3, probe: every("1 second") }
      })
      yield* publish("a", 1, 2, 3, 4, 5, 6)
      yield* settle
      expect(calls.length).toBe(8)
      yield* pass("1 second")
      yield* pass("1 second")
      expect(calls.length).toBe(12)
      state.isDown = false
      yield* pass("1 second")
      expect(seen).toEqual(["a4", "a5", "a6"])
    }).pipe(provideBus(), quiet))

  it.scoped("has no probe begin while somebody has paused the subscription, or its aggregate", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { calls, handler, seen, state } = database()
      state.isDown = true
      const { control } = yield* bus.subscribe(Orders, handler, {
        ...deadLetters,
        retry: Schedule.intersect(Schedule.spaced("2 seconds"), Schedule.recurs(3)),
        guard: { from: 1, probe: every("1 second") }
      })
      yield* publish("a", 1, 2, 3)
      yield* settle
      for (let i = 0; i < 8; i++) yield* pass("2 seconds")
      yield* pass("1 second")
      const before = calls.length
      expect(before).toBeGreaterThan(8)
      expect(yield* circuits).toMatchObject([{ state: "half-open" }])
      // The probe waits for its retry.
      yield* control.pause()
      yield* pass("30 seconds")
      yield* control.pauseAggregate("a")
      yield* control.resume
      yield* pass("30 seconds")
      expect(calls.length).toBe(before)
      state.isDown = false
      yield* control.resumeAggregate("a")
      yield* pass("250 millis")
      expect(seen).toEqual(["a2", "a3"])
    }).pipe(provideBus(), quiet))

  it.scoped("is off by name, and lets through what is given up by hand", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const off = yield* bus.subscribe(Orders, () => new Bad({}), {
        ...deadLetters,
        onError: () => FailurePolicy.drop,
        guard: "off"
      })
      const on = yield* bus.subscribe(Orders, () => new Bad({}), {
        ...deadLetters,
        group: "on",
        onError: () => FailurePolicy.drop,
        guard: { from: 1 }
      })
      yield* publish("a", ...Array.from({ length: 500 }, (_, n) => n))
      yield* settle
      expect(yield* off.stats).toMatchObject({ dropped: 500 })
      expect(yield* on.stats).toMatchObject({ dropped: 1 })
      expect(yield* on.control.giveUp("a", { policy: FailurePolicy.drop })).toBe(true)
      yield* settle
      expect(yield* on.stats).toMatchObject({ dropped: 2 })
    }).pipe(provideBus(), quiet))
})
