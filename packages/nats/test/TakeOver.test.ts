import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { wire } from "./wire.js"

/** The pull requests that do not wait, as they were sent. */
const noWaits = (sent: string) =>
  Array.from(
    sent.matchAll(/\{"batch":\d+,"no_wait":true[^}]*\}/g),
    ([request]) => JSON.parse(request) as { readonly batch: number; readonly max_bytes?: number }
  )

describe.each(T.versions)("Taking over on %s", (version) => {
  it("brings large messages back once, over a slow way, in requests of bounded size", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = T.topic()
      const publisher = yield* T.transport(servers)
      const large = T.messages(0, 30).map((message) => ({ ...message, value: T.filled(message.value!, 100_000) }))
      yield* T.publish(publisher, topic, large)
      const first = new T.TestConsumer({ onMessage: () => {} })
      const one = yield* T.scoped(Effect.flatMap(T.transport(servers), (it) => it.subscribe(T.request(topic), first)))
      yield* T.waitUntil("all are outstanding", () => first.taken.length === 30)
      yield* one.close

      const way = yield* wire(servers[0]!)
      let sent = ""
      way.toServer = (chunk) => {
        sent += chunk.toString("latin1")
        return chunk
      }
      // Three megabytes in two seconds.
      way.rate = 1_500
      const second = new T.TestConsumer()
      const service = yield* T.transport([way.address], { prefetchBytes: 2_200_000 })
      yield* service.subscribe(T.request(topic), second)
      yield* T.waitUntil("all came", () => second.taken.length === 30)
      T.assertNumbers(second.numbers, T.range(0, 30))
      // The older server passes over a message that does not fit any more, so that has to be refused once more.
      const passedOver = version === "2.9" ? 2 : 0
      assert.isAtMost(second.taken.filter(({ deliveryCount }) => deliveryCount !== 2).length, passedOver)
      assert.isAtMost(sent.match(/-NAK/g)!.length, 30 + passedOver)
      const requests = noWaits(sent)
      assert.isAbove(requests.length, 1)
      for (const { max_bytes } of requests) assert.strictEqual(max_bytes, 2_200_000)
    })))

  it("begins again where the server's word that nothing more comes gets lost", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = T.topic()
      const publisher = yield* T.transport(servers)
      const way = yield* wire(servers[0]!)
      const consumer = new T.TestConsumer({ onMessage: () => {} })
      const service = yield* T.transport([way.address])
      yield* service.subscribe(T.request(topic), consumer)
      yield* T.publish(publisher, topic, T.messages(0, 10))
      yield* T.waitUntil("ten are in hand", () => consumer.taken.length === 10)
      // Five more get lost on the way, and then the end of the request that brings them back.
      way.toClient = () => Buffer.alloc(0)
      yield* T.publish(publisher, topic, T.messages(10, 15))
      const nc = yield* T.client(servers)
      const info = T.consumerInfo(nc, Subject.toStream(topic.name), `group@${Subject.toStream(topic.name)}`)
      yield* T.waitUntil("they are sent", async () => (await Effect.runPromise(info)).num_ack_pending === 15)
      let lost = 0
      let sent = ""
      way.toServer = (chunk) => {
        sent += chunk.toString("latin1")
        return chunk
      }
      way.toClient = (chunk) => {
        const text = chunk.toString("latin1")
        const status = lost > 0 ? null : /HMSG \S+ \d+ +(\d+) (\d+)\r\nNATS\/1\.0 40[48]/.exec(text)
        if (status === null) return chunk
        lost++
        const end = text.indexOf("\r\n", status.index) + 2 + Number(status[2]) + 2
        return Buffer.concat([chunk.subarray(0, status.index), chunk.subarray(end)])
      }
      way.cut()
      yield* T.waitUntil("they came", () => consumer.taken.length === 15)
      assert.strictEqual(lost, 1)
      assert.isAtLeast(noWaits(sent).length, 1)
      T.assertNumbers(consumer.numbers, T.range(0, 15))
      for (const message of consumer.taken) consumer.finish(message)
      yield* T.publish(publisher, topic, T.messages(15, 20))
      yield* T.waitUntil("newer ones come", () => consumer.taken.length === 20)
      T.assertNoViolations(consumer)
    })))
})
