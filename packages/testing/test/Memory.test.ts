import { MemoryBroker, MemoryTransport } from "@effect-eventbus/core"
import * as Conformance from "@effect-eventbus/testing/Conformance"
import { Effect, Layer } from "effect"

const onBroker = (options: MemoryBroker.Options) =>
  MemoryTransport.layerBroker.pipe(
    Layer.provide(Layer.succeed(MemoryBroker.MemoryBroker, Effect.runSync(MemoryBroker.make(options))))
  )

Conformance.suite({
  name: "memory",
  layer: onBroker({}),
  strict: onBroker({ topics: "validate" }),
  inProcess: true
})
