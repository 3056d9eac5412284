import { EventBus, FailurePolicy, MemoryBroker, Topic, Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Duration, Effect, Either, Fiber, ParseResult, Schedule, Schema, TestClock } from "effect"
import * as EventTypes from "../src/internal/eventTypes.js"
import { eventually, settle } from "./Eventually.js"
import { Bad, Dead, Orders, Placed, placed, provideBus, RawOrders, recorder, Shipped } from "./Orders.js"

/** What a newer version of the application publishes to the same topic. */
class Cancelled extends Schema.TaggedClass<Cancelled>()("Cancelled", { why: Schema.String }) {}
const Newer = Topic.envelope("orders", Schema.Union(Placed, Shipped, Cancelled), { partitions: 1 })
const cancelled = (aggregateId: string) => ({ aggregateId, payload: new Cancelled({ why: "late" }) })

const types = (topic: unknown) => EventTypes.of(topic as never)

describe("the event types that a topic knows", () => {
  it("are the tags of its Schema, where the tag is the event type", () => {
    const known = (schema: unknown) => {
      const found = types(Topic.envelope("t", schema as Schema.Schema<Placed>))
      return found === undefined ? undefined : Array.from(found.types).sort()
    }
    const struct = Schema.Struct({ _tag: Schema.Literal("A", "B"), n: Schema.Number })
    expect(known(Orders.schema)).toEqual(["Placed", "Shipped"])
    expect(known(Placed)).toEqual(["Placed"])
    expect(known(Schema.typeSchema(Placed))).toEqual(["Placed"])
    expect(known(struct)).toEqual(["A", "B"])
    expect(known(Schema.Union(struct, Schema.TaggedStruct("C", {}).pipe(Schema.filter(() => true))))).toEqual([
      "A",
      "B",
      "C"
    ])
    expect(known(Schema.suspend(() => Orders.schema as Schema.Schema<Placed>))).toEqual(["Placed", "Shipped"])
    expect(
      known(Schema.Struct({ n: Schema.Number }).pipe(Schema.attachPropertySignature("_tag", "D")))
    ).toEqual(["D"])
  })

  it("are not known where a member may be anything, or where the topic makes its own types", () => {
    for (const schema of [Schema.Any, Schema.Struct({ _tag: Schema.String }), Schema.Union(Placed, Schema.Any)]) {
      expect(types(Topic.envelope("t", schema as Schema.Schema<Placed>))).toBeUndefined()
    }
    expect(types(Topic.envelope("t", Placed, { eventType: () => "x" }))).toBeUndefined()
    expect(types(Topic.envelope("t", Placed, { eventType: () => "x", eventTypes: ["x", "y"] }))).toEqual({
      types: new Set(["x", "y"]),
      isNamed: true
    })
  })
})

describe("an event of an unknown type", () => {
  for (
    const [what, options, counted] of [
      ["goes the way of onExhausted at once", { onExhausted: FailurePolicy.drop }, { dropped: 1 }],
      ["is dead-lettered", { onExhausted: FailurePolicy.drop, onUnknownType: FailurePolicy.deadLetter(Dead) }, {
        deadLettered: 1
      }],
      ["is skipped", { onExhausted: FailurePolicy.deadLetter(Dead), onUnknownType: FailurePolicy.skip }, {
        dropped: 0,
        deadLettered: 0
      }]
    ] as const
  ) {
    it.scoped(`${what}, and is counted apart`, () =>
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const seen = recorder()
        const failures: Array<unknown> = []
        const subscription = yield* bus.subscribe(Orders, seen.handler, {
          ...options,
          onFailure: ({ attempts, cause }) => Effect.sync(() => failures.push([attempts, Cause.squash(cause)]))
        })
        yield* bus.publish(Newer, cancelled("a"))
        yield* bus.publish(Orders, placed("a", 1))
        yield* eventually("the next one is handled", () => seen.ended.length === 1)
        expect(yield* subscription.stats).toMatchObject({
          received: 2,
          handled: 1,
          unknownType: 1,
          undecodable: 0,
          retried: 0,
          ...counted
        })
        const unknown = {
          _tag: "UnknownEventType",
          position: { topic: "orders", partition: 0, offset: 0 },
          eventType: "Cancelled",
          eventVersion: 1
        }
        expect(failures).toMatchObject(what === "is skipped" ? [] : [[0, unknown]])
      }).pipe(provideBus()))
  }

  it.scoped("is held where that is the policy, so that a version which knows it takes over", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const broker = yield* MemoryBroker.MemoryBroker
      const seen = recorder()
      const subscription = yield* bus.subscribe(Orders, seen.handler, {
        onExhausted: FailurePolicy.drop,
        onUnknownType: FailurePolicy.hold({ undecodable: FailurePolicy.drop })
      })
      yield* bus.publish(Newer, cancelled("a"))
      yield* bus.publishAll(Orders, [placed("a", 1), placed("b", 2)])
      yield* eventually("another aggregate is handled", () => seen.ended.length === 1)
      for (let i = 0; i < 3; i++) yield* TestClock.adjust("30 seconds")
      expect(yield* subscription.stats).toMatchObject({ held: 1, unknownType: 1, handled: 1, dropped: 0 })
      const closer = yield* Effect.fork(subscription.close)
      yield* TestClock.adjust("26 seconds")
      yield* Fiber.join(closer)
      expect(yield* broker.positions("orders", "group")).toEqual([{ watermark: 0, end: 3 }])
      const handled: Array<string> = []
      yield* bus.subscribe(Newer, (event) => Effect.sync(() => handled.push(event._tag)), {
        onExhausted: FailurePolicy.drop
      })
      yield* eventually("all are handled", () => handled.length >= 2)
      expect(handled.slice(0, 2).sort()).toEqual(["Cancelled", "Placed"])
    }).pipe(provideBus()))

  it.scoped("is told apart from a broken one of a known type, and from what a topic names", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const envelope = (event_type: string, payload: unknown) =>
        JSON.stringify({
          event_id: "e",
          aggregate_id: "a",
          event_type,
          event_version: 2,
          timestamp: "2026-11-21T09:30:00Z",
          payload
        })
      const Named = Topic.envelope("orders", Schema.Struct({ n: Schema.Number }), {
        eventType: () => "Placed",
        eventTypes: ["Placed"]
      })
      const tags = new Map<string, Array<string>>([["derived", []], ["named", []]])
      const handled = new Map<string, number>([["derived", 0], ["named", 0]])
      for (const [group, topic] of [["derived", Orders], ["named", Named]] as const) {
        yield* bus.subscribe(
          topic as typeof Orders,
          () => Effect.sync(() => handled.set(group, handled.get(group)! + 1)),
          {
            group,
            onExhausted: FailurePolicy.drop,
            onFailure: ({ cause }) => Effect.sync(() => tags.get(group)!.push((Cause.squash(cause) as Bad)._tag))
          }
        )
      }
      for (
        const body of [
          envelope("Placed", { _tag: "Placed", n: "1" }),
          envelope("order.placed", { _tag: "Placed", n: 1 }),
          envelope("Cancelled", { _tag: "Cancelled", n: 1 })
        ]
      ) yield* bus.publish(RawOrders, { body, key: "a" })
      yield* eventually("all are through", () => tags.get("derived")!.length === 2 && tags.get("named")!.length === 3)
      expect(tags.get("derived")).toEqual(["DecodeError", "UnknownEventType"])
      // By its name it would be an order.placed, which fits.
      expect(handled.get("derived")).toBe(1)
      expect(tags.get("named")).toEqual(["DecodeError", "UnknownEventType", "UnknownEventType"])
    }).pipe(provideBus()))

  it.scoped("is a failure of an at-most-once subscription, or skipped, and passed over by a replay", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* bus.publish(Newer, cancelled("a"))
      const failing = yield* bus.subscribe(Orders, () => Effect.void, { group: "1", semantics: "at-most-once" })
      const skipping = yield* bus.subscribe(Orders, () => Effect.void, {
        group: "2",
        semantics: "at-most-once",
        onUnknownType: FailurePolicy.skip
      })
      yield* settle
      expect(yield* failing.stats).toMatchObject({ unknownType: 1, failed: 1, undecodable: 0 })
      expect(yield* skipping.stats).toMatchObject({ unknownType: 1, failed: 0, undecodable: 0 })
      expect(yield* bus.replay(Orders, () => Effect.void)).toMatchObject({ read: 1, unknownType: 1, undecodable: 0 })
      expect(
        yield* Effect.flip(bus.subscribe(Orders, () => Effect.void, {
          onExhausted: FailurePolicy.drop,
          onUnknownType: FailurePolicy.deadLetter("orders")
        }))
      ).toMatchObject({ _tag: "InvalidConfiguration", issues: [expect.stringContaining("onUnknownType")] })
    }).pipe(provideBus()))
})

describe("a tombstone on a topic of envelopes", () => {
  const publishTombstone = (key: string) =>
    Effect.gen(function*() {
      const transport = yield* Transport.Transport
      const [result] = yield* transport.publish(Orders.spec, [{
        id: undefined,
        aggregateId: undefined,
        key: new TextEncoder().encode(key),
        value: null,
        headers: {},
        timestamp: undefined
      }], { timeout: Duration.seconds(1) })
      if (Either.isLeft(result!)) return yield* result.left
    })

  it.scoped("is counted and skipped, without a failure", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen = recorder()
      const failures: Array<unknown> = []
      const subscription = yield* bus.subscribe(Orders, seen.handler, {
        onExhausted: FailurePolicy.drop,
        onFailure: (failure) => Effect.sync(() => failures.push(failure))
      })
      const once = yield* bus.subscribe(Orders, seen.handler, { group: "once", semantics: "at-most-once" })
      yield* publishTombstone("a")
      yield* bus.publish(Orders, placed("a", 1))
      yield* eventually("the next one is handled", () => seen.ended.length === 2)
      const counted = { received: 2, handled: 1, tombstones: 1, undecodable: 0, dropped: 0, failed: 0 }
      expect(yield* subscription.stats).toMatchObject(counted)
      expect(yield* once.stats).toMatchObject(counted)
      expect(failures).toEqual([])
      expect(yield* bus.replay(Orders, () => Effect.void)).toMatchObject({ read: 2, handled: 1, tombstones: 1 })
    }).pipe(provideBus()))

  it.scoped("is handled in its aggregate's order, and retried, by onTombstone", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const log: Array<string> = []
      const subscription = yield* bus.subscribe(
        Orders,
        (event, { attempt }) =>
          Effect.suspend(() => {
            log.push(event._tag)
            return attempt < 2 ? new Bad({}) : Effect.void
          }),
        {
          onExhausted: FailurePolicy.drop,
          retry: Schedule.recurs(3),
          onTombstone: ({ aggregateId, attempt, value }) =>
            Effect.suspend(() => {
              log.push(`deleted ${aggregateId} ${value}`)
              return attempt < 2 ? new Bad({}) : Effect.void
            })
        }
      )
      yield* bus.publish(Orders, placed("a", 1))
      yield* publishTombstone("a")
      yield* eventually("both are handled", () => log.length === 4)
      expect(log).toEqual(["Placed", "Placed", "deleted a null", "deleted a null"])
      yield* settle
      expect(yield* subscription.stats).toMatchObject({ handled: 2, tombstones: 1, retried: 2 })
    }).pipe(provideBus()))
})

describe("a Schema that needs asynchronous work", () => {
  const Slow = Schema.transformOrFail(Schema.String, Schema.String, {
    strict: true,
    decode: (text, _, ast) =>
      text === "bad"
        ? Effect.zipRight(Effect.sleep("1 seconds"), Effect.fail(new ParseResult.Type(ast, text)))
        : Effect.as(Effect.sleep("1 seconds"), text.toUpperCase()),
    encode: (text) => Effect.as(Effect.sleep("1 seconds"), text.toLowerCase())
  })
  const Texts = Topic.envelope("texts", Schema.Struct({ _tag: Schema.Literal("T"), text: Slow }), { partitions: 1 })
  const Raw = Topic.envelope("texts", Schema.Struct({ _tag: Schema.Literal("T"), text: Schema.String }), {
    partitions: 1
  })

  it.scoped("works within the attempt, in order, and its failure is one of the bytes", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const log: Array<string> = []
      const failures: Array<unknown> = []
      const subscription = yield* bus.subscribe(Texts, ({ text }, { attempt }) =>
        Effect.suspend(() => {
          log.push(`${text} ${attempt}`)
          return text === "B" && attempt === 1 ? new Bad({}) : Effect.void
        }), {
        onExhausted: FailurePolicy.drop,
        retry: Schedule.recurs(3),
        onFailure: ({ cause }) => Effect.sync(() => failures.push(Cause.squash(cause)))
      })
      const once = yield* bus.subscribe(Texts, () => Effect.void, { group: "once", semantics: "at-most-once" })
      for (const text of ["a", "b", "bad", "c"]) {
        yield* bus.publish(Raw, { aggregateId: "x", payload: { _tag: "T" as const, text } })
      }
      for (let i = 0; i < 8; i++) {
        yield* settle
        yield* TestClock.adjust("1 seconds")
      }
      yield* settle
      expect(log).toEqual(["A 1", "B 1", "B 2", "C 1"])
      expect(failures).toMatchObject([{ _tag: "DecodeError", reason: "Payload" }])
      expect(yield* subscription.stats).toMatchObject({ handled: 3, undecodable: 1, dropped: 1, retried: 1 })
      expect(yield* once.stats).toMatchObject({ handled: 3, undecodable: 1, failed: 1 })
    }).pipe(provideBus()))
})
