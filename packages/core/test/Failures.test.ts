import type { Headers } from "@effect-eventbus/core"
import { EventBus, EventBusError, FailurePolicy, MemoryBroker, Topic, Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Chunk, Deferred, Effect, Either, Fiber, Layer, Schedule, Stream, TestClock } from "effect"
import { eventually, settle } from "./Eventually.js"
import { Bad, Dead, dropping, Orders, Placed, placed, provideBus, RawOrders, recorder, text, Worse } from "./Orders.js"

describe("a failing envelope handler", () => {
  it.scoped("is tried again eight times over about 26 seconds, with its followers held and others going on", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen = recorder((n) => n === 0 ? new Bad({}) : Effect.void)
      const subscription = yield* bus.subscribe(Orders, seen.handler, dropping)
      yield* bus.publishAll(Orders, [placed("bad", 0), placed("bad", 1), placed("good", 2)])
      yield* eventually("it failed", () => seen.ended.length === 1)
      expect(seen.ended).toEqual([2])
      // The jitter makes 80 to 120 % of 25.5 seconds.
      yield* TestClock.adjust("20 seconds")
      expect(seen.ended).toEqual([2])
      for (let i = 0; i < 12; i++) yield* TestClock.adjust("1 seconds")
      yield* eventually("the follower is handled", () => seen.ended.length === 2)
      expect(seen.started.filter((n) => n === 0)).toHaveLength(9)
      expect(yield* subscription.stats).toMatchObject({ received: 3, handled: 2, retried: 8, dropped: 1, restarted: 0 })
    }).pipe(provideBus()))

  it.scoped("is handled when a retry succeeds, and its attempts are counted in the delivery", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const attempts: Array<number> = []
      const seen = recorder((_, attempt) => {
        attempts.push(attempt)
        return attempt < 3 ? new Bad({}) : Effect.void
      })
      yield* bus.subscribe(Orders, seen.handler, { ...dropping, retry: Schedule.recurs(5) })
      yield* bus.publish(Orders, placed("a", 0))
      yield* eventually("it is handled", () => seen.ended.length === 1)
      expect(attempts).toEqual([1, 2, 3])
    }).pipe(provideBus()))

  it.scoped("is given up when its retry schedule throws, and not run again and again", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen = recorder((n) => n === 0 ? new Bad({}) : Effect.void)
      const broken = Schedule.recurs(5).pipe(Schedule.map(() => {
        throw new Error("a broken schedule")
      }))
      const subscription = yield* bus.subscribe(Orders, seen.handler, { ...dropping, retry: broken })
      yield* bus.publishAll(Orders, [placed("a", 0), placed("a", 1)])
      yield* eventually("the follower is handled", () => seen.ended.length === 1)
      expect(seen.started).toEqual([0, 1])
      expect(yield* subscription.stats).toMatchObject({ handled: 1, dropped: 1, retried: 0, restarted: 0 })
    }).pipe(provideBus()))

  it.scoped("holds the next attempt until a promise that is told of the timeout has ended", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const log: Array<string> = []
      const work = (n: number, attempt: number) =>
        Effect.tryPromise({
          try: (signal) =>
            new Promise<void>((resolve, reject) => {
              log.push(`start ${n}.${attempt}`)
              if (n > 0 || attempt > 1) return resolve()
              // What a client that knows `AbortSignal` does.
              signal.addEventListener("abort", () => {
                log.push(`aborted ${n}.${attempt}`)
                reject(new Error("aborted"))
              })
            }),
          catch: () => new Bad({})
        })
      yield* bus.subscribe(Orders, (event, { attempt }) => work("n" in event ? event.n : -1, attempt), {
        ...dropping,
        handlerTimeout: "1 seconds",
        retry: Schedule.recurs(1)
      })
      yield* bus.publishAll(Orders, [placed("a", 0), placed("a", 1)])
      yield* eventually("it has begun", () => log.length === 1)
      yield* TestClock.adjust("1 seconds")
      yield* eventually("both are handled", () => log.length === 4)
      expect(log).toEqual(["start 0.1", "aborted 0.1", "start 0.2", "start 1.1"])
    }).pipe(provideBus()))

  it.scoped("leaves nothing on its fiber's stack, however often it is tried", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const depths: Array<number> = []
      yield* bus.subscribe(Orders, () =>
        Effect.withFiberRuntime<void, Bad>((fiber) => {
          depths.push((fiber as unknown as { readonly _stack: ReadonlyArray<unknown> })._stack.length)
          return depths.length < 2_000 ? new Bad({}) : Effect.void
        }), { ...dropping, retry: Schedule.forever })
      yield* bus.publish(Orders, placed("a", 0))
      yield* eventually("it is handled", () => depths.length === 2_000)
      expect(depths[1_999]).toBeLessThan(depths[0]! + 10)
    }).pipe(provideBus()))

  it.scoped("goes the way that onError says for its error, and is retried for the others", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen = recorder<Bad | Worse | { readonly _tag: "Rare" }>((n, attempt) =>
        n === 0
          ? new Bad({})
          : n === 1
          ? new Worse()
          : n === 2 && attempt === 1
          ? Effect.fail({ _tag: "Rare" as const })
          : Effect.void
      )
      const subscription = yield* bus.subscribe(Orders, seen.handler, {
        ...dropping,
        retry: Schedule.recurs(3),
        onError: FailurePolicy.exhaustive({
          Bad: FailurePolicy.deadLetter(Dead),
          Worse: FailurePolicy.drop,
          Rare: FailurePolicy.retry
        })
      })
      yield* bus.publishAll(Orders, Array.from({ length: 4 }, (_, n) => placed("a", n)))
      yield* eventually("all are through", () => seen.ended.length === 2)
      expect(seen.started).toEqual([0, 1, 2, 2, 3])
      expect(yield* subscription.stats).toMatchObject({ deadLettered: 1, dropped: 1, retried: 1, handled: 2 })
    }).pipe(provideBus()))

  it.scoped("that publishes is retried after an outage, and given up where no try can help", () =>
    Effect.gen(function*() {
      const inner = yield* Transport.Transport
      const outage = (reason: "Unreachable" | "Rejected") =>
        Either.left(new EventBusError.PublishFailed({ topic: "shipped", reason, outcome: "not-written" }))
      const answers = [outage("Unreachable"), outage("Unreachable"), undefined, outage("Rejected")]
      const flaky = Layer.succeed(Transport.Transport, {
        ...inner,
        publish: (topic, messages, options) =>
          Effect.suspend(() => {
            const answer = topic.name === "shipped" ? answers.shift() : undefined
            return answer === undefined ? inner.publish(topic, messages, options) : Effect.succeed([answer])
          })
      })
      yield* Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const Shipments = Topic.envelope("shipped", Placed, { partitions: 1 })
        const subscription = yield* bus.subscribe(
          Orders,
          (_, { aggregateId, envelope }) =>
            bus.publish(Shipments, {
              aggregateId,
              payload: new Placed({ n: 1 }),
              eventId: `${envelope.eventId}/shipped`
            }),
          {
            onExhausted: FailurePolicy.drop,
            onError: FailurePolicy.retryable(FailurePolicy.deadLetter(Dead)),
            retry: Schedule.recurs(5)
          }
        )
        yield* bus.publishAll(Orders, [placed("a", 0), placed("a", 1), placed("a", 2)])
        yield* eventually("all are through", () => answers.length === 0)
        yield* settle
        expect(yield* subscription.stats).toMatchObject({ handled: 2, retried: 2, deadLettered: 1, restarted: 0 })
      }).pipe(Effect.provide(Layer.fresh(EventBus.layer).pipe(Layer.provide(flaky))))
    }).pipe(provideBus()))

  it.scoped("is retried when it takes longer than its timeout", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const failures: Array<string> = []
      let interrupted = 0
      const seen = recorder((_, attempt) =>
        attempt < 3 ? Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++)) : Effect.void
      )
      yield* bus.subscribe(Orders, seen.handler, {
        ...dropping,
        handlerTimeout: "3 seconds",
        retry: Schedule.recurs(5),
        onError: (error) => {
          failures.push(error._tag)
          return FailurePolicy.retry
        }
      })
      yield* bus.publish(Orders, placed("a", 0))
      yield* eventually("it runs", () => seen.started.length === 1)
      yield* TestClock.adjust("3 seconds")
      yield* TestClock.adjust("3 seconds")
      yield* eventually("it is handled", () => seen.ended.length === 1)
      expect(failures).toEqual(["HandlerTimeout", "HandlerTimeout"])
      expect(interrupted).toBe(2)
    }).pipe(provideBus()))

  it.scoped("has its actor restarted after a defect, and goes the policy's way when restarts have ended", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const failed: Array<unknown> = []
      const letters: Array<unknown> = []
      yield* bus.subscribe(
        Topic.plain("dead", { partitions: 1 }),
        (_, { headers }) =>
          Effect.sync(() => letters.push([headers["X-Dead-Letter-Attempts"], headers["X-Dead-Letter-Restarts"]]))
      )
      const seen = recorder((n) => n === 0 ? Effect.die(new Error("boom")) : Effect.void)
      const subscription = yield* bus.subscribe(Orders, seen.handler, {
        onExhausted: FailurePolicy.deadLetter(Dead),
        onFailure: (failure) =>
          Effect.sync(() =>
            failed.push([failure.attempts, failure.restarts, Cause.isDie(failure.cause), failure.policy._tag])
          )
      })
      yield* bus.publishAll(Orders, [placed("a", 0), placed("a", 1)])
      for (let i = 0; i < 12; i++) yield* TestClock.adjust("100 millis")
      yield* eventually("the follower is handled", () => seen.ended.length === 1)
      expect(seen.started).toEqual([0, 0, 0, 0, 1])
      expect(failed).toEqual([[4, 3, true, "DeadLetter"]])
      yield* eventually("the dead letter is seen", () => letters.length === 1)
      expect(letters).toEqual([["4", "3"]])
      expect(yield* subscription.stats).toMatchObject({ restarted: 4, deadLettered: 1, handled: 1 })
    }).pipe(provideBus()))

  it.scoped("is dead-lettered with its bytes, key, headers, position and cause, in its aggregate's order", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const letters: Array<{ readonly value: string; readonly key: string; readonly headers: Headers.Headers }> = []
      yield* bus.subscribe(
        Topic.plain("dead", { partitions: 1 }),
        (body, { headers, key }) => Effect.sync(() => letters.push({ value: text(body), key: text(key), headers }))
      )
      yield* bus.subscribe(Orders, (event) => event._tag === "Placed" ? new Bad({ n: event.n }) : Effect.void, {
        onExhausted: FailurePolicy.deadLetter("dead"),
        retry: Schedule.recurs(1)
      })
      const raw =
        `{ "event_id":"e","aggregate_id":"a","event_type":"Placed","event_version":1,"timestamp":"2026-11-21T09:30:00Z",  "payload":{"_tag":"Placed","n":0} }`
      yield* bus.publish(RawOrders, { body: raw, key: "a", headers: { page: "/", "x-dead-letter-topic": "older" } })
      for (let n = 1; n < 20; n++) yield* bus.publish(Orders, placed("a", n))
      yield* eventually("all are dead-lettered", () => letters.length === 20)
      expect(letters[0]!.value).toBe(raw)
      expect(letters.map(({ key }) => key)).toEqual(Array.from({ length: 20 }, () => "a"))
      expect(letters.map(({ headers }) => headers["X-Dead-Letter-Offset"])).toEqual(
        Array.from({ length: 20 }, (_, n) => String(n))
      )
      expect(letters[0]!.headers).toEqual({
        page: "/",
        "X-Dead-Letter-Topic": "orders",
        "X-Dead-Letter-Partition": "0",
        "X-Dead-Letter-Offset": "0",
        "X-Dead-Letter-Timestamp": "0",
        "X-Dead-Letter-Group": "group",
        "X-Dead-Letter-Attempts": "2",
        "X-Dead-Letter-Restarts": "0",
        "X-Dead-Letter-Error": "Bad",
        "X-Dead-Letter-Cause": expect.stringContaining("Bad"),
        "X-Dead-Letter-Frame": expect.stringMatching(/Failures\.test\.[jt]s:\d+/)
      })
    }).pipe(provideBus()))

  it.scoped("stays unfinished while its dead letter can't be published, and is published in the end", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const broker = yield* MemoryBroker.MemoryBroker
      yield* broker.createTopic("orders", 1)
      const seen = recorder((n) => n === 0 ? new Bad({}) : Effect.void)
      const subscription = yield* bus.subscribe(Orders, seen.handler, {
        onExhausted: FailurePolicy.deadLetter(Dead),
        onError: () => FailurePolicy.deadLetter(Dead)
      })
      yield* bus.publishAll(Orders, [placed("a", 0), placed("a", 1)])
      yield* TestClock.adjust("10 minutes")
      expect(seen.started).toEqual([0])
      expect(yield* broker.positions("orders", "group")).toEqual([{ watermark: 0, end: 2 }])
      yield* broker.createTopic("dead", 1)
      yield* TestClock.adjust("40 seconds")
      yield* eventually("the follower is handled", () => seen.ended.length === 1)
      expect(yield* subscription.stats).toMatchObject({ deadLettered: 1, handled: 1, dropped: 0 })
      expect(yield* broker.positions("orders", "group")).toEqual([{ watermark: 2, end: 2 }])
    }).pipe(provideBus({}, { topics: "validate" })))

  it.scoped("is held: tried every thirty seconds, its followers waiting, counted and reported once", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const failures: Array<string> = []
      let heal = false
      const depths: Array<number> = []
      const seen = recorder((n) =>
        n !== 0 ? Effect.void : Effect.withFiberRuntime<void, Bad>((fiber) => {
          depths.push((fiber as unknown as { readonly _stack: ReadonlyArray<unknown> })._stack.length)
          return heal ? Effect.void : new Bad({})
        })
      )
      const subscription = yield* bus.subscribe(Orders, seen.handler, {
        onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop }),
        retry: Schedule.recurs(1),
        onFailure: (failure) => Effect.sync(() => failures.push(failure.policy._tag))
      })
      yield* bus.publishAll(Orders, [placed("a", 0), placed("a", 1), placed("b", 2)])
      yield* eventually("it is held", () => failures.length === 1 && seen.ended.length === 1)
      expect((yield* subscription.stats).held).toBe(1)
      for (let i = 0; i < 40; i++) yield* TestClock.adjust("30 seconds")
      expect(seen.started.filter((n) => n === 0)).toHaveLength(42)
      expect(depths[41]).toBeLessThan(depths[2]! + 5)
      expect(seen.ended).toEqual([2])
      expect(failures).toEqual(["Hold"])
      heal = true
      yield* TestClock.adjust("30 seconds")
      yield* eventually("all are handled", () => seen.ended.length === 3)
      expect(seen.ended).toEqual([2, 0, 1])
      expect(yield* subscription.stats).toMatchObject({ held: 0, handled: 3 })
    }).pipe(provideBus()))

  it.scoped("stays held when it dies while it is held", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      let heal = false
      const seen = recorder(() => heal ? Effect.void : Effect.die("boom"))
      const subscription = yield* bus.subscribe(Orders, seen.handler, {
        onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop })
      })
      yield* bus.publish(Orders, placed("a", 0))
      for (let i = 0; i < 20; i++) yield* TestClock.adjust("15 seconds")
      expect(yield* subscription.stats).toMatchObject({ held: 1, handled: 0 })
      expect(seen.started.length).toBeGreaterThan(8)
      heal = true
      for (let i = 0; i < 4; i++) yield* TestClock.adjust("15 seconds")
      expect(yield* subscription.stats).toMatchObject({ held: 0, handled: 1 })
    }).pipe(provideBus()))

  it.scoped("is not started again when its subscription closes while it waits, and counts as held no longer", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const seen = recorder(() => new Bad({}))
      const subscription = yield* bus.subscribe(Orders, seen.handler, {
        onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop }),
        retry: Schedule.recurs(0)
      })
      yield* bus.publish(Orders, placed("a", 0))
      yield* eventually("it failed", () => seen.started.length === 1)
      yield* settle
      const closer = yield* Effect.fork(subscription.close)
      yield* TestClock.adjust("26 seconds")
      expect(yield* Fiber.join(closer)).toEqual({ unfinished: 1, lost: 0 })
      expect((yield* subscription.stats).held).toBe(0)
    }).pipe(provideBus()))

  it.scoped("is reported to onFailure before its followers start, whatever onFailure does", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const log: Array<string> = []
      const gate = yield* Deferred.make<void>()
      const seen = recorder((n) => {
        log.push(`start ${n}`)
        return n < 3 ? new Bad({}) : Effect.void
      })
      const ways = [Deferred.await(gate), Effect.die("broken report"), Effect.interrupt]
      yield* bus.subscribe(Orders, seen.handler, {
        onExhausted: FailurePolicy.drop,
        retry: Schedule.recurs(0),
        onFailure: ({ position }) =>
          Effect.zipRight(Effect.sync(() => log.push(`failed ${position.offset}`)), ways[position.offset]!)
      })
      yield* bus.publishAll(Orders, Array.from({ length: 4 }, (_, n) => placed("a", n)))
      yield* settle
      expect(log).toEqual(["start 0", "failed 0"])
      yield* Deferred.succeed(gate, undefined)
      yield* eventually("all are through", () => seen.ended.length === 1)
      expect(log).toEqual(["start 0", "failed 0", "start 1", "failed 1", "start 2", "failed 2", "start 3"])
    }).pipe(provideBus()))

  it.scoped("is decided by onExhausted where onError answers no decision, and not without end", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      for (const [i, answer] of [undefined, { _tag: "Nothing" }, "drop"].entries()) {
        const topic = Topic.envelope(`no-decision-${i}`, Placed)
        let attempts = 0
        const subscription = yield* bus.subscribe(
          topic,
          () => Effect.zipRight(Effect.sync(() => attempts++), new Bad({})),
          {
            ...dropping,
            onError: () => answer as never
          }
        )
        yield* bus.publish(topic, placed("a", 0))
        yield* eventually("it is given up", () => Effect.runSync(subscription.stats).dropped === 1)
        expect(attempts).toBe(1)
      }
    }).pipe(provideBus({ restartTimes: 0 })))

  it.scoped("shows in the stream of failures", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const subscription = yield* bus.subscribe(Orders, () => new Bad({}), { ...dropping, retry: Schedule.recurs(0) })
      const collected = yield* Effect.fork(Stream.runCollect(subscription.failures))
      yield* settle
      yield* bus.publishAll(Orders, [placed("a", 0), placed("a", 1)])
      yield* settle
      yield* subscription.close
      const failures = Chunk.toReadonlyArray(yield* Fiber.join(collected))
      expect(failures.map(({ _tag, attempts, position }) => [_tag, position.offset, attempts])).toEqual([[
        "EnvelopeFailure",
        0,
        1
      ], ["EnvelopeFailure", 1, 1]])
      expect(failures[0]!.message).toContain("orders[0]@0")
    }).pipe(provideBus()))
})

describe("FailurePolicy", () => {
  it("decides by the tag of an error, and retries what it does not know", () => {
    const exhaustive = FailurePolicy.exhaustive({ Bad: FailurePolicy.drop, Worse: FailurePolicy.deadLetter("dead") })
    expect(exhaustive(new Bad({}))).toEqual(FailurePolicy.drop)
    expect(exhaustive(new Worse())).toMatchObject({ _tag: "DeadLetter", topic: "dead" })
    expect(exhaustive({ _tag: "HandlerTimeout" })).toEqual(FailurePolicy.retry)
    const some = FailurePolicy.byTag({ Bad: FailurePolicy.drop, HandlerTimeout: FailurePolicy.drop })
    expect(some(new Bad({}))).toEqual(FailurePolicy.drop)
    expect(some({ _tag: "HandlerTimeout" })).toEqual(FailurePolicy.drop)
    for (const other of [new Worse(), "text", null, undefined, { _tag: 1 }, { _tag: "toString" }, new Error("x")]) {
      expect(some(other)).toEqual(FailurePolicy.retry)
    }
    expect(FailurePolicy.byTag({}, FailurePolicy.drop)("x")).toEqual(FailurePolicy.drop)
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    expect(some(proxy)).toEqual(FailurePolicy.retry)
  })

  it("decides by what an error says of itself", () => {
    const decide = FailurePolicy.retryable(FailurePolicy.drop)
    const topic = "t"
    for (
      const error of [
        new EventBusError.PublishFailed({ topic, reason: "Unreachable", outcome: "unknown" }),
        new EventBusError.BusClosed({ topic }),
        { _tag: "HandlerTimeout", isRetryable: true },
        new Bad({}),
        "text",
        undefined
      ]
    ) expect(decide(error)).toEqual(FailurePolicy.retry)
    for (
      const error of [
        new EventBusError.PublishFailed({ topic, reason: "Rejected", outcome: "not-written" }),
        new EventBusError.InvalidMessage({ topic, issue: "x" }),
        new EventBusError.MessageTooLarge({ topic, size: 2 }),
        { isRetryable: false }
      ]
    ) expect(decide(error)).toEqual(FailurePolicy.drop)
    const failed = (...errors: ReadonlyArray<EventBusError.PublishError>) =>
      new EventBus.PublishAllFailed({ topic, results: errors.map((error) => Either.left(error)) })
    const outage = new EventBusError.PublishFailed({ topic, reason: "Timeout", outcome: "unknown" })
    expect(decide(failed(outage, outage))).toEqual(FailurePolicy.retry)
    expect(decide(failed(outage, new EventBusError.InvalidMessage({ topic, issue: "x" })))).toEqual(FailurePolicy.drop)
    const both = FailurePolicy.byTag(
      { Bad: FailurePolicy.drop },
      FailurePolicy.retryable(FailurePolicy.deadLetter("d"))
    )
    expect(both(new Bad({}))).toEqual(FailurePolicy.drop)
    expect(both(new Worse())).toEqual(FailurePolicy.retry)
    expect(both(new EventBusError.InvalidMessage({ topic, issue: "x" }))).toMatchObject({ topic: "d" })
  })

  it("takes a topic by its name or its definition", () => {
    expect(FailurePolicy.deadLetter(Dead)).toMatchObject({ topic: "dead", spec: Dead.spec })
    expect(FailurePolicy.deadLetter("dead")).toMatchObject({ topic: "dead", spec: { name: "dead", kind: "envelope" } })
  })
})
