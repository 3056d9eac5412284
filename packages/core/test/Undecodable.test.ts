import { EventBus, FailurePolicy, MemoryBroker, Topic, Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Schedule, Schema, TestClock } from "effect"
import { eventually, settle } from "./Eventually.js"
import { Bad, Clicks, dropping, Orders, placed, provideBus, RawOrders, recorder, text } from "./Orders.js"

describe("bytes that are no envelope", () => {
  for (
    const [name, policy, count] of [
      ["dropped", FailurePolicy.drop, "dropped"],
      ["dead-lettered", FailurePolicy.deadLetter("dead"), "deadLettered"],
      [
        "dead-lettered where the policy is to hold",
        FailurePolicy.hold({ undecodable: FailurePolicy.deadLetter("dead") }),
        "deadLettered"
      ]
    ] as const
  ) {
    it.scoped(`are ${name} at once, without the handler and without a retry`, () =>
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const failures: Array<unknown> = []
        const seen = recorder()
        const subscription = yield* bus.subscribe(Orders, seen.handler, {
          onExhausted: policy,
          onFailure: ({ attempts, cause }) =>
            Effect.sync(() => failures.push([attempts, (Cause.squash(cause) as { reason: string }).reason]))
        })
        const misfit = JSON.stringify({
          event_id: "e",
          aggregate_id: "a",
          event_type: "t",
          event_version: 1,
          timestamp: "2026-11-21T09:30:00Z",
          payload: { _tag: "Placed", n: "1" }
        })
        for (const body of ["", "junk", "{}", new Uint8Array([255]), misfit]) {
          yield* bus.publish(RawOrders, { body, key: "a" })
        }
        yield* bus.publish(Orders, placed("a", 5))
        yield* eventually("the good one is handled", () => seen.ended.length === 1)
        expect(seen.started).toEqual([5])
        expect(failures).toEqual([[0, "Empty"], [0, "Json"], [0, "Field"], [0, "Utf8"], [0, "Payload"]])
        expect(yield* subscription.stats).toMatchObject({
          received: 6,
          handled: 1,
          undecodable: 5,
          [count]: 5,
          held: 0,
          retried: 0
        })
      }).pipe(provideBus()))
  }

  it.scoped("never block a partition, also where they are as large as a message may be", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { capabilities } = yield* Transport.Transport
      const seen = recorder()
      const subscription = yield* bus.subscribe(Orders, seen.handler, { onExhausted: FailurePolicy.deadLetter("dead") })
      yield* bus.publish(RawOrders, { body: new Uint8Array(capabilities.maxMessageBytes), key: "a" })
      yield* bus.publish(Orders, placed("a", 1))
      yield* eventually("the good one is handled", () => seen.ended.length === 1)
      expect((yield* subscription.stats).deadLettered).toBe(1)
      expect(yield* Effect.flip(bus.publish(RawOrders, { body: new Uint8Array(capabilities.maxMessageBytes + 1) })))
        .toMatchObject({ _tag: "MessageTooLarge", limit: capabilities.maxMessageBytes })
    }).pipe(provideBus({}, { maxMessageBytes: 10_000 })))

  it.scoped("are handled bytes where the topic is plain, and a schema that throws is a failure like others", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const Throwing = Topic.envelope(
        "orders",
        Schema.transform(Schema.Any, Schema.Any, {
          decode: () => {
            throw new Error("thrown by a schema")
          },
          encode: (a) => a
        }),
        { eventType: () => "x", partitions: 1 }
      )
      const failures: Array<unknown> = []
      yield* bus.subscribe(Throwing, () => Effect.void, {
        ...dropping,
        onFailure: (failure) => Effect.sync(() => failures.push(failure))
      })
      yield* bus.publishAll(Throwing, [{ aggregateId: "a", payload: 1 }, { aggregateId: "a", payload: 2 }])
      for (let i = 0; i < 30; i++) yield* TestClock.adjust("100 millis")
      yield* eventually("both are given up", () => failures.length === 2)
    }).pipe(provideBus()))
})

describe("at most once", () => {
  it.scoped("handles a plain message once, whatever happens to it, and goes on", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const failures: Array<unknown> = []
      const started: Array<string> = []
      const subscription = yield* bus.subscribe(Clicks, (body) =>
        Effect.suspend(() => {
          started.push(text(body))
          switch (text(body)) {
            case "fail":
              return new Bad({})
            case "die":
              return Effect.die("boom")
            case "interrupt":
              return Effect.interrupt
            case "hang":
              return Effect.never
            default:
              return Effect.void
          }
        }), {
        handlerTimeout: "1 seconds",
        onFailure: ({ _tag, cause, position }) =>
          Effect.sync(() =>
            failures.push([
              _tag,
              position.offset,
              Cause.isInterrupted(cause)
                ? "interrupt"
                : String((Cause.squash(cause) as Bad)._tag ?? Cause.squash(cause))
            ])
          )
      })
      yield* bus.publishAll(Clicks, ["fail", "die", "interrupt", "hang", "ok"].map((body) => ({ body, key: "k" })))
      for (let i = 0; i < 20; i++) yield* TestClock.adjust("200 millis")
      expect(started).toEqual(["fail", "die", "interrupt", "hang", "ok"])
      expect(failures).toEqual([
        ["PlainFailure", 0, "Bad"],
        ["PlainFailure", 1, "boom"],
        ["PlainFailure", 2, "interrupt"],
        ["PlainFailure", 3, "HandlerTimeout"]
      ])
      expect(yield* subscription.stats).toMatchObject({ received: 5, handled: 1, failed: 4, lost: 0, retried: 0 })
      expect(yield* subscription.close).toEqual({ unfinished: 0, lost: 0 })
    }).pipe(provideBus()))

  it.scoped("settles before the handler starts", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const broker = yield* MemoryBroker.MemoryBroker
      const positions: Array<unknown> = []
      yield* bus.subscribe(Clicks, () => Effect.map(broker.positions("clicks", "group"), (now) => positions.push(now)))
      yield* bus.publish(Clicks, { body: "a" })
      yield* eventually("it is handled", () => positions.length === 1)
      expect(positions).toEqual([[{ watermark: 1, end: 1 }]])
    }).pipe(provideBus()))

  it.scoped("can be chosen for envelopes, and at-least-once for plain messages", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen = recorder((n) => n === 0 ? new Bad({}) : Effect.void)
      const orders = yield* bus.subscribe(Orders, seen.handler, { semantics: "at-most-once" })
      yield* bus.publishAll(Orders, [placed("a", 0), placed("a", 1)])
      yield* bus.publish(RawOrders, { body: "junk", key: "a" })
      yield* eventually("all are through", () => seen.ended.length === 1)
      yield* settle
      expect(seen.started).toEqual([0, 1])
      expect(yield* orders.stats).toMatchObject({ failed: 2, handled: 1, retried: 0, undecodable: 1 })
      let tries = 0
      const clicks = yield* bus.subscribe(Clicks, () => Effect.suspend(() => ++tries < 3 ? new Bad({}) : Effect.void), {
        semantics: "at-least-once",
        onExhausted: FailurePolicy.drop,
        retry: Schedule.recurs(5)
      })
      yield* bus.publish(Clicks, { body: "a" })
      yield* eventually("it is handled", () => tries === 3)
      yield* settle
      expect(yield* clicks.stats).toMatchObject({ handled: 1, retried: 2 })
      expect(
        yield* Effect.flip(bus.subscribe(Topic.plain("x"), () => Effect.void, { semantics: "at-least-once" } as never))
      ).toMatchObject({ _tag: "InvalidConfiguration" })
    }).pipe(provideBus()))
})
