import type {} from "@effect-eventbus/brokers/vitestSetup"
import { KafkaTransport } from "@effect-eventbus/kafka"
import * as Conformance from "@effect-eventbus/testing/Conformance"
import { inject } from "vitest"
import { driverName } from "./driver.js"

const brokers = inject("kafkaBrokers")

// With `TEST_LONG` the suite sends more, and runs more random plans.
Conformance.suite({
  name: "kafka",
  layer: KafkaTransport.layer({ brokers, driver: driverName }),
  strict: KafkaTransport.layer({ brokers, driver: driverName, topics: "validate" })
})
