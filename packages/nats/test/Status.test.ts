import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as T from "./fixture.js"

describe("How a subscription stands", () => {
  it("is told without asking the server: each partition's position, watermark and end, and since when nothing moved", () =>
    T.run(Effect.gen(function*() {
      const server = yield* T.server()
      const topic = T.topic()
      const publisher = yield* T.transport(server.servers)
      yield* T.publish(publisher, topic, T.messages(0, 100))
      const consumer = new T.TestConsumer({ capacity: 10, onMessage: () => {} })
      const service = yield* T.transport(server.servers)
      const source = yield* service.subscribe(T.request(topic), consumer)
      const status = source.status!
      const partition = Effect.map(status, ({ partitions }) => partitions[0]!)
      yield* T.waitUntil("ten are in hand", () => consumer.unfinished.size === 10)
      const before = yield* partition
      assert.deepInclude({ ...before }, {
        topic: topic.name,
        partition: 0,
        epoch: consumer.assignment.epoch,
        position: 11,
        watermark: 1,
        end: 101
      })
      assert.isTrue((yield* status).isConnected)
      assert.deepStrictEqual((yield* status).problems, [])
      // The first one is not finished: only the position moves.
      const [, second, third] = consumer.taken
      consumer.finish(second!)
      consumer.finish(third!)
      yield* T.waitUntil("two more came", () => consumer.taken.length === 12)
      const after = yield* partition
      assert.deepInclude({ ...after }, { position: 13, watermark: 1 })
      assert.isAbove(after.movedAt, before.movedAt)
      assert.strictEqual((yield* partition).movedAt, after.movedAt)
      consumer.finish(consumer.taken[0]!)
      assert.strictEqual((yield* partition).watermark, 4)

      yield* server.nodes[0]!.stop
      yield* T.waitUntil("it is noticed", async () => !(await Effect.runPromise(status)).isConnected)
      yield* T.waitUntil("and told", async () => (await Effect.runPromise(status)).problems.length === 1)
      const [problem] = (yield* status).problems
      assert.match(problem!.message, /^Partition 0: it can't be read and is tried again/)
      yield* server.nodes[0]!.start
      yield* T.waitUntil("it is over", async () => {
        const { isConnected, problems } = await Effect.runPromise(status)
        return isConnected && problems.length === 0
      })
    })))

  it("is told of each partition by itself: what is stored for another one is no lag of one that has nothing to read", () =>
    T.run(Effect.gen(function*() {
      const topic = { ...T.topic(), partitions: 2 }
      const service = yield* T.transport((yield* T.server()).servers)
      // All are of one aggregate.
      yield* T.publish(service, topic, T.messages(0, 20, 1))
      const consumer = new T.TestConsumer()
      const source = yield* service.subscribe(T.request(topic), consumer)
      const lags = Effect.map(
        source.status!,
        ({ partitions }) => partitions.map(({ end, position, watermark }) => [end! - position, end! - watermark])
      )
      const left = async () => (await Effect.runPromise(lags)).flat().reduce((a, b) => a + b, 0)
      yield* T.waitUntil("the first ones are handled", () => consumer.taken.length === 20)
      yield* T.waitUntil("nothing is left", async () => (await left()) === 0)
      yield* T.publish(service, topic, T.messages(20, 40, 1))
      yield* T.waitUntil("all are handled", () => consumer.taken.length === 40)
      yield* T.waitUntil("nothing is left", async () => (await left()) === 0)
      assert.strictEqual((yield* lags).length, 2)
    })))
})
