import { EventBus, EventBusConfig, FailurePolicy, MemoryTransport, Topic } from "@effect-eventbus/core"
import { expect, it } from "@effect/vitest"
import { Effect, HashMap, Layer, Logger, Schedule, Schema } from "effect"
import { eventually } from "./Eventually.js"

class Paid extends Schema.TaggedClass<Paid>()("Paid", { card: Schema.String }) {}
const Payments = Topic.envelope("payments", Paid, { partitions: 2 })

interface Line {
  readonly level: string
  readonly message: string
  readonly notes: Readonly<Record<string, unknown>>
}

/** What a program that reads annotations sees. */
const remembering = () => {
  const lines: Array<Line> = []
  const logger = Logger.make<unknown, void>(({ annotations, logLevel, message }) => {
    lines.push({
      level: logLevel.label,
      message: [message].flat().map(String).join(" "),
      notes: Object.fromEntries(HashMap.toEntries(annotations))
    })
  })
  return { lines, layer: Logger.replace(Logger.defaultLogger, logger) }
}

const layer = EventBus.layer.pipe(
  Layer.provide(Layer.orDie(MemoryTransport.layer())),
  Layer.provide(Layer.orDie(EventBusConfig.layer({ restartBase: "1 millis" })))
)

const secret = "4111-1111"

const payment = (aggregateId: string) => ({ aggregateId, payload: new Paid({ card: secret }) })

it.live("a line of a failure has its place as annotations, no payload, and no frames but the user's", () => {
  const { layer: logger, lines } = remembering()
  const charge = () => {
    throw new Error("the account is closed")
  }
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    yield* bus.subscribe(Payments, () => Effect.sync(charge), { onExhausted: FailurePolicy.drop })
    const { offset, partition } = yield* bus.publish(Payments, { ...payment("order-1"), eventId: "event-1" })
    yield* eventually("it is said", () => lines.some(({ level }) => level === "ERROR"))
    const [line] = lines.filter(({ level }) => level === "ERROR")
    expect(line!.notes).toEqual({
      "eventbus.actor": "order-1",
      "eventbus.subscription": "payments/group",
      topic: "payments",
      partition,
      offset,
      group: "group",
      aggregateId: "order-1",
      eventId: "event-1",
      attempts: 4,
      restarts: 3,
      policy: "Drop",
      error: "Error"
    })
    const frames = line!.message.split("\n").filter((text) => /^ *at /.test(text))
    expect(frames[0]).toContain("Logs.test.ts")
    expect(frames.filter((frame) => !frame.includes("Logs.test.ts"))).toEqual([])
    expect(JSON.stringify(lines)).not.toContain(secret)
  }).pipe(Effect.scoped, Effect.provide(layer), Effect.provide(logger))
})

it.live("a storm of 1,000 failing aggregates is 20 lines, and one with the number of the others", () => {
  const { layer: logger, lines } = remembering()
  return Effect.gen(function*() {
    yield* Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const subscription = yield* bus.subscribe(Payments, () => Effect.fail("no"), {
        onExhausted: FailurePolicy.drop,
        guard: "off",
        retry: Schedule.recurs(0),
        onFailure: () => Effect.die("neither")
      })
      yield* bus.publishAll(Payments, Array.from({ length: 1_000 }, (_, i) => payment(`order-${i}`)))
      yield* eventually("all are dropped", () => Effect.runSync(subscription.stats).dropped === 1_000)
      expect(lines.filter(({ level }) => level === "ERROR").length).toBe(20)
      yield* subscription.close
    }).pipe(Effect.scoped, Effect.provide(layer))
    const errors = lines.filter(({ level }) => level === "ERROR")
    expect(errors.length).toBe(21)
    // One of the failure and one of `onFailure` for each message.
    expect(errors[20]).toMatchObject({
      message: "1980 more lines of subscription payments/group on messages that failed were left out",
      notes: { topic: "payments", group: "group", left: 1_980 }
    })
    expect(JSON.stringify(lines)).not.toContain(secret)
  }).pipe(Effect.provide(logger))
})
