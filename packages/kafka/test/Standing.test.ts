/** Starts in a cluster of which some brokers are gone: what the subscription needs of the others is there. */
import type { Transport } from "@effect-eventbus/core"
import { it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { describe, expect } from "vitest"
import { makeGroup } from "./fakeGroup.js"
import { eventually, makeConsumer, request, spec } from "./Harness.js"

const NONE = { offset: -1, metadata: "" }
const timing = { subscribeTimeout: "1 second", heartbeatInterval: "100 millis" } as const

describe("rule 15: a member whose share of the partitions is led by a broker that can't be reached", () => {
  it.scopedLive("begins to stand all the same, says so, and reads when the leader is back", () =>
    Effect.gen(function*() {
      const { consumer, state } = makeGroup({ offset: 1, metadata: "" }, timing)
      state.log = ["old", "new"]
      state.isLeaderAway = true
      const { consumer: held, values } = makeConsumer()
      const service = yield* consumer
      const source: Transport.Source = yield* service.subscribe(request(spec("orders")), held)
      expect(values()).toEqual([])
      const problem = Effect.map(source.status!, ({ problems }) => problems.map(({ message }) => message).join())
      expect(yield* Effect.repeat(problem, { until: (message) => message !== "" })).toContain(
        "Partition 0 of orders can't begin"
      )
      state.isLeaderAway = false
      yield* eventually("it begins", () => values().join() === "new")
      expect(yield* problem).toBe("")
    }))

  it.scopedLive("waits for it where it would miss what is published, for longer than its limit: the coordinator answers", () =>
    Effect.gen(function*() {
      const { consumer, state } = makeGroup(NONE, timing)
      state.log = ["old"]
      state.isLeaderAway = true
      const { consumer: held, values } = makeConsumer()
      const service = yield* consumer
      const subscribing = yield* Effect.fork(service.subscribe(request(spec("orders"), { startFrom: "latest" }), held))
      expect(yield* Effect.timeoutOption(Fiber.await(subscribing), "2500 millis")).toMatchObject({ _tag: "None" })
      state.isLeaderAway = false
      yield* Fiber.join(subscribing)
      state.log = ["old", "new"]
      yield* eventually("what is new arrives", () => values().join() === "new")
    }))
})
