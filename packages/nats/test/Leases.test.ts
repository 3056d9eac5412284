import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { NatsConnection } from "nats"
import { Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { wire } from "./wire.js"

/** The revision of the only instance's key. */
const memberRevision = (nc: NatsConnection, topic: string) =>
  Effect.promise(async () => {
    const kv = await nc.jetstream().views.kv("eventbus-leases")
    for await (const key of await kv.keys(`${Subject.toLease("group", topic)}.member.*`)) {
      return (await kv.get(key))?.revision ?? 0
    }
    return 0
  })

describe.each(T.versions)("The leases on %s", (version) => {
  it("one renewal that gets lost is repeated before the lease ends", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const proxy = yield* wire(servers[0]!)
      const nc = yield* T.client(servers)
      const topic = T.topic()
      const service = yield* T.transport([proxy.address], { leaseDuration: "5 seconds" })
      const consumer = new T.TestConsumer()
      yield* service.subscribe(T.request(topic), consumer)
      let isLost = false
      proxy.toServer = (chunk) => {
        if (isLost || !/^HPUB \$KV\.eventbus-leases\.group\..*\.member\./.test(chunk.toString("latin1"))) return chunk
        isLost = true
        return Buffer.alloc(0)
      }
      yield* T.waitUntil("one is lost", () => isLost)
      for (let renewals = 0, last = yield* memberRevision(nc, topic.name); renewals < 2; renewals++) {
        yield* T.waitUntil("it is renewed", async () => {
          const now = await Effect.runPromise(memberRevision(nc, topic.name))
          return now > last && (last = now) > 0
        })
      }
      assert.lengthOf(consumer.assignments, 1)
      yield* T.publish(service, topic, T.messages(0, 10))
      yield* T.waitUntil("it reads on", () => consumer.taken.length === 10)
      assert.lengthOf(consumer.assignments, 1)
    })))

  it("a bucket that was made anew gives nobody a partition before the others' leases have ended", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const nc = yield* T.client(servers)
      const topic = T.topic()
      const service = yield* T.transport(servers, { leaseDuration: "2 seconds", storage: "memory" })
      const consumer = new T.TestConsumer()
      yield* service.subscribe(T.request(topic), consumer)
      const jsm = yield* Effect.promise(() => nc.jetstreamManager())
      const bucket = yield* Effect.promise(() => jsm.streams.info("KV_eventbus-leases"))
      assert.strictEqual(bucket.config.storage, "file")
      const lostAt = performance.now()
      yield* Effect.promise(() => jsm.streams.delete("KV_eventbus-leases"))
      yield* T.waitUntil("it has it again", () => consumer.assignments.length === 2)
      assert.isAbove(performance.now() - lostAt, 2_000)
      yield* T.publish(service, topic, T.messages(0, 10))
      yield* T.waitUntil("it reads on", () => consumer.taken.length === 10)
    })))
})
