import { MemoryBroker, MemoryTransport, Strategy } from "@effect-eventbus/core"
import * as Conformance from "@effect-eventbus/testing/Conformance"
import { Effect, Layer } from "effect"
import { withStrategy } from "../src/conformance/Bench.js"
import { bounds } from "../src/conformance/bounds.js"
import { failures } from "../src/conformance/failures.js"
import { fairness } from "../src/conformance/fairness.js"
import { isolation } from "../src/conformance/isolation.js"
import { keysOrder } from "../src/conformance/keys.js"
import { lifecycle } from "../src/conformance/lifecycle.js"
import { order } from "../src/conformance/order.js"
import { presubscription } from "../src/conformance/presubscription.js"
import { revocation } from "../src/conformance/revocation.js"
import { settlement } from "../src/conformance/settlement.js"

const onBroker = (options: MemoryBroker.Options) =>
  MemoryTransport.layerBroker.pipe(
    Layer.provide(Layer.succeed(MemoryBroker.MemoryBroker, Effect.runSync(MemoryBroker.make(options))))
  )

// `Memory.test.ts` has the default strategy. What no strategy has a part in is left to the long run: bytes, and how they are read.
const suite = process.env.TEST_LONG === "1" ? Conformance.suite : (given: Conformance.Subject) => {
  const subject = withStrategy(given)
  for (
    const rules of [
      order,
      keysOrder,
      settlement,
      failures,
      bounds,
      fairness,
      isolation,
      revocation,
      lifecycle,
      presubscription
    ]
  ) rules(subject)
}

for (const strategy of [Strategy.actorPool, Strategy.keyedWorkers]) {
  suite({
    name: `memory with ${strategy.name}`,
    layer: onBroker({}),
    strict: onBroker({ topics: "validate" }),
    inProcess: true,
    strategy
  })
}
