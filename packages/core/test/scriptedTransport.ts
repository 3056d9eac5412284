import type { Transport } from "@effect-eventbus/core"
import { Effect } from "effect"

/** A transport with no messages of its own: a test scripts what subscribing answers. */
export const scriptedTransport = (subscribe: Transport.Service["subscribe"]): Transport.Service => ({
  name: "scripted",
  capabilities: {
    durable: false,
    binaryHeaders: true,
    tombstones: true,
    partitions: true,
    settlement: "position",
    maxMessageBytes: 1_000_000
  },
  publish: () => Effect.succeed([]),
  subscribe
})
