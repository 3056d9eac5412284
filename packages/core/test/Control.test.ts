import { type Control, EventBus, FailurePolicy, Strategy, type Subscription } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Logger, LogLevel, Option, Schedule, TestClock } from "effect"
import { eventually, settle } from "./Eventually.js"
import { setup } from "./LaneProbe.js"
import { Bad, Clicks, Dead, dropping, Orders, placed, provideBus, recorder, text } from "./Orders.js"
import { messages } from "./ScriptedAssignment.js"

const holding = { onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop }) }

const publish = (aggregate: string, ...numbers: ReadonlyArray<number>) =>
  Effect.flatMap(EventBus.EventBus, (bus) => bus.publishAll(Orders, numbers.map((n) => placed(aggregate, n))))

const seen = ({ control }: Subscription.Subscription<unknown>, aggregate: string) =>
  Effect.map(control.inspect(aggregate), Option.getOrUndefined)

const quiet = Logger.withMinimumLogLevel(LogLevel.None)

describe("a paused aggregate", () => {
  it.scoped("that has no name is none: messages without a key go on", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const handled: Array<string> = []
      const { control } = yield* bus.subscribe(Clicks, (body) => Effect.sync(() => handled.push(text(body))), {
        semantics: "at-least-once",
        ...dropping
      })
      yield* control.pauseAggregate("")
      yield* bus.publish(Clicks, { body: "one" })
      yield* eventually("it is handled", () => handled.length === 1)
    }).pipe(provideBus()))

  for (const strategy of [Strategy.actorPerAggregate, Strategy.pool({ name: "one", size: 1 })]) {
    it.scoped(`lets the handler that runs finish, begins nothing more, and keeps nobody waiting (${strategy.name})`, () =>
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const gate = yield* Deferred.make<void>()
        const { ended, handler, started } = recorder((n) => n === 1 ? Deferred.await(gate) : Effect.void)
        const subscription = yield* bus.subscribe(Orders, handler, dropping)
        yield* publish("a", 1, 2)
        yield* eventually("1 runs", () => started.length === 1)
        yield* subscription.control.pauseAggregate("a", { reason: "an invoice is wrong" })
        yield* publish("a", 3)
        yield* publish("b", 10)
        yield* Deferred.succeed(gate, undefined)
        yield* eventually("the stranger is handled", () => ended.length === 2)
        yield* publish("a", 4)
        yield* settle
        expect([...ended].sort()).toEqual([1, 10])
        expect(yield* seen(subscription, "a")).toEqual({
          aggregate: "a",
          pause: { since: 0, until: undefined, reason: "an invoice is wrong", survivesRebalance: false },
          concerns: ["paused"],
          waitsFor: "paused",
          waiting: 3,
          inHand: undefined
        })
        expect(yield* subscription.control.resumeAggregate("a")).toBe(true)
        expect(yield* subscription.control.resumeAggregate("a")).toBe(false)
        yield* eventually("the rest is handled", () => ended.length === 5)
        expect(ended.filter((n) => n < 10)).toEqual([1, 2, 3, 4])
        expect(yield* seen(subscription, "a")).toBeUndefined()
      }).pipe(provideBus(), Effect.provide(Strategy.layer(strategy))))

    it.scoped(`whose message waits for a retry steps aside, and goes on with its attempts (${strategy.name})`, () =>
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const attempts: Array<number> = []
        const { ended, handler } = recorder((n, attempt) => {
          if (n === 1) attempts.push(attempt)
          return n === 1 && attempt < 3 ? new Bad({}) : Effect.void
        })
        const subscription = yield* bus.subscribe(Orders, handler, {
          ...dropping,
          retry: Schedule.spaced("1 hour")
        })
        yield* publish("a", 1, 2)
        yield* eventually("1 has failed", () => attempts.length === 1)
        yield* settle
        yield* subscription.control.pauseAggregate("a")
        yield* settle
        yield* publish("b", 10)
        yield* eventually("the stranger is handled", () => ended.includes(10))
        yield* TestClock.adjust("2 hours")
        yield* settle
        expect(attempts).toEqual([1])
        expect(yield* seen(subscription, "a")).toMatchObject({
          concerns: ["paused", "retrying"],
          waiting: 1,
          inHand: { attempts: 1, state: "waiting", cause: "Bad" }
        })
        expect(yield* subscription.control.retryNow("a")).toBe(false)
        yield* subscription.control.resumeAggregate("a")
        yield* eventually("it was tried again", () => attempts.length === 2)
        yield* settle
        expect(yield* subscription.control.retryNow("a")).toBe(true)
        yield* eventually("all are handled", () => ended.length === 3)
        expect([attempts, ended]).toEqual([[1, 2, 3], [10, 1, 2]])
      }).pipe(provideBus(), Effect.provide(Strategy.layer(strategy)), quiet))
  }

  it.scoped("goes on at its time, also if that is a date, or more than a day away", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { ended, handler } = recorder()
      const { control } = yield* bus.subscribe(Orders, handler, dropping)
      yield* control.pauseAggregate("a", { until: "1 minute" })
      yield* control.pauseAggregate("b", { until: new Date(120_000) })
      yield* control.pauseAggregate("c", { until: "30 hours" })
      yield* control.pauseAggregate("d", { until: new Date(NaN) })
      yield* control.pauseAggregate("e", { until: "1 minute" })
      yield* control.pauseAggregate("e", { until: "2 minutes" })
      yield* publish("a", 1)
      yield* publish("b", 2)
      yield* publish("c", 3)
      yield* publish("e", 5)
      yield* TestClock.adjust("59 seconds")
      yield* settle
      expect(ended).toEqual([])
      yield* TestClock.adjust("1 second")
      yield* eventually("the first goes on", () => ended.length === 1)
      yield* TestClock.adjust("1 minute")
      yield* eventually("so do others", () => ended.length === 3)
      yield* settle
      expect([...ended].sort()).toEqual([1, 2, 5])
      yield* TestClock.adjust("31 hours")
      yield* eventually("so does the last", () => ended.length === 4)
      expect((yield* control.list()).aggregates).toEqual([])
    }).pipe(provideBus()))

  it.scoped("stops its lane when its place is full, and not before", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { ended, handler } = recorder()
      const { control } = yield* bus.subscribe(Orders, handler, dropping)
      yield* control.pauseAggregate("a")
      yield* publish("a", 1, 2, 3)
      yield* publish("b", 10)
      yield* eventually("the stranger is handled", () => ended.length === 1)
      yield* publish("a", 4)
      yield* publish("b", 11)
      yield* settle
      expect(ended).toEqual([10])
      yield* control.resumeAggregate("a")
      yield* eventually("all are handled", () => ended.length === 6)
      expect(ended.filter((n) => n < 10)).toEqual([1, 2, 3, 4])
    }).pipe(provideBus({ mailboxCapacity: 3 })))

  it.scoped("does not keep closing waiting, and its messages come again", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { ended, handler } = recorder((n, attempt) => n === 5 && attempt === 1 ? new Bad({}) : Effect.void)
      const subscription = yield* bus.subscribe(Orders, handler, { ...dropping, retry: Schedule.spaced("1 hour") })
      yield* publish("b", 5, 6)
      yield* eventually("5 has failed", () => true)
      yield* settle
      yield* subscription.control.pauseAggregate("a")
      yield* subscription.control.pauseAggregate("b")
      yield* publish("a", 1, 2)
      yield* publish("c", 3)
      yield* eventually("the stranger is handled", () => ended.length === 1)
      expect(yield* subscription.close).toEqual({ unfinished: 4, lost: 0 })
      yield* bus.subscribe(Orders, recorder((n) => Effect.sync(() => void ended.push(n))).handler, dropping)
      yield* eventually("they come again", () => ended.includes(6) && ended.includes(2))
      expect(ended).toEqual(expect.arrayContaining([3, 5, 6, 1, 2]))
    }).pipe(provideBus(), quiet))

  it.scoped("is moved to a slot of the new strategy when it goes on", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { ended, handler } = recorder()
      const { control } = yield* bus.subscribe(Orders, handler, dropping)
      yield* control.pauseAggregate("a")
      yield* publish("a", 1, 2)
      yield* settle
      yield* bus.dispatch.switchTo(Strategy.pool({ name: "pool", size: 2 }))
      yield* publish("a", 3)
      yield* control.resumeAggregate("a")
      yield* eventually("all are handled", () => ended.length === 3)
      expect(ended).toEqual([1, 2, 3])
    }).pipe(provideBus()))

  it.scoped("is one of 10,000 at most", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { control } = yield* bus.subscribe(Orders, () => Effect.void, dropping)
      for (let i = 0; i < 10_000; i++) yield* control.pauseAggregate(`a-${i}`)
      yield* control.pauseAggregate("a-1")
      expect(yield* Effect.flip(control.pauseAggregate("one more"))).toMatchObject({
        _tag: "TooManyPaused",
        limit: 10_000
      })
      const first = yield* control.list({ limit: 6_000 })
      expect([first.aggregates.length, first.next]).toEqual([1_000, first.aggregates[999]?.aggregate])
      let count = 0
      for (let page: Control.Page = first;; page = yield* control.list({ limit: 1_000, after: page.next! })) {
        count += page.aggregates.length
        if (page.next === undefined) break
      }
      expect(count).toBe(10_000)
    }).pipe(provideBus()))

  it.scoped("stays paused when its partition goes and comes again only if that was asked for", () =>
    Effect.gen(function*() {
      const { assign, mailboxes, probe } = yield* setup("at-least-once")
      const pause = { since: 0, until: undefined, reason: undefined }
      const ended: Array<string> = []
      mailboxes.onPauseEnded = (key) => void ended.push(key)
      mailboxes.pauses.pause("a", { ...pause, survivesRebalance: false })
      mailboxes.pauses.pause("b", { ...pause, survivesRebalance: true })
      mailboxes.pauses.pause("c", { ...pause, survivesRebalance: false })
      const lost = [...messages("a", 2), ...messages("b", 2)]
      const one = assign()
      const other = assign(1)
      one.append(...lost)
      const kept = messages("c", 1)
      other.append(...kept)
      yield* settle
      expect(probe.started).toEqual([])
      expect(yield* one.close({ deadline: Duration.zero, finishQueued: false })).toEqual({ unfinished: 4, lost: 0 })
      expect(ended).toEqual(["a"])
      const again = assign()
      again.append(...lost)
      yield* eventually("a is handled", () => again.finished.length === 2)
      yield* settle
      expect(again.finished).toEqual(lost.slice(0, 2).map(({ offset }) => offset))
      for (const aside of Array.from(mailboxes.paused!.asides.values())) mailboxes.paused!.resume(aside)
      yield* eventually("the others are handled", () => again.finished.length === 4 && other.finished.length === 1)
      expect(mailboxes.paused).toBeUndefined()
      expect([...one.violations, ...other.violations, ...again.violations]).toEqual([])
    }))
})

describe("a paused subscription", () => {
  it.scoped("begins nothing, whatever waits, and goes on in order", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { ended, handler, started } = recorder((n, attempt) =>
        n % 10 === 0 && attempt === 1 ? new Bad({}) : Effect.void
      )
      const { control } = yield* bus.subscribe(Orders, handler, { ...dropping, retry: Schedule.spaced("1 hour") })
      for (const a of [1, 2, 3]) yield* publish(`a-${a}`, a * 10, a * 10 + 1)
      yield* eventually("all first ones have failed", () => started.length === 3)
      yield* settle
      yield* control.pause({ until: "1 day", reason: "the database is away" })
      expect(yield* control.paused).toMatchObject({ _tag: "Some", value: { until: 86_400_000 } })
      for (const a of [1, 2, 3, 4]) yield* publish(`a-${a}`, a * 10 + 2)
      yield* control.pauseAggregate("a-2")
      yield* TestClock.adjust("12 hours")
      yield* settle
      expect(started.length).toBe(3)
      expect(yield* control.list({ only: ["retrying"] })).toMatchObject({
        aggregates: [{ aggregate: "a-1", waitsFor: "subscription-paused" }, { waitsFor: "paused" }, {}],
        next: undefined
      })
      yield* TestClock.adjust("12 hours")
      yield* eventually("all but one go on", () => ended.length === 7)
      yield* settle
      expect([1, 2, 3, 4].map((a) => ended.filter((n) => Math.floor(n / 10) === a))).toEqual([
        [10, 11, 12],
        [],
        [30, 31, 32],
        [42]
      ])
      expect(yield* control.resume).toBe(false)
      yield* control.resumeAggregate("a-2")
      yield* eventually("so does the last", () => ended.length === 10)
    }).pipe(provideBus(), quiet))

  it.scoped("handles what was settled before when it closes, so that nothing is lost", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const gate = yield* Deferred.make<void>()
      const bodies: Array<string> = []
      const subscription = yield* bus.subscribe(Clicks, (_, { value }) => {
        bodies.push(text(value))
        return Deferred.await(gate)
      })
      for (let i = 0; i < 5; i++) yield* bus.publish(Clicks, { key: "k", body: `${i}` })
      for (let i = 0; i < 5; i++) yield* bus.publish(Clicks, { body: `x${i}` })
      yield* eventually("some run", () => bodies.length >= 6)
      yield* subscription.control.pause()
      yield* bus.publish(Clicks, { key: "k", body: "later" })
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      expect(bodies.length).toBe(6)
      expect(yield* subscription.close).toEqual({ unfinished: 0, lost: 0 })
      expect(bodies.filter((body) => !body.startsWith("x"))).toEqual(["0", "1", "2", "3", "4"])
    }).pipe(provideBus()))
})

describe("a message in hand", () => {
  it.scoped("that waits for its restart or is held is tried at once", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const attempts: Array<number> = []
      const { control, stats } = yield* bus.subscribe(Orders, (_, { attempt }) => {
        attempts.push(attempt)
        return attempt === 1 ? Effect.die("died") : attempt < 5 ? Effect.fail("failed") : Effect.void
      }, { ...holding, retry: Schedule.stop })
      yield* publish("a", 1)
      yield* eventually("it has died", () => attempts.length === 1)
      yield* settle
      expect(yield* control.list()).toMatchObject({ aggregates: [{ waitsFor: "restart", concerns: ["retrying"] }] })
      for (let i = 2; i <= 5; i++) {
        expect(yield* control.retryNow("a")).toBe(true)
        yield* eventually("it is tried", () => attempts.length === i)
        yield* settle
        if (i < 5) {
          expect(yield* control.list()).toMatchObject({ aggregates: [{ waitsFor: "held", concerns: ["held"] }] })
        }
      }
      expect(attempts).toEqual([1, 2, 3, 4, 5])
      expect(yield* stats).toMatchObject({ handled: 1, held: 0, restarted: 1 })
      expect(yield* control.retryNow("a")).toBe(false)
    }).pipe(provideBus({ restartBase: "1 hour" }), quiet))

  it.scoped("is given up: one that runs, one that waits, a held one to a policy of its own, a paused one", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const dead: Array<string> = []
      yield* bus.subscribe(Dead, (_, { headers }) => {
        dead.push(JSON.stringify(headers))
        return Effect.void
      }, { ...dropping, group: "dead" })
      const { handler, started } = recorder((n) =>
        n === 1 ? Effect.never : n === 2 || n === 3 ? new Bad({}) : Effect.void
      )
      const { control, stats } = yield* bus.subscribe(Orders, handler, {
        ...holding,
        retry: Schedule.recurs(0)
      })
      const policy = FailurePolicy.deadLetter(Dead)
      yield* publish("runs", 1, 11)
      yield* publish("held", 2, 12)
      yield* eventually("both have begun", () => started.length === 2)
      yield* settle
      expect(yield* control.giveUp("held")).toBe(false)
      expect(yield* control.giveUp("nobody")).toBe(false)
      expect(yield* Effect.flip(control.giveUp("held", { policy: FailurePolicy.deadLetter(Orders) }))).toMatchObject({
        _tag: "InvalidConfiguration"
      })
      expect(yield* control.giveUp("runs", { policy, reason: "it hangs" })).toBe(true)
      expect(yield* control.giveUp("held", { policy })).toBe(true)
      yield* control.pauseAggregate("paused")
      yield* publish("paused", 3, 13)
      yield* settle
      expect(yield* control.giveUp("paused", { policy: FailurePolicy.drop })).toBe(true)
      yield* eventually("followers begin", () => started.includes(11) && started.includes(12))
      yield* eventually("letters have come", () => dead.length === 2)
      expect(dead.some((one) => one.includes("It was given up by hand: it hangs"))).toBe(true)
      yield* settle
      expect(started.includes(3) || started.includes(13)).toBe(false)
      expect(yield* seen({ control } as never, "paused")).toMatchObject({ waiting: 1 })
      expect(yield* stats).toMatchObject({ deadLettered: 2, dropped: 1, held: 0, handled: 2, restarted: 0 })
      yield* control.resumeAggregate("paused")
      yield* eventually("the rest is handled", () => started.includes(13))
    }).pipe(provideBus(), quiet))

  for (const policy of [FailurePolicy.drop, FailurePolicy.deadLetter(Dead)]) {
    it.scoped(`goes its way already where onFailure is being told of its end (${policy._tag})`, () =>
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const gate = yield* Deferred.make<void>()
        let told = 0
        const { control, stats } = yield* bus.subscribe(Orders, () => new Bad({}), {
          onExhausted: policy,
          retry: Schedule.recurs(0),
          onFailure: () => Effect.suspend(() => ++told === 1 ? Deferred.await(gate) : Effect.void)
        })
        yield* publish("a", 1)
        yield* eventually("onFailure runs", () => told === 1)
        expect(yield* control.giveUp("a")).toBe(false)
        expect(yield* control.giveUp("a", { policy: FailurePolicy.drop })).toBe(false)
        yield* settle
        yield* Deferred.succeed(gate, undefined)
        const ended = Effect.map(stats, ({ deadLettered, dropped }) => [deadLettered, dropped])
        while ((yield* ended).every((count) => count === 0)) yield* settle
        expect(yield* ended).toEqual(policy._tag === "Drop" ? [0, 1] : [1, 0])
        expect(told).toBe(1)
      }).pipe(provideBus(), quiet))
  }

  it.scoped("of an at-most-once subscription is not given up once more while onFailure is told of it", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const gate = yield* Deferred.make<void>()
      let told = 0
      const { control } = yield* bus.subscribe(Clicks, () => new Bad({}), {
        onFailure: () => Effect.suspend(() => ++told === 1 ? Deferred.await(gate) : Effect.void)
      })
      yield* bus.publish(Clicks, { aggregateId: "a", body: "one" })
      yield* eventually("onFailure runs", () => told === 1)
      expect(yield* control.giveUp("a")).toBe(false)
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      expect(told).toBe(1)
    }).pipe(provideBus(), quiet))

  it.scoped("of an at-most-once subscription is given up: it has failed", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const bodies: Array<string> = []
      const { control, stats } = yield* bus.subscribe(Clicks, (_, { value }) => {
        bodies.push(text(value))
        return bodies.length === 1 ? Effect.never : Effect.void
      })
      yield* bus.publish(Clicks, { key: "k", body: "1" })
      yield* bus.publish(Clicks, { key: "k", body: "2" })
      yield* eventually("it runs", () => bodies.length === 1)
      yield* TestClock.adjust("10 seconds")
      const [one] = (yield* control.list({ only: ["slow"] })).aggregates
      expect(one).toMatchObject({ concerns: ["slow"], waitsFor: "handler", waiting: 1, inHand: { age: 10_000 } })
      expect(yield* control.giveUp(one!.aggregate)).toBe(true)
      yield* eventually("the next one is handled", () => bodies.length === 2)
      yield* settle
      expect(yield* stats).toMatchObject({ failed: 1, handled: 1 })
    }).pipe(provideBus(), quiet))
})
