import { EventBus, EventBusConfig, EventBusError, Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Effect, Layer, Logger, TestClock } from "effect"
import { eventually, settle } from "./Eventually.js"
import { Clicks, dropping, Orders, placed, provideBus, recorder } from "./Orders.js"
import { message, ScriptedAssignment } from "./ScriptedAssignment.js"
import { scriptedTransport } from "./scriptedTransport.js"

/** A bus on a transport that has one partition for each assignment that is given. */
const provideScripted = (
  assignments: ReadonlyArray<ScriptedAssignment>,
  source: Partial<Transport.Source> = {},
  config: EventBusConfig.Options = {}
) =>
  Effect.provide(
    EventBus.layer.pipe(
      Layer.provide(Layer.succeed(
        Transport.Transport,
        scriptedTransport((_, consumer) =>
          Effect.sync(() => {
            for (const assignment of assignments) assignment.lane = consumer.assigned(assignment)
            return { stop: Effect.void, ...source }
          })
        )
      )),
      Layer.provide(EventBusConfig.layer({ restartBase: "1 millis", closeDeadline: "1 second", ...config }))
    )
  )

const options = { ...dropping, semantics: "at-least-once" } as const

describe("a transport with a fault", () => {
  it.live("that throws where a message is finished does not keep closing from ending", () => {
    class Faulty extends ScriptedAssignment {
      override readonly finish = (finished: Transport.IncomingMessage) => {
        this.finished.push(finished.offset)
        if (this.finished.length === 1) throw new Error("finish broke")
      }
    }
    const assignment = new Faulty()
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      let handled = 0
      const subscription = yield* bus.subscribe(Clicks, () => Effect.sync(() => void handled++), options)
      assignment.append(...Array.from({ length: 5 }, () => message("a")))
      yield* eventually("all are finished", () => assignment.finished.length === 5)
      expect(handled).toBe(5)
      const report = yield* Effect.timeoutOption(Effect.disconnect(subscription.close), "5 seconds")
      expect(report._tag === "Some" && report.value).toEqual({ unfinished: 0, lost: 0 })
    }).pipe(Effect.scoped, provideScripted([assignment]))
  }, 10_000)

  it.live("whose subscription breaks by a defect says so", () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ message }) => void lines.push(String(message)))
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const subscription = yield* bus.subscribe(Clicks, () => Effect.void, options)
      yield* eventually("it is said", () => lines.length > 0)
      expect(lines[0]).toContain("has broken and handles nothing more: Error: a fault of the transport")
      expect((yield* subscription.status)?.problems).toMatchObject([{ kind: "broken", message: lines[0] }])
    }).pipe(
      Effect.scoped,
      provideScripted([new ScriptedAssignment()], {
        failed: Effect.die(new Error("a fault of the transport")),
        status: Effect.succeed({ isConnected: true, partitions: [], problems: [] })
      }),
      Effect.provide(Logger.replace(Logger.defaultLogger, logger))
    )
  })
})

describe("a transport whose resume throws", () => {
  it.live("keeps the bus from no switch, and that is said once", () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ message }) => void lines.push(String(message)))
    class Faulty extends ScriptedAssignment {
      override readonly resume = () => {
        throw new Error("resume broke")
      }
    }
    const [busy, faulty] = [new ScriptedAssignment(0), new Faulty(1)]
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const gate = yield* Deferred.make<void>()
      const keys: Array<string> = []
      yield* bus.subscribe(Clicks, (_, { key }) =>
        Effect.suspend(() => {
          keys.push(new TextDecoder().decode(key))
          return Deferred.await(gate)
        }), options)
      busy.append(message("a"))
      faulty.append(message("b"))
      yield* eventually("a runs", () => keys.length > 0)
      expect(keys).toEqual(["a"])
      const { strategy } = yield* bus.dispatch.switchTo("keyed-workers")
      expect(strategy.name).toBe("keyed-workers")
      expect(lines.filter((line) => line.includes("resume broke"))).toHaveLength(1)
      yield* Deferred.succeed(gate, undefined)
    }).pipe(
      Effect.scoped,
      provideScripted([busy, faulty], {}, { maxActors: 1 }),
      Effect.provide(Logger.replace(Logger.defaultLogger, logger))
    )
  })
})

describe("a transport whose isOwned throws", () => {
  it.scoped("begins no handler any more, gives no message up, and says so once", () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ message }) => void lines.push(String(message)))
    return Effect.gen(function*() {
      const transport = yield* Transport.Transport
      const broken: Transport.Service = {
        ...transport,
        subscribe: (request, consumer) =>
          transport.subscribe(request, {
            assigned: (assignment) =>
              consumer.assigned({
                ...assignment,
                isOwned: () => {
                  throw new Error("the clock broke")
                }
              })
          })
      }
      const context = yield* Layer.build(EventBus.layer.pipe(Layer.provide(Layer.succeed(Transport.Transport, broken))))
      const bus = Context.get(context, EventBus.EventBus)
      const { handler, started } = recorder()
      const orders = yield* bus.subscribe(Orders, handler, dropping)
      const clicks = yield* bus.subscribe(Clicks, () => Effect.sync(() => started.push(-1)))
      yield* bus.publishAll(Orders, [placed("a", 0), placed("b", 1)])
      yield* bus.publish(Clicks, { body: "one", key: "k" })
      yield* settle
      yield* TestClock.adjust("1 minute")
      yield* settle
      expect(started).toEqual([])
      expect(yield* orders.stats).toMatchObject({ dropped: 0, restarted: 0 })
      expect(yield* orders.close).toEqual({ unfinished: 2, lost: 0 })
      expect(yield* clicks.close).toEqual({ unfinished: 1, lost: 0 })
      expect(lines.filter((line) => line.includes("isOwned threw"))).toHaveLength(2)
    }).pipe(provideBus(), Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
  })
})

it.scoped("a logger that throws breaks neither a transport's loops nor its closing", () => {
  const broken = Logger.replace(
    Logger.defaultLogger,
    Logger.make(() => {
      throw new Error("the logger broke")
    })
  )
  return Effect.gen(function*() {
    const transport = yield* Transport.Transport
    const worked: Array<string> = []
    const work = (what: string) => Effect.zipRight(Effect.logWarning(what), Effect.sync(() => worked.push(what)))
    const logging: Transport.Service = {
      ...transport,
      subscribe: (request, consumer) =>
        Effect.gen(function*() {
          yield* work("subscribed")
          yield* Effect.forkScoped(work("loop"))
          yield* Effect.addFinalizer(() => work("left"))
          const source = yield* transport.subscribe(request, {
            assigned: (assignment) =>
              consumer.assigned({
                ...assignment,
                settle: (messages) => Effect.zipRight(work("settled"), assignment.settle(messages))
              })
          })
          return { ...source, stop: Effect.zipRight(work("stopped"), source.stop) }
        })
    }
    const context = yield* Layer.build(EventBus.layer.pipe(Layer.provide(Layer.succeed(Transport.Transport, logging))))
    const bus = Context.get(context, EventBus.EventBus)
    let handled = 0
    const subscription = yield* bus.subscribe(Clicks, () => Effect.sync(() => handled++))
    yield* bus.publish(Clicks, { body: "one", key: "k" })
    yield* eventually("it is handled", () => handled === 1)
    expect(yield* subscription.close).toEqual({ unfinished: 0, lost: 0 })
    expect(worked).toEqual(["subscribed", "loop", "settled", "stopped", "left"])
  }).pipe(provideBus(), Effect.provide(broken))
})

it.scoped("settlements that fail are among the problems of the subscription until they succeed", () => {
  const assignment = new ScriptedAssignment()
  let isBroken = true
  assignment.onSettle = () =>
    Effect.suspend(() =>
      isBroken
        ? new EventBusError.SettlementFailed({ topic: "topic", partition: 0, isRetryable: true, cause: "no" })
        : Effect.void
    )
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    let handled = 0
    const subscription = yield* bus.subscribe(Clicks, () => Effect.sync(() => handled++))
    assignment.append(message("a"))
    yield* settle
    yield* TestClock.adjust("1 seconds")
    const problems = Effect.map(subscription.status, (status) => status?.problems)
    expect(yield* problems).toMatchObject([{ message: expect.stringContaining("can't be settled"), since: 0 }])
    isBroken = false
    yield* TestClock.adjust("10 seconds")
    yield* eventually("it is handled", () => handled === 1)
    expect(yield* problems).toEqual([])
  }).pipe(
    provideScripted([assignment], { status: Effect.succeed({ isConnected: true, partitions: [], problems: [] }) })
  )
})
