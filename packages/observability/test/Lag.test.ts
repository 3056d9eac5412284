import { EventBus, FailurePolicy, Topic, Transport } from "@effect-eventbus/core"
import { Lag } from "@effect-eventbus/observability"
import { expect, it } from "@effect/vitest"
import { Chunk, Deferred, Duration, Effect, Fiber, Layer, Logger, Stream, TestClock } from "effect"
import { LagEstimate } from "../src/internal/LagEstimate.js"
import { busWith, placed, scriptedTransport, topicOf } from "./Fixture.js"

it("the age of what is left is told from the ends that were seen, and is never too small", () => {
  const estimate = new LagEstimate()
  expect(estimate.see(0, 0, 0)).toBe(0)
  // Published between 0 and 10.
  expect(estimate.see(5, 0, 10)).toBe(10)
  expect(estimate.see(9, 0, 20)).toBe(20)
  // What is left came after the log ended at 5, which was seen at 10 last.
  expect(estimate.see(9, 5, 30)).toBe(20)
  expect(estimate.see(9, 8, 40)).toBe(30)
  expect(estimate.see(9, 9, 50)).toBe(0)
  expect(estimate.see(10, 9, 60)).toBe(10)
  // The log was cut.
  expect(estimate.see(2, 0, 70)).toBe(0)
  expect(estimate.see(2, 0, 80)).toBe(0)
})

it("many ends need no more than a bounded number of them", () => {
  const estimate = new LagEstimate()
  for (let i = 0; i < 100_000; i++) {
    if (estimate.see(i + 1, 0, i) !== i) expect.fail(`at ${i}`)
  }
  expect((estimate as unknown as { readonly ends: ReadonlyArray<unknown> }).ends.length).toBeLessThanOrEqual(257)
  const age = estimate.see(100_001, 50_000, 100_001)
  expect(age).toBeGreaterThanOrEqual(50_001)
  expect(age).toBeLessThan(52_000)
})

const yields = Effect.repeatN(Effect.yieldNow(), 200)

it.scoped("a subscription that falls behind is told once, and once when it has caught up, by number or by time", () => {
  const orders = topicOf()
  return Effect.gen(function*() {
    const told: Array<string> = []
    const gate = yield* Deferred.make<void>()
    yield* Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const lag = yield* Lag.Lag
      const seen = yield* Effect.fork(Stream.runCollect(Stream.take(lag.changes, 1)))
      yield* bus.subscribe(orders, ({ n }) => n > 10 ? Deferred.await(gate) : Effect.void, {
        onExhausted: FailurePolicy.drop
      })
      const publish = (...numbers: ReadonlyArray<number>) =>
        Effect.zipRight(bus.publishAll(orders, numbers.map((n) => placed("a", n))), yields)
      yield* publish(1, 2, 3)
      yield* TestClock.adjust("1 second")
      expect(yield* lag.readings).toMatchObject([{ topic: orders.name, group: "group", messages: 0, isBehind: false }])
      yield* publish(11, 12, 13)
      yield* TestClock.adjust("1 second")
      expect(told).toEqual([])
      yield* TestClock.adjust("9 seconds")
      // Ten seconds at most, and not more than ten.
      expect(told).toEqual([])
      yield* TestClock.adjust("1 second")
      yield* yields
      expect(told).toEqual(["Behind 3"])
      expect(Chunk.toReadonlyArray(yield* Fiber.join(seen))).toMatchObject([{ _tag: "Behind" }])
      const [reading] = yield* lag.readings
      expect(Duration.toSeconds(reading!.age)).toBe(11)
      yield* TestClock.adjust("1 minute")
      expect(told).toEqual(["Behind 3"])
      yield* Deferred.succeed(gate, undefined)
      yield* yields
      yield* TestClock.adjust("1 second")
      yield* yields
      expect(told).toEqual(["Behind 3", "CaughtUp 0"])
    }).pipe(Effect.provide(
      Lag.layer({
        interval: "1 second",
        messages: 5,
        age: "10 seconds",
        onChange: ({ _tag, reading }) => {
          told.push(`${_tag} ${reading.messages}`)
          // What the callback does keeps nothing from going on.
          return Effect.fail("the callback failed")
        }
      }).pipe(Layer.provideMerge(busWith(Layer.empty)))
    ))
  }).pipe(Effect.provide(Logger.remove(Logger.defaultLogger)))
})

it.scoped("around a threshold nobody is told again and again, and a subscription that ends behind is told, too", () => {
  const orders = topicOf()
  return Effect.gen(function*() {
    const gates = yield* Effect.all(Array.from({ length: 8 }, () => Deferred.make<void>()))
    const told: Array<string> = []
    yield* Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const subscription = yield* bus.subscribe(orders, ({ n }) => Deferred.await(gates[n]!), {
        onExhausted: FailurePolicy.drop
      })
      yield* bus.publishAll(orders, [0, 1, 2, 3, 4].map((n) => placed("a", n)))
      yield* TestClock.adjust("1 second")
      const finish = (n: number) =>
        Deferred.succeed(gates[n]!, undefined).pipe(
          Effect.zipRight(yields),
          Effect.zipRight(TestClock.adjust("1 second")),
          Effect.zipRight(yields)
        )
      expect(told).toEqual(["Behind 5"])
      // 4, which is the threshold, and 3: above the half of it.
      yield* finish(0)
      yield* finish(1)
      expect(told).toEqual(["Behind 5"])
      yield* finish(2)
      expect(told).toEqual(["Behind 5", "CaughtUp 2"])
      yield* bus.publishAll(orders, [5, 6, 7].map((n) => placed("a", n)))
      yield* TestClock.adjust("1 second")
      yield* yields
      const closing = yield* Effect.fork(subscription.close)
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(closing)
      yield* TestClock.adjust("1 second")
      yield* yields
      expect(told).toEqual(["Behind 5", "CaughtUp 2", "Behind 5", "Ended 5"])
    }).pipe(Effect.provide(
      Lag.layer({
        interval: "1 second",
        messages: 4,
        onChange: ({ _tag, reading }) => Effect.sync(() => told.push(`${_tag} ${reading.messages}`))
      }).pipe(Layer.provideMerge(busWith(Layer.empty, { closeDeadline: "1 second" })))
    ))
  })
})

it.scoped("a subscription that can't say how it stands, or does not answer, keeps no other from it, and is named once", () => {
  const lines: Array<string> = []
  const statuses: Record<string, Effect.Effect<Transport.SourceStatus>> = {
    silent: Effect.never,
    broken: Effect.die(new TypeError("secret")),
    good: Effect.succeed({
      isConnected: true,
      problems: [],
      partitions: [{ topic: "good", partition: 0, epoch: 1, position: 0, watermark: 0, end: 9, movedAt: 0 }]
    })
  }
  const transport: Transport.Service = scriptedTransport(({ topic }) =>
    Effect.succeed({ stop: Effect.void, status: statuses[topic.name]! })
  )
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const lag = yield* Lag.Lag
    for (const name of Object.keys(statuses)) yield* bus.subscribe(Topic.plain(name), () => Effect.void)
    for (let i = 0; i < 10; i++) yield* Effect.zipRight(TestClock.adjust("1 second"), yields)
    expect((yield* lag.readings).map(({ messages, topic }) => [topic, messages])).toEqual([["good", 9]])
    expect(lines.filter((line) => line.includes("how it stands")).sort()).toEqual([
      "Subscription broken/group can't say how it stands, so its lag stays as it was seen last (TypeError)",
      "Subscription silent/group can't say how it stands, so its lag stays as it was seen last (TimeoutException)"
    ])
  }).pipe(
    Effect.provide(
      Lag.layer({ interval: "1 second" }).pipe(
        Layer.provideMerge(EventBus.layer.pipe(Layer.provide(Layer.succeed(Transport.Transport, transport))))
      )
    ),
    Effect.provide(Logger.replace(Logger.defaultLogger, Logger.make(({ message }) => void lines.push(String(message)))))
  )
})
