import { MemoryBroker, MemoryTransport, type Strategy } from "@effect-eventbus/core"
import { Effect, Layer } from "effect"
import { describe } from "vitest"
import { withStrategy } from "../src/conformance/Bench.js"
import { isolation } from "../src/conformance/isolation.js"
import { order } from "../src/conformance/order.js"

const slotOf = (key: string): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193) >>> 0
  return hash % 8
}

const pool: Strategy.Service = { name: "pool", slots: { count: 8, slotOf } }

const onBroker = MemoryTransport.layerBroker.pipe(
  Layer.provide(Layer.succeed(MemoryBroker.MemoryBroker, Effect.runSync(MemoryBroker.make({}))))
)

describe("eight slots that all aggregates share", () => {
  const subject = withStrategy({ name: "memory", layer: onBroker, strict: onBroker, inProcess: true, strategy: pool })
  order(subject)
  isolation(subject)
})
