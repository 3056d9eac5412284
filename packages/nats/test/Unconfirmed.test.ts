import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import * as T from "./fixture.js"
import { sharedServer } from "./sharedServer.js"

describe("A user who may not acknowledge", () => {
  const servers = sharedServer(
    "2.15",
    `authorization { users: [{ user: a, password: a, permissions: { publish: { deny: ["$JS.ACK.>"] } } }] }`
  )

  it(
    "is told what is missing and what it means, once, and the status says it",
    () =>
      T.runRemembering((lines) =>
        Effect.gen(function*() {
          const topic = T.topic()
          const service = yield* T.transport(servers(), { user: "a", password: Redacted.make("a") })
          const consumer = new T.TestConsumer()
          const source = yield* service.subscribe(T.request(topic), consumer)
          yield* T.publish(service, topic, T.messages(0, 500))
          yield* T.waitUntil("all came", () => consumer.taken.length === 500)
          const said = () => lines.filter((line) => line.includes("does not confirm acknowledgements"))
          yield* T.waitUntil("it is said", () => said().length > 0, 30_000)
          assert.match(said()[0]!, /reason=the user has no permission to publish to "\$JS\.ACK\./)
          const [problem] = (yield* source.status!).problems
          assert.match(problem!.message, /acknowledgements are not confirmed: the user has no permission/)
          assert.lengthOf(said(), 1)
          // The server reports it for each acknowledgement that is sent.
          assert.isBelow(lines.filter((line) => line.includes("NATS reports an error")).length, 50)
        })
      ),
    60_000
  )
})
