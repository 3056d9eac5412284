import { assert, describe, it } from "@effect/vitest"
import { Effect, Either } from "effect"
import type {} from "@effect-eventbus/brokers/vitestSetup"
import { inject } from "vitest"
import { Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { wire } from "./wire.js"

const servers = inject("natsServers")

describe("Another reader of the same consumer", () => {
  it("is noticed, and so is its end, also where the question after it gets lost: what it had taken comes then", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const stream = Subject.toStream(topic.name)
      const durable = Either.getOrThrow(Subject.toDurable("group", topic.name))
      const publisher = yield* T.transport(servers)
      const made = yield* T.scoped(publisher.subscribe(T.request(topic), new T.TestConsumer()))
      yield* made.close

      // It reads without a lease.
      const other = yield* T.client(servers)
      let taken = 0
      const inbox = "_INBOX.other"
      other.subscribe(inbox, { callback: () => taken++ })
      const request = JSON.stringify({ batch: 2, expires: 60e9 })
      other.publish(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${durable}`, request, { reply: inbox })
      yield* Effect.promise(() => other.flush())
      yield* T.publish(publisher, topic, T.messages(0, 1))
      yield* T.waitUntil("it has the first one", () => taken === 1)

      const way = yield* wire(servers[0]!)
      let lost = -1
      let isReading = false
      way.toServer = (chunk) => {
        const text = chunk.toString("latin1")
        if (text.includes("CONSUMER.MSG.NEXT")) isReading = true
        if (lost !== 0 || !text.includes("CONSUMER.INFO")) return chunk
        lost++
        return Buffer.alloc(0)
      }
      const service = yield* T.transport([way.address], { leaseDuration: "2 seconds", requestTimeout: "500 millis" })
      const consumer = new T.TestConsumer()
      yield* service.subscribe(T.request(topic), consumer)
      yield* T.waitUntil("it reads beside it", () => isReading)
      lost = 0
      yield* Effect.promise(() => other.close())
      yield* T.waitUntil("the question is lost", () => lost === 1)
      yield* T.waitUntil("the first one came", () => consumer.taken.length === 1, 12_000)
      assert.deepStrictEqual(consumer.numbers, [0])
      assert.strictEqual(consumer.taken[0]!.deliveryCount, 2)
    })))
})
