import { EventBus, EventBusConfig, FailurePolicy, MemoryTransport, Topic, Transport } from "@effect-eventbus/core"
import { TestBus } from "@effect-eventbus/testing"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Clock, Data, Duration, Effect, Either, Exit, Layer, Logger, LogLevel, Schedule, Schema } from "effect"

class Placed extends Schema.TaggedClass<Placed>()("Placed", { n: Schema.Int }) {}
class Declined extends Data.TaggedError("Declined")<{ readonly n: number }> {
  override get message() {
    return `card ${this.n} was declined`
  }
}

const Orders = Topic.envelope("orders", Placed)
const Dead = Topic.envelope("orders.dead", Placed)
const Invoices = Topic.envelope("invoices", Placed)
const Clicks = Topic.plain("clicks")

const dropping = { onExhausted: FailurePolicy.drop }
const deadLettering = { onExhausted: FailurePolicy.deadLetter(Dead) }
const order = (n: number, aggregateId = "a") => ({ aggregateId, payload: new Placed({ n }) })

const provideBus = Effect.provide(Layer.merge(
  Layer.suspend(() => TestBus.layer()),
  Logger.minimumLogLevel(LogLevel.None)
))

const subscribe = <E>(handler: (event: Placed, attempt: number) => Effect.Effect<unknown, E>, options = {}) =>
  Effect.flatMap(
    EventBus.EventBus,
    (bus) => bus.subscribe(Orders, (event, { attempt }) => handler(event, attempt), { ...dropping, ...options })
  )

const messageOf = <A, E extends Error, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.message)

describe("TestBus", () => {
  it.scoped("tells how a message was handled", () =>
    Effect.gen(function*() {
      yield* subscribe(({ n }, attempt) => attempt < 3 ? new Declined({ n }) : Effect.void)
      const outcome = yield* TestBus.expectHandled(yield* TestBus.publish(Orders, order(7)))
      expect(outcome).toMatchObject({ group: "group", attempts: 3 })
      expect(outcome.causes).toEqual([Cause.fail(new Declined({ n: 7 })), Cause.fail(new Declined({ n: 7 }))])
    }).pipe(provideBus))

  it.scoped("lets a retry schedule of hours run in no time, each attempt at its moment", () =>
    Effect.gen(function*() {
      yield* subscribe(() => new Declined({ n: 0 }), {
        onExhausted: FailurePolicy.deadLetter(Dead),
        retry: Schedule.intersect(Schedule.spaced("1 hour"), Schedule.recurs(2))
      })
      const began = performance.now()
      const receipt = yield* TestBus.publish(Orders, order(0))
      const outcome = yield* TestBus.expectDeadLettered(receipt, { within: "3 hours" })
      expect(outcome.startedAt).toEqual([0, 3_600_000, 7_200_000])
      expect(yield* Clock.currentTimeMillis).toBe(7_200_000)
      expect(performance.now() - began).toBeLessThan(10_000)
    }).pipe(provideBus))

  it.scoped("gives the dead letter of a message, and not that of another", () =>
    Effect.gen(function*() {
      yield* subscribe(({ n }) => new Declined({ n }), { ...deadLettering, retry: Schedule.recurs(0) })
      const receipts = yield* TestBus.publishAll(Orders, [order(1), order(2), order(3)])
      const { failure, letter } = yield* TestBus.expectDeadLettered(receipts[1]!)
      expect(letter.headers["X-Dead-Letter-Error"]).toBe("Declined")
      expect(letter).toMatchObject({ topic: "orders.dead", aggregateId: "a" })
      expect(failure.attempts).toBe(1)
      yield* TestBus.settled()
      const letters = yield* TestBus.published(Dead)
      expect(letters.map(({ event }) => event.n)).toEqual([1, 2, 3])
      expect(letters[1]!.value).toEqual(letter.value)
    }).pipe(provideBus))

  it.scoped("tells of what is dropped, held, and of plain messages that failed", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* subscribe(({ n }) => new Declined({ n }), { onError: () => FailurePolicy.drop })
      yield* bus.subscribe(Invoices, () => Effect.die("no paper"), {
        onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop })
      })
      yield* bus.subscribe(Clicks, () => Effect.fail("no mouse"))
      const dropped = yield* TestBus.expectDropped(yield* TestBus.publish(Orders, order(1)))
      expect(dropped.failure.policy._tag).toBe("Drop")
      const held = yield* TestBus.expectHeld(yield* TestBus.publish(Invoices, order(1)))
      expect(held.failure).toMatchObject({ attempts: 4, policy: { _tag: "Hold" } })
      const failed = yield* TestBus.expectFailed(yield* TestBus.publish(Clicks, { body: "x" }))
      expect(failed.failure.cause).toEqual(Cause.fail("no mouse"))
    }).pipe(provideBus))

  it.scoped("waits for what handlers publish, and reads it by its schema", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* subscribe(({ n }) => Effect.delay(bus.publish(Invoices, order(n * 10, `invoice-${n}`)), "1 minute"))
      const seen: Array<number> = []
      yield* bus.subscribe(
        Invoices,
        ({ n }) => Effect.zipRight(Effect.sleep("10 minutes"), Effect.sync(() => seen.push(n))),
        dropping
      )
      yield* TestBus.publishAll(Orders, [order(1), order(2)])
      yield* TestBus.settled()
      expect(seen).toEqual([10, 20])
      const invoices = yield* TestBus.published(Invoices)
      expect(invoices.map(({ aggregateId, event }) => [aggregateId, event.n])).toEqual([
        ["invoice-1", 10],
        ["invoice-2", 20]
      ])
      yield* TestBus.expectHandled(invoices[1]!)
    }).pipe(provideBus))

  it.scoped("remembers what was handled, in that order, with its deliveries", () =>
    Effect.gen(function*() {
      yield* subscribe(({ n }) => n === 1 ? Effect.sleep("1 second") : Effect.void)
      yield* TestBus.publishAll(Orders, [order(1), order(2), order(3, "b")])
      yield* TestBus.settled()
      const handled = yield* TestBus.handled(Orders)
      expect(handled.map(({ event }) => event.n)).toEqual([3, 1, 2])
      expect(handled.map(({ delivery }) => delivery.aggregateId)).toEqual(["b", "a", "a"])
      expect(yield* TestBus.handled(Orders, { group: "another" })).toEqual([])
    }).pipe(provideBus))

  it.scoped("shows bytes that are no events to onExhausted's policy, and to the test", () =>
    Effect.gen(function*() {
      yield* subscribe(() => Effect.void, deadLettering)
      const garbage = yield* TestBus.publish(Topic.plain("orders"), { body: "garbage", key: "a" })
      const { attempts, failure, letter } = yield* TestBus.expectDeadLettered(garbage)
      expect(attempts).toBe(0)
      expect(Cause.squash(failure.cause)).toMatchObject({ _tag: "DecodeError" })
      expect(new TextDecoder().decode(letter.value!)).toBe("garbage")
      expect(yield* Effect.flip(TestBus.published(Dead))).toMatchObject({ _tag: "DecodeError" })
      expect(yield* TestBus.published(Topic.plain("orders.dead"))).toHaveLength(1)
    }).pipe(provideBus))

  it.scoped("does not wait for messages that nobody reads, nor for older ones of a group that begins with the latest", () =>
    Effect.gen(function*() {
      yield* TestBus.publish(Invoices, order(1))
      yield* TestBus.publish(Orders, order(1))
      yield* subscribe(() => Effect.void, { startFrom: "latest" })
      yield* TestBus.publish(Orders, order(2))
      yield* TestBus.settled()
      expect((yield* TestBus.handled(Orders)).map(({ event }) => event.n)).toEqual([2])
    }).pipe(provideBus))

  it.scoped("closes in virtual time, also what never ends", () =>
    Effect.gen(function*() {
      const closed = Effect.gen(function*() {
        yield* subscribe(() => Effect.never)
        yield* TestBus.publish(Orders, order(1))
      })
      yield* Effect.scoped(closed).pipe(provideBus)
      // The scope outlives the bus.
      yield* closed.pipe(provideBus)
      expect(yield* Clock.currentTimeMillis).toBe(50_000)
    }))

  it.effect("takes settings of the bus and of the broker, or another transport", () =>
    Effect.gen(function*() {
      const handledAfter = Effect.gen(function*() {
        yield* subscribe(({ n }) => new Declined({ n }))
        const receipt = yield* TestBus.publish(Orders, order(1))
        return { partition: receipt.partition, attempts: (yield* TestBus.expectDropped(receipt)).attempts }
      }).pipe(Effect.scoped)
      const set = TestBus.layer({ config: { retryTimes: 1 }, broker: { partitions: 1 } })
      expect(yield* Effect.provide(handledAfter, set)).toEqual({ partition: 0, attempts: 2 })
      const another = TestBus.layerTransport.pipe(
        Layer.provide(MemoryTransport.layer({ partitions: 1 })),
        Layer.provide(EventBusConfig.layer({ retryTimes: 2 }))
      )
      expect(yield* Effect.provide(handledAfter, another)).toEqual({ partition: 0, attempts: 3 })
    }).pipe(Effect.provide(Logger.minimumLogLevel(LogLevel.None))))

  it.scoped("counts a handler that was timed out, and one that waited for its permit, as what they were", () =>
    Effect.gen(function*() {
      const options = { handlerTimeout: "1 second", concurrency: 1 }
      yield* subscribe((_, attempt) => attempt === 1 ? Effect.never : Effect.sleep("500 millis"), options)
      const receipts = yield* TestBus.publishAll(Orders, [order(1), order(2, "b")])
      for (const receipt of receipts) {
        const outcome = yield* TestBus.expectHandled(receipt)
        expect(outcome).toMatchObject({ attempts: 2, startedAt: { length: 2 } })
        expect(outcome.causes.map(Cause.squash)).toMatchObject([{ _tag: "HandlerTimeout" }])
      }
    }).pipe(provideBus))

  it.scoped("knows that deletions and events of an unknown type have come to their end", () =>
    Effect.gen(function*() {
      yield* subscribe(() => Effect.void, { onUnknownType: FailurePolicy.skip })
      const transport = yield* Transport.Transport
      const message = { id: undefined, aggregateId: "a", headers: {}, timestamp: undefined }
      const deletion = { ...message, key: new TextEncoder().encode("a"), value: null }
      const [deleted] = yield* transport.publish(Orders.spec, [deletion], { timeout: Duration.seconds(1) })
      const Unknown = Topic.envelope("orders", Schema.TaggedStruct("Newer", {}))
      const unknown = yield* TestBus.publish(Unknown, { aggregateId: "b", payload: { _tag: "Newer" as const } })
      yield* TestBus.settled()
      for (const receipt of [Either.getOrThrow(deleted!), unknown]) {
        expect(yield* messageOf(TestBus.expectHandled(receipt))).toMatch(/but it was skipped/)
      }
      expect(yield* TestBus.handled(Orders)).toEqual([])
    }).pipe(provideBus))

  it.effect("takes a strategy", () =>
    Effect.gen(function*() {
      yield* subscribe(({ n }) => n === 1 ? Effect.sleep("1 second") : Effect.void)
      yield* TestBus.publishAll(Orders, [order(1), order(2, "b")])
      yield* TestBus.settled()
      // With an actor per aggregate the second one would have passed the first.
      expect((yield* TestBus.handled(Orders)).map(({ event }) => event.n)).toEqual([1, 2])
    }).pipe(
      Effect.scoped,
      Effect.provide(TestBus.layer({ strategy: { name: "one", slots: { count: 1, slotOf: () => 0 } } }))
    ))

  it.live("works in real time as well", () =>
    Effect.gen(function*() {
      yield* subscribe(({ n }, attempt) => attempt < 3 ? new Declined({ n }) : Effect.sleep("20 millis"), {
        retry: Schedule.spaced("10 millis")
      })
      const receipt = yield* TestBus.publish(Orders, order(1))
      expect((yield* TestBus.expectHandled(receipt)).attempts).toBe(3)
      yield* TestBus.settled()
      const other = yield* TestBus.publish(Orders, order(2))
      const error = yield* Effect.flip(TestBus.expectDropped(other, { within: "50 millis" }))
      expect(error).toMatchObject({ _tag: "ExpectationFailed", receipt: other })
    }).pipe(Effect.scoped, provideBus))

  it("works with runPromise, where a handler waits for the world outside of Effect", () =>
    Effect.gen(function*() {
      yield* subscribe(() => Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 30))))
      yield* TestBus.expectHandled(yield* TestBus.publish(Orders, order(1)))
    }).pipe(Effect.scoped, provideBus, Effect.runPromise))

  it.scoped("waits under virtual time for the world outside of Effect", () =>
    Effect.gen(function*() {
      yield* subscribe(() => Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 300))))
      yield* TestBus.publishAll(Orders, [order(1), order(2)])
      yield* TestBus.settled()
      expect(yield* TestBus.handled(Orders)).toHaveLength(2)
    }).pipe(provideBus))
})

describe("an expectation that fails", () => {
  it.scoped("says what became of the message instead, with the last failure as its cause", () =>
    Effect.gen(function*() {
      yield* subscribe(({ n }) => new Declined({ n }), deadLettering)
      const error = yield* Effect.flip(TestBus.expectHandled(yield* TestBus.publish(Orders, order(7, "order-7"))))
      expect(error.message).toMatch(
        /^Expected orders\[\d\]@0 \(Placed of order-7\) to be handled within 1h, but it was dead-lettered to "orders.dead" after 9 attempts: Declined: card 7 was declined$/
      )
      expect(error.cause).toEqual(new Declined({ n: 7 }))
    }).pipe(provideBus))

  it.scoped("says that it was handled where it should not have been", () =>
    Effect.gen(function*() {
      yield* subscribe(() => Effect.void)
      const receipt = yield* TestBus.publish(Orders, order(1))
      expect(yield* messageOf(TestBus.expectDeadLettered(receipt))).toMatch(/but it was handled at attempt 1$/)
    }).pipe(provideBus))

  it.scoped("says that a handler still runs, and who waits behind it", () =>
    Effect.gen(function*() {
      yield* subscribe(({ n }) => n === 1 ? Effect.never : Effect.void)
      const [first, second] = yield* TestBus.publishAll(Orders, [order(1), order(2)])
      const [behind, running, error] = yield* Effect.all([
        messageOf(TestBus.expectHandled(second!)),
        messageOf(TestBus.expectHandled(first!)),
        Effect.flip(TestBus.settled())
      ], { concurrency: "unbounded" })
      expect(behind).toMatch(/but it waits for its turn, behind orders\[\d\]@0$/)
      expect(running).toMatch(/but its handler still runs, at attempt 1$/)
      expect(error).toMatchObject({ _tag: "NotSettled", unfinished: 2 })
      expect(error.message).toMatch(/@0 \(Placed of a\): its handler still runs.*\n.*@1 \(Placed of a\): it waits/)
    }).pipe(provideBus))

  it.scoped("says that it is held, or between two attempts", () =>
    Effect.gen(function*() {
      yield* subscribe(({ n }) => new Declined({ n }), {
        onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop })
      })
      const receipt = yield* TestBus.publish(Orders, order(1))
      expect(yield* messageOf(TestBus.expectHandled(receipt, { within: "1 second" }))).toMatch(
        /but it waits for its next attempt, after 4 attempts; the last failure: Declined: card 1 was declined$/
      )
      expect(yield* messageOf(TestBus.expectHandled(receipt, { within: "1 minute" }))).toMatch(
        /but it is held, after \d+ attempts: Declined/
      )
      expect(yield* messageOf(TestBus.settled({ within: "1 minute" }))).toMatch(/it is held/)
    }).pipe(provideBus))

  it.scoped("says that nobody has subscribed, or that a group has to be named", () =>
    Effect.gen(function*() {
      const receipt = yield* TestBus.publish(Orders, order(1))
      expect(yield* messageOf(TestBus.expectHandled(receipt))).toMatch(/but nobody has subscribed to "orders"$/)
      yield* subscribe(() => Effect.void, { group: "billing" })
      yield* subscribe(({ n }) => new Declined({ n }), { group: "mail" })
      expect(yield* messageOf(TestBus.expectHandled(receipt))).toMatch(/one has to be named: "billing", "mail"$/)
      yield* TestBus.expectHandled(receipt, { group: "billing" })
      yield* TestBus.expectDropped(receipt, { group: "mail" })
      expect(yield* messageOf(TestBus.expectHandled(receipt, { group: "bill" }))).toMatch(
        /but group "bill" has not subscribed to "orders", only "billing", "mail"$/
      )
    }).pipe(provideBus))

  it.scoped("says that the subscription has ended", () =>
    Effect.gen(function*() {
      yield* Effect.scoped(subscribe(() => Effect.void))
      const receipt = yield* TestBus.publish(Orders, order(1))
      yield* TestBus.settled()
      expect(yield* messageOf(TestBus.expectHandled(receipt))).toMatch(
        /but the subscription of group "group" has ended$/
      )
    }).pipe(provideBus))

  it.effect("is a typed failure of the test, not a defect", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(TestBus.expectHandled({ topic: "orders", partition: 0, offset: 3 }))
      expect(Exit.isFailure(exit) && Cause.isFailType(exit.cause)).toBe(true)
    }).pipe(provideBus))
})
