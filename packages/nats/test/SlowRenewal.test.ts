import * as TcpProxy from "@effect-eventbus/brokers/TcpProxy"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import * as T from "./fixture.js"

const servers = inject("natsServers")

describe("A renewal whose answer comes late", () => {
  it("counts from when it was sent: a slow server, or a busy machine, does not end the lease", () =>
    T.runRemembering((lines) =>
      Effect.gen(function*() {
        const proxy = yield* TcpProxy.make({ port: Number(servers[0]!.split(":")[1]) })
        const service = yield* T.transport([proxy.address], {
          leaseDuration: "3 seconds",
          leaseRenewInterval: "1 second"
        })
        const topic = T.topic()
        const consumer = new T.TestConsumer()
        yield* service.subscribe(T.request(topic), consumer)
        const nearby = yield* T.transport(servers)
        yield* T.publish(nearby, topic, T.messages(0, 5))
        yield* T.waitUntil("the first came", () => consumer.taken.length === 5)
        // There and back it takes longer than a renewal is waited for, and less than the lease holds.
        yield* proxy.delay(300)
        for (let n = 5; n < 15; n++) {
          yield* T.publish(nearby, topic, [T.message(n)])
          yield* T.waitUntil("the next came", () => consumer.taken.length === n + 1)
        }
        yield* Effect.sleep("4 seconds")
        assert.deepStrictEqual(lines.filter((line) => /has ended|renewed|for dead/.test(line)), [])
        assert.lengthOf(consumer.taken, 15)
      })
    ))
})
