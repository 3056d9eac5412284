import type { EventBusConfig } from "@effect-eventbus/core"
import { EventBus, EventBusError, FailurePolicy, Observer, Topic, Transport } from "@effect-eventbus/core"
import { Health } from "@effect-eventbus/observability"
import { expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Layer, Logger, Schedule, Stream, TestClock } from "effect"
import { busWith, Placed, placed, scriptedTransport, topicOf } from "./Fixture.js"

const quiet = Effect.provide(Logger.remove(Logger.defaultLogger))

const yields = Effect.repeatN(Effect.yieldNow(), 200)

/** Time goes on, and what is to be done then is done. */
const pass = (time: Duration.DurationInput) => Effect.zipRight(TestClock.adjust(time), yields)

const ask = Effect.flatMap(Health.Health, ({ check }) => check)

/** The findings in short: what is critical, what is not, and where. */
const told = Effect.map(ask, ({ findings, isReady }) => [
  isReady,
  ...findings.map(({ aggregateId, group, level, partition, reason }) =>
    [`${level === "critical" ? "!" : ""}${reason}`, group, partition, aggregateId].filter((part) => part !== undefined)
      .join(" ")
  )
])

const withHealth = (options: Health.Options = {}, config: EventBusConfig.Options = {}) => {
  const layer = Health.layer({ watchdog: false, ...options })
  return Layer.provideMerge(busWith(layer, config), layer)
}

it.scoped("a handler that hangs is told with topic, partition and aggregate once its bound is passed, until it ends", () => {
  const orders = topicOf(2)
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const gate = yield* Deferred.make<void>()
    yield* bus.subscribe(orders, ({ n }) => n === 1 ? Deferred.await(gate) : Effect.void, {
      onExhausted: FailurePolicy.drop
    })
    const { offset, partition } = yield* bus.publish(orders, placed("order-1", 1))
    yield* bus.publishAll(orders, [2, 3].map((n) => placed(`other-${n}`, n)))
    yield* pass("59 seconds")
    expect(yield* told).toEqual([true])
    yield* pass("2 seconds")
    expect((yield* told).slice(0, 2)).toEqual([false, `!Stalled group ${partition} order-1`])
    const [finding] = (yield* ask).findings
    expect(finding).toMatchObject({
      topic: orders.name,
      offset,
      since: 0,
      age: Duration.seconds(61),
      transport: "memory"
    })
    expect(finding!.message).toContain(`${orders.name}[${partition}]@${offset} of order-1: its handler has not ended`)
    yield* Deferred.succeed(gate, undefined)
    yield* yields
    expect(yield* told).toEqual([true])
  }).pipe(Effect.provide(withHealth({ stalledAfter: "1 minute" })), quiet)
})

it.scoped("an aggregate that is tried without end is told; what waits behind others that get on is not", () => {
  const orders = topicOf()
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    let isBroken = true
    yield* bus.subscribe(
      orders,
      ({ n }) =>
        n === 0 ? Effect.suspend(() => isBroken ? Effect.fail("busy") : Effect.void) : Effect.sleep("10 seconds"),
      { onExhausted: FailurePolicy.drop, retry: Schedule.spaced("7 seconds") }
    )
    // The last one of them waits for 5 minutes in its mailbox.
    yield* bus.publishAll(orders, Array.from({ length: 30 }, () => placed("long", 1)))
    for (let i = 0; i < 29; i++) {
      yield* pass("10 seconds")
      expect(yield* told).toEqual([true])
    }
    yield* pass("30 seconds")
    yield* bus.publish(orders, placed("bad", 0))
    yield* pass("62 seconds")
    expect((yield* told).slice(0, 2)).toEqual([false, "!Stalled group 0 bad"])
    isBroken = false
    yield* pass("7 seconds")
    expect(yield* told).toEqual([true])
  }).pipe(Effect.provide(withHealth({ stalledAfter: "1 minute" })), quiet)
})

it.scoped("held messages are a warning as long as others get on, and bounds are those of the subscription", () => {
  const orders = topicOf()
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    let isBroken = true
    yield* bus.subscribe(
      orders,
      ({ n }) => n === 0 ? Effect.suspend(() => isBroken ? Effect.fail("busy") : Effect.void) : Effect.void,
      { onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop }), retry: Schedule.recurs(0) }
    )
    yield* bus.publishAll(orders, [placed("bad", 0), placed("good", 1)])
    yield* pass("3 minutes")
    expect(yield* told).toEqual([true, "Held group 0 bad"])
    isBroken = false
    yield* pass("1 minute")
    expect(yield* told).toEqual([true])
    const gate = yield* Deferred.make<void>()
    yield* bus.subscribe(orders, () => Deferred.await(gate), { group: "slow", onExhausted: FailurePolicy.drop })
    yield* pass("5 minutes")
    expect(yield* told).toEqual([true])
    yield* pass("6 minutes")
    expect((yield* told)[0]).toBe(false)
    yield* Deferred.succeed(gate, undefined)
  }).pipe(
    Effect.provide(withHealth({
      stalledAfter: "1 minute",
      stalledAfterOf: ({ group }) => group === "slow" ? "10 minutes" : undefined
    })),
    quiet
  )
})

it.scoped("an open circuit is a warning however long it is open, and a guard that has stopped is critical until somebody says go on", () => {
  const orders = topicOf()
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    let error: string | undefined = "down"
    const { control } = yield* bus.subscribe(
      orders,
      () => Effect.suspend(() => error === undefined ? Effect.void : Effect.fail(error)),
      {
        onExhausted: FailurePolicy.drop,
        onError: (error) => error === "down" ? FailurePolicy.circuit({ name: "database" }) : FailurePolicy.drop,
        guard: { from: 3 }
      }
    )
    yield* bus.publishAll(orders, [placed("a", 1), placed("a", 2), placed("b", 1)])
    yield* pass("6 minutes")
    expect(yield* told).toEqual([true, "CircuitOpen group"])
    error = undefined
    yield* pass("1 minute")
    expect(yield* told).toEqual([true])
    error = "wrong"
    yield* bus.publishAll(orders, Array.from({ length: 5 }, (_, n) => placed("a", n)))
    yield* pass("6 minutes")
    expect(yield* told).toEqual([false, "!GuardStopped group"])
    error = undefined
    expect(yield* control.goOn).toBe(true)
    yield* pass("5 seconds")
    expect(yield* told).toEqual([true])
  }).pipe(Effect.provide(withHealth({ stalledAfter: "1 minute" })), quiet)
})

it.scoped("a flood of dead letters turns readiness off, and on again; some of them do not", () => {
  const orders = topicOf()
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    yield* bus.subscribe(orders, ({ n }) => n === 0 ? Effect.fail("no") : n === 2 ? Effect.die("no") : Effect.void, {
      onExhausted: FailurePolicy.deadLetter(`${orders.name}.dead`),
      retry: Schedule.recurs(0)
    })
    const publish = (bad: number, good: number) =>
      bus.publishAll(orders, [
        ...Array.from({ length: bad }, (_, i) => placed(`bad-${i}`, 0)),
        ...Array.from({ length: good }, (_, i) => placed(`good-${i}`, 1))
      ])
    yield* publish(30, 40)
    yield* pass("5 seconds")
    expect(yield* told).toEqual([true])
    yield* publish(30, 0)
    yield* pass("5 seconds")
    expect(yield* told).toEqual([false, "!DeadLetterFlood group"])
    expect((yield* ask).findings[0]).toMatchObject({
      count: 60,
      message: "60 of the last 100 messages were given up (dead-lettered, parked, dropped or failed)"
    })
    yield* pass("50 seconds")
    yield* publish(0, 200)
    yield* pass("5 seconds")
    expect(yield* told).toEqual([true])
    yield* bus.publish(orders, placed("dies", 2))
    yield* pass("10 seconds")
    expect(yield* told).toEqual([true, "RestartsExhausted group"])
    yield* pass("65 seconds")
    expect(yield* told).toEqual([true])
  }).pipe(Effect.provide(withHealth()), quiet)
})

const begun: Transport.PartitionStatus = {
  topic: "orders",
  partition: 0,
  epoch: 1,
  position: 0,
  watermark: 0,
  end: 0,
  movedAt: 0
}

/** A transport whose status the test says. */
class Scripted {
  status: Transport.SourceStatus = { isConnected: true, partitions: [], problems: [] }
  isStanding = Effect.void
  observer: Observer.Service = Observer.none
  refuses = false

  move(more: Partial<Transport.PartitionStatus>): void {
    this.status = { ...this.status, partitions: [{ ...(this.status.partitions[0] ?? begun), ...more }] }
  }

  fails(kind?: Transport.ProblemKind): void {
    this.status = { ...this.status, problems: kind === undefined ? [] : [{ message: `No ${kind}`, since: 0, kind }] }
  }

  get layer() {
    const transport = Effect.map(Observer.provided, (observer): Transport.Service => {
      this.observer = observer
      observer.event?.({ _tag: "Connected", transport: "scripted" })
      return scriptedTransport(() =>
        Effect.suspend(() =>
          this.refuses
            ? new EventBusError.SubscribeFailed({ topic: "orders", group: "group" })
            : Effect.as(this.isStanding, {
              stop: Effect.void,
              status: Effect.sync(() => this.status)
            })
        )
      )
    })
    return Layer.effect(Transport.Transport, transport)
  }

  /** A bus on it, with one subscription. */
  run<A, E, R>(options: Health.Options, test: Effect.Effect<A, E, R>) {
    const health = Health.layer({ watchdog: false, ...options })
    const bus = EventBus.layer.pipe(Layer.provide(this.layer), Layer.provideMerge(health))
    return test.pipe(Effect.provide(bus), quiet)
  }
}

const Orders = Topic.envelope("orders", Placed)

const subscribed = Effect.flatMap(
  EventBus.EventBus,
  (bus) => bus.subscribe(Orders, () => Effect.void, { onExhausted: FailurePolicy.drop })
)

it.scoped("a partition that stalls is told by Burrow's rules: not while its lag shrinks, and not at the log's end", () => {
  const broker = new Scripted()
  return broker.run(
    { stalledAfter: "1 minute" },
    Effect.gen(function*() {
      yield* subscribed
      broker.move({ end: 100 })
      expect(yield* told).toEqual([true])
      yield* pass("1 minute")
      expect(yield* told).toEqual([true])
      yield* pass("5 seconds")
      expect(yield* told).toEqual([false, "!Stalled group 0"])
      expect((yield* ask).findings[0]).toMatchObject({
        message: "Partition 0 stands still: 100 of its offsets are to be done",
        age: Duration.seconds(65)
      })
      broker.move({ position: 1, watermark: 1 })
      expect(yield* told).toEqual([true])
      // It gets on slowly, and falls behind: that is lag, and no stall.
      for (let i = 2; i < 10; i++) {
        yield* pass("50 seconds")
        broker.move({ position: i, watermark: i, end: 100 * i })
        expect(yield* told).toEqual([true])
      }
      // The oldest is not finished, and the others go on.
      for (let i = 10; i < 13; i++) {
        yield* pass("50 seconds")
        broker.move({ position: i })
      }
      expect(yield* told).toEqual([false, "!Stalled group 0"])
      expect((yield* ask).findings[0]!.message).toContain("its watermark stands still")
      // Its end is reached, and nothing comes any more.
      broker.move({ position: 1_000, watermark: 1_000, end: 1_000 })
      yield* pass("5 minutes")
      expect(yield* told).toEqual([true])
      // What is new is counted from then on.
      broker.move({ end: 1_001 })
      yield* pass("55 seconds")
      expect(yield* told).toEqual([true])
      yield* pass("10 seconds")
      expect((yield* told)[0]).toBe(false)
      // The log was cut, or the partition has gone to another instance and come back.
      broker.move({ end: 1_000, position: 900, watermark: 900, epoch: 2 })
      expect(yield* told).toEqual([true])
      // Somebody has paused it.
      broker.fails("paused")
      yield* pass("3 minutes")
      expect(yield* told).toEqual([true, "Paused group"])
    })
  )
})

const kinds: ReadonlyArray<readonly [Transport.ProblemKind, string]> = [
  ["commit", "CommitFailing"],
  ["lease", "LeaseFailing"],
  ["fetch", "FetchFailing"],
  ["group", "GroupUnsettled"],
  ["dead-letter", "DeadLetterFailing"],
  ["right", "RightMissing"]
]

it.scoped.each(kinds)("what is tried again and fails is told once it lasts, and not any more: %s", ([kind, reason]) => {
  const broker = new Scripted()
  return broker.run(
    {},
    Effect.gen(function*() {
      yield* subscribed
      yield* pass("5 seconds")
      broker.fails(kind)
      yield* pass("5 seconds")
      expect(yield* told).toEqual([true])
      // It works for a moment.
      broker.fails()
      yield* pass("5 seconds")
      broker.fails(kind)
      yield* pass("10 seconds")
      expect(yield* told).toEqual([true])
      yield* pass("5 seconds")
      expect(yield* told).toEqual([false, `!${reason} group`])
      broker.fails()
      expect(yield* told).toEqual([true])
    })
  )
})

it.scoped("a subscription that does not stand yet, a group that can't settle, and one that is not there", () => {
  const broker = new Scripted()
  return broker.run(
    { expects: ["orders", { topic: "payments", group: "books" }], unsettledAfter: "30 seconds" },
    Effect.gen(function*() {
      expect((yield* told)[0]).toBe(false)
      expect((yield* ask).findings.map(({ topic }) => topic)).toEqual(["orders", "payments"])
      const gate = yield* Deferred.make<void>()
      broker.isStanding = Deferred.await(gate)
      const waiting = yield* Effect.fork(subscribed)
      yield* pass("1 second")
      expect(yield* told).toEqual([false, "!NotSubscribed group", "!NotSubscribed books"])
      yield* pass("30 seconds")
      expect(yield* told).toEqual([false, "!GroupUnsettled group", "!NotSubscribed books"])
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(waiting)
      expect(yield* told).toEqual([false, "!NotSubscribed books"])
    })
  )
})

it.scoped("of two transports of one name each has its own brokers, and one that has ended has none", () => {
  const broker = new Scripted()
  const connection = (_tag: "Connected" | "Disconnected", connection: number, isClosed?: true) =>
    Effect.sync(() => broker.observer.event?.({ _tag, transport: "scripted", connection, isClosed }))
  return broker.run(
    {},
    Effect.gen(function*() {
      yield* subscribed
      yield* connection("Connected", 1)
      yield* connection("Connected", 2)
      yield* connection("Disconnected", 1)
      yield* connection("Connected", 2)
      yield* pass("10 seconds")
      expect(yield* told).toEqual([false, "!Disconnected"])
      expect((yield* ask).findings[0]!.message).toBe("No broker of 1 of 3 scripted transports can be reached")
      yield* connection("Connected", 1)
      expect(yield* told).toEqual([true])
      yield* connection("Disconnected", 2, true)
      yield* pass("15 seconds")
      expect(yield* told).toEqual([true])
    })
  )
})

it.scoped("a broker that is gone, one of several, and a subscription that broke for good", () => {
  const broker = new Scripted()
  const connection = (_tag: "Connected" | "Degraded" | "Disconnected") =>
    Effect.sync(() => broker.observer.event?.({ _tag, transport: "scripted" }))
  return broker.run(
    {},
    Effect.gen(function*() {
      yield* subscribed
      yield* connection("Disconnected")
      yield* pass("5 seconds")
      yield* connection("Connected")
      yield* connection("Disconnected")
      yield* pass("9 seconds")
      expect(yield* told).toEqual([true])
      yield* pass("1 second")
      expect(yield* told).toEqual([false, "!Disconnected"])
      yield* connection("Degraded")
      yield* pass("10 seconds")
      expect(yield* told).toEqual([true, "Degraded"])
      yield* connection("Connected")
      expect(yield* told).toEqual([true])
      broker.status = { ...broker.status, isConnected: false }
      expect(yield* told).toEqual([true])
      yield* pass("15 seconds")
      expect(yield* told).toEqual([false, "!Disconnected group"])
      broker.status = { ...broker.status, isConnected: true }
      expect((yield* ask).isLive).toBe(true)
      broker.fails("broken")
      expect(yield* told).toEqual([false, "!Broken group"])
      expect((yield* ask).isLive).toBe(false)
    })
  )
})

it.scoped("changes are told once, by callback and stream and in the log; levels are the user's", () => {
  const broker = new Scripted()
  const seen: Array<string> = []
  const lines: Array<string> = []
  const logger = Logger.make(({ message }) => void lines.push(String(message)))
  const short = ({ findings, isReady }: Health.Report) =>
    `${isReady} ${findings.map(({ level, reason }) => `${level} ${reason}`).join()}`
  return broker.run(
    {
      levels: { CommitFailing: "warning", FetchFailing: "ignored" },
      onChange: (report) => {
        seen.push(short(report))
        return Effect.fail("the callback failed")
      }
    },
    Effect.gen(function*() {
      yield* subscribed
      const health = yield* Health.Health
      yield* pass("5 seconds")
      const stream = yield* Effect.fork(Stream.runCollect(Stream.take(health.changes, 2)))
      yield* yields
      seen.length = lines.length = 0
      broker.fails("commit")
      yield* pass("20 seconds")
      broker.fails("lease")
      yield* pass("20 seconds")
      broker.fails("fetch")
      yield* pass("20 seconds")
      expect(seen).toEqual(["true warning CommitFailing", "true ", "false critical LeaseFailing", "true "])
      expect(Array.from(yield* Fiber.join(stream), short)).toEqual(seen.slice(0, 2))
      expect(lines.filter((line) => line.startsWith("The bus"))).toEqual([
        "The bus is not ready: No lease",
        "The bus is ready"
      ])
    })
  ).pipe(Effect.provide(Logger.add(logger)))
})

it.scoped("without a bus nothing is ready", () =>
  Effect.gen(function*() {
    expect(yield* told).toEqual([false, "!NotSubscribed"])
  }).pipe(Effect.provide(Health.layer({ watchdog: false })), quiet))

it.scoped("a bound or another check of the user's that throws is said once, and everything else is told all the same", () => {
  const orders = topicOf()
  const lines: Array<string> = []
  const logger = Logger.replace(Logger.defaultLogger, Logger.make(({ message }) => void lines.push(String(message))))
  const layer = withHealth({
    stalledAfter: "1 minute",
    stalledAfterOf: () => {
      throw new RangeError("no bound")
    }
  })
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const health = yield* Health.Health
    yield* health.add({
      find: () => {
        throw new TypeError("no check")
      }
    })
    const gate = yield* Deferred.make<void>()
    yield* bus.subscribe(orders, () => Deferred.await(gate), { onExhausted: FailurePolicy.drop })
    yield* bus.publish(orders, placed("order-1", 1))
    for (let i = 0; i < 7; i++) yield* pass("10 seconds")
    expect((yield* told).slice(0, 2)).toEqual([false, "!Stalled group 0 order-1"])
    expect(lines.filter((line) => line.includes("threw")).sort()).toEqual([
      "A check that was added to the health threw (TypeError), and is left out. This is said once for each",
      "stalledAfterOf of the health threw (RangeError), so stalledAfter counts. This is said once"
    ])
    yield* Deferred.succeed(gate, undefined)
    yield* yields
  }).pipe(Effect.provide(layer), Effect.provide(logger))
})
