/** The drivers that there are. One is loaded when it is used: the package of the other need not be installed. */
import { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import * as Effect from "effect/Effect"
import type { DriverName } from "../KafkaConfig.js"
import type { Driver } from "./Driver.js"

const drivers: Readonly<Record<DriverName, () => Promise<Driver>>> = {
  kafkajs: () => import("./kafkajs/KafkajsDriver.js").then(({ driver }) => driver),
  platformatic: () => import("./platformatic/PlatformaticDriver.js").then(({ load }) => load())
}

const remedies: Readonly<Record<DriverName, string>> = {
  kafkajs: "install kafkajs@2.2.4",
  platformatic:
    "install @platformatic/kafka@1, and where the program is bundled leave that package out of it (external)"
}

export const load = (name: DriverName): Effect.Effect<Driver, InvalidConfiguration> =>
  Effect.tryPromise({
    try: drivers[name],
    catch: (cause) =>
      new InvalidConfiguration({
        issues: [`kafka.driver: "${name}" can't be loaded: ${remedies[name]}`],
        cause
      })
  })
