import * as TcpProxy from "@effect-eventbus/brokers/TcpProxy"
import type { ReadRequest, Service } from "@effect-eventbus/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Either, Stream } from "effect"
import { headers } from "nats"
import { Subject } from "../src/index.js"
import * as T from "./fixture.js"
import { sharedServer } from "./sharedServer.js"

const read = (service: Service, request: ReadRequest) => Effect.map(service.read!(request), ([one]) => one!)

const numbersOf = (service: Service, request: ReadRequest) =>
  Effect.scoped(
    Effect.gen(function*() {
      const { from, messages, to } = yield* read(service, request)
      const all = Chunk.toReadonlyArray(yield* Stream.runCollect(messages))
      assert.isTrue(all.every(({ maybeDuplicate, offset }) => maybeDuplicate && offset >= from && offset < to))
      return all.map(T.numberOf)
    })
  )

describe.each(T.versions)("Bounded reads on %s", (version) => {
  const servers = sharedServer(version)

  const manager = Effect.flatMap(
    Effect.suspend(() => T.client(servers())),
    (nc) => Effect.promise(() => nc.jetstreamManager())
  )

  it("begin and end where they are told, over gaps and other subjects, and leave nothing behind", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const other = { ...topic, name: `${topic.name}.other` }
      const jsm = yield* manager
      const stream = Subject.toStream(topic.name)
      yield* Effect.promise(() => jsm.streams.add({ name: stream, subjects: [topic.name, `${topic.name}.>`] }))
      const service = yield* T.transport(servers())
      yield* T.publish(service, topic, T.messages(0, 600, 1))
      yield* T.publish(service, other, T.messages(600, 610))
      const middle = yield* Effect.promise(() => jsm.streams.getMessage(stream, { seq: 601 }))
      yield* Effect.sleep("2 millis")
      yield* T.publish(service, topic, T.messages(610, 620, 1))
      yield* Effect.promise(() => jsm.streams.deleteMessage(stream, 5))
      const request = { topic, from: "earliest", to: "now" } as const
      const { from, messages, to } = yield* read(service, request)
      assert.deepStrictEqual([from, to], [1, 621])
      // What is published after the bounds are known is not read.
      yield* T.publish(service, topic, T.messages(620, 630, 1))
      const all = yield* Stream.runCollect(messages)
      const present = T.range(0, 630).filter((n) => n !== 4 && (n < 600 || n >= 610))
      T.assertNumbers(Chunk.toReadonlyArray(all).map(T.numberOf), present.filter((n) => n < 620))
      const within = (min: number, max: number) => present.filter((n) => n >= min && n < max)
      const cases: ReadonlyArray<readonly [Omit<ReadRequest, "topic">, ReadonlyArray<number>]> = [
        [{ from: { offsets: { 0: 11 } }, to: { offsets: { 0: 16 } } }, within(10, 15)],
        [{ from: { offsets: { 0: 3 } }, to: { offsets: { 0: 6 } } }, [2, 3]],
        [{ from: { offsets: { 0: 5 } }, to: { offsets: { 0: 6 } } }, []],
        [{ from: { offsets: { 0: 601 } }, to: { offsets: { 0: 611 } } }, []],
        [{ from: { offsets: { 0: 900 } }, to: "now" }, []],
        [{ from: "earliest", to: { offsets: { 0: 0 } } }, []],
        [{ from: { time: new Date("2100-01-01") }, to: "now" }, []],
        [{ from: { time: new Date(middle.time.getTime() + 1) }, to: "now" }, within(610, 630)],
        [{ from: "earliest", to: { time: new Date(0) } }, []],
        [{ from: { offsets: {} }, to: { time: new Date("2100-01-01") } }, present]
      ]
      for (const [bounds, expected] of cases) {
        T.assertNumbers(yield* numbersOf(service, { topic, ...bounds }), expected)
      }
      const left = yield* Effect.promise(() => jsm.consumers.list(stream).next())
      // Only the one of the read whose scope is still open.
      assert.lengthOf(left, 1)
      T.assertNumbers(yield* numbersOf(service, { topic: T.topic(), from: "earliest", to: "now" }), [])
    })))

  it("are not at their end where the server that is asked lags behind", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = T.topic()
      const publisher = yield* T.transport(servers)
      yield* T.publish(publisher, topic, T.messages(0, 20))
      // A domain whose requests go to the server over a client of the test, which answers some like a follower without messages.
      const nc = yield* T.client(servers)
      const prefix = "$JS.relay.API."
      let asked = 0
      nc.subscribe(`${prefix}>`, {
        callback: (_, { data, reply, subject }) => {
          const endpoint = subject.slice(prefix.length)
          if (endpoint.startsWith("CONSUMER.MSG.NEXT.") && asked++ < 2) {
            return nc.publish(reply!, "", { headers: headers(404, "No Messages") })
          }
          nc.publish(`$JS.API.${endpoint}`, data, reply === undefined ? {} : { reply })
        }
      })
      const service = yield* T.transport(servers, { domain: "relay" })
      const parts = yield* service.read!({ topic, from: "earliest", to: "now" })
      const read = yield* Stream.runCollect(parts[0]!.messages)
      T.assertNumbers(Array.from(read, T.numberOf), T.range(0, 20))
      assert.isAtLeast(asked, 3)
    })))

  it("go on over cut connections and deleted consumers; a stream that was made anew is an error", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const jsm = yield* manager
      const stream = Subject.toStream(topic.name)
      const proxy = yield* TcpProxy.make({ port: Number(servers()[0]!.split(":")[1]) })
      const service = yield* T.transport([proxy.address])
      yield* T.publish(service, topic, T.messages(0, 2_000, 2_000))
      const expected = Effect.map(numbersOf(service, { topic, from: "earliest", to: "now" }), (all) => {
        assert.lengthOf(all, 2_000)
        return all
      })
      const straight = yield* expected
      const { messages } = yield* read(service, { topic, from: "earliest", to: "now" })
      const numbers: Array<number> = []
      yield* Stream.runForEach(messages, (message) =>
        Effect.gen(function*() {
          numbers.push(T.numberOf(message))
          if (numbers.length === 300 || numbers.length === 900) yield* proxy.cut
          if (numbers.length === 600) {
            for (const { name } of yield* Effect.promise(() => jsm.consumers.list(stream).next())) {
              yield* Effect.promise(() => jsm.consumers.delete(stream, name))
            }
          }
        }))
      T.assertNumbers(numbers, straight)
      const again = yield* read(service, { topic, from: "earliest", to: "now" })
      yield* Effect.promise(() => jsm.streams.delete(stream))
      const failed = yield* Effect.either(Stream.runDrain(again.messages))
      const error = Either.getOrThrow(Either.flip(failed))
      assert.strictEqual(error._tag, "ReadFailed")
      assert.include(error.message, "made again")
    })))

  it("a work queue can't be read beside its group: a typed error", () =>
    T.run(Effect.gen(function*() {
      const topic = T.topic()
      const service = yield* T.transport(servers(), { retention: "workqueue" })
      yield* T.publish(service, topic, [T.message(0)])
      const { messages } = yield* read(service, { topic, from: "earliest", to: "now" })
      const failed = yield* Effect.either(Stream.runDrain(messages))
      const error = Either.getOrThrow(Either.flip(failed))
      assert.strictEqual(error._tag, "ReadFailed")
      assert.match(error.message, /refused: .* requires .*ack policy/)
    })))
})
