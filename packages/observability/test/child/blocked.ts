/** A program whose handler blocks the event loop as long as its message says, and whose health is asked over HTTP. */
import { EventBus, FailurePolicy, MemoryTransport, Topic } from "@effect-eventbus/core"
import { Health, HealthServer, Metrics } from "@effect-eventbus/observability"
import { Effect, Layer, Schema } from "effect"

class Work extends Schema.TaggedClass<Work>()("Work", { millis: Schema.Number }) {}
const Works = Topic.envelope("works", Work)

const health = Health.layer({ interval: "200 millis", blockedAfter: "1 second" })
const layer = HealthServer.layer({ port: 0, metrics: { startsWith: "memory_eventbus" } }).pipe(
  Layer.provideMerge(EventBus.layer),
  Layer.provide(MemoryTransport.layer()),
  Layer.provide(Metrics.layer()),
  Layer.provideMerge(health)
)

const main = Effect.gen(function*() {
  const bus = yield* EventBus.EventBus
  const { port } = yield* HealthServer.HealthServer
  yield* bus.subscribe(Works, ({ millis }) =>
    Effect.sync(() => {
      const end = performance.now() + millis
      while (performance.now() < end);
    }), { onExhausted: FailurePolicy.drop })
  process.send!({ port })
  process.on(
    "message",
    (millis: number) =>
      void Effect.runFork(bus.publish(Works, { aggregateId: "work-1", payload: new Work({ millis }) }))
  )
  yield* Effect.never
})

Effect.runFork(Effect.scoped(Effect.provide(main, layer)))
