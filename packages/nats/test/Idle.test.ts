import { assert, describe, it } from "@effect/vitest"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { Effect } from "effect"
import { inject } from "vitest"
import * as T from "./fixture.js"
import { wire } from "./wire.js"

const servers = inject("natsServers")

describe("Idle subscriptions", () => {
  it(
    "send little, and together: what they cost is mostly how often they wake up the process",
    () =>
      T.run(Effect.gen(function*() {
        const way = yield* wire(servers[0]!)
        const service = yield* T.transport([way.address], { leaseDuration: "2 seconds" })
        const count = 50
        const topics = T.range(0, count).map(() => T.topic())
        yield* Effect.forEach(topics, (topic) => service.subscribe(T.request(topic), new T.TestConsumer()), {
          concurrency: 8
        })
        // Until all have had their first period.
        yield* Effect.sleep("2 seconds")
        let [packets, messages] = [0, 0]
        way.toServer = (chunk) => {
          packets++
          messages += chunk.toString("latin1").match(/^H?PUB /gm)?.length ?? 0
          return chunk
        }
        const start = performance.now()
        yield* Effect.sleep("4 seconds")
        const seconds = (performance.now() - start) / 1_000
        assert.isBelow(messages / count / seconds, 5)
        assert.isAbove(messages / count / seconds, 1)
        // Far less than one packet for each message.
        assert.isBelow(packets, messages / 4)
        console.log(`${(messages / count / seconds).toFixed(2)} messages/s for each, ${packets} packets of ${messages}`)
      })),
    60_000
  )
})
