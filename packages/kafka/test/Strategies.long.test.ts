import type {} from "@effect-eventbus/brokers/vitestSetup"
import { Strategy } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import * as Conformance from "@effect-eventbus/testing/Conformance"
import { inject } from "vitest"
import { driverName } from "./driver.js"

const brokers = inject("kafkaBrokers")

// `Conformance.test.ts` has the default strategy.
for (const strategy of [Strategy.actorPool, Strategy.keyedWorkers]) {
  Conformance.suite({
    name: `kafka with ${strategy.name}`,
    layer: KafkaTransport.layer({ brokers, driver: driverName }),
    strict: KafkaTransport.layer({ brokers, driver: driverName, topics: "validate" }),
    strategy
  })
}
