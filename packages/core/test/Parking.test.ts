import {
  EventBus,
  EventBusConfig,
  FailurePolicy,
  MemoryBroker,
  MemoryTransport,
  Observer,
  type Subscription,
  Topic,
  Transport
} from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import {
  Chunk,
  Deferred,
  Duration,
  Effect,
  Either,
  Fiber,
  Layer,
  Logger,
  Schedule,
  Schema,
  Stream,
  TestClock
} from "effect"
import { PublishFailed, ReadFailed } from "../src/EventBusError.js"
import * as Letter from "../src/internal/parking/letter.js"
import { eventually, settle } from "./Eventually.js"

class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}
class Broken extends Schema.TaggedError<Broken>()("Broken", {}) {}

const Steps = Topic.envelope("steps", Schema.TaggedStruct("Step", { n: Schema.Int }), { partitions: 1 })

const by = { who: "anna", why: "the price is mended" }

/** What happens on one broker over several lives of a process. */
class Shop {
  /** Each start of a handler: aggregate, number, and whether it may be a duplicate. */
  readonly started: Array<string> = []
  readonly handled: Array<string> = []
  readonly failing = new Set<string>()
  readonly events: Array<Observer.Event> = []
  readonly gates = new Map<string, Deferred.Deferred<void>>()
  doubts = 0

  readonly handler = (
    { n }: { readonly n: number },
    { aggregateId, maybeDuplicate }: { readonly aggregateId: string | undefined; readonly maybeDuplicate: boolean }
  ): Effect.Effect<void, Refused | Broken> =>
    Effect.gen(this, function*() {
      const one = `${aggregateId}${n}`
      this.started.push(one)
      if (maybeDuplicate) this.doubts++
      const gate = this.gates.get(one)
      if (gate !== undefined) yield* Deferred.await(gate)
      if (this.failing.has(`${one} broken`)) return yield* new Broken({})
      if (this.failing.has(one)) return yield* new Refused({})
      this.handled.push(one)
    })

  of(aggregate: string): ReadonlyArray<number> {
    return this.handled.filter((one) => one.startsWith(aggregate)).map((one) => Number(one.slice(1)))
  }

  /** One life: what runs in it ends with it. */
  readonly life = <A, E>(
    work: (
      subscription: Subscription.Subscription<unknown>,
      publish: (aggregate: string, ...numbers: ReadonlyArray<number>) => Effect.Effect<void>
    ) => Effect.Effect<A, E>,
    policy: Partial<FailurePolicy.Park> = {},
    config: EventBusConfig.Options = {},
    around: (store: Transport.Store) => Transport.Store = (store) => store
  ): Effect.Effect<A, E, MemoryBroker.MemoryBroker> =>
    Effect.gen(this, function*() {
      const bus = yield* EventBus.EventBus
      const subscription = yield* bus.subscribe(Steps, this.handler, {
        retry: Schedule.recurs(0),
        onExhausted: FailurePolicy.park({ undecodable: FailurePolicy.drop, ...policy })
      })
      const publish = (aggregate: string, ...numbers: ReadonlyArray<number>) =>
        Effect.forEach(numbers, (n) =>
          bus.publish(Steps, { aggregateId: aggregate, payload: { _tag: "Step" as const, n } }), { discard: true })
          .pipe(
            Effect.orDie
          )
      return yield* work(subscription, publish)
    }).pipe(
      Effect.scoped,
      Effect.provide(EventBus.layer),
      Effect.provide(EventBusConfig.layer({ closeDeadline: "1 second", ...config })),
      Effect.provide(Layer.effect(
        Transport.Transport,
        Effect.map(MemoryTransport.make, (transport): Transport.Service => ({
          ...transport,
          store: (request) =>
            Effect.map(transport.store!(request), around)
        }))
      )),
      Effect.provideService(Observer.Observer, {
        event: (event) =>
          this.events.push(event)
      })
    ) as Effect.Effect<A, E, MemoryBroker.MemoryBroker>

  told(tag: "Parked" | "Released" | "Discarded") {
    return this.events.flatMap((event) => event._tag === tag ? [event] : [])
  }
}

const quietly = Effect.provide(Logger.replace(Logger.defaultLogger, Logger.none))
const onBroker = (options: MemoryBroker.Options = {}) => Effect.provide(MemoryBroker.layer(options))

const parkedOf = ({ control }: Subscription.Subscription<unknown>) =>
  Effect.map(
    control.parked(),
    ({ aggregates }) => aggregates.map(({ aggregate, letters }) => `${aggregate}:${letters}`)
  )

const eventuallyParked = ({ stats }: Subscription.Subscription<unknown>, letters: number) =>
  Effect.repeat(Effect.zipRight(settle, stats), { until: ({ parked }) => parked === letters })

const waitFor = (what: string, subscription: Subscription.Subscription<unknown>, ...expected: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    let now: ReadonlyArray<string> = []
    for (let i = 0; i < 400; i++) {
      now = yield* parkedOf(subscription)
      if (now.join() === expected.join()) return
      yield* settle
    }
    expect(now, what).toEqual(expected)
  })

/** The clock goes on until it has ended. */
const advanced = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.raceFirst(effect, Effect.forever(Effect.zipRight(settle, TestClock.adjust("100 millis"))))

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
        expect(cause!.cause).toMatch(/^Refused at .*Parking\.test/)
        expect(shop.told("Parked")).toHaveLength(1)
      })
    ).pipe(onBroker(), quietly)
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
    }).pipe(onBroker(), quietly)
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
    ).pipe(onBroker(), quietly)
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
    }).pipe(onBroker(), quietly)
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
    ).pipe(onBroker(), quietly)
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
    ).pipe(onBroker(), quietly)
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
      {},
      {},
      counted
    ).pipe(onBroker(), quietly)
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
    ).pipe(onBroker(), quietly)
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
      {},
      {},
      (store) => ({
        ...store,
        write: (partition, changes, options) => {
          for (const { key } of changes) if (key.startsWith("command/")) commands.push(key)
          return store.write(partition, changes, options)
        }
      })
    ).pipe(onBroker(), quietly)
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
      }), { onDiscarded: (gap) => Effect.sync(() => gaps.push(gap)) }).pipe(onBroker(), quietly)
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
      }), { maxPerAggregate: 2 }).pipe(onBroker(), quietly)
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
    ).pipe(onBroker(), quietly)
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
    ).pipe(onBroker(), quietly)
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
    ).pipe(onBroker(), quietly)
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
      }), { release: Schedule.intersect(Schedule.spaced("5 minutes"), Schedule.recurs(2)) }).pipe(onBroker(), quietly)
  })

  it.effect("waits with a letter that the store refuses, and others go on", () => {
    const shop = new Shop()
    const lines: Array<string> = []
    shop.failing.add("a1")
    return shop.life((subscription, publish) =>
      Effect.gen(function*() {
        yield* publish("a", 1, 2)
        yield* publish("b", 1, 2)
        yield* eventually("strangers are handled", () => shop.of("b").length === 2)
        yield* eventually("it is said", () => lines.some((line) => line.includes("can't be written")))
        yield* publish("a", 3)
        yield* publish("b", 3)
        yield* eventually("strangers go on", () => shop.of("b").length === 3)
        expect((yield* subscription.control.parked()).aggregates[0]!.state).toBe("unwritable")
        expect((yield* subscription.status)!.partitions[0]!.watermark).toBe(0)
        expect(shop.started.filter((one) => one.startsWith("a"))).toEqual(["a1"])
        // Closing waits for its deadline.
        yield* Effect.forkDaemon(Effect.forever(Effect.zipRight(settle, TestClock.adjust("1 second"))))
      })
    ).pipe(
      // A letter is larger than its message.
      onBroker({ maxMessageBytes: 260 }),
      Effect.provide(
        Logger.replace(Logger.defaultLogger, Logger.make(({ message }) => void lines.push(String(message))))
      )
    )
  })
})

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
    }).pipe(onBroker({ maxMessages: 100 }), quietly)
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
    }).pipe(onBroker({ maxMessages: 100 }), quietly)
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
            yield* Effect.forkDaemon(Effect.forever(Effect.zipRight(settle, TestClock.adjust("1 second"))))
          }),
        {},
        {},
        (store) => ({
          ...store,
          write: (partition, changes, options) =>
            Effect.map(
              store.write(partition, changes, options),
              (results) =>
                changes.map(({ key }, i) => Letter.partsOf(key) === undefined ? results[i]! : Either.left(unknown))
            )
        })
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
    }).pipe(onBroker({ maxMessages: 100 }), quietly)
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
      {},
      {},
      away
    ).pipe(onBroker(), quietly)
  })
})
