import { EventBus, Observer, RateLimit } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Effect, FastCheck as fc, Fiber, Scope, TestClock } from "effect"
import { Quota, Waiter } from "../src/internal/quota.js"
import { Rate } from "../src/internal/rate.js"
import { Clicks, dropping, Orders, placed, provideBus, recorder } from "./Orders.js"

const publish = (n: number, from = 0) =>
  Effect.forEach(
    Array.from({ length: n }, (_, i) => placed(`order-${(from + i) % 7}`, from + i)),
    (message) => Effect.flatMap(EventBus.EventBus, (bus) => bus.publish(Orders, message))
  )

/** Lets what is due run, without letting time pass. */
const settle = Effect.forEach(Array.from({ length: 6 }), () => TestClock.adjust(0))

const pass = (millis: number) => Effect.zipRight(TestClock.adjust(millis), settle)

describe("a rate", () => {
  const step = fc.oneof(
    fc.record({ _tag: fc.constant("take" as const), share: fc.nat(2), amount: fc.integer({ min: 1, max: 4 }) }),
    fc.record({ _tag: fc.constant("pass" as const), millis: fc.integer({ min: 1, max: 1_000 }) }),
    fc.record({ _tag: fc.constant("cancel" as const), which: fc.nat(20) })
  )

  it("lets no more through than the burst and what time has given, and serves all that wait", () =>
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 4, max: 30 }),
        fc.array(step, { maxLength: 60 }),
        (perSecond, burst, steps) => {
          let now = 0
          const rate = new Rate(perSecond, burst, () => now, () => {})
          const shares = [0, 1, 2].map(() => rate.quota.share())
          const through: Array<readonly [at: number, amount: number]> = []
          const waiting = new Map<Waiter, () => void>()
          const refill = (millis: number) => {
            for (let i = 0; i < millis; i++) {
              now++
              rate.refill()
            }
          }
          for (const one of steps) {
            if (one._tag === "pass") refill(one.millis)
            else if (one._tag === "cancel") {
              const [waiter, cancel] = Array.from(waiting)[one.which] ?? []
              if (waiter === undefined) continue
              waiting.delete(waiter)
              cancel!()
            } else {
              const share = shares[one.share]!
              const waiter = new Waiter(() => {
                waiting.delete(waiter)
                expect(rate.take(share, one.amount, waiter)).toBe(true)
                through.push([now, one.amount])
              })
              if (rate.take(share, one.amount, waiter)) through.push([now, one.amount])
              else waiting.set(waiter, () => share.cancel(waiter))
            }
          }
          for (let i = 0; i < 100 * 400 && waiting.size > 0; i++) refill(20)
          expect(waiting.size).toBe(0)
          through.forEach(([from], first) => {
            let sum = 0
            for (const [at, amount] of through.slice(first)) {
              sum += amount
              // One may have come together before.
              expect(sum).toBeLessThanOrEqual(burst + (at - from) / 1_000 * perSecond + 1)
            }
          })
          now += 100_000
          rate.refill()
          expect(rate.quota.used).toBe(0)
        }
      ),
      { numRuns: 300 }
    ))

  it("keeps a quota whole that is made smaller and larger", () => {
    const quota = new Quota(10)
    const share = quota.share()
    expect(share.take(8, new Waiter(() => {}))).toBe(true)
    quota.resize(4)
    let woken = 0
    const waiter = new Waiter(() => woken++)
    expect(share.take(1, waiter)).toBe(false)
    share.give(4)
    expect(woken).toBe(0)
    share.give(1)
    expect(woken).toBe(1)
    expect(share.take(1, waiter)).toBe(true)
    expect(share.take(1, waiter)).toBe(false)
    quota.resize(5)
    expect(woken).toBe(2)
    share.cancel(waiter)
    share.give(4)
    expect(quota.used).toBe(0)
  })
})

describe("a subscription with a rate", () => {
  it.scoped("takes the burst at once, and then as many as time gives", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { handler, started } = recorder()
      const rate = yield* RateLimit.make({ perSecond: 10, burst: 5 })
      yield* bus.subscribe(Orders, handler, { ...dropping, rate })
      yield* publish(30)
      yield* settle
      expect(started).toHaveLength(5)
      yield* pass(1_000)
      expect(started).toHaveLength(15)
      yield* rate.set({ perSecond: 1 })
      yield* pass(2_000)
      expect(started).toHaveLength(17)
      expect(yield* rate.current).toEqual({ perSecond: 1 })
      yield* rate.set("unlimited")
      yield* settle
      expect(started).toHaveLength(30)
    }).pipe(provideBus()))

  it.scoped("counts a message once, however often it is tried", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { ended, handler, started } = recorder((_, attempt) => attempt < 3 ? Effect.fail("again") : Effect.void)
      const rate = yield* RateLimit.make({ perSecond: 10, burst: 1 })
      yield* bus.subscribe(Orders, handler, { ...dropping, rate })
      yield* publish(7)
      yield* pass(20_000)
      expect(ended).toHaveLength(7)
      expect(started).toHaveLength(21)
    }).pipe(provideBus()))

  it.scoped("keeps a plain topic's messages unsettled until they are within it", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      let started = 0
      const rate = yield* RateLimit.make({ perSecond: 10, burst: 2 })
      const subscription = yield* bus.subscribe(Clicks, () => Effect.sync(() => started++), { rate })
      yield* bus.publishAll(Clicks, Array.from({ length: 10 }, () => ({ body: "click" })))
      yield* pass(300)
      expect(started).toBe(5)
      expect(yield* subscription.close).toEqual({ unfinished: 0, lost: 0 })
      yield* pass(2_000)
      expect(started).toBe(5)
      // Another one of the group goes on where this one was.
      yield* bus.subscribe(Clicks, () => Effect.sync(() => started++))
      yield* settle
      expect(started).toBe(10)
    }).pipe(provideBus()))

  it.scoped("shares a limit fairly with another one", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const one = recorder()
      const other = recorder()
      yield* publish(100)
      const rate = yield* RateLimit.make({ perSecond: 10, burst: 1 })
      yield* bus.subscribe(Orders, one.handler, { ...dropping, rate, group: "one" })
      yield* bus.subscribe(Orders, other.handler, { ...dropping, rate, group: "other" })
      yield* pass(4_000)
      expect(one.started.length + other.started.length).toBe(41)
      expect(Math.abs(one.started.length - other.started.length)).toBeLessThanOrEqual(1)
    }).pipe(provideBus()))

  it.scoped("goes on without a limit when the limit's scope has ended", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { handler, started } = recorder()
      const scope = yield* Scope.make()
      const rate = yield* Scope.extend(RateLimit.make({ perSecond: 0.001 }), scope)
      yield* bus.subscribe(Orders, handler, { ...dropping, rate })
      yield* publish(20)
      yield* settle
      expect(started).toHaveLength(1)
      yield* Scope.close(scope, yield* Effect.exit(Effect.void))
      yield* settle
      expect(started).toHaveLength(20)
    }).pipe(provideBus()))

  it.scoped("tells the observer that it waits, and that it goes on", () => {
    const told: Array<boolean> = []
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const rate = yield* RateLimit.make({ perSecond: 10, burst: 2 })
      yield* bus.subscribe(Orders, () => Effect.void, { ...dropping, rate })
      yield* publish(3)
      yield* pass(1_000)
      expect(told).toEqual([true, false])
    }).pipe(
      provideBus(),
      Effect.provide(Observer.layer({
        event: (event) => {
          if (event._tag === "Bound" && event.bound === "rate") told.push(event.isReached)
        }
      }))
    )
  })

  it.scoped("limits a replay", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { handler, started } = recorder()
      yield* publish(20)
      const rate = yield* RateLimit.make({ perSecond: 10, burst: 1 })
      const replay = yield* Effect.fork(bus.replay(Orders, handler, { rate }))
      yield* pass(1_000)
      expect(started).toHaveLength(11)
      yield* pass(1_000)
      expect(yield* Fiber.join(replay)).toMatchObject({ handled: 20 })
    }).pipe(provideBus()))
})

describe("a publisher with a rate", () => {
  it.scoped("waits for its turn, and gives it up when it is interrupted", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const rate = yield* RateLimit.make({ perSecond: 10, burst: 1 })
      let published = 0
      const one = bus.publish(Orders, placed("order-1", 1)).pipe(
        RateLimit.limited(rate),
        Effect.map(() => void published++)
      )
      yield* one
      const waiting = yield* Effect.fork(one)
      const next = yield* Effect.fork(one)
      yield* settle
      yield* Fiber.interrupt(waiting)
      yield* pass(100)
      yield* Fiber.join(next)
      expect(published).toBe(2)
      // More than the burst: after all before it, and those behind it wait until time has given all of it back.
      const many = yield* Effect.fork(rate.take(5))
      yield* pass(100)
      yield* Fiber.join(many)
      const after = yield* Effect.fork(one)
      yield* pass(400)
      expect(published).toBe(2)
      yield* pass(100)
      yield* Fiber.join(after)
    }).pipe(provideBus()))
})

describe("a limit that is none", () => {
  for (
    const [limit, issue] of [
      [{ perSecond: 0 }, "perSecond: expected a number above 0, got 0"],
      [{ perSecond: Number.NaN }, "perSecond: expected a number above 0, got NaN"],
      [{ perSecond: Infinity }, "perSecond: expected a number above 0, got Infinity"],
      [{ perSecond: 1, burst: 0.5 }, "burst: expected a whole number of at least 1, got 0.5"]
    ] as const
  ) {
    it.scoped(`${issue}`, () =>
      Effect.gen(function*() {
        expect(yield* Effect.flip(RateLimit.make(limit))).toMatchObject({ issues: [issue] })
        const rate = yield* RateLimit.make("unlimited")
        expect(yield* Effect.flip(rate.set(limit))).toMatchObject({ issues: [issue] })
        expect(yield* rate.current).toBe("unlimited")
      }))
  }

  it.scoped("is refused by a subscription", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const options = { ...dropping, rate: { perSecond: 10 } as unknown as RateLimit.RateLimit }
      expect(yield* Effect.flip(bus.subscribe(Orders, () => Effect.void, options))).toMatchObject({
        issues: ["rate: expected a limit from RateLimit.make"]
      })
    }).pipe(provideBus()))
})
