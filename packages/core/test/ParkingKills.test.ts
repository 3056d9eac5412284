import { EventBus, FailurePolicy, MemoryBroker, type Subscription, type Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Either, Schedule, Stream, TestClock } from "effect"
import { eventually, settle } from "./Eventually.js"
import { by, onBroker, provideBus, type Publish, publisher, Refused, Steps } from "./ParkingShop.js"

/** Processes that live one after another on one broker. A handler may kill its process: nothing of it reaches the broker then. */
class Processes {
  started: Array<string> = []
  readonly handled: Array<string> = []
  readonly failing = new Set<string>()
  readonly deadly = new Set<string>()
  readonly slow = new Set<string>()
  readonly lines: Array<string> = []
  /** How many records a process has written in its life. */
  notes = 0

  /** Runs until the work is done or the process is killed; answers whether it was. */
  life(
    work: (
      subscription: Subscription.Subscription<unknown>,
      publish: Publish
    ) => Effect.Effect<void>,
    policy: Partial<FailurePolicy.Park> = {}
  ): Effect.Effect<boolean, never, MemoryBroker.MemoryBroker> {
    let isDead = false
    this.started = []
    this.notes = 0
    const handler = ({ n }: { readonly n: number }, { aggregateId }: { readonly aggregateId: string | undefined }) =>
      Effect.gen(this, function*() {
        if (isDead) return yield* Effect.never
        const one = `${aggregateId}${n}`
        this.started.push(one)
        if (this.failing.has(one)) return yield* new Refused({})
        if (this.slow.has(one)) return yield* Effect.never
        // What is written at the same time arrives.
        for (let i = 0; i < 3; i++) yield* settle
        if (isDead) return yield* Effect.never
        if (this.deadly.has(one)) {
          isDead = true
          return yield* Effect.never
        }
        this.handled.push(one)
      })
    const around = (store: Transport.Store): Transport.Store => ({
      ...store,
      write: (partition, changes, options) =>
        Effect.suspend(() => {
          this.notes += changes.filter(({ key }) => key === "trials").length
          return isDead ? Effect.succeed(changes.map(() => Either.right(1))) : store.write(partition, changes, options)
        })
    })
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const subscription = yield* bus.subscribe(Steps, handler, {
        retry: Schedule.recurs(0),
        onExhausted: FailurePolicy.park({ undecodable: FailurePolicy.drop, ...policy })
      })
      yield* Effect.raceFirst(
        work(subscription, publisher(bus)),
        eventually("it is killed", () => isDead)
      )
      // Closing waits for its deadline.
      yield* Effect.forkDaemon(
        Effect.repeatN(Effect.zipRight(settle, TestClock.adjust("1 second")), 10)
      )
      return isDead
    }).pipe(
      Effect.scoped,
      provideBus(around, this.lines),
      Effect.orDie
    )
  }

  readonly isParked = (subscription: Subscription.Subscription<unknown>, ...expected: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      let now: ReadonlyArray<string> = []
      for (let i = 0; i < 400; i++) {
        const { aggregates } = yield* subscription.control.parked()
        now = aggregates.map(({ aggregate, letters, state }) => `${aggregate}:${letters}:${state}`)
        if (now.join() === expected.join()) return
        yield* settle
      }
      expect(now).toEqual(expected)
    })
}

const names = (name: string, numbers: number) => Array.from({ length: numbers }, (_, i) => `${name}${i + 1}`)

describe("a released letter that kills its process", () => {
  const parkAll = (processes: Processes) =>
    processes.life((subscription, publish) =>
      Effect.gen(function*() {
        for (const one of ["a", "b", "c"]) yield* publish(one, 1, 2, 3, 4)
        yield* processes.isParked(subscription, "a:4:parked", "b:4:parked", "c:4:parked")
        processes.failing.clear()
      })
    )

  for (const deadly of ["a1", "b1", "b3", "c4"]) {
    it.effect(`is found, and all others are released: ${deadly}`, () =>
      Effect.gen(function*() {
        const processes = new Processes()
        for (const one of ["a1", "b1", "c1"]) processes.failing.add(one)
        yield* parkAll(processes)
        processes.deadly.add(deadly)
        const aggregate = deadly[0]!
        const rest = 5 - Number(deadly[1])
        const wasKilled = yield* processes.life((subscription) =>
          Effect.zipRight(Effect.orDie(subscription.control.release("all", by)), Effect.never)
        )
        expect(wasKilled).toBe(true)
        expect(processes.notes).toBe(0)
        let deaths = 1
        while (
          yield* processes.life((subscription) => processes.isParked(subscription, `${aggregate}:${rest}:parked`))
        ) expect(++deaths).toBeLessThan(6)
        expect(processes.started).not.toContain(deadly)
        const expected = ["a", "b", "c"].flatMap((one) =>
          names(one, 4).filter((name) => !(one === aggregate && Number(name[1]) >= Number(deadly[1])))
        )
        expect([...new Set(processes.handled)].sort()).toEqual(expected)
        expect(processes.lines.filter((line) => line.includes("its aggregate stays parked"))).toHaveLength(1)
        // It stays so, and somebody may release it again.
        processes.deadly.clear()
        expect(
          yield* processes.life((subscription) =>
            Effect.gen(function*() {
              yield* settle
              yield* processes.isParked(subscription, `${aggregate}:${rest}:parked`)
              expect(processes.started).toEqual([])
              const [letter] = yield* Effect.orDie(subscription.control.letters(aggregate))
              expect(letter!.failures.at(-1)).toMatchObject({ error: "KilledProcess", released: by })
              expect((yield* subscription.control.causes).map(({ cause }) => cause)).toEqual(["KilledProcess"])
              yield* Effect.orDie(subscription.control.release("all", by))
              yield* processes.isParked(subscription)
            })
          )
        ).toBe(false)
        expect([...new Set(processes.handled)].sort()).toEqual(["a", "b", "c"].flatMap((one) => names(one, 4)))
        const broker = yield* MemoryBroker.MemoryBroker
        const topic = yield* broker.topic({ name: "steps", kind: "envelope", partitions: 1 })
        const entries = new Map<string, Uint8Array | null>()
        yield* Stream.runForEach(
          broker.store(topic, "group", "parking").port.read(0),
          ({ key, value }) => Effect.sync(() => entries.set(key, value))
        )
        // It was there, and is gone.
        expect(entries.get("trials")).toBeNull()
      }).pipe(onBroker()))
  }

  it.effect("is found when its schedule releases it", () =>
    Effect.gen(function*() {
      const processes = new Processes()
      for (const one of ["a1", "b1", "c1"]) processes.failing.add(one)
      yield* parkAll(processes)
      processes.deadly.add("b2")
      const policy = { release: Schedule.spaced("1 minute") }
      const pass = Effect.forever(Effect.zipRight(settle, TestClock.adjust("10 seconds")))
      let deaths = 0
      while (
        yield* processes.life(
          (subscription) => Effect.raceFirst(processes.isParked(subscription, "b:3:parked"), pass),
          policy
        )
      ) expect(++deaths).toBeLessThan(6)
      expect(deaths).toBeGreaterThan(1)
      // It is not released by a schedule any more.
      expect(
        yield* processes.life(
          () => Effect.repeatN(Effect.zipRight(settle, TestClock.adjust("1 minute")), 10),
          policy
        )
      ).toBe(false)
      expect(processes.started).toEqual([])
    }).pipe(onBroker()))

  it.effect("is not suspected where owners have closed with it in hand", () =>
    Effect.gen(function*() {
      const processes = new Processes()
      for (const one of ["a1", "b1", "c1"]) processes.failing.add(one)
      yield* parkAll(processes)
      processes.slow.add("a1")
      for (let i = 0; i < 5; i++) {
        yield* processes.life((subscription) =>
          Effect.zipRight(
            i === 0 ? Effect.orDie(subscription.control.release({ aggregate: "a" }, by)) : Effect.void,
            eventually("it runs", () => processes.started.includes("a1"))
          )
        )
      }
      processes.slow.clear()
      yield* processes.life((subscription) => processes.isParked(subscription, "b:4:parked", "c:4:parked"))
      expect(processes.handled).toEqual(names("a", 4))
    }).pipe(onBroker()))
})
