import * as TcpProxy from "@effect-eventbus/brokers/TcpProxy"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import type { Assignment, Consumer, IncomingMessage } from "@effect-eventbus/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import * as T from "./fixture.js"

const servers = inject("natsServers")

/** Finishes what it has when its lanes are closed, one after the other. */
const slowToClose = (between: number) => {
  let closing = 0
  const consumer: Consumer & { taken: number } = {
    taken: 0,
    assigned: (assignment: Assignment) => {
      const mine: Array<IncomingMessage> = []
      return {
        offer: (messages) => {
          mine.push(...messages)
          consumer.taken += messages.length
          return messages.length
        },
        close: () =>
          Effect.suspend(() =>
            Effect.delay(
              Effect.sync(() => {
                for (const message of mine) assignment.finish(message)
                return { unfinished: 0, lost: 0 }
              }),
              between * closing++
            )
          )
      }
    }
  }
  return consumer
}

describe("Partitions that are handed over one after the other", () => {
  it("each have the time that the server needs, however long all of them take", () =>
    T.runRemembering((lines) =>
      Effect.gen(function*() {
        const proxy = yield* TcpProxy.make({ port: Number(servers[0]!.split(":")[1]) })
        const service = yield* T.transport([proxy.address], { closeTimeout: "1 second" })
        const topic = { ...T.topic(), partitions: 8 }
        const first = slowToClose(700)
        yield* service.subscribe(T.request(topic), first)
        const nearby = yield* T.transport(servers)
        yield* T.publish(nearby, topic, T.messages(0, 100, 100))
        yield* T.waitUntil("all came", () => first.taken === 100)
        yield* proxy.delay(250)
        const second = new T.TestConsumer()
        yield* nearby.subscribe(T.request(topic), second)
        yield* T.waitUntil("half of them were handed over", () => second.assignments.length === 4)
        yield* proxy.delay(0)
        assert.deepStrictEqual(lines.filter((line) => line.includes("did not confirm")), [])
        // All was acknowledged before.
        assert.lengthOf(second.taken, 0)
      })
    ))
})
