import { Observer } from "@effect-eventbus/core"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either } from "effect"
import * as Api from "../src/internal/Api.js"
import { Aside } from "../src/internal/Aside.js"
import * as Connection from "../src/internal/Connection.js"
import * as Leases from "../src/internal/Leases.js"
import * as NatsConsumer from "../src/internal/NatsConsumer.js"
import * as NatsStreams from "../src/internal/NatsStreams.js"
import { resolve } from "../src/NatsConfig.js"
import { FakeBucket } from "./fakeBucket.js"
import * as T from "./fixture.js"
import { sharedServer } from "./sharedServer.js"

describe("A subscription that has broken for good", () => {
  const servers = sharedServer("2.15")

  it("says so, where the client has given up its connection", () =>
    T.run(Effect.gen(function*() {
      const settings = Either.getOrThrow(resolve({ servers: servers() }))
      const connection = yield* Connection.make(settings)
      const api = Api.make(connection, settings)
      const streams = yield* NatsStreams.make(connection, api, settings)
      const source = yield* NatsConsumer.make(connection, api, streams, settings, Observer.none, new Aside())(
        T.request(T.topic()),
        new T.TestConsumer()
      )
      const failing = yield* Effect.fork(Effect.flip(source.failed!))
      yield* Effect.yieldNow()
      assert.isNull(failing.unsafePoll())
      yield* Effect.promise(() => connection.client.close())
      const error = yield* Effect.timeout(failing, "5 seconds")
      assert.strictEqual(error._tag, "BrokerUnreachable")
      assert.include(error.message, servers()[0]!)
    })))

  it("doesn't say so where somebody closes it", () =>
    T.run(Effect.gen(function*() {
      let source: { readonly failed?: Effect.Effect<never, unknown> | undefined } | undefined
      yield* Effect.scoped(Effect.gen(function*() {
        const service = yield* T.transport(servers())
        source = yield* service.subscribe(T.request(T.topic()), new T.TestConsumer())
      }))
      const failing = yield* Effect.forkScoped(Effect.flip(source!.failed!))
      yield* Effect.yieldNow()
      assert.isNull(failing.unsafePoll())
    })))

  it("says so, and gives up its partitions, where a defect has ended what keeps them", () =>
    T.run(Effect.gen(function*() {
      const bucket = new FakeBucket().as()
      let isBroken = false
      const lost: Array<number> = []
      const leases = yield* Leases.make({
        bucket: { ...bucket, keys: (prefix) => isBroken ? Effect.die("a defect") : bucket.keys(prefix) },
        renewals: bucket,
        prefix: "group.topic",
        partitions: 2,
        duration: 600,
        renewEvery: 200,
        margin: 60,
        onTaken: () => {},
        onWanted: () => {},
        onLost: ({ partition }) => lost.push(partition)
      })
      yield* leases.join
      yield* leases.take
      const failing = yield* Effect.fork(Effect.flip(leases.broken))
      isBroken = true
      assert.strictEqual(yield* Effect.timeout(failing, "5 seconds"), "a defect")
      assert.deepStrictEqual(lost, [0, 1])
    })))
})
