import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Fiber, TestClock } from "effect"
import * as Api from "../src/internal/Api.js"
import type { Client } from "../src/internal/Client.js"
import * as NatsStreams from "../src/internal/NatsStreams.js"
import { resolve } from "../src/NatsConfig.js"
import { codes, NatsRequestFailed } from "../src/NatsErrors.js"
import { fakeConnection } from "./fakeConnection.js"
import * as T from "./fixture.js"

const settings = Either.getOrThrow(resolve({}))

/** The streams of a server of this version, which has one or none of them. */
const scene = (version: string) =>
  Effect.gen(function*() {
    const { connection } = fakeConnection()
    const client = { ...connection.client, info: () => ({ version, maxPayload: 1_048_576 }) } as Client
    const { isAtLeast } = Api.make({ ...connection, client }, settings)
    let stream: Api.StreamInfo | undefined
    let made = 0
    const api = {
      isAtLeast,
      streamNamesOf: () => Effect.succeed([]),
      streamInfo: (subject: string) =>
        Effect.suspend(() =>
          stream === undefined
            ? new NatsRequestFailed({
              subject,
              reason: "Api",
              error: { code: 404, err_code: codes.streamNotFound, description: "stream not found" }
            })
            : Effect.succeed(stream)
        ),
      createStream: (config: Api.StreamConfig) =>
        Effect.sync(() => stream = { config, created: `${++made}`, state: { first_seq: 0, last_seq: 0 } })
    } as unknown as Api.Api
    const streams = yield* NatsStreams.make(connection, api, settings)
    return {
      streams,
      delete: () => {
        stream = undefined
      },
      made: () => made
    }
  })

describe("A stream that was there, and is deleted", () => {
  const topic = T.topic()
  /** Everybody gets as far as possible without time. */
  const turn = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

  it.scoped.each(["2.9.0", "2.9.25", "1.4.1"])(
    "is made again by a server of version %s a second later",
    (version) =>
      Effect.gen(function*() {
        const { delete: remove, made, streams } = yield* scene(version)
        // The first time there is nothing to wait for.
        assert.strictEqual((yield* streams.refresh(topic)).created, "1")
        remove()
        const both = yield* Effect.fork(Effect.all([streams.refresh(topic), streams.get(topic)], { concurrency: 2 }))
        yield* turn
        yield* TestClock.adjust("999 millis")
        yield* turn
        assert.strictEqual(made(), 1)
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual((yield* Fiber.join(both)).map(({ created }) => created), ["2", "2"])
        assert.strictEqual(made(), 2)
      })
  )

  it.scoped.each(["2.10.0", "2.15.1", "3.0.0-RC.1"])(
    "is made again by a server of version %s at once",
    (version) =>
      Effect.gen(function*() {
        const { delete: remove, streams } = yield* scene(version)
        yield* streams.refresh(topic)
        remove()
        // The clock stands still.
        assert.strictEqual((yield* streams.refresh(topic)).created, "2")
      })
  )
})
