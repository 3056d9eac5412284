import type {} from "@effect-eventbus/brokers/vitestSetup"
import { NatsTransport } from "@effect-eventbus/nats"
import * as Conformance from "@effect-eventbus/testing/Conformance"
import { inject } from "vitest"

const servers = inject("natsServers")

// With `TEST_LONG` the suite sends more, and runs more random plans.
Conformance.suite({
  name: "nats",
  layer: NatsTransport.layer({ servers }),
  strict: NatsTransport.layer({ servers, streams: "validate" })
})

Conformance.suite({
  name: "nats with partitions",
  layer: NatsTransport.layer({ servers, partitions: 4 }),
  strict: NatsTransport.layer({ servers, partitions: 4, streams: "validate" })
})
