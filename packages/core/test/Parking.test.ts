/** The policy, and what is done by hand. What is in the store is in ParkingStore.test.ts. */
import { type FailurePolicy, type Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Either, Fiber, Schedule, Stream, TestClock } from "effect"
import { PublishFailed } from "../src/EventBusError.js"
import { eventually, settle } from "./Eventually.js"
import { advanced, by, eventuallyParked, goesOn, onBroker, Shop, waitFor } from "./ParkingShop.js"

describe("an aggregate whose message fails", () => {
  it.effect("is parked with all that follows, and strangers go on", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        yield* publish("a", 1, 2, 3)
        yield* publish("b", 1, 2)
        yield* eventually("strangers are handled", () => shop.of("b").length === 2)
        yield* waitFor("a is parked", subscription, "a:3")
        yield* publish("a", 4)
        yield* waitFor("a goes on being parked", subscription, "a:4")
        expect(shop.started).toEqual(["a1", "b1", "b2"])
        const { parked, received } = yield* subscription.stats
        expect({ parked, received }).toEqual({ parked: 4, received: 6 })
        const status = (yield* subscription.status)!
        expect(status.partitions[0]!.watermark).toBe(6)
        expect((yield* subscription.control.list()).aggregates.map(({ concerns }) => concerns)).toEqual([["parked"]])
        const letters = yield* subscription.control.letters("a", { payload: true })
        expect(letters.map(({ failures, position }) => [position.offset, failures.length])).toEqual([
          [0, 1],
          [1, 0],
          [2, 0],
          [5, 0]
        ])
        expect(letters[0]!.failures[0]).toMatchObject({ error: "Refused", attempts: 1, restarts: 0 })
        expect(letters[0]!.message!.value).not.toBeNull()
        const [cause] = yield* subscription.control.causes
        expect(cause).toMatchObject({ aggregates: 1, letters: 4 })
        expect(cause!.cause).toMatch(/^Refused at .*ParkingShop\.ts/)
        expect(shop.told("Parked")).toHaveLength(1)
      })
    ).pipe(onBroker())
  })

  it.effect("is known as parked in the next life, before its first message", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    return Effect.gen(function*() {
      yield* shop.life((subscription, publish) =>
        Effect.zipRight(publish("a", 1, 2), waitFor("a is parked", subscription, "a:2"))
      )
      shop.failing.clear()
      yield* shop.life((subscription, publish) =>
        Effect.gen(function*() {
          yield* publish("a", 3)
          yield* publish("b", 1)
          yield* waitFor("a is parked", subscription, "a:3")
          yield* eventually("b is handled", () => shop.of("b").length === 1)
          expect(shop.started).toEqual(["a1", "b1"])
          yield* subscription.control.release({ aggregate: "a" }, by)
          yield* waitFor("a is released", subscription)
          yield* publish("a", 4)
          yield* eventually("all is handled in order", () => shop.of("a").join() === "1,2,3,4")
        })
      )
      yield* shop.life((subscription) => Effect.zipRight(settle, waitFor("nothing is left", subscription)))
      expect(shop.of("a")).toEqual([1, 2, 3, 4])
    }).pipe(onBroker())
  })

  it.effect("is released in order before newer messages, and its letters are gone", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        yield* publish("a", 1, 2, 3)
        yield* waitFor("a is parked", subscription, "a:3")
        shop.failing.clear()
        const gate = yield* Deferred.make<void>()
        shop.gates.set("a2", gate)
        const report = yield* subscription.control.release("all", by)
        expect(report).toMatchObject({ aggregates: 1, letters: 3 })
        yield* eventually("a2 runs", () => shop.started.includes("a2"))
        yield* publish("a", 4, 5)
        yield* settle
        expect(shop.of("a")).toEqual([1])
        yield* Deferred.succeed(gate, undefined)
        yield* eventually("all is handled in order", () => shop.of("a").join() === "1,2,3,4,5")
        yield* waitFor("a is released", subscription)
        expect(shop.told("Released")).toMatchObject([{ aggregate: "a", by }])
        const { handled, parked, received, released } = yield* subscription.stats
        expect({ handled, received: received - parked }).toEqual({ handled: 5, received: 5 })
        expect(released).toBeGreaterThanOrEqual(3)
      })
    ).pipe(onBroker())
  })

  it.effect("whose message came as one that may be a duplicate is released as one", () => {
    const shop = new Shop()
    return Effect.gen(function*() {
      shop.gates.set("a1", yield* Deferred.make<void>())
      yield* shop.life((_, publish) =>
        Effect.zipRight(publish("a", 1, 2), eventually("it runs", () => shop.started.length === 1))
      ).pipe((life) => Effect.flatMap(Effect.fork(life), (fiber) => advanced(Fiber.join(fiber))))
      shop.gates.clear()
      shop.failing.add("a1")
      yield* shop.life((subscription) =>
        Effect.gen(function*() {
          yield* waitFor("a is parked", subscription, "a:2")
          const before = shop.doubts
          expect(before).toBeGreaterThan(0)
          shop.failing.clear()
          yield* subscription.control.release("all", by)
          yield* waitFor("a is released", subscription)
          expect(shop.of("a")).toEqual([1, 2])
          expect(shop.doubts - before).toBe(2)
        })
      )
    }).pipe(onBroker())
  })

  it.effect("that fails again when it is released is parked again, and its letter remembers both", () => {
    const shop = new Shop()
    shop.failing.add("a1").add("a2 broken")
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        yield* publish("a", 1, 2, 3)
        yield* waitFor("a is parked", subscription, "a:3")
        yield* subscription.control.release({ aggregate: "a" }, by)
        yield* eventually("it has failed again", () => shop.started.length === 2)
        yield* waitFor("a is still parked", subscription, "a:3")
        shop.failing.delete("a1")
        yield* subscription.control.release({ aggregate: "a" }, by)
        yield* waitFor("a stops at its first failure", subscription, "a:2")
        yield* settle
        expect(shop.started).toEqual(["a1", "a1", "a1", "a2"])
        const [second, third] = yield* subscription.control.letters("a")
        expect(second!.failures).toMatchObject([{ error: "Broken", released: by }])
        expect(third!.failures).toEqual([])
        expect((yield* subscription.control.causes).map(({ cause }) => cause.split(" ")[0])).toEqual(["Broken"])
        shop.failing.clear()
        yield* subscription.control.release("all", by)
        yield* eventually("all is handled in order", () => shop.of("a").join() === "1,2,3")
        yield* waitFor("a is released", subscription)
      })
    ).pipe(onBroker())
  })

  it.effect("is released with those of the same cause only, and a dry run lists them", () => {
    const shop = new Shop()
    shop.failing.add("a1").add("b1 broken").add("c1")
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        for (const one of ["a", "b", "c"]) yield* publish(one, 1, 2)
        yield* waitFor("all are parked", subscription, "a:2", "b:2", "c:2")
        shop.failing.clear()
        const [refused, broken] = yield* subscription.control.causes
        expect([refused, broken]).toMatchObject([{ aggregates: 2, letters: 4 }, { aggregates: 1, letters: 2 }])
        const target = { cause: refused!.cause }
        const dry = yield* subscription.control.release(target, { ...by, dryRun: true })
        expect(dry.listed.map(({ aggregate }) => aggregate)).toEqual(["a", "c"])
        yield* settle
        yield* waitFor("nothing was released", subscription, "a:2", "b:2", "c:2")
        yield* subscription.control.release(target, by)
        yield* waitFor("those are released", subscription, "b:2")
        yield* subscription.control.release({ where: ({ aggregate }) => aggregate === "b" }, by)
        yield* waitFor("the rest is released", subscription)
        expect(shop.handled.length).toBe(6)
      })
    ).pipe(onBroker())
  })

  it.effect("is released with many others, and their letters are read together", () => {
    const shop = new Shop()
    const names = Array.from("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    for (const name of names) shop.failing.add(`${name}1`)
    const reads: Array<number> = []
    const counted = (store: Transport.Store): Transport.Store => ({
      ...store,
      read: (partition, options) => {
        if (options?.keys !== undefined) reads.push(options.keys.length)
        return store.read(partition, options)
      }
    })
    return shop.life(
      (subscription, publish) =>
        Effect.gen(function*() {
          for (const n of [1, 2, 3]) yield* Effect.forEach(names, (name) => publish(name, n))
          yield* eventuallyParked(subscription, 3 * names.length)
          shop.failing.clear()
          yield* subscription.control.release("all", by)
          yield* waitFor("all are released", subscription)
          expect(names.map((name) => shop.of(name).join())).toEqual(names.map(() => "1,2,3"))
          // A store on Kafka reads on from the first of them to the end.
          expect(reads).toEqual([3 * names.length])
        }),
      { around: counted }
    ).pipe(onBroker())
  })

  it.effect("is released at a rate", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        yield* publish("a", 1, 2, 3, 4)
        yield* waitFor("a is parked", subscription, "a:4")
        shop.failing.clear()
        yield* subscription.control.release("all", { ...by, rate: 1 })
        yield* eventually("one is handled", () => shop.handled.length === 1)
        yield* settle
        expect(shop.handled.length).toBe(1)
        yield* TestClock.adjust("1 second")
        yield* eventually("two are handled", () => shop.handled.length === 2)
        yield* settle
        expect(shop.handled.length).toBe(2)
        yield* TestClock.adjust("10 seconds")
        yield* TestClock.adjust("10 seconds")
        yield* waitFor("a is released", subscription)
      })
    ).pipe(onBroker())
  })

  it.effect("is released with others that a function picks, by one command and at one rate", () => {
    const shop = new Shop()
    const names = Array.from("abcdefghij")
    for (const name of names) shop.failing.add(`${name}1`)
    const commands: Array<string> = []
    return shop.life(
      (subscription, publish) =>
        Effect.gen(function*() {
          yield* Effect.forEach(names, (name) => publish(name, 1))
          yield* eventuallyParked(subscription, names.length)
          shop.failing.clear()
          yield* subscription.control.release({ where: ({ aggregate }) => aggregate !== "j" }, { ...by, rate: 2 })
          yield* eventually("one is handled", () => shop.handled.length === 1)
          yield* TestClock.adjust("1 second")
          yield* settle
          expect(shop.handled.length).toBeLessThanOrEqual(3)
          for (let i = 0; i < 10; i++) yield* TestClock.adjust("1 second")
          yield* waitFor("all but one are released", subscription, "j:1")
          yield* settle
          // It is written, and removed in the end.
          expect(commands.length).toBe(2)
        }),
      {
        around: (store) => ({
          ...store,
          write: (partition, changes, options) => {
            for (const { key } of changes) if (key.startsWith("command/")) commands.push(key)
            return store.write(partition, changes, options)
          }
        })
      }
    ).pipe(onBroker())
  })

  it.effect("is released with hundreds that a function picks, which are several orders, at one rate", () => {
    const shop = new Shop()
    const names = Array.from({ length: 1_100 }, (_, i) => `${String.fromCharCode(97 + i % 26)}-${i}-`)
    for (const name of names) shop.failing.add(`${name}1`)
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        yield* Effect.forEach(names, (name) => publish(name, 1), { discard: true })
        yield* eventuallyParked(subscription, names.length)
        shop.failing.clear()
        yield* subscription.control.release({ where: () => true }, { ...by, rate: 10 })
        for (let i = 0; i < 5; i++) {
          yield* TestClock.adjust("1 second")
          yield* settle
        }
        expect(shop.handled.length).toBeGreaterThan(20)
        expect(shop.handled.length).toBeLessThanOrEqual(60)
      }), { guard: "off" }).pipe(onBroker())
  })

  it.effect("is not released further than the store takes note of it", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    let isAway = false
    const unwritten = new PublishFailed({ topic: "steps", reason: "Unreachable", outcome: "not-written" })
    const numbers = Array.from({ length: 2_500 }, (_, i) => i + 1)
    return shop.life(
      (subscription, publish) =>
        Effect.gen(function*() {
          yield* publish("a", ...numbers)
          yield* eventuallyParked(subscription, numbers.length)
          shop.failing.clear()
          yield* subscription.control.release({ aggregate: "a" }, by)
          isAway = true
          yield* Effect.forkDaemon(goesOn())
          yield* eventually("it goes on for a while", () => shop.handled.length >= 1_000)
          for (let i = 0; i < 20; i++) yield* settle
          // What is being written is no part of the thousand that wait.
          expect(shop.handled.length).toBeLessThanOrEqual(1_300)
          isAway = false
          yield* eventually("all are handled", () => shop.handled.length === numbers.length)
          expect(shop.of("a")).toEqual(numbers)
          // Closing would wait for the store.
        }).pipe(Effect.ensuring(Effect.sync(() => isAway = false))),
      {
        around: (store) => ({
          ...store,
          write: (partition, changes, options) =>
            isAway
              ? Effect.as(Effect.yieldNow(), changes.map(() => Either.left(unwritten)))
              : store.write(partition, changes, options)
        })
      }
    ).pipe(onBroker())
  })

  it.effect("whose owner is not the owner any more is released by the next one", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    let isOwned = true
    return Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      yield* shop.life((subscription, publish) =>
        Effect.gen(function*() {
          yield* publish("a", 1, 2, 3)
          yield* waitFor("a is parked", subscription, "a:3")
          shop.failing.clear()
          shop.gates.set("a2", gate)
          yield* subscription.control.release("all", by)
          yield* eventually("the second one runs", () => shop.started.at(-1) === "a2")
          isOwned = false
          yield* Deferred.succeed(gate, undefined)
          yield* eventually("it ends", () => shop.handled.includes("a2"))
          yield* settle
          yield* Effect.forkDaemon(goesOn())
        }), { isOwned: () => isOwned })
      expect(shop.of("a")).toEqual([1, 2])
      yield* shop.life(() => eventually("the rest is handled", () => shop.of("a").at(-1) === 3))
    }).pipe(onBroker())
  })

  it.effect("is released all the same where the store dies in between", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    let deaths = 3
    return shop.life(
      (subscription, publish) =>
        Effect.gen(function*() {
          yield* publish("a", 1, 2)
          yield* waitFor("a is parked", subscription, "a:2")
          shop.failing.clear()
          yield* subscription.control.release("all", by)
          yield* advanced(eventually("both are handled", () => shop.of("a").join() === "1,2"))
          expect(deaths).toBeLessThanOrEqual(0)
        }),
      {
        around: (store) => ({
          ...store,
          read: (partition, options) =>
            options?.keys !== undefined && deaths-- > 0
              ? Stream.die(new Error("a transport that throws"))
              : store.read(partition, options)
        })
      }
    ).pipe(onBroker())
  })

  it.effect("is discarded, or one of its letters is, and a callback is told of the gap", () => {
    const shop = new Shop()
    const gaps: Array<FailurePolicy.Gap> = []
    shop.failing.add("a1").add("b1")
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        yield* publish("a", 1, 2, 3)
        yield* publish("b", 1, 2)
        yield* waitFor("both are parked", subscription, "a:3", "b:2")
        yield* subscription.control.discard({ aggregate: "a" }, { ...by, offset: 0 })
        yield* waitFor("one letter is gone", subscription, "a:2", "b:2")
        expect(gaps).toEqual([{ aggregate: "a", partition: 0, offset: 0, by }])
        yield* subscription.control.discard({ aggregate: "b" }, by)
        yield* waitFor("b is normal", subscription, "a:2")
        yield* publish("b", 3)
        yield* eventually("b goes on", () => shop.of("b").join() === "3")
        yield* subscription.control.release("all", by)
        yield* eventually("a goes on", () => shop.of("a").join() === "2,3")
        expect((yield* subscription.stats).discarded).toBe(3)
        expect(shop.told("Discarded").map(({ aggregate, letters }) => [aggregate, letters])).toEqual([["a", 1], [
          "b",
          2
        ]])
      }), { policy: { onDiscarded: (gap) => Effect.sync(() => gaps.push(gap)) } }).pipe(onBroker())
  })

  it.effect("with as many letters as it may have is held alone", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        yield* publish("a", 1, 2, 3, 4)
        yield* publish("b", 1)
        yield* waitFor("a is full", subscription, "a:2")
        yield* publish("a", 5)
        yield* publish("b", 2)
        yield* eventually("strangers are handled", () => shop.of("b").length === 2)
        expect((yield* subscription.control.parked()).aggregates[0]!.state).toBe("full")
        expect((yield* subscription.status)!.problems.map(({ message }) => message).join()).toContain("as many letters")
        expect((yield* subscription.status)!.partitions[0]!.watermark).toBe(2)
        shop.failing.clear()
        yield* subscription.control.release("all", by)
        yield* eventually("all is handled in order", () => shop.of("a").join() === "1,2,3,4,5")
        yield* waitFor("a is released", subscription)
        expect((yield* subscription.status)!.problems).toEqual([])
        expect((yield* subscription.status)!.partitions[0]!.watermark).toBe(7)
      }), { policy: { maxPerAggregate: 2 } }).pipe(onBroker())
  })
})

describe("by hand", () => {
  it.effect("an aggregate is parked with the message in hand and all behind it", () => {
    const shop = new Shop()
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        shop.gates.set("a1", yield* Deferred.make<void>())
        yield* publish("a", 1, 2)
        yield* eventually("a1 runs", () => shop.started.length === 1)
        yield* subscription.control.park("a", by)
        yield* waitFor("a is parked", subscription, "a:2")
        yield* subscription.control.park("b", by)
        yield* publish("b", 1)
        yield* waitFor("b is parked with its first message", subscription, "a:2", "b:1")
        shop.gates.clear()
        yield* subscription.control.release("all", by)
        yield* eventually("all is handled", () => shop.handled.length === 3)
        expect(shop.of("a")).toEqual([1, 2])
      })
    ).pipe(onBroker())
  })

  it.effect("a function that throws picks nothing, and a page of no size has one", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        yield* publish("a", 1, 2)
        yield* waitFor("a is parked", subscription, "a:2")
        const { control } = subscription
        const where = () => {
          throw new Error("no")
        }
        expect((yield* Effect.flip(control.release({ where }, by))).message).toContain("where: threw Error")
        expect((yield* control.parked({ limit: NaN })).aggregates).toHaveLength(1)
        expect(yield* control.letters("a", { limit: NaN })).toHaveLength(1)
      })
    ).pipe(onBroker())
  })

  it.effect("nothing is done without who and why, and without such a policy", () => {
    const shop = new Shop()
    return shop.life(({ control }) =>
      Effect.gen(function*() {
        expect((yield* Effect.flip(control.release("all", { who: "", why: "x" })))._tag).toBe("InvalidConfiguration")
        expect((yield* Effect.flip(control.discard("all", { ...by, offset: 1 })))._tag).toBe("InvalidConfiguration")
        expect((yield* Effect.flip(control.release("all", { ...by, rate: 0 })))._tag).toBe("InvalidConfiguration")
        // What only a program without types can say.
        for (const target of [null, undefined, "order-1", {}, { aggregate: "" }, { where: 5 }]) {
          const { message } = yield* Effect.flip(control.release(target as never, by))
          expect(message).toContain("target: expected")
        }
        expect((yield* Effect.flip(control.release("all", undefined as never)))._tag).toBe("InvalidConfiguration")
        expect((yield* Effect.flip(control.discard({ aggregate: "a" }, { ...by, offset: NaN }))).message).toContain(
          "offset: expected"
        )
        for (const name of [undefined, 5, "", "x".repeat(2_000)]) {
          expect((yield* Effect.flip(control.park(name as never, by))).message).toContain("aggregate: expected")
        }
      })
    ).pipe(onBroker())
  })
})

describe("a parked aggregate", () => {
  it.effect("is released by its schedule, a step for each failure, unless it was parked by hand", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        yield* publish("a", 1, 2)
        yield* waitFor("a is parked", subscription, "a:2")
        yield* subscription.control.park("b", by)
        yield* publish("b", 1)
        yield* waitFor("b is parked", subscription, "a:2", "b:1")
        yield* settle
        for (const [minutes, starts] of [[4, 1], [2, 2], [3, 2], [2, 3]] as const) {
          yield* TestClock.adjust(`${minutes} minutes`)
          yield* settle
          yield* TestClock.adjust("1 second")
          yield* settle
          expect(shop.started.length).toBe(starts)
        }
        shop.failing.clear()
        // The schedule has ended after two times.
        yield* TestClock.adjust("1 hour")
        yield* settle
        yield* waitFor("both are parked", subscription, "a:2", "b:1")
        const [letter] = yield* subscription.control.letters("a")
        expect(letter!.failures).toHaveLength(3)
      }), { policy: { release: Schedule.intersect(Schedule.spaced("5 minutes"), Schedule.recurs(2)) } }).pipe(
        onBroker()
      )
  })

  it.effect("waits with a letter that the store refuses, and others go on", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        yield* publish("a", 1, 2)
        yield* publish("b", 1, 2)
        yield* eventually("strangers are handled", () => shop.of("b").length === 2)
        yield* eventually("it is said", () => shop.lines.some((line) => line.includes("can't be written")))
        yield* publish("a", 3)
        yield* publish("b", 3)
        yield* eventually("strangers go on", () => shop.of("b").length === 3)
        expect((yield* subscription.control.parked()).aggregates[0]!.state).toBe("unwritable")
        expect((yield* subscription.status)!.partitions[0]!.watermark).toBe(0)
        expect(shop.started.filter((one) => one.startsWith("a"))).toEqual(["a1"])
        // Closing waits for its deadline.
        yield* Effect.forkDaemon(goesOn())
      })
      // A letter is larger than its message.
    ).pipe(onBroker({ maxMessageBytes: 260 }))
  })
})
