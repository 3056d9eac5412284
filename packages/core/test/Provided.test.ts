import {
  EnvelopeCodec,
  EventBus,
  EventBusConfig,
  type EventBusError,
  FailurePolicy,
  MemoryTransport,
  Observer,
  Presubscription,
  Strategy,
  Supervisor,
  Topic
} from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer, Logger, Schema, TestClock } from "effect"

const Orders = Topic.envelope("orders", Schema.TaggedStruct("Placed", { id: Schema.Number }))
const Clicks = Topic.plain("clicks")

const BusLive = Layer.provide(EventBus.layer, MemoryTransport.layer())
const beside = EventBusConfig.layer({ retryTimes: 0 })
const codec: EnvelopeCodec.Service = {
  ...EnvelopeCodec.json,
  encode: (envelope) => ({ ...EnvelopeCodec.json.encode(envelope), headers: { "content-type": "mine" } })
}
const besideCodec = Layer.succeed(EnvelopeCodec.EnvelopeCodec, codec)
const OrdersLive = Orders.toLayer(() => Effect.void, { onExhausted: FailurePolicy.drop })
const subscribe = Effect.flatMap(EventBus.EventBus, (bus) => bus.subscribe(Clicks, () => Effect.void))
const publish = Effect.flatMap(EventBus.EventBus, (bus) => bus.publish(Clicks, { body: "x" }))

const issuesOf = <A, E, R>(effect: Effect.Effect<A, E | EventBusError.InvalidConfiguration, R>) =>
  Effect.map(Effect.flip(effect), (error) => (error as EventBusError.InvalidConfiguration).issues)

const logging = () => {
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    if (logLevel.label === "WARN") lines.push(String(message))
  })
  return { lines, layer: Logger.replace(Logger.defaultLogger, logger) }
}

describe("What is provided beside the bus", () => {
  it.scoped("is an error for whoever subscribes, and the error says what to write", () =>
    Effect.gen(function*() {
      const issues = yield* issuesOf(Effect.provide(subscribe, Layer.merge(BusLive, beside)))
      expect(issues).toHaveLength(1)
      expect(issues[0]).toContain("EventBus.layer.pipe(Layer.provide(EventBusConfig.layer(")
      expect(yield* issuesOf(Layer.build(Layer.provide(OrdersLive, Layer.merge(BusLive, beside))))).toHaveLength(1)
      const both = Layer.mergeAll(BusLive, beside, besideCodec)
      expect(yield* issuesOf(Layer.build(Layer.provide(OrdersLive, both)))).toHaveLength(2)
      expect(yield* issuesOf(Effect.provide(subscribe, Layer.merge(BusLive, besideCodec)))).toEqual([
        expect.stringContaining("Layer.provide(Layer.succeed(EnvelopeCodec, codec))")
      ])
      const besideStrategy = Strategy.layer({ ...Strategy.actorPerAggregate, restart: "never" })
      expect(yield* issuesOf(Effect.provide(subscribe, Layer.merge(BusLive, besideStrategy)))).toEqual([
        expect.stringContaining("Layer.provide(Strategy.layer(strategy))")
      ])
      // The bus has this one, too, and a strategy that is the default changes nothing.
      yield* Effect.provide(subscribe, Layer.merge(BusLive, Strategy.layer(Strategy.actorPerAggregate)))
      yield* Effect.provide(subscribe, Layer.provideMerge(BusLive, besideStrategy))
    }))

  it.scoped("is an error also where it is a strategy or an observer", () =>
    Effect.gen(function*() {
      type Live = Layer.Layer<EventBus.EventBus, EventBusError.InvalidConfiguration>
      const both: ReadonlyArray<readonly [string, Live]> = [
        ["Strategy", Layer.merge(BusLive, Strategy.layer({ ...Strategy.actorPerAggregate, restart: "never" }))],
        ["Observer", Layer.merge(BusLive, Observer.layer({ event: () => {} }))]
      ]
      for (const [name, live] of both) {
        const issues = yield* issuesOf(Effect.provide(subscribe, live))
        expect(issues).toEqual([expect.stringContaining(`EventBus.layer.pipe(Layer.provide(${name}.layer(`)])
        expect(issues[0]).toMatch(new RegExp(`^${name}: `))
      }
    }))

  it.scoped("is an error for whoever pre-subscribes or replays", () =>
    Effect.gen(function*() {
      const both = Layer.merge(BusLive, beside)
      expect(yield* issuesOf(Layer.build(Layer.provide(Presubscription.layer(Orders), both)))).toHaveLength(1)
      const replay = Effect.flatMap(EventBus.EventBus, (bus) => bus.replay(Orders, () => Effect.void))
      expect(yield* issuesOf(Effect.provide(replay, both))).toHaveLength(1)
    }))

  it.effect("is a warning for the first publish, once", () =>
    Effect.gen(function*() {
      const { layer, lines } = logging()
      const program = Effect.zipRight(publish, publish)
      yield* program.pipe(Effect.provide(Layer.merge(BusLive, besideCodec)), Effect.provide(layer))
      expect(lines).toEqual([expect.stringContaining("EnvelopeCodec: this codec is not that of the bus")])
      yield* program.pipe(Effect.provide(BusLive), Effect.provide(layer))
      expect(lines).toHaveLength(1)
    }))

  it.effect("is a warning where nobody sees it: a neighbour of the subscriptions", () =>
    Effect.gen(function*() {
      const { layer, lines } = logging()
      const AppLive = Layer.merge(Layer.provide(OrdersLive, BusLive), beside)
      yield* Effect.gen(function*() {
        yield* Layer.build(AppLive)
        yield* TestClock.adjust("29 seconds")
        expect(lines).toEqual([])
        yield* TestClock.adjust("1 second")
        expect(lines).toEqual([expect.stringContaining("These settings are used by no bus: retryTimes.")])
      }).pipe(Effect.scoped, Effect.provide(layer))
      expect(lines).toHaveLength(1)
      // A program that ends before.
      yield* Layer.build(AppLive).pipe(Effect.scoped, Effect.provide(layer))
      expect(lines).toHaveLength(2)
    }))

  it.effect("also where settings in code hide those of the configuration", () =>
    Effect.gen(function*() {
      const { layer, lines } = logging()
      const hidden = EventBusConfig.layerConfig.pipe(
        Layer.provide(Layer.setConfigProvider(ConfigProvider.fromJson({ eventbus: { group: "mine" } })))
      )
      const bus = BusLive.pipe(Layer.provide(EventBusConfig.layer({ retryTimes: 1 })), Layer.provideMerge(hidden))
      yield* Layer.build(bus).pipe(Effect.scoped, Effect.provide(layer))
      expect(lines).toEqual([expect.stringContaining("used by no bus: group.")])
    }))
})

describe("What is provided to the bus", () => {
  it.effect("is fine, also where the program sees it or says the same again", () =>
    Effect.gen(function*() {
      const { layer, lines } = logging()
      const program = Effect.scoped(Effect.zipRight(subscribe, publish))
      for (
        const bus of [
          BusLive,
          Layer.provide(BusLive, beside),
          Layer.provideMerge(BusLive, beside),
          Layer.provideMerge(BusLive, besideCodec),
          Layer.merge(Layer.provide(BusLive, beside), Layer.fresh(EventBusConfig.layer({ retryTimes: 0 }))),
          Layer.merge(BusLive, Layer.succeed(EnvelopeCodec.EnvelopeCodec, EnvelopeCodec.json)),
          Layer.merge(BusLive, Strategy.layer(Strategy.actorPerAggregate)),
          Layer.merge(BusLive, Layer.succeed(Observer.Observer, Observer.none)),
          Layer.provideMerge(BusLive, Strategy.layer({ ...Strategy.actorPerAggregate })),
          // The bus has one more than the program.
          Layer.provideMerge(Layer.provide(BusLive, Observer.layer({})), Observer.layer({ event: () => {} })),
          EventBus.layerSupervised.pipe(
            Layer.provide(MemoryTransport.layer()),
            Layer.provide(Layer.provide(Supervisor.layer(), EventBusConfig.layer({ restartTimes: 1 })))
          )
        ]
      ) yield* program.pipe(Effect.provide(bus), Effect.provide(layer))
      // One of them says the same beside the bus again, and is told that this is of no use.
      expect(lines).toEqual([expect.stringContaining("used by no bus: retryTimes")])
    }))

  it.scoped("is fine for two buses, of which one is in the context of the other", () =>
    Effect.gen(function*() {
      const inner = Layer.provide(Layer.fresh(BusLive), EventBusConfig.layer({ group: "inner" }))
      const outer = Layer.provideMerge(BusLive, EventBusConfig.layer({ group: "outer" }))
      const program = Effect.gen(function*() {
        const one = yield* subscribe
        const two = yield* Effect.provide(subscribe, inner)
        return [one.group, two.group]
      })
      expect(yield* Effect.provide(Effect.scoped(program), outer)).toEqual(["outer", "inner"])
    }))

  it.effect("says nothing of a program that fails to start", () =>
    Effect.gen(function*() {
      const { layer, lines } = logging()
      const failing = Layer.merge(beside, Layer.effectDiscard(Effect.fail("no broker")))
      yield* Layer.build(failing).pipe(Effect.scoped, Effect.either, Effect.provide(layer))
      yield* Layer.build(failing).pipe(Effect.scoped, Effect.exit, Effect.provide(layer))
      expect(lines).toEqual([])
    }))
})
