import { describe, expect, it, vi } from "@effect/vitest"
import { Clock, Effect, FastCheck as fc, Fiber, Option, Runtime, Scheduler, TestClock } from "effect"
import { Turns } from "../src/internal/turn.js"

const busy = (ms: number): void => {
  const until = performance.now() + ms
  while (performance.now() < until);
}

const turnOfTheEventLoop = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))

describe("the turns of the event loop", () => {
  it.live("leave nothing out and keep the order, whatever a task schedules and however long it takes", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          fc.array(fc.record({ ms: fc.constantFrom(0, 0, 0, 1, 12), more: fc.nat(3), priority: fc.nat(1) }), {
            minLength: 10,
            maxLength: 30,
            size: "max"
          }),
          async (tasks) => {
            const turns = new Turns(await Effect.runPromise(Effect.clock))
            const log: Array<string> = []
            const expected: Array<string> = []
            tasks.forEach(({ more, ms, priority }, i) => {
              expected.push(`${priority} ${i}`)
              for (let k = 0; k < more; k++) expected.push(`${priority} ${i}.${k}`)
              turns.scheduleTask(() => {
                log.push(`${priority} ${i}`)
                busy(ms)
                for (let k = 0; k < more; k++) turns.scheduleTask(() => log.push(`${priority} ${i}.${k}`), priority)
              }, priority)
            })
            const deadline = performance.now() + 10_000
            while (log.length < expected.length && performance.now() < deadline) {
              await Effect.runPromise(turnOfTheEventLoop)
            }
            // Those of one tick go by their priority, and each of these in the order in which it was scheduled.
            const first = tasks.map(({ priority }, i) => `${priority} ${i}`)
            expect(log.slice(0, tasks.length)).toEqual([
              ...first.filter((name) => name.startsWith("0")),
              ...first.filter((name) => name.startsWith("1"))
            ])
            expect([...log].sort()).toEqual([...expected].sort())
            expect(turns.isAwaited).toBe(false)
          }
        ),
        { numRuns: 30 }
      )
    ))

  it.live("come between fibers that never wait, also where a thousand were woken at once", () =>
    Effect.gen(function*() {
      const turns = new Turns(yield* Effect.clock)
      const runFork = Runtime.runFork(yield* Effect.runtime<never>())
      let counted = 0
      let isOver = false
      const count = (): void => {
        counted++
        if (!isOver) setImmediate(count)
      }
      setImmediate(count)
      const fibers = Array.from(
        { length: 1_000 },
        () => runFork(Effect.sync(() => busy(0.2)), { scheduler: turns, immediate: false })
      )
      yield* Fiber.joinAll(fibers)
      isOver = true
      // 200 ms of work, and one turn about each 10 ms.
      expect(counted).toBeGreaterThan(5)
    }))

  it.effect("mean nothing in virtual time", () =>
    Effect.gen(function*() {
      const turns = new Turns(yield* Effect.clock)
      let runs = 0
      turns.scheduleTask(() => {
        busy(15)
        turns.scheduleTask(() => runs++, 0)
      }, 0)
      yield* TestClock.adjust("1 millis")
      expect([runs, turns.isOver(), turns.isAwaited]).toEqual([1, false, false])
    }))

  it.live("come also with a clock of the user's own, which may even stand still", () =>
    Effect.gen(function*() {
      const { sleep } = yield* Effect.clock
      const clock: Clock.Clock = {
        [Clock.ClockTypeId]: Clock.ClockTypeId,
        unsafeCurrentTimeMillis: () => 7,
        unsafeCurrentTimeNanos: () => 7_000_000n,
        currentTimeMillis: Effect.succeed(7),
        currentTimeNanos: Effect.succeed(7_000_000n),
        sleep
      }
      const turns = new Turns(clock)
      yield* turnOfTheEventLoop
      const before = turns.isOver()
      busy(30)
      for (let i = 0; i < 20; i++) turns.isOver()
      expect([before, turns.isOver(), turns.time()]).toEqual([false, true, 7])
      yield* turns.next
      expect(turns.isOver()).toBe(false)
      // Where time is simulated by a scheduler, fibers must not wait for the event loop.
      const simulated = new Turns(clock, new Scheduler.ControlledScheduler())
      simulated.isOver()
      busy(30)
      for (let i = 0; i < 20; i++) expect(simulated.isOver()).toBe(false)
    }))

  it.live("come also if fake timers replace setImmediate for a while", () =>
    Effect.gen(function*() {
      const turns = new Turns(yield* Effect.clock)
      vi.useFakeTimers({ toFake: ["setImmediate", "setTimeout"] })
      const waiting = yield* Effect.forkDaemon(turns.next)
      yield* Effect.yieldNow()
      vi.useRealTimers()
      expect(yield* Effect.timeoutOption(Fiber.join(waiting), "5 seconds")).toEqual(Option.some(undefined))
    }))
})
