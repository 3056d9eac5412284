/** What is in the store of parked messages when owners come, die and are late. */
import { MemoryBroker, type Subscription, type Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Chunk, Duration, Effect, Either, Stream, TestClock } from "effect"
import { PublishFailed, ReadFailed } from "../src/EventBusError.js"
import * as Letter from "../src/internal/parking/letter.js"
import { eventually, settle } from "./Eventually.js"
import { by, goesOn, onBroker, Shop, waitFor } from "./ParkingShop.js"

describe("the store of parked messages", () => {
  const stored = Effect.gen(function*() {
    const broker = yield* MemoryBroker.MemoryBroker
    const topic = yield* broker.topic({ name: "steps", kind: "envelope", partitions: 1 })
    const { port } = broker.store(topic, "group", "parking")
    const entries = Effect.map(Stream.runCollect(port.read(0)), (all) => {
      const newest = new Map(Chunk.toReadonlyArray(all).map(({ key, value }) => [key, value]))
      return new Map(Array.from(newest).flatMap(([key, value]) => value === null ? [] : [[key, value] as const]))
    })
    return { port, entries }
  })

  it.effect("has nothing of a former owner whose request came late, and one mark in the end", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    const parked = (subscription: Subscription.Subscription<unknown>) => waitFor("a is parked", subscription, "a:2")
    return Effect.gen(function*() {
      yield* shop.life((subscription, publish) => Effect.zipRight(publish("a", 1, 2), parked(subscription)))
      const { entries, port } = yield* stored
      const former = Array.from(yield* entries).find(([key]) => Letter.partsOf(key) !== undefined)!
      const { owner } = Letter.partsOf(former[0])!
      yield* shop.life(parked)
      // It was on its way when the partition was taken over: its message came to the next owner.
      const { message, ...letter } = Letter.decode(former[1], 0)!
      const value = Letter.encode({ ...letter, message: { ...message, offset: 99 } })
      yield* port.write(0, [{ key: Letter.keyOf("a", 99, owner), value }], { timeout: Duration.seconds(1) })
      yield* shop.life((subscription) => Effect.zipRight(parked(subscription), settle))
      const keys = Array.from((yield* entries).keys())
      expect(keys.map((key) => key.split("/")[0]).sort()).toEqual(["letter", "letter", "owner"])
      expect(keys.some((key) => Letter.partsOf(key)?.offset === 99)).toBe(false)
    }).pipe(onBroker({ maxMessages: 100 }))
  })

  it.effect("keeps a letter that a former owner has parked again late: its message is settled", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    const parked = (subscription: Subscription.Subscription<unknown>) => waitFor("a is parked", subscription, "a:2")
    return Effect.gen(function*() {
      yield* shop.life((subscription, publish) => Effect.zipRight(publish("a", 1, 2), parked(subscription)))
      const { entries, port } = yield* stored
      const letters = Array.from(yield* entries).filter(([key]) => Letter.partsOf(key) !== undefined)
      const timeout = Duration.seconds(1)
      yield* port.write(0, [{ key: "owner/next", value: new Uint8Array([1]) }], { timeout })
      // The release had failed, and that was on its way when the partition was taken over.
      for (const [key, bytes] of letters) {
        const letter = Letter.decode(bytes, 0)!
        const failed = { at: 0, error: "Refused", cause: "Refused", attempts: 1, restarts: 0, released: by }
        const value = Letter.encode({ ...letter, failures: Letter.withFailure(letter.failures, failed) })
        yield* port.write(0, [{ key, value }], { timeout })
      }
      shop.failing.clear()
      yield* shop.life((subscription) =>
        Effect.gen(function*() {
          yield* parked(subscription)
          yield* subscription.control.release({ aggregate: "a" }, by)
          yield* eventually("all is handled in order", () => shop.of("a").join() === "1,2")
        })
      )
    }).pipe(onBroker({ maxMessages: 100 }))
  })

  it.effect("keeps a letter that was relied upon, also where a former owner's request repeats it late", () => {
    const shop = new Shop()
    shop.failing.add("a1")
    const parked = (subscription: Subscription.Subscription<unknown>) => waitFor("a is parked", subscription, "a:2")
    const unknown = new PublishFailed({ topic: "store", reason: "Timeout", outcome: "unknown" })
    return Effect.gen(function*() {
      const { entries, port } = yield* stored
      // The letters are stored, and nobody says so.
      yield* shop.life(
        (_, publish) =>
          Effect.gen(function*() {
            yield* publish("a", 1, 2)
            yield* eventually("it has failed", () => shop.started.length === 1)
            yield* settle
            yield* Effect.forkDaemon(goesOn())
          }),
        {
          around: (store) => ({
            ...store,
            write: (partition, changes, options) =>
              Effect.map(
                store.write(partition, changes, options),
                (results) =>
                  changes.map(({ key }, i) => Letter.partsOf(key) === undefined ? results[i]! : Either.left(unknown))
              )
          })
        }
      )
      const letters = Array.from(yield* entries).filter(([key]) => Letter.partsOf(key) !== undefined)
      expect(letters).toHaveLength(2)
      yield* shop.life((subscription) =>
        Effect.gen(function*() {
          yield* parked(subscription)
          yield* Effect.repeat(Effect.zipRight(settle, subscription.status), {
            until: (status) => status!.partitions[0]!.watermark === 2
          })
        })
      )
      for (const [key, value] of letters) yield* port.write(0, [{ key, value }], { timeout: Duration.seconds(1) })
      shop.failing.clear()
      yield* shop.life((subscription) =>
        Effect.gen(function*() {
          yield* parked(subscription)
          yield* subscription.control.release({ aggregate: "a" }, by)
          yield* eventually("all is handled in order", () => shop.of("a").join() === "1,2")
          yield* waitFor("a is released", subscription)
        })
      )
      yield* shop.life(() => settle)
      expect(Array.from((yield* entries).keys(), (key) => key.split("/")[0])).toEqual(["owner"])
    }).pipe(onBroker({ maxMessages: 100 }))
  })

  it.effect.each(
    [
      ["fails", Stream.fail(new ReadFailed({ topic: "steps" }))],
      ["dies", Stream.die(new Error("a transport that throws"))]
    ] as const
  )("is read before the first message, however long that takes, and it is said, where it %s", ([, failing]) => {
    const shop = new Shop()
    let isAway = true
    const away = (store: Transport.Store): Transport.Store => ({
      ...store,
      read: (...args) => isAway ? failing : store.read(...args)
    })
    return shop.life(
      (subscription, publish) =>
        Effect.gen(function*() {
          yield* publish("a", 1)
          yield* TestClock.adjust("30 seconds")
          yield* settle
          expect(shop.started).toEqual([])
          const { problems } = (yield* subscription.status)!
          expect(problems.map(({ message }) => message).join()).toContain("can't be read")
          isAway = false
          yield* TestClock.adjust("40 seconds")
          yield* eventually("it is handled", () => shop.of("a").length === 1)
          expect((yield* subscription.status)!.problems).toEqual([])
        }),
      { around: away }
    ).pipe(onBroker())
  })
})
