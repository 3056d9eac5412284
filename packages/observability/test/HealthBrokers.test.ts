/** The health on real brokers: one that is gone, and a probe there and back. */
import { TcpProxy } from "@effect-eventbus/brokers"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { EventBus, FailurePolicy, Topic } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { NatsTransport } from "@effect-eventbus/nats"
import { Health, Probe } from "@effect-eventbus/observability"
import { expect, it } from "@effect/vitest"
import { Duration, Effect, Layer, Logger } from "effect"
import { inject } from "vitest"
import { eventually, Placed, placed } from "./Fixture.js"

const quiet = Effect.provide(Logger.remove(Logger.defaultLogger))

const reasons = Effect.flatMap(
  Health.Health,
  ({ check }) => Effect.map(check, ({ findings }) => findings.map(({ level, reason }) => `${level} ${reason}`))
)

it.live(
  "a NATS server that is gone turns readiness off within its bound, and on again; the probe notices it, too",
  () =>
    Effect.gen(function*() {
      const proxy = yield* TcpProxy.make({ port: Number(inject("natsServers")[0]!.split(":").at(-1)) })
      const transport = NatsTransport.layer({ servers: [proxy.address], preflight: "off", reconnectWait: "50 millis" })
      const health = Health.layer({ watchdog: false, interval: "100 millis", disconnectedAfter: "300 millis" })
      const probe = Probe.layer({
        topic: `test.probe.${process.pid}`,
        group: "probe",
        interval: "100 millis",
        timeout: "1 second",
        failFrom: 2
      })
      const layer = probe.pipe(
        Layer.provideMerge(EventBus.layer.pipe(Layer.provide(transport))),
        Layer.provideMerge(health)
      )
      const orders = Topic.envelope(`test.health.${process.pid}`, Placed, { partitions: 1 })
      yield* Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const { reading } = yield* Probe.Probe
        yield* bus.subscribe(orders, () => Effect.void, { onExhausted: FailurePolicy.drop })
        yield* bus.publish(orders, placed("order-1", 1))
        yield* eventually("a probe is back", () => Effect.map(reading, ({ returned }) => returned > 1))
        expect(yield* reasons).toEqual([])
        expect(Duration.toMillis((yield* reading).roundTrip!)).toBeLessThan(1_000)

        yield* proxy.refuse
        yield* proxy.cut
        yield* eventually("it is told", () =>
          Effect.map(reasons, (all) =>
            all.includes("critical Disconnected") && all.includes("critical ProbeMissed")))
        expect((yield* reading).missedInARow).toBeGreaterThanOrEqual(2)
        yield* proxy.accept
        yield* eventually("all is well", () =>
          Effect.map(reasons, (all) => all.length === 0))
        expect((yield* reading).missedInARow).toBe(0)
      }).pipe(Effect.provide(layer))
    }).pipe(Effect.scoped, quiet),
  60_000
)

it.live("a probe on Kafka comes back", () => {
  const transport = KafkaTransport.layer({ brokers: inject("kafkaBrokers") })
  const layer = Probe.layer({ topic: `test.probe.${process.pid}`, interval: "100 millis" }).pipe(
    Layer.provideMerge(EventBus.layer.pipe(Layer.provide(transport))),
    Layer.provideMerge(Health.layer({ watchdog: false }))
  )
  return Effect.gen(function*() {
    const { reading } = yield* Probe.Probe
    yield* eventually("two are back", () => Effect.map(reading, ({ returned }) => returned >= 2))
    expect(yield* reasons).toEqual([])
  }).pipe(Effect.scoped, Effect.provide(layer), quiet)
}, 60_000)
