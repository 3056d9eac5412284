import {
  EventBus,
  EventBusConfig,
  FailurePolicy,
  MemoryTransport,
  Observer,
  OrderChecker,
  Topic
} from "@effect-eventbus/core"
import { expect, it } from "@effect/vitest"
import { Effect, Exit, Layer, Logger, Schema, Tracer } from "effect"
import { eventually } from "./Eventually.js"

const Orders = Topic.envelope("orders", Schema.TaggedStruct("Placed", { n: Schema.Number }))
const events: Array<Observer.Event> = []
const states: Array<string> = []
const checker = OrderChecker.make()

const BusLive = EventBus.layer.pipe(
  Layer.provide(MemoryTransport.layer({ maxMessageBytes: 200 })),
  Layer.provide(EventBusConfig.layer({ retryBase: "1 millis" })),
  Layer.provide(Layer.merge(
    Observer.layer(Observer.combine(
      { event: (event) => void events.push(event) },
      { transition: (flight) => void states.push(flight.state) },
      OrderChecker.observer(checker)
    )),
    Layer.empty
  ))
)

it.live("an observer sees what is published, what is assigned, and each state of a message", () =>
  Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    yield* Effect.scoped(Effect.gen(function*() {
      yield* bus.subscribe(Orders, ({ n }, { attempt }) => n === 1 && attempt === 1 ? Effect.fail("no") : Effect.void, {
        onExhausted: FailurePolicy.drop
      })
      const [only] = yield* bus.subscriptions
      expect([only?.topic, only?.group]).toEqual(["orders", "group"])
      yield* bus.publish(Orders, { aggregateId: "a", payload: { _tag: "Placed", n: 1 } })
      yield* Effect.flip(bus.publish(Orders, { aggregateId: "a".repeat(200), payload: { _tag: "Placed", n: 2 } }))
      yield* eventually("it is handled", () => states.includes("ended"))
    }))
    expect(states).toEqual(["queued", "running", "waiting", "running", "ended"])
    const published = events.flatMap((event) => event._tag === "Published" ? [[event.succeeded, event.failed]] : [])
    expect(published).toEqual([[1, 0], [0, 1]])
    const count = (tag: string) => events.filter(({ _tag }) => _tag === tag).length
    expect([count("Assigned"), count("Revoked")]).toEqual([4, 4])
    // The transport's side.
    expect(events.filter(({ _tag }) => _tag === "Connected")).toMatchObject([{
      _tag: "Connected",
      transport: "memory"
    }])
    expect(events.filter(({ _tag }) => _tag === "Settled")).toMatchObject([
      { topic: "orders", group: "group", epoch: 1, position: 1 }
    ])
    // The order checker remembers the one aggregate that was started.
    expect(checker.size()).toBe(1)
    expect(yield* bus.subscriptions).toEqual([])
  }).pipe(Effect.provide(BusLive)))

it.effect("transports of one name are told apart, and each says when it has ended", () => {
  const events: Array<Observer.Event> = []
  const observed = Layer.provide(Observer.layer({ event: (event) => void events.push(event) }))
  return Effect.gen(function*() {
    for (const _ of [1, 2]) yield* Effect.scoped(Layer.build(observed(MemoryTransport.layer())))
    yield* Effect.scoped(Effect.gen(function*() {
      const tell = yield* Observer.connection("own")
      tell("Connected")
      tell("Disconnected")
    })).pipe(Effect.provide(Observer.layer({ event: (event) => void events.push(event) })))
    const ids = events.map((event) => "connection" in event ? event.connection : undefined)
    expect(events.map((event) => [event._tag, "isClosed" in event])).toEqual([
      ["Connected", false],
      ["Disconnected", true],
      ["Connected", false],
      ["Disconnected", true],
      ["Connected", false],
      ["Disconnected", false],
      ["Disconnected", true]
    ])
    expect(new Set(ids).size).toBe(3)
    expect(ids).not.toContain(undefined)
    expect([ids[1], ids[3], ids[6]]).toEqual([ids[0], ids[2], ids[4]])
  })
})

it("one observer of several that throws keeps nothing from the others", () => {
  const told: Array<string> = []
  const broken = () => {
    throw new Error("the observer broke")
  }
  const both = Observer.combine({ transition: broken, event: broken }, {
    transition: () => void told.push("transition"),
    event: ({ _tag }) => void told.push(_tag)
  })
  expect(() => both.event!({ _tag: "Connected", transport: "memory" })).toThrow("the observer broke")
  expect(() => both.transition!({} as Observer.FlightView, undefined, 0)).toThrow("the observer broke")
  expect(told).toEqual(["Connected", "transition"])
})

it.live("an observer is made for each bus, says in which span handlers run, and may add headers to what is published", () =>
  Effect.gen(function*() {
    const told: Array<string> = []
    const spanOf = ({ attempt }: Observer.FlightView) =>
      Tracer.externalSpan({ traceId: "t", spanId: `attempt-${attempt}` })
    const watching = Observer.layer({
      event: ({ _tag }) => void told.push(_tag),
      forBus: ({ subscriptions, transport }) =>
        Effect.acquireRelease(
          Effect.succeed<Observer.Service>({
            transition: ({ since, state }, from, before) => {
              expect(before).toBeLessThanOrEqual(since)
              told.push(`${transport}: ${from} ${state} of ${subscriptions().length}`)
            },
            spanOf,
            onPublish: ({ messages, operation, topic }) => ({
              messages: messages.map((message) => ({ ...message, headers: { mark: `${operation} ${topic}` } })),
              ended: (exit) => void told.push(exit._tag)
            })
          }),
          () => Effect.sync(() => told.push("the bus has ended"))
        )
    })
    const marks: Array<unknown> = []
    const live = EventBus.layer.pipe(
      Layer.provide(MemoryTransport.layer({ maxMessageBytes: 200 })),
      Layer.provide(watching)
    )
    yield* Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* bus.subscribe(
        Orders,
        (_, { attempt, headers }) =>
          Effect.flatMap(Effect.currentParentSpan, ({ spanId }) => {
            marks.push(spanId, headers["mark"])
            return attempt === 1 ? Effect.fail("no") : Effect.void
          }).pipe(Effect.orDie),
        { onExhausted: FailurePolicy.drop }
      )
      yield* bus.publish(Orders, { aggregateId: "a", payload: { _tag: "Placed", n: 1 } })
      yield* Effect.flip(bus.publishAll(Orders, [{ aggregateId: "a".repeat(200), payload: { _tag: "Placed", n: 2 } }]))
      expect((yield* bus.encode(Orders, { aggregateId: "a", payload: { _tag: "Placed", n: 1 } })).headers).toEqual({
        mark: "encode orders"
      })
      yield* eventually("it is handled", () => told.includes("memory: running ended of 1"))
    }).pipe(Effect.scoped, Effect.provide(live))
    expect(marks).toEqual(["attempt-1", "publish orders", "attempt-2", "publish orders"])
    expect(told).toEqual(
      expect.arrayContaining(["Connected", "Settled", "Success", "Failure", "memory: undefined queued of 1"])
    )
    expect(told.slice(-2)).toEqual(["the bus has ended", "Disconnected"])
    expect(told.filter((one) => one === "Assigned")).toEqual([])
  }))

it.live("an observer that can't be made for a bus, or throws where it is asked, keeps nobody from publishing and handling", () =>
  Effect.gen(function*() {
    const broken = () => {
      throw new Error("the observer broke")
    }
    const handled: Array<number> = []
    const live = EventBus.layer.pipe(
      Layer.provide(MemoryTransport.layer()),
      Layer.provide(Observer.layer(Observer.combine(
        { forBus: () => Effect.die("no") },
        { spanOf: broken, onPublish: broken },
        OrderChecker.observer(checker)
      ))),
      Layer.provide(Logger.remove(Logger.defaultLogger))
    )
    yield* Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* bus.subscribe(Orders, ({ n }) => Effect.sync(() => handled.push(n)), { onExhausted: FailurePolicy.drop })
      yield* bus.publish(Orders, { aggregateId: "b", payload: { _tag: "Placed", n: 1 } })
      yield* eventually("it is handled", () => handled.length === 1)
    }).pipe(Effect.scoped, Effect.provide(live))
  }))

it("what one observer of several makes of messages the next one gets, and each hears how it ended", () => {
  const told: Array<unknown> = []
  const adding = (name: string): Observer.Service => ({
    onPublish: ({ messages }) => ({
      messages: messages.map((message) => ({ ...message, headers: { ...message.headers, [name]: name } })),
      ended: (exit) => {
        told.push([name, exit._tag])
        if (name === "a") throw new Error("the observer broke")
      }
    })
  })
  const all = Observer.combine(adding("a"), { onPublish: () => undefined }, adding("b"), Observer.none)
  const request = { topic: "orders", operation: "publish", messages: [{ body: "" }] } as const
  const publishing = all.onPublish!(request)!
  expect(publishing.messages).toEqual([{ body: "", headers: { a: "a", b: "b" } }])
  expect(() => publishing.ended(Exit.void)).toThrow("the observer broke")
  expect(told).toEqual([["a", "Success"], ["b", "Success"]])
  const broken = () => {
    throw new Error("no answer")
  }
  expect(() => Observer.combine(adding("b"), { onPublish: broken }, adding("c")).onPublish!(request)).toThrow(
    "no answer"
  )
  expect(told.at(-1)).toEqual(["b", "Success"])
  expect(Observer.combine({ onPublish: () => undefined }).onPublish!(request)).toBeUndefined()
  expect(Observer.combine(Observer.none).onPublish).toBeUndefined()
})
