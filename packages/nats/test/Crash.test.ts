import * as TcpProxy from "@effect-eventbus/brokers/TcpProxy"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Fiber } from "effect"
import { DeliverPolicy } from "nats"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Subject } from "../src/index.js"
import * as T from "./fixture.js"

const durableOf = (topic: string) => Either.getOrThrow(Subject.toDurable("group", topic))

describe.each(T.versions)("After a crash on %s", (version) => {
  it(
    "what was outstanding comes first, in stream order, while the publisher goes on; nothing is lost",
    () =>
      T.run(Effect.gen(function*() {
        const { servers } = yield* T.server(version)
        const topic = T.topic()
        const publisher = yield* T.transport(servers)
        let published = 0
        const publishing = yield* Effect.suspend(() => {
          const from = published
          published += 100
          return T.publish(publisher, topic, T.messages(from, from + 100, 100))
        }).pipe(Effect.delay("25 millis"), Effect.forever, Effect.fork)

        const finished = new Set<number>()
        /** The last that were finished: as many as a process has in hand, and not longer ago than a second before its last word. */
        const late = new Set<number>()
        const millis: Array<number> = []
        const folder = yield* T.folder
        for (const capacity of [900, 1_500]) {
          const file = join(folder, `finished-${capacity}`)
          writeFileSync(file, "")
          const lines = () => readFileSync(file, "utf8").split("\n").slice(0, -1)
          const child = yield* T.child("holding.ts", servers[0]!, topic.name, String(capacity), file)
          yield* T.waitUntil("it works", () => lines().length > 2_000 || child.code() !== undefined)
          assert.strictEqual(child.errors(), "")
          child.kill()
          yield* T.waitUntil("it is dead", () => child.code() !== undefined)
          const all = lines().map((line) => line.split(" ").map(Number) as [offset: number, at: number])
          const end = all.at(-1)![1]
          for (const [offset] of all) finished.add(offset)
          for (const [offset, at] of all.slice(-capacity)) if (at > end - 1_000) late.add(offset)
        }
        const start = performance.now()
        const consumer = new T.TestConsumer()
        const service = yield* T.transport(servers, { leaseDuration: "2 seconds" })
        yield* service.subscribe(T.request(topic), consumer)
        yield* T.waitUntil("the first comes", () => consumer.taken.length > 0)
        millis.push(performance.now() - start)
        const before = published
        yield* T.waitUntil("newer ones came, too", () => consumer.taken.some(({ offset }) => offset > before))
        yield* Fiber.interrupt(publishing)
        const nc = yield* T.client(servers)
        yield* T.waitUntil("all is finished", async () => {
          const info = await Effect.runPromise(T.consumerInfo(nc, Subject.toStream(topic.name), durableOf(topic.name)))
          return info.num_pending === 0 && info.num_ack_pending === 0
        })
        const offsets = consumer.taken.map(({ offset }) => offset)
        T.assertNumbers(offsets, T.ascending(offsets))
        const came = new Set([...offsets, ...finished])
        T.assertNumbers(T.range(1, published - 200).filter((offset) => !came.has(offset)), [])
        const again = offsets.filter((offset) => finished.has(offset)).length
        const redelivered = consumer.taken.filter(({ deliveryCount = 1 }) => deliveryCount > 1).length
        assert.isAbove(redelivered, 100)
        // What was finished in the turn of the event loop that a kill broke off, or not longer ago than its acknowledgement takes (rule 5).
        T.assertNumbers(offsets.filter((offset) => finished.has(offset) && !late.has(offset)), [])
        T.assertNoViolations(consumer)
        console.log(
          `crash on ${version}: ${redelivered} outstanding came back after ${Math.round(millis[0]!)} ms, ` +
            `${again} of them had been finished, of ${published} published`
        )
      })),
    180_000
  )

  it("a gap in the deliveries is closed before anything after it is offered", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = T.topic()
      const publisher = yield* T.transport(servers)
      yield* T.publish(publisher, topic, T.messages(0, 10))
      const consumer = new T.TestConsumer()
      const service = yield* T.transport(servers)
      yield* service.subscribe(T.request(topic), consumer)
      yield* T.waitUntil("the first came", () => consumer.taken.length === 10)
      // Somebody takes messages and is never heard of again.
      const nc = yield* T.client(servers)
      for (let round = 1; round <= 3; round++) {
        const request = JSON.stringify({ batch: 20, expires: 300_000_000 })
        nc.subscribe(`lost.${round}`, { callback: () => {} })
        nc.publish(
          `$JS.API.CONSUMER.MSG.NEXT.${Subject.toStream(topic.name)}.${durableOf(topic.name)}`,
          request,
          { reply: `lost.${round}` }
        )
        yield* Effect.promise(() => nc.flush())
        yield* T.publish(publisher, topic, T.messages(round * 100, round * 100 + 100))
        yield* T.waitUntil("all came", () => consumer.taken.length >= 10 + round * 100)
      }
      const offsets = consumer.taken.map(({ offset }) => offset)
      T.assertNumbers(offsets, T.range(1, 311))
      T.assertNoViolations(consumer)
    })))

  it("outstanding messages come back before newer ones although thousands lie between them, and others restore the ack wait", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const topic = T.topic("plain")
      const publisher = yield* T.transport(servers)
      const count = 21_500
      yield* T.publish(publisher, topic, T.messages(0, count, 2_000))
      const held = [5, 9, 21_000]
      const first = new T.TestConsumer({
        onMessage: (message, consumer) => {
          if (!held.includes(message.offset)) consumer.finish(message)
        }
      })
      const one = yield* T.scoped(
        Effect.flatMap(T.transport(servers), (service) => service.subscribe(T.request(topic), first))
      )
      yield* T.waitUntil("all came", () => first.taken.length === count)
      yield* one.close
      yield* T.publish(publisher, topic, T.messages(count, count + 50))
      const second = new T.TestConsumer()
      const nc = yield* T.client(servers)
      // As if another instance started just now, and took the short ack wait for one that a dead process had left.
      let meddled = 0
      nc.subscribe("$JS.API.CONSUMER.CREATE.>", {
        callback: (_error, message) => {
          const body = message.json() as { readonly config: { readonly ack_wait: number } }
          if (body.config.ack_wait !== 300e6 || meddled++ > 0) return
          nc.publish(message.subject, JSON.stringify({ ...body, config: { ...body.config, ack_wait: 30e9 } }))
        }
      })
      const start = performance.now()
      const service = yield* T.transport(servers)
      yield* service.subscribe(T.request(topic), second)
      yield* T.waitUntil("the rest came", () => second.taken.length >= 53)
      console.log(`short ack wait on ${version}: ${Math.round(performance.now() - start)} ms`)
      T.assertNumbers(second.taken.map(({ offset }) => offset), [...held, ...T.range(count + 1, count + 51)])
      assert.strictEqual(meddled, 2)
      const info = yield* T.consumerInfo(nc, Subject.toStream(topic.name), durableOf(topic.name))
      assert.strictEqual(info.config.ack_wait, 30e9)
    })))

  it("a connection that is half open does not swallow messages for good, nor their order", () =>
    T.run(Effect.gen(function*() {
      const { servers } = yield* T.server(version)
      const proxy = yield* TcpProxy.make({ port: Number(servers[0]!.split(":")[1]) })
      const topic = T.topic()
      const publisher = yield* T.transport(servers)
      const consumer = new T.TestConsumer()
      const told: Array<string> = []
      const service = yield* T.transport([proxy.address], {
        pingInterval: "300 millis",
        onConnectionState: ({ _tag }) => Effect.sync(() => told.push(_tag))
      })
      yield* service.subscribe(T.request(topic), consumer)
      yield* T.publish(publisher, topic, T.messages(0, 100))
      yield* T.waitUntil("the first came", () => consumer.taken.length === 100)
      yield* proxy.blackhole
      yield* T.publish(publisher, topic, T.messages(100, 400))
      yield* T.waitUntil("it is noticed", () => told.includes("Disconnected"))
      yield* proxy.flow
      yield* T.publish(publisher, topic, T.messages(400, 500))
      yield* T.waitUntil("all came", () => consumer.taken.length >= 500, 20_000)
      T.assertNumbers(consumer.taken.map(({ offset }) => offset), T.range(1, 501))
      T.assertNoViolations(consumer)
    })))

  it.each(["after a clean end", "after an unknown end"])(
    "what a killed server has forgotten to have delivered is marked as a possible duplicate: %s",
    (end) =>
      T.run(Effect.gen(function*() {
        const { servers } = yield* T.server(version)
        const topic = T.topic()
        const stream = Subject.toStream(topic.name)
        const nc = yield* T.client(servers)
        const publisher = yield* T.transport(servers)
        const subscribed = (consumer: T.TestConsumer) =>
          T.scoped(Effect.flatMap(T.transport(servers), (service) => service.subscribe(T.request(topic), consumer)))
        yield* T.publish(publisher, topic, T.messages(0, 100))
        const first = new T.TestConsumer()
        const one = yield* subscribed(first)
        yield* T.waitUntil("all came", () => first.taken.length === 100)
        assert.isFalse(first.taken.some(({ maybeDuplicate }) => maybeDuplicate))
        yield* one.close
        yield* T.publish(publisher, topic, T.messages(100, 120))
        yield* Effect.promise(async () => {
          const { consumers } = await nc.jetstreamManager()
          const { config } = await consumers.info(stream, durableOf(topic.name))
          await consumers.delete(stream, durableOf(topic.name))
          await consumers.add(stream, { ...config, deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: 61 })
          if (end === "after a clean end") return
          const kv = await nc.jetstream().views.kv("eventbus-leases")
          await kv.put(`${Subject.toLease("group", topic.name)}.partition.0`, JSON.stringify({ owner: "the dead" }))
        })
        const second = new T.TestConsumer()
        yield* subscribed(second)
        yield* T.waitUntil("the rest came", () => second.taken.length === 60)
        yield* T.publish(publisher, topic, T.messages(120, 140))
        yield* T.waitUntil("the new ones came", () => second.taken.length === 80)
        T.assertNumbers(second.numbers, T.range(60, 140))
        assert.isTrue(second.taken.every(({ deliveryCount }) => deliveryCount === 1))
        // Nobody knows what the dead had in hand: it can be all that was there.
        const marked = second.taken.filter(({ maybeDuplicate }) => maybeDuplicate)
        T.assertNumbers(marked.map(T.numberOf), T.range(60, end === "after a clean end" ? 100 : 120))
      }))
  )

  it.each([
    ["", 1_501],
    [", also where the server has forgotten what it delivered", 1]
  ])(
    "behind a long backlog only what the dead may have handed over is marked%s",
    (_, from) =>
      T.run(Effect.gen(function*() {
        const { servers } = yield* T.server(version)
        const topic = T.topic()
        const publisher = yield* T.transport(servers)
        yield* T.publish(publisher, topic, T.messages(0, 20_000))
        const first = new T.TestConsumer({
          capacity: 100,
          onMessage: (message, consumer) => {
            if (message.offset <= 1_500) setImmediate(() => consumer.finish(message))
          }
        })
        const one = yield* T.scoped(Effect.flatMap(T.transport(servers), (it) => it.subscribe(T.request(topic), first)))
        yield* T.waitUntil("it has what it takes", () => first.taken.length === 1_600)
        yield* one.close
        const nc = yield* T.client(servers)
        yield* Effect.promise(async () => {
          const kv = await nc.jetstream().views.kv("eventbus-leases")
          await kv.put(`${Subject.toLease("group", topic.name)}.partition.0`, JSON.stringify({ owner: "the dead" }))
          if (from > 1) return
          const jsm = await nc.jetstreamManager()
          const stream = Subject.toStream(topic.name)
          for await (const { name } of jsm.consumers.list(stream)) await jsm.consumers.delete(stream, name)
        })
        const second = new T.TestConsumer()
        const service = yield* T.transport(servers)
        yield* service.subscribe(T.request(topic), second)
        yield* T.waitUntil("the rest came", () => second.taken.length === 20_001 - from)
        const marked = second.taken.filter(({ maybeDuplicate }) => maybeDuplicate).map(({ offset }) => offset)
        T.assertNumbers(marked, T.range(from, from + marked.length))
        assert.isAtLeast(marked.length, 1_601 - from)
        assert.isBelow(marked.length, 10_000)
        T.assertNoViolations(first, second)
      }))
  )
})
