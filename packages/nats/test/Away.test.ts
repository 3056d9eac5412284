import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as T from "./fixture.js"

describe.each(T.versions)("A server that is away when a subscription begins, on %s", (version) => {
  it(
    "is waited for, which is said; when it does not come back the subscription fails",
    () =>
      T.runRemembering((lines) =>
        Effect.gen(function*() {
          const { nodes: [node], servers } = yield* T.server(version)
          const topic = T.topic()
          const consumer = new T.TestConsumer()
          const service = yield* T.transport(servers)
          const hasty = yield* T.transport(servers, { connectAttempts: 1, connectTimeout: "300 millis" })
          yield* T.publish(service, topic, T.messages(0, 10))
          yield* node!.kill
          yield* T.waitUntil(
            "both have noticed",
            () => lines.filter((line) => line.includes("Disconnected from NATS")).length === 2
          )
          const error = yield* Effect.flip(hasty.subscribe(T.request(topic, { group: "hasty" }), new T.TestConsumer()))
          assert.strictEqual(error._tag, "SubscribeFailed")
          const subscribing = yield* Effect.fork(service.subscribe(T.request(topic), consumer))
          const said = (text: string) =>
            lines.filter((line) => line.includes(text) && line.includes("group=group")).length
          yield* T.waitUntil("it is said", () => said("waits for the server") > 0)
          yield* node!.start
          yield* subscribing
          yield* T.waitUntil("all came", () => consumer.taken.length === 10)
          assert.deepStrictEqual([said("waits for the server"), said("the subscription begins")], [1, 1])
        })
      ),
    60_000
  )
})
