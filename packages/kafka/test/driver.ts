/** The driver that the tests are run with: `TEST_KAFKA_DRIVER`, or the default. */
import { Effect } from "effect"
import * as Drivers from "../src/internal/drivers.js"
import type { DriverName } from "../src/KafkaConfig.js"

export const driverName = (process.env["TEST_KAFKA_DRIVER"] ?? "kafkajs") as DriverName

export const driver = await Effect.runPromise(Drivers.load(driverName))
