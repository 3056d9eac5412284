/** What is seen on real brokers: one trace from a publisher to the handler of another bus, and the metrics of both. */
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { EventBus, FailurePolicy, Topic } from "@effect-eventbus/core"
import type { Transport } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { NatsTransport } from "@effect-eventbus/nats"
import { Metrics, Prometheus, Tracing } from "@effect-eventbus/observability"
import { NodeSdk } from "@effect/opentelemetry"
import { expect, it } from "@effect/vitest"
import { InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base"
import { Effect, Layer, Logger } from "effect"
import { inject } from "vitest"
import { eventually, Placed, placed, values } from "./Fixture.js"

const transports: ReadonlyArray<
  readonly [name: string, offset: string, layer: Layer.Layer<Transport.Transport, { readonly message: string }>]
> = [
  ["kafka", "messaging.kafka.offset", KafkaTransport.layer({ brokers: inject("kafkaBrokers") })],
  ["nats", "messaging.nats.sequence", NatsTransport.layer({ servers: inject("natsServers"), preflight: "off" })]
]

it.live.each(transports)("on %s", ([name, offset, transport]) => {
  const orders = Topic.envelope(`test.observability.${process.pid}`, Placed, { partitions: 1 })
  const exporter = new InMemorySpanExporter()
  const spans = () => exporter.getFinishedSpans()
  const sdk = NodeSdk.layer(() => ({
    resource: { serviceName: "test" },
    spanProcessor: new SimpleSpanProcessor(exporter)
  }))
  const bus = (clientId: string) =>
    EventBus.layer.pipe(
      Layer.provide(Layer.orDie(transport)),
      Layer.provide(Metrics.layer({ clientId: `${name}-${clientId}` })),
      Layer.provide(Tracing.layer()),
      Layer.fresh
    )
  const metrics = (clientId: string) =>
    Effect.map(Prometheus.format({ startsWith: `${name}_eventbus` }), (text) => {
      const found = values(text, `client_id="${name}-${clientId}"`)
      return (metric: string) =>
        Array.from(found).find(([series]) => series.startsWith(`${name}_eventbus_actor_pool_${metric}{`))?.[1]
    })
  return Effect.gen(function*() {
    const publisher = yield* Layer.build(bus("publisher"))
    const subscriber = yield* Layer.build(bus("subscriber"))
    yield* Effect.provide(
      Effect.flatMap(
        EventBus.EventBus,
        (bus) =>
          bus.subscribe(orders, (_, { attempt }) => attempt < 3 ? Effect.fail("busy") : Effect.void, {
            onExhausted: FailurePolicy.drop
          })
      ),
      subscriber
    )
    const receipt = yield* Effect.provide(
      Effect.flatMap(EventBus.EventBus, (bus) => bus.publish(orders, placed("order-1", 1))),
      publisher
    )
    yield* eventually("it is processed", () => spans().some(({ name }) => name === `process ${orders.name}`))
    const processed = spans().find(({ name }) => name === `process ${orders.name}`)!
    const published = spans().find(({ name }) => name === `publish ${orders.name}`)!
    expect(processed.links.map(({ context }) => context)).toMatchObject([{
      spanId: published.spanContext().spanId,
      traceId: published.spanContext().traceId,
      isRemote: true
    }])
    expect(published.attributes).toMatchObject({ "messaging.system": name, [offset]: receipt.offset })
    expect(processed.attributes).toMatchObject({
      "messaging.system": name,
      "messaging.destination.name": orders.name,
      "eventbus.attempts": 3,
      [offset]: receipt.offset
    })
    expect(processed.events.filter(({ name }) => name === "messaging.process.exception")).toHaveLength(2)

    yield* eventually(
      "the lag is gone",
      () => Effect.map(metrics("subscriber"), (value) => value("consumer_lag") === 0)
    )
    const sent = yield* metrics("publisher")
    const received = yield* metrics("subscriber")
    expect([sent("connected"), sent("messages_sent_total"), sent("messages_received_total")]).toEqual([1, 1, undefined])
    expect([received("messages_received_total"), received("retries_total"), received("partitions_assigned")]).toEqual([
      1,
      2,
      1
    ])
    expect(received("rebalances_total")).toEqual(name === "kafka" ? expect.any(Number) : undefined)
  }).pipe(Effect.scoped, Effect.provide(sdk), Effect.provide(Logger.remove(Logger.defaultLogger)))
}, 30_000)
