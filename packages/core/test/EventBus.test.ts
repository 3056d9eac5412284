import type { EventBusError } from "@effect-eventbus/core"
import {
  EventBus,
  FailurePolicy,
  Headers,
  MemoryBroker,
  MemoryTransport,
  Strategy,
  Topic,
  Transport
} from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import {
  Context,
  Deferred,
  Effect,
  Either,
  Exit,
  Fiber,
  FiberRef,
  HashMap,
  Layer,
  Option,
  Schema,
  Scope,
  TestClock
} from "effect"
import { eventually, settle } from "./Eventually.js"
import { Clicks, dropping, Orders, placed, provideBus, recorder, Shipped, text } from "./Orders.js"

describe("publishing and subscribing", () => {
  it.scoped("brings every event to its handler, decoded, with its envelope and where it stands", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen: Array<[unknown, unknown]> = []
      yield* bus.subscribe(Orders, (event, delivery) =>
        Effect.sync(() => {
          const { aggregateId, attempt, envelope, epoch, group, headers, maybeDuplicate, offset, partition, topic } =
            delivery
          const { payloadJson } = envelope
          seen.push([event, {
            aggregateId,
            attempt,
            envelope: { ...envelope, payloadJson },
            epoch,
            group,
            headers,
            maybeDuplicate,
            offset,
            partition,
            topic
          }])
        }), dropping)
      const at = new Date("2026-11-21T09:30:00Z")
      const receipt = yield* bus.publish(Orders, {
        aggregateId: "order-1",
        payload: new Shipped({ at }),
        eventVersion: 3,
        eventId: "e-1",
        traceId: "t",
        correlationId: "c",
        tenantId: 9,
        headers: { page: "/" }
      })
      expect(receipt).toEqual({ topic: "orders", partition: 0, offset: 0 })
      yield* eventually("it is handled", () => seen.length === 1)
      expect(seen[0]![0]).toEqual(new Shipped({ at }))
      expect(seen[0]![1]).toMatchObject({
        topic: "orders",
        partition: 0,
        offset: 0,
        group: "group",
        epoch: 1,
        maybeDuplicate: false,
        attempt: 1,
        aggregateId: "order-1",
        headers: { page: "/" },
        envelope: {
          eventId: "e-1",
          eventType: "Shipped",
          eventVersion: 3,
          timestamp: "1970-01-01T00:00:00.000Z",
          traceId: "t",
          correlationId: "c",
          tenantId: 9,
          payloadJson: `{"at":"2026-11-21T09:30:00.000Z","_tag":"Shipped"}`
        }
      })
    }).pipe(provideBus()))

  it.scoped("handles each aggregate's events in order, without an overlap, and aggregates side by side", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const running = new Set<string>()
      const seen = new Map<string, Array<number>>()
      let most = 0
      yield* bus.subscribe(Orders, (event, { aggregateId }) =>
        Effect.gen(function*() {
          expect(running.has(aggregateId)).toBe(false)
          running.add(aggregateId)
          most = Math.max(most, running.size)
          for (let i = event._tag === "Placed" ? event.n % 4 : 0; i > 0; i--) yield* Effect.yieldNow()
          seen.set(aggregateId, [...seen.get(aggregateId) ?? [], event._tag === "Placed" ? event.n : -1])
          running.delete(aggregateId)
        }), dropping)
      for (let n = 0; n < 100; n++) {
        yield* bus.publishAll(
          Orders,
          Array.from({ length: 20 }, (_, i) => placed(`a${i}`, n))
        )
      }
      yield* eventually(
        "all are handled",
        () => Array.from(seen.values()).reduce((sum, one) => sum + one.length, 0) === 2_000
      )
      for (const one of seen.values()) expect(one).toEqual(Array.from({ length: 100 }, (_, n) => n))
      expect(most).toBe(20)
    }).pipe(provideBus()))

  it.scoped("publishes plain messages as text or bytes, with a key, headers and an aggregate id", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen: Array<unknown> = []
      yield* bus.subscribe(
        Clicks,
        (body, { aggregateId, headers, key }) =>
          Effect.sync(() =>
            seen.push([text(body), key === null ? null : text(key), aggregateId, Headers.get(headers, "page")])
          )
      )
      yield* bus.publish(Clicks, { body: "a", headers: { page: "/" } })
      yield* bus.publish(Clicks, { body: new Uint8Array([98]), key: "k" })
      yield* bus.publish(Clicks, { body: "c", aggregateId: "agg" })
      yield* bus.publish(Clicks, { body: "d", key: "k", aggregateId: "agg" })
      yield* eventually("all are handled", () => seen.length === 4)
      expect(seen).toContainEqual(["a", null, undefined, "/"])
      expect(seen).toContainEqual(["b", "k", "k", undefined])
      expect(seen).toContainEqual(["c", "agg", "agg", undefined])
      // Both are kept: what orders it, and the key it is stored under.
      expect(seen).toContainEqual(["d", "k", "agg", undefined])
    }).pipe(provideBus()))

  it.scoped("fails with InvalidMessage, and sends nothing, where a message is not valid", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const issue = <A, E extends { readonly _tag: string; readonly message: string }>(publish: Effect.Effect<A, E>) =>
        Effect.map(Effect.flip(publish), (error) => [error._tag, error.message] as const)
      const expectInvalid = (given: readonly [string, string], part: string) => {
        expect(given[0]).toBe("InvalidMessage")
        expect(given[1]).toContain(part)
      }
      expectInvalid(yield* issue(bus.publish(Orders, placed("not valid", 1))), "aggregate_id")
      expectInvalid(yield* issue(bus.publish(Orders, { ...placed("a", 1), eventVersion: 0 })), "event_version")
      expectInvalid(yield* issue(bus.publish(Orders, { ...placed("a", 1), timestamp: "yesterday" })), "timestamp")
      expectInvalid(
        yield* issue(bus.publish(Orders, { ...placed("a", 1), timestamp: new Date(Number.NaN) })),
        "timestamp"
      )
      expectInvalid(yield* issue(bus.publish(Orders, { ...placed("a", 1), eventType: " " })), "event_type")
      expectInvalid(
        yield* issue(bus.publish(Orders, { aggregateId: "a", payload: { _tag: "Placed", n: "1" } as never })),
        "schema"
      )
      expectInvalid(yield* issue(bus.publish(Clicks, { body: "a", aggregateId: "not valid" })), "aggregateId")
      const Cyclic = Topic.envelope("cyclic", Schema.Any, { eventType: () => "x" })
      const cyclic: { self?: unknown } = {}
      cyclic.self = cyclic
      expectInvalid(yield* issue(bus.publish(Cyclic, { aggregateId: "a", payload: cyclic })), "JSON")
      expectInvalid(yield* issue(bus.publish(Cyclic, { aggregateId: "a", payload: undefined })), "JSON")
      expect(yield* (yield* MemoryBroker.MemoryBroker).journal).toEqual([])
    }).pipe(provideBus({}, { journal: 100 })))

  it.scoped("publishes the valid ones of several and tells which failed, in the order given", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const error = yield* Effect.flip(bus.publishAll(Orders, [placed("a", 0), placed("not valid", 1), placed("a", 2)]))
      expect(error).toMatchObject({ _tag: "PublishAllFailed", failed: 1 })
      expect(error.results.map(Either.isRight)).toEqual([true, false, true])
      expect(error.results.map(Either.match({ onLeft: (one) => one._tag, onRight: (one) => one.offset }))).toEqual([
        0,
        "InvalidMessage",
        1
      ])
      expect(yield* Effect.flip(bus.publishAll(Orders, [placed("not valid", 1)]))).toMatchObject({ failed: 1 })
      expect(yield* bus.publishAll(Orders, [])).toEqual([])
      expect((yield* bus.publishAll(Orders, [placed("a", 3), placed("b", 4)])).map(({ offset }) => offset)).toEqual([
        2,
        3
      ])
    }).pipe(provideBus()))

  it.scoped("finds a running subscription by its topic and group, and none that is closed", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      expect(bus.find("orders")._tag).toBe("None")
      const subscription = yield* bus.subscribe(Orders, () => Effect.void, dropping)
      yield* bus.subscribe(Orders, () => Effect.void, { ...dropping, group: "other" })
      expect(bus.find("orders")).toMatchObject({ value: { topic: "orders", group: "group" } })
      expect(bus.find("orders", "other")).toMatchObject({ value: { group: "other" } })
      expect(bus.find("orders", "none")._tag).toBe("None")
      yield* subscription.close
      expect(bus.find("orders")._tag).toBe("None")
      expect(bus.find("orders", "other")._tag).toBe("Some")
    }).pipe(provideBus()))

  it.scoped("refuses a second subscription of a topic and group, and takes one after the first was closed", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const first = yield* bus.subscribe(Orders, () => Effect.void, dropping)
      expect(yield* Effect.flip(bus.subscribe(Orders, () => Effect.void, dropping))).toMatchObject({
        _tag: "AlreadySubscribed",
        topic: "orders",
        group: "group"
      })
      yield* bus.publish(Orders, placed("a", 0))
      yield* first.close
      const seen = recorder()
      yield* bus.subscribe(Orders, seen.handler, dropping)
      yield* bus.publish(Orders, placed("a", 1))
      yield* eventually("it is handled", () => seen.ended.length > 0)
      expect(seen.ended).toEqual([1])
      expect(bus.find("orders")._tag).toBe("Some")
    }).pipe(provideBus()))

  it.scoped("keeps no place for a subscription that could not be made", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const subscribe = bus.subscribe(Orders, () => Effect.void, dropping)
      expect(yield* Effect.flip(subscribe)).toMatchObject({ _tag: "UnknownTopic", topic: "orders" })
      expect(yield* Effect.flip(subscribe)).toMatchObject({ _tag: "UnknownTopic" })
      yield* (yield* MemoryBroker.MemoryBroker).createTopic("orders", 1)
      yield* subscribe
      expect(bus.find("orders")._tag).toBe("Some")
    }).pipe(provideBus({}, { topics: "validate" })))

  it.scoped("lists all that is wrong with a subscription's options", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const options = { concurrency: 0, handlerTimeout: "-1 seconds", group: ["a"] } as never
      const error = yield* Effect.flip(bus.subscribe(Orders, () => Effect.void, options))
      expect(error).toMatchObject({ _tag: "InvalidConfiguration", topic: "orders" })
      expect((error as { issues: ReadonlyArray<string> }).issues).toHaveLength(4)
      expect(bus.find("orders", " ")._tag).toBe("None")
    }).pipe(provideBus()))

  it.scoped("refuses a policy that is none: giving up by it would never end", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const options = [
        { onExhausted: { _tag: "Retry" } },
        { onExhausted: "drop" },
        { onExhausted: { _tag: "DeadLetter", topic: "dead" } },
        { onExhausted: { _tag: "Hold" } },
        { onExhausted: { _tag: "Hold", undecodable: { _tag: "Hold", undecodable: FailurePolicy.drop } } },
        { onExhausted: FailurePolicy.drop, onUnknownType: { _tag: "Ignore" } }
      ]
      for (const one of options) {
        const error = yield* Effect.flip(bus.subscribe(Orders, () => Effect.void, one as never))
        expect(error).toMatchObject({ _tag: "InvalidConfiguration", issues: [expect.stringMatching(/FailurePolicy/)] })
      }
    }).pipe(provideBus()))

  it.effect("refuses a strategy that has no slots", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const error = yield* Effect.flip(bus.subscribe(Orders, () => Effect.void, dropping))
      expect(error).toMatchObject({ issues: ["Strategy: slots.count: expected a whole number of at least 1, got 0"] })
      expect(yield* Effect.flip(bus.replay(Orders, () => Effect.void))).toMatchObject({ _tag: "InvalidConfiguration" })
    }).pipe(
      Effect.scoped,
      Effect.provide(EventBus.layer.pipe(
        Layer.provide(MemoryTransport.layer()),
        Layer.provide(Strategy.layer({ name: "none", slots: { count: 0, slotOf: () => 0 } }))
      ))
    ))

  for (const presubscribes of [false, true]) {
    it.effect(`ends a ${presubscribes ? "pre-subscription" : "subscription"} that is still beginning when the bus closes`, () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const log: Array<string> = []
        const slow = Layer.effect(
          Transport.Transport,
          Effect.map(Transport.Transport, (transport): Transport.Service => ({
            ...transport,
            // A group that settles, for as long as it takes.
            subscribe: () =>
              Effect.acquireRelease(
                Effect.sync(() => log.push("begins")),
                () => Effect.sync(() => log.push("gives up"))
              )
                .pipe(Effect.zipRight(Effect.never))
          }))
        )
        const transport = Layer.scopedDiscard(
          Effect.addFinalizer(() => Effect.sync(() => log.push("the transport ends")))
        ).pipe(Layer.provideMerge(slow), Layer.provide(MemoryTransport.layer()))
        const context = yield* Layer.buildWithScope(Layer.provide(EventBus.layer, transport), scope)
        const bus = Context.get(context, EventBus.EventBus)
        const outer = yield* Scope.make()
        const begin: Effect.Effect<unknown, EventBusError.SubscribeError, Scope.Scope> = presubscribes
          ? bus.presubscribe(Orders)
          : bus.subscribe(Orders, () => Effect.void, dropping)
        const beginning = yield* Effect.fork(Scope.extend(begin, outer))
        yield* eventually("it begins", () => log.length === 1)
        yield* Scope.close(scope, Exit.void)
        expect(log).toEqual(["begins", "gives up", "the transport ends"])
        expect(yield* Effect.flip(Fiber.join(beginning))).toMatchObject({ _tag: "BusClosed" })
        expect(yield* bus.subscriptions).toEqual([])
      }))
  }

  it.scoped("refuses to read its own dead letters", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const own = FailurePolicy.deadLetter(Orders)
      for (const onExhausted of [own, FailurePolicy.hold({ undecodable: own })]) {
        const error = yield* Effect.flip(bus.subscribe(Orders, () => Effect.void, { onExhausted }))
        expect(error).toMatchObject({ _tag: "InvalidConfiguration", issues: [expect.stringContaining("dead letters")] })
      }
      yield* bus.subscribe(Orders, () => Effect.void, { onExhausted: FailurePolicy.deadLetter("dead") })
    }).pipe(provideBus()))

  it.effect("fails with BusClosed after its scope has ended, and has closed its subscriptions", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(EventBus.layer.pipe(Layer.provide(MemoryTransport.layer())), scope)
      const bus = Context.get(context, EventBus.EventBus)
      const seen = recorder()
      const outer = yield* Scope.make()
      const subscription = yield* Scope.extend(bus.subscribe(Orders, seen.handler, dropping), outer)
      yield* bus.publishAll(Orders, Array.from({ length: 50 }, (_, n) => placed("a", n)))
      yield* Scope.close(scope, Exit.void)
      expect(seen.ended).toHaveLength(50)
      expect(yield* Effect.flip(bus.publish(Orders, placed("a", 0)))).toMatchObject({
        _tag: "BusClosed",
        topic: "orders"
      })
      expect(yield* Effect.flip(bus.publishAll(Orders, [placed("a", 0)]))).toMatchObject({ failed: 1 })
      expect(yield* Effect.flip(Effect.scoped(bus.subscribe(Orders, seen.handler, dropping)))).toMatchObject({
        _tag: "BusClosed"
      })
      expect(bus.find("orders")._tag).toBe("None")
      expect(yield* subscription.close).toEqual({ unfinished: 0, lost: 0 })
      yield* Scope.close(outer, Exit.void)
    }))

  it.scoped("runs a subscription as a layer, for as long as the layer lives", () =>
    Effect.gen(function*() {
      const Seen = Context.GenericTag<Array<number>>("Seen")
      const bus = yield* EventBus.EventBus
      const live = Orders.toLayer(
        (event) => Effect.map(Seen, (seen) => seen.push(event._tag === "Placed" ? event.n : -1)),
        dropping
      )
      const seen: Array<number> = []
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(
        Layer.provide(live, [Layer.succeed(Seen, seen), Layer.succeed(EventBus.EventBus, bus)]),
        scope
      )
      yield* bus.publish(Orders, placed("a", 1))
      yield* eventually("it is handled", () => seen.length === 1)
      expect(bus.find("orders")._tag).toBe("Some")
      yield* Scope.close(scope, Exit.void)
      expect(bus.find("orders")._tag).toBe("None")
      yield* bus.publish(Orders, placed("a", 2))
      yield* settle
      expect(seen).toEqual([1])
    }).pipe(provideBus()))

  it.scoped("does not run handlers in the context of who publishes", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const ref = yield* FiberRef.make("nobody")
      const seen: Array<unknown> = []
      yield* bus.subscribe(Orders, () =>
        Effect.gen(function*() {
          const span = yield* Effect.option(Effect.currentSpan)
          seen.push([
            yield* FiberRef.get(ref),
            yield* Effect.logAnnotations.pipe(Effect.map((all) => JSON.stringify(all).includes("publisher"))),
            span._tag
          ])
        }), dropping)
      yield* bus.publish(Orders, placed("a", 1)).pipe(
        Effect.locally(ref, "publisher"),
        Effect.annotateLogs("who", "publisher"),
        Effect.withSpan("publisher")
      )
      yield* eventually("it is handled", () => seen.length === 1)
      expect(seen).toEqual([["nobody", false, "None"]])
    }).pipe(provideBus()))

  it.scoped("gives the supervisor the settings that come with the transport", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const gate = yield* Deferred.make<void>()
      const seen = recorder(() => Deferred.await(gate))
      const subscription = yield* bus.subscribe(Orders, seen.handler, dropping)
      yield* bus.publishAll(Orders, Array.from({ length: 9 }, (_, n) => placed(`a${n}`, n)))
      yield* settle
      expect((yield* subscription.stats).actors).toBe(2)
      expect(seen.started).toHaveLength(2)
      yield* Deferred.succeed(gate, undefined)
      yield* eventually("all are handled", () => seen.ended.length === 9)
      expect((yield* subscription.stats).actors).toBe(2)
    }).pipe(provideBus({ maxActors: 2 })))
})

describe("limits of a subscription", () => {
  it.scoped("runs no more handlers at once than its concurrency", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      let running = 0
      let most = 0
      let done = 0
      yield* bus.subscribe(Orders, () =>
        Effect.acquireUseRelease(
          Effect.sync(() => most = Math.max(most, ++running)),
          () => Effect.sleep("1 seconds"),
          () =>
            Effect.sync(() => {
              running--
              done++
            })
        ), { ...dropping, concurrency: 3, handlerTimeout: "2 seconds" })
      yield* bus.publishAll(Orders, Array.from({ length: 9 }, (_, n) => placed(`a${n}`, n)))
      for (let i = 0; i < 4; i++) yield* TestClock.adjust("1 seconds")
      // A wait for its turn is not the handler's time.
      expect([most, done]).toEqual([3, 9])
    }).pipe(provideBus()))

  it.scoped("stops fetching at its bounds while handlers hang, and goes on when they are released", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const gate = yield* Deferred.make<void>()
      const seen = recorder(() => Deferred.await(gate))
      const subscription = yield* bus.subscribe(Orders, seen.handler, dropping)
      yield* bus.publishAll(Orders, Array.from({ length: 1_000 }, (_, n) => placed(`a${n % 10}`, n)))
      yield* settle
      expect((yield* subscription.stats).received).toBe(50)
      yield* Deferred.succeed(gate, undefined)
      yield* eventually("all are handled", () => seen.ended.length === 1_000)
      for (let key = 0; key < 10; key++) {
        const mine = seen.ended.filter((n) => n % 10 === key)
        expect(mine).toEqual(mine.slice().sort((a, b) => a - b))
      }
    }).pipe(provideBus({ maxUnfinished: 50 })))

  it.scoped("stays even over the round-robin mailboxes also when they are full", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const mailboxes = new Map<string, number>()
      let done = 0
      const subscription = yield* bus.subscribe(Clicks, () =>
        Effect.gen(function*() {
          const actor = String(Option.getOrThrow(HashMap.get(yield* Effect.logAnnotations, "eventbus.actor")))
          mailboxes.set(actor, (mailboxes.get(actor) ?? 0) + 1)
          done++
          yield* Effect.yieldNow()
        }), { semantics: "at-least-once", onExhausted: FailurePolicy.drop })
      yield* bus.publishAll(Clicks, Array.from({ length: 2_560 }, () => ({ body: "x" })))
      yield* eventually("all are handled", () => done === 2_560)
      expect(mailboxes.size).toBe(256)
      expect(new Set(mailboxes.values())).toEqual(new Set([10]))
      yield* settle
      expect((yield* subscription.stats).handled).toBe(2_560)
    }).pipe(provideBus({ mailboxCapacity: 1 })))
})
