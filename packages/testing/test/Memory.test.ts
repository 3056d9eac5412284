import { MemoryBroker, MemoryTransport } from "@effect-eventbus/core"
import * as Conformance from "@effect-eventbus/testing/Conformance"
import { Effect, Layer } from "effect"

const onBroker = (options: MemoryBroker.Options) =>
  MemoryTransport.layerBroker.pipe(
    Layer.provide(Layer.succeed(MemoryBroker.MemoryBroker, Effect.runSync(MemoryBroker.make(options))))
  )

// With `TEST_LONG` the suite sends more, and runs more random plans.
Conformance.suite({
  name: "memory",
  layer: onBroker({}),
  strict: onBroker({ topics: "validate" }),
  inProcess: true
})
