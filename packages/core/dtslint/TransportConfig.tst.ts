import type { EventBusConfig, EventBusError, Transport } from "@effect-eventbus/core"
import { ConfigSpec, EventBus, MemoryTransport, TransportConfig } from "@effect-eventbus/core"
import { Layer } from "effect"
import { describe, expect, test } from "tstyche"
import type { Refused, Warehouse } from "./fixture.js"

const spec = { "own.partitions": ConfigSpec.integer({ default: "4", description: "Partitions." }) }

const own: TransportConfig.Driver<EventBusError.BrokerUnreachable | Refused, Warehouse, typeof spec> = {
  spec,
  layer: () => ({} as Layer.Layer<Transport.Transport, EventBusError.BrokerUnreachable | Refused, Warehouse>)
}

describe("Driver", () => {
  test("gets what is set of its own settings, each as its type", () => {
    expect<Parameters<typeof own.layer>[0]>().type.toBe<{ readonly "own.partitions"?: number }>()
  })
})

describe("layer", () => {
  test("fails as configuration fails, and needs nothing, with the transport in memory", () => {
    expect(TransportConfig.layer({ memory: MemoryTransport.driver })).type.toBe<
      Layer.Layer<Transport.Transport | EventBusConfig.EventBusConfig, EventBusError.InvalidConfiguration>
    >()
  })

  test("fails as each of its transports can fail, and needs what each of them needs", () => {
    expect(TransportConfig.layer({ memory: MemoryTransport.driver, own })).type.toBe<
      Layer.Layer<
        Transport.Transport | EventBusConfig.EventBusConfig,
        EventBusError.InvalidConfiguration | EventBusError.BrokerUnreachable | Refused,
        Warehouse
      >
    >()
  })

  test("takes drivers only", () => {
    expect(TransportConfig.layer).type.not.toBeCallableWith({ memory: MemoryTransport.layer() })
    expect(TransportConfig.layer).type.not.toBeCallableWith({ memory: {} })
  })

  test("takes one of its drivers as the default", () => {
    expect(TransportConfig.layer).type.toBeCallableWith({ memory: MemoryTransport.driver, own }, { default: "own" })
    expect(TransportConfig.layer).type.not.toBeCallableWith({ memory: MemoryTransport.driver }, { default: "own" })
  })

  test("is all that a bus needs", () => {
    expect(EventBus.layer.pipe(Layer.provide(TransportConfig.layer({ memory: MemoryTransport.driver })))).type.toBe<
      Layer.Layer<EventBus.EventBus, EventBusError.InvalidConfiguration>
    >()
  })
})
