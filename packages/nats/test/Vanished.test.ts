import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger } from "effect"
import { Subject } from "../src/index.js"
import * as T from "./fixture.js"

describe.each(T.versions)("Messages that are gone before anybody has read them, on %s", (version) => {
  // An older server does not count what is purged of a part of a stream.
  const cases = [["of a whole stream", undefined], ["of a partition", 2]] as const
  it.each(cases.slice(0, version === "2.9" ? 1 : 2))(
    "are told in the log, with their number: %s",
    (_, partitions) =>
      Effect.runPromise(Effect.scoped(Effect.gen(function*() {
        const { servers } = yield* T.server(version)
        const topic = { ...T.topic(), partitions }
        const publisher = yield* T.transport(servers)
        const receipts = yield* T.publish(publisher, topic, T.messages(0, 400))
        const told: Array<number> = []
        const logger = Logger.make(({ annotations, message }) => {
          if (!/are gone that nobody had read/.test(String(message))) return
          told.push(Number(new Map(annotations).get(partitions === undefined ? "count" : "atLeast")))
        })
        const consumer = new T.TestConsumer({ capacity: 10, onMessage: () => {} })
        yield* Effect.gen(function*() {
          const service = yield* T.transport(servers, { prefetchMessages: 5, leaseDuration: "2 seconds" })
          yield* service.subscribe(T.request(topic), consumer)
          yield* T.waitUntil("some are in hand", () => consumer.unfinished.size === 10)
          const nc = yield* T.client(servers)
          yield* Effect.promise(async () =>
            (await nc.jetstreamManager()).streams.purge(Subject.toStream(topic.name), { seq: 301 })
          )
          yield* T.waitUntil("the rest came", () => {
            for (const message of [...consumer.unfinished.values()]) consumer.unfinished.delete(message.offset)
            for (const message of consumer.taken) {
              const assignment = consumer.assignments.find(({ partition }) => partition === message.partition)!
              assignment.finish(message)
              assignment.resume()
            }
            return consumer.taken.some(({ offset }) => offset > 390)
          })
          const unread = receipts.filter(({ offset }) =>
            offset <= 300 && !consumer.taken.some((message) => message.offset === offset)
          )
          yield* T.waitUntil("it is told", () => told.reduce((sum, n) => sum + n, 0) >= unread.length, 15_000)
          assert.strictEqual(told.reduce((sum, n) => sum + n, 0), unread.length)
        }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
      })))
  )
})
