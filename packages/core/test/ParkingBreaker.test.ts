// Faults that a hostile user found in parking: what happens when the store is slow, refuses, or answers badly at the worst moment.
import { EventBusError, MemoryBroker, type Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Either, Fiber, Stream, TestClock } from "effect"
import * as Letter from "../src/internal/parking/letter.js"
import * as Reading from "../src/internal/parking/reading.js"
import { eventually, settle } from "./Eventually.js"
import { by, onBroker, Shop, waitFor } from "./ParkingShop.js"

const isLetter = (key: string) => Letter.partsOf(key) !== undefined

describe("the letter of a message that has failed", () => {
  it.effect("is not lost when its partition is closed while it waits to be written, and its followers' are", () => {
    const shop = new Shop()
    shop.failing.add("z1").add("a1")
    return Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      let isSlow = true
      const slow = (store: Transport.Store): Transport.Store => ({
        ...store,
        write: (partition, changes, options) =>
          isSlow && changes.some(({ key }) => isLetter(key))
            ? Effect.zipRight(Deferred.await(gate), store.write(partition, changes, options))
            : store.write(partition, changes, options)
      })
      const first = yield* Effect.fork(shop.life((_, publish) =>
        Effect.gen(function*() {
          yield* publish("z", 1)
          yield* eventually("z1 has failed", () => shop.started.length === 1)
          yield* settle
          yield* publish("a", 1, 2, 3)
          yield* eventually("a1 has failed", () => shop.started.length === 2)
          yield* settle
        }), { around: slow }))
      yield* eventually("a1 has failed", () => shop.started.length === 2)
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* settle
      // Closing waits for what is being written.
      isSlow = false
      yield* Deferred.succeed(gate, undefined)
      yield* settle
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(first)
      shop.failing.clear()
      yield* shop.life((subscription) =>
        Effect.gen(function*() {
          yield* settle
          yield* settle
          yield* subscription.control.release("all", by)
          yield* eventually("nothing is lost", () => shop.of("a").length === 3)
          expect(shop.of("a")).toEqual([1, 2, 3])
        })
      )
    }).pipe(onBroker())
  })
})

const stored = Effect.gen(function*() {
  const broker = yield* MemoryBroker.MemoryBroker
  const topic = yield* broker.topic({ name: "steps", kind: "envelope", partitions: 1 })
  const { port } = broker.store(topic, "group", "parking")
  const entries = Effect.map(Stream.runCollect(port.read(0)), (all) => {
    const newest = new Map(Array.from(all, ({ key, value }) => [key, value]))
    return Array.from(newest).flatMap(([key, value]) => value === null ? [] : [[key, value] as const])
  })
  return { port, entries }
})

describe("a letter that is confirmed", () => {
  it.effect("is not lost when the mark of a former owner came late, behind that of its own", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    return Effect.gen(function*() {
      // The owner of epoch 0 died while it began. Its mark is on its way when the next one has begun.
      yield* shop.life((subscription, publish) =>
        Effect.gen(function*() {
          yield* settle
          const { port } = yield* stored
          yield* port.write(0, [Reading.markOf("0-late")], { timeout: Duration.seconds(1) })
          yield* publish("a", 1, 2)
          yield* waitFor("a is parked", subscription, "a:2")
        }) as Effect.Effect<void>
      )
      shop.failing.clear()
      yield* shop.life((subscription) =>
        Effect.gen(function*() {
          yield* waitFor("a is parked", subscription, "a:2")
          yield* subscription.control.release("all", by)
          yield* eventually("both are handled", () => shop.of("a").join() === "1,2")
        })
      )
    }).pipe(onBroker())
  })
})

describe("a letter that was released and failed again", () => {
  it.effect("is not lost when that is written late, after the next owner has begun", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    return Effect.gen(function*() {
      yield* shop.life((subscription, publish) =>
        Effect.gen(function*() {
          yield* publish("a", 1, 2)
          yield* waitFor("a is parked", subscription, "a:2")
          yield* subscription.control.release("all", by)
          yield* eventually("it has failed again", () => shop.started.length === 2)
          yield* settle
          yield* waitFor("a is still parked", subscription, "a:2")
        })
      )
      const { entries, port } = yield* stored
      const late = (yield* entries).find(([key]) => Letter.partsOf(key)?.offset === 0)!
      expect(Letter.decode(late[1], 0)!.failures).toHaveLength(2)
      yield* shop.life((subscription) => waitFor("a is parked", subscription, "a:2"))
      yield* port.write(0, [{ key: late[0], value: late[1] }], { timeout: Duration.seconds(1) })
      shop.failing.clear()
      yield* shop.life((subscription) =>
        Effect.gen(function*() {
          yield* waitFor("a is parked", subscription, "a:2")
          yield* subscription.control.release("all", by)
          yield* eventually("both are handled", () => shop.of("a").join() === "1,2")
        })
      )
    }).pipe(onBroker({ maxMessages: 100 }))
  })

  it.effect("stays as it was where the store refuses to make it larger, and others can be released", () => {
    const shop = new Shop()
    const many = Array.from({ length: 17 }, (_, i) => String.fromCharCode(97 + i))
    for (const one of many) shop.failing.add(`${one}1`)
    let most = Infinity
    let largest = 0
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        for (const one of many) yield* publish(one, 1, 2)
        yield* waitFor("all are parked", subscription, ...many.map((one) => `${one}:2`))
        shop.failing.delete("q1")
        most = largest
        largest = 0
        yield* subscription.control.release("all", by)
        yield* eventually("q is released", () => shop.of("q").length === 2)
        yield* eventually("each was released", () => shop.started.length === 17 * 2 + 1)
        yield* waitFor("the others are parked", subscription, ...many.slice(0, -1).map((one) => `${one}:2`))
        shop.failing.clear()
        yield* subscription.control.release("all", by)
        yield* eventually("all are released", () => shop.handled.length === 34)
      }), {
      around: (store) => ({
        ...store,
        write: (partition, changes, options) =>
          Effect.gen(function*() {
            for (const { key, value } of changes) if (isLetter(key)) largest = Math.max(largest, value?.length ?? 0)
            const at = changes.findIndex(({ value }) => value !== null && value.length > most)
            if (at === -1) return yield* store.write(partition, changes, options)
            const good = yield* store.write(partition, changes.slice(0, at), options)
            const bad = Either.left(new EventBusError.MessageTooLarge({ topic: "store", size: 1, limit: 1 }))
            return [...good, ...changes.slice(at).map(() => bad)]
          })
      })
    }).pipe(onBroker())
  })
})

describe("an aggregate whose first letter the store refuses", () => {
  it.effect("stays parked when it is released", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    let isRefused = true
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        yield* publish("a", 1, 2)
        yield* eventually("it is said", () => shop.lines.some((line) => line.includes("can't be written")))
        yield* subscription.control.release("all", by)
        yield* settle
        isRefused = false
        yield* TestClock.adjust("1 minute")
        yield* settle
        yield* waitFor("both are parked", subscription, "a:2")
        expect(shop.started).toEqual(["a1"])
        shop.failing.clear()
        yield* subscription.control.release("all", by)
        yield* eventually("both are handled", () => shop.of("a").join() === "1,2")
      }), {
      around: (store) => ({
        ...store,
        write: (partition, changes, options) =>
          isRefused && changes.some(({ key }) => isLetter(key))
            ? Effect.succeed(
              changes.map(() => Either.left(new EventBusError.MessageTooLarge({ topic: "store", size: 1, limit: 1 })))
            )
            : store.write(partition, changes, options)
      })
    }).pipe(onBroker())
  })
})

describe("onDiscarded", () => {
  it.effect("that does not end is said, and keeps nobody else", () => {
    const shop = new Shop()
    shop.failing.add("a1").add("b1")
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        yield* publish("a", 1)
        yield* publish("b", 1)
        yield* waitFor("both are parked", subscription, "a:1", "b:1")
        yield* subscription.control.discard({ aggregate: "a" }, by)
        shop.failing.clear()
        yield* subscription.control.release({ aggregate: "b" }, by)
        yield* waitFor("b is released", subscription, "a:1")
        yield* TestClock.adjust("10 seconds")
        yield* eventually("it is said", () => shop.lines.some((line) => line.includes("has not ended for 10 s")))
      }), { policy: { onDiscarded: () => Effect.never } }).pipe(onBroker())
  })
})

describe("an aggregate that is full", () => {
  it.effect("goes on as soon as there is room for a letter", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        yield* publish("a", 1, 2, 3, 4, 5)
        yield* waitFor("a is full", subscription, "a:3")
        yield* subscription.control.discard({ aggregate: "a" }, { ...by, offset: 1 })
        yield* settle
        yield* waitFor("there was room for one more", subscription, "a:3")
        expect((yield* subscription.control.letters("a")).map(({ position }) => position.offset)).toEqual([0, 2, 3])
      }), {
      policy: { maxPerAggregate: 3 },
      around: (store) => ({ ...store, write: (...args) => Effect.zipRight(settle, store.write(...args)) })
    }).pipe(onBroker())
  })
})

describe("a store that answers badly when an owner begins", () => {
  const badly: { readonly [what: string]: (store: Transport.Store) => Partial<Transport.Store> } = {
    "dies when it writes": () => ({ write: () => Effect.die("write") }),
    "throws when it writes": () => ({
      write: () => {
        throw new Error("write")
      }
    }),
    "answers nothing for its changes": () => ({ write: () => Effect.succeed([]) }),
    "dies when it reads": () => ({ read: () => Stream.die("read") }),
    "throws when it reads": () => ({
      read: () => {
        throw new Error("read")
      }
    })
  }
  for (const [what, bad] of Object.entries(badly)) {
    it.effect(`is asked again: one that ${what}`, () => {
      const shop = new Shop()
      let isBad = true
      return shop.life(
        (subscription, publish) =>
          Effect.gen(function*() {
            yield* publish("b", 1)
            yield* settle
            yield* TestClock.adjust("30 seconds")
            yield* settle
            expect(shop.started).toEqual([])
            expect((yield* subscription.status)!.problems.map(({ message }) => message).join()).toContain(
              "can't be read"
            )
            isBad = false
            yield* TestClock.adjust("40 seconds")
            yield* eventually("b is handled", () => shop.of("b").length === 1)
          }),
        {
          around: (store) => ({
            write: (...args) => (isBad ? bad(store).write ?? store.write : store.write)(...args),
            read: (...args) => (isBad ? bad(store).read ?? store.read : store.read)(...args)
          })
        }
      ).pipe(onBroker())
    })
  }
})
