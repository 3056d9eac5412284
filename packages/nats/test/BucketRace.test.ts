import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Fiber } from "effect"
import { NatsConfig } from "../src/index.js"
import * as Bucket from "../src/internal/Bucket.js"
import { fakeConnection } from "./fakeConnection.js"
import * as T from "./fixture.js"

const settings = Either.getOrThrow(NatsConfig.resolve({}))

describe("The bucket of the leases", () => {
  it("is made by two at once, with different numbers of replicas: the second one takes that of the first one", () =>
    T.run(Effect.gen(function*() {
      const scene = fakeConnection()
      const fiber = yield* Effect.fork(Bucket.make(scene.connection, settings, 5_000, 3).ensure)
      const answer = (n: number, endpoint: string, body: object) =>
        Effect.gen(function*() {
          yield* T.waitUntil(`it asks for ${endpoint}`, () => scene.published.length === n)
          const { reply, subject } = scene.published[n - 1]!
          assert.strictEqual(subject, `$JS.API.STREAM.${endpoint}.KV_eventbus-leases`)
          scene.answer(reply!, body)
        })
      yield* answer(1, "INFO", { error: { code: 404, err_code: 10059, description: "stream not found" } })
      yield* answer(2, "CREATE", { error: { code: 400, err_code: 10058, description: "stream name already in use" } })
      yield* answer(3, "INFO", { created: "", config: { name: "KV_eventbus-leases", discard: "new", num_replicas: 1 } })
      yield* Fiber.join(fiber)
    })))
})
