import type {} from "@effect-eventbus/brokers/vitestSetup"
import { Strategy } from "@effect-eventbus/core"
import { NatsTransport } from "@effect-eventbus/nats"
import * as Conformance from "@effect-eventbus/testing/Conformance"
import { inject } from "vitest"

const servers = inject("natsServers")

// `Conformance.test.ts` has the default strategy.
for (const strategy of [Strategy.actorPool, Strategy.keyedWorkers]) {
  Conformance.suite({
    name: `nats with ${strategy.name}`,
    layer: NatsTransport.layer({ servers }),
    strict: NatsTransport.layer({ servers, streams: "validate" }),
    strategy
  })
  Conformance.suite({
    name: `nats with partitions and ${strategy.name}`,
    layer: NatsTransport.layer({ servers, partitions: 4 }),
    strict: NatsTransport.layer({ servers, partitions: 4, streams: "validate" }),
    strategy
  })
}
