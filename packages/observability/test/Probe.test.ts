import { EventBus, EventBusError, MemoryBroker, MemoryTransport, Transport } from "@effect-eventbus/core"
import { Health, Probe } from "@effect-eventbus/observability"
import { expect, it } from "@effect/vitest"
import { Effect, Either, Layer, Logger, TestClock } from "effect"

const yields = Effect.repeatN(Effect.yieldNow(), 200)
const pass = (time: "30 seconds" | "1 minute" | "2 minutes") => Effect.zipRight(TestClock.adjust(time), yields)

const found = Effect.flatMap(
  Health.Health,
  ({ check }) =>
    Effect.map(check, ({ findings }) => findings.map(({ count, level, reason }) => `${level} ${reason} ${count}`))
)

/** Memory, whose publishing and subscribing can be refused, or be lost. */
const brokenTransport = (broken: { how: "not" | "refused" | "lost" | "unsubscribed" | "dead" | "deaf" }) =>
  Layer.effect(
    Transport.Transport,
    Effect.map(MemoryTransport.make, (memory): Transport.Service => ({
      ...memory,
      publish: (topic, messages, options) =>
        broken.how === "dead"
          ? Effect.die(new TypeError("a fault of the transport"))
          : broken.how === "refused"
          ? Effect.succeed(messages.map(() =>
            Either.left(
              new EventBusError.PublishFailed({ topic: topic.name, reason: "Rejected", outcome: "not-written" })
            )
          ))
          : broken.how === "lost"
          ? Effect.succeed(messages.map((_, offset) => Either.right({ topic: topic.name, partition: 0, offset })))
          : memory.publish(topic, messages, options),
      subscribe: (request, consumer) =>
        broken.how === "unsubscribed"
          ? Effect.fail(new EventBusError.SubscribeFailed({ topic: request.topic.name, group: request.group }))
          : broken.how === "deaf"
          ? Effect.succeed({ stop: Effect.void })
          : memory.subscribe(request, consumer)
    }))
  ).pipe(Layer.provide(Layer.orDie(MemoryBroker.layer())))

for (const [how, why] of [["refused", "was rejected"], ["lost", "did not come back within 30s"]] as const) {
  it.scoped(`probes that are ${how} are a warning first, and critical from the third one in a row`, () => {
    const broken: { how: "not" | "refused" | "lost" } = { how: "not" }
    const layer = Probe.layer().pipe(
      Layer.provideMerge(EventBus.layer.pipe(Layer.provide(brokenTransport(broken)))),
      Layer.provideMerge(Health.layer({ watchdog: false }))
    )
    return Effect.gen(function*() {
      yield* pass("2 minutes")
      const { reading } = yield* Probe.Probe
      expect((yield* reading).returned).toBeGreaterThan(0)
      expect(yield* found).toEqual([])
      broken.how = how
      yield* pass("2 minutes")
      yield* pass("30 seconds")
      expect(yield* found).toEqual(["warning ProbeMissed 1"])
      const { check } = yield* Health.Health
      expect((yield* check).findings[0]!.message).toContain(why)
      for (let i = 0; i < 5; i++) yield* pass("1 minute")
      expect(yield* found).toEqual([`critical ProbeMissed 3`])
      broken.how = "not"
      for (let i = 0; i < 3; i++) yield* pass("1 minute")
      expect(yield* found).toEqual([])
    }).pipe(Effect.provide(layer), Effect.provide(Logger.remove(Logger.defaultLogger)))
  })
}

it.scoped("a probe whose topic can't be subscribed to is missed, and tried again", () => {
  const broken: { how: "not" | "unsubscribed" } = { how: "unsubscribed" }
  const layer = Probe.layer().pipe(
    Layer.provideMerge(EventBus.layer.pipe(Layer.provide(brokenTransport(broken)))),
    Layer.provideMerge(Health.layer({ watchdog: false }))
  )
  return Effect.gen(function*() {
    yield* yields
    expect(yield* found).toEqual(["warning ProbeMissed 1"])
    broken.how = "not"
    yield* pass("2 minutes")
    expect(yield* found).toEqual([])
  }).pipe(Effect.provide(layer), Effect.provide(Logger.remove(Logger.defaultLogger)))
})

for (const how of ["dead", "deaf"] as const) {
  it.scoped(`probes go on with a subscription of their own where publishing or the one before is ${how}`, () => {
    const broken: { how: "not" | "dead" | "deaf" } = { how }
    const layer = Probe.layer().pipe(
      Layer.provideMerge(EventBus.layer.pipe(Layer.provide(brokenTransport(broken)))),
      Layer.provideMerge(Health.layer({ watchdog: false }))
    )
    return Effect.gen(function*() {
      yield* yields
      yield* pass("1 minute")
      expect(yield* found).toEqual(["warning ProbeMissed 1"])
      broken.how = "not"
      for (let i = 0; i < 10; i++) yield* pass("1 minute")
      expect(yield* found).toEqual([])
      const { reading } = yield* Probe.Probe
      expect((yield* reading).returned).toBeGreaterThan(0)
    }).pipe(Effect.provide(layer), Effect.provide(Logger.remove(Logger.defaultLogger)))
  })
}
