import type {} from "@effect-eventbus/brokers/vitestSetup"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Fiber } from "effect"
import { inject } from "vitest"
import { NatsConfig } from "../src/index.js"
import * as Api from "../src/internal/Api.js"
import * as Connection from "../src/internal/Connection.js"
import * as T from "./fixture.js"

/** Holds up the process, as many other processes or a long computation do. */
const standStill = (millis: number) =>
  Effect.sync(() => {
    const until = performance.now() + millis
    while (performance.now() < until);
  })

describe("A process that stood still", () => {
  it("reads what has come meanwhile before it takes an answer for missing", () =>
    T.run(Effect.gen(function*() {
      const settings = Either.getOrThrow(
        NatsConfig.resolve({ servers: inject("natsServers"), requestTimeout: "200 millis" })
      )
      const connection = yield* Connection.make(settings)
      const api = Api.make(connection, settings)
      yield* api.accountInfo
      for (let i = 0; i < 5; i++) {
        const asking = yield* Effect.fork(Effect.either(api.accountInfo))
        // It is on its way.
        yield* Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))
        yield* standStill(400)
        const answer = yield* Fiber.join(asking)
        assert.isTrue(Either.isRight(answer))
      }
    })))

  it("and before it takes the server for silent", () =>
    T.runRemembering((lines) =>
      Effect.gen(function*() {
        const service = yield* T.transport(inject("natsServers"), { leaseDuration: "2 seconds" })
        const topic = T.topic()
        const consumer = new T.TestConsumer()
        yield* service.subscribe(T.request(topic), consumer)
        for (let i = 0; i < 3; i++) {
          yield* Effect.sleep("300 millis")
          yield* standStill(1_000)
        }
        yield* T.publish(service, topic, T.messages(0, 10))
        yield* T.waitUntil("all came", () => consumer.taken.length === 10)
        assert.isEmpty(lines.filter((line) => line.includes("starts again")))
      })
    ))
})
