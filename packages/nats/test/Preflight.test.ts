import { assert, describe, it } from "@effect/vitest"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { Effect, HashMap, Logger, Option } from "effect"
import { inject } from "vitest"
import { bucketWarnings, consumerWarnings, streamWarnings } from "../src/internal/NatsPreflight.js"
import * as T from "./fixture.js"

const servers = inject("natsServers")

const safe = {
  name: "s",
  storage: "file",
  num_replicas: 3,
  max_age: 0,
  max_bytes: -1,
  max_msgs: -1,
  retention: "limits",
  discard: "old",
  duplicate_window: 120e9
}

describe("Preflight", () => {
  it("says nothing of a safe stream, nor of plain messages", () => {
    assert.deepStrictEqual(streamWarnings("envelope", safe), [])
    assert.deepStrictEqual(streamWarnings("envelope", { ...safe, discard: "new", max_msgs: 5 }), [])
    assert.deepStrictEqual(streamWarnings("plain", { name: "s", storage: "memory", max_msgs: 1 }), [])
    assert.deepStrictEqual(
      consumerWarnings("at-least-once", { ackWait: 30_000, inactiveThreshold: 0 }, { max_deliver: -1 }),
      []
    )
    assert.deepStrictEqual(
      consumerWarnings("at-most-once", { ackWait: 1_000, inactiveThreshold: 1_000 }, { max_deliver: 3 }),
      []
    )
  })

  it.each([
    [{ num_replicas: 1 }, /^one replica.*sync_interval/],
    [{ storage: "memory" }, /^storage memory/],
    [{ max_msgs: 10 }, /^discard old with max_msgs 10/],
    [{ max_bytes: 10 }, /^discard old with max_bytes 10/],
    [{ max_msgs_per_subject: 1 }, /^discard old with max_msgs_per_subject 1/],
    [{ max_age: 60e9 }, /^max_age 60 s/],
    [{ retention: "interest" }, /^retention interest/],
    [{ duplicate_window: 5e9 }, /^duplicate_window 5 s/]
  ])("of a stream with %j it gives the reason, and no other", (change, expected) => {
    const warnings = streamWarnings("envelope", { ...safe, ...change })
    assert.lengthOf(warnings, 1)
    assert.match(warnings[0]!, expected)
  })

  it("of the leases' bucket: fewer replicas than the stream, and storage memory", () => {
    assert.deepStrictEqual(bucketWarnings({ name: "KV_b", num_replicas: 3, storage: "file" }, 3), [])
    assert.match(bucketWarnings({ name: "KV_b", num_replicas: 1, storage: "file" }, 3).join(), /^num_replicas 1/)
    assert.match(bucketWarnings({ name: "KV_b", num_replicas: 1, max_msg_size: 8_192 }, 1).join(), /^max_msg_size 8192/)
    assert.match(bucketWarnings({ name: "KV_b", num_replicas: 3, storage: "memory" }, 1).join(), /^storage memory/)
  })

  it("of a consumer: a short ack wait, an inactive threshold, and a finite max_deliver that was there", () => {
    assert.match(
      consumerWarnings("at-least-once", { ackWait: 30_000, inactiveThreshold: 60_000 }, undefined).join(),
      /^inactiveThreshold 60 s/
    )
    assert.match(
      consumerWarnings("at-least-once", { ackWait: 1_000, inactiveThreshold: 0 }, undefined).join(),
      /^ackWait 1000 ms/
    )
    assert.match(
      consumerWarnings("at-least-once", { ackWait: 30_000, inactiveThreshold: 0 }, { max_deliver: 3 }).join(),
      /^max_deliver 3/
    )
  })

  it.each(["warn", "off"] as const)("logs once for a stream, where it is on: %s", (preflight) => {
    const reasons: Array<string> = []
    const logger = Logger.make<unknown, void>(({ annotations }) => {
      const text = HashMap.get(annotations, "reasons")
      if (Option.isSome(text)) reasons.push(String(text.value))
    })
    return Effect.runPromise(
      Effect.gen(function*() {
        const service = yield* T.transport(servers, { preflight, ackWait: "1 seconds" })
        const topic = T.topic()
        yield* T.publish(service, topic, [T.message(0)])
        for (const group of ["a", "b"]) {
          yield* service.subscribe(T.request(topic, { group }), new T.TestConsumer())
        }
        const ofStream = reasons.filter((text) => text.includes("one replica"))
        const ofConsumers = reasons.filter((text) => text.startsWith("ackWait"))
        assert.deepStrictEqual([ofStream.length, ofConsumers.length], preflight === "warn" ? [1, 2] : [0, 0])
      }).pipe(Effect.scoped, Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
    )
  })
})
