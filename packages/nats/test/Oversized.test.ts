import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Stream } from "effect"
import * as T from "./fixture.js"
import { sharedServer } from "./sharedServer.js"
import { wire } from "./wire.js"

describe.each(T.versions)("A message larger than the server takes now, on %s", (version) => {
  const servers = sharedServer(version, "max_payload: 8MB")

  /** A topic whose third message is large, a way to the server that says its limit was lowered, and how many requests went over it. */
  const scene = Effect.gen(function*() {
    const topic = T.topic()
    const publisher = yield* T.transport(servers())
    const messages = T.messages(0, 6, 1)
      .map((message, n) => n === 2 ? { ...message, value: T.filled(message.value!, 5_000_000) } : message)
    yield* T.publish(publisher, topic, messages)
    const way = yield* wire(servers()[0]!)
    let requests = 0
    way.toServer = (chunk) => {
      requests += chunk.toString("latin1").match(/CONSUMER\.MSG\.NEXT/g)?.length ?? 0
      return chunk
    }
    way.toClient = (chunk) =>
      chunk.includes("\"max_payload\":")
        ? Buffer.from(chunk.toString("latin1").replace(/("max_payload":)\d+/, "$11048576"), "latin1")
        : chunk
    const service = yield* T.transport([way.address], { prefetchBytes: 1_000_000 })
    return { publisher, requests: () => requests, service, topic }
  })

  it("is consumed in its turn, by as many requests as it takes", () =>
    T.run(Effect.gen(function*() {
      const { requests, service, topic } = yield* scene
      const consumer = new T.TestConsumer()
      yield* service.subscribe(T.request(topic), consumer)
      yield* T.waitUntil("all came", () => consumer.taken.length === 6, 10_000)
      T.assertNumbers(consumer.numbers, T.range(0, 6))
      assert.isBelow(requests(), 20)
    })))

  it("is read in its turn", () =>
    T.run(Effect.gen(function*() {
      const { requests, service, topic } = yield* scene
      const [part] = yield* service.read!({ topic, from: "earliest", to: "now" })
      const all = yield* Stream.runCollect(part!.messages)
      T.assertNumbers(Chunk.toReadonlyArray(all).map(T.numberOf), T.range(0, 6))
      assert.isBelow(requests(), 20)
    })))

  // 2.9 passes over what does not fit and is to come again.
  if (version === "2.9") return
  it("comes back in its turn after a take-over", () =>
    T.run(Effect.gen(function*() {
      const { publisher, requests, service, topic } = yield* scene
      const first = new T.TestConsumer({ onMessage: () => {} })
      const one = yield* T.scoped(publisher.subscribe(T.request(topic), first))
      yield* T.waitUntil("all are outstanding", () => first.taken.length === 6)
      yield* one.close
      const second = new T.TestConsumer()
      yield* service.subscribe(T.request(topic), second)
      yield* T.waitUntil("all came", () => second.taken.length === 6, 10_000)
      T.assertNumbers(second.numbers, T.range(0, 6))
      assert.isBelow(requests(), 20)
    })))
})
