/** Through the bus, on a real broker: handlers that do what they should not, and topics that change below them. */
import { EventBus, EventBusConfig, FailurePolicy, Topic } from "@effect-eventbus/core"
import { KafkaTransport } from "@effect-eventbus/kafka"
import { it } from "@effect/vitest"
import { Duration, Effect, Exit, Layer, Schedule, Schema, Scope } from "effect"
import { describe, expect } from "vitest"
import { driverName } from "./driver.js"
import { eventually, kafka, shared, topicName, withAdmin } from "./Harness.js"

const orders = (name = topicName(), partitions = 1) =>
  Topic.envelope(name, Schema.Struct({ n: Schema.Number }), { partitions, eventType: () => "order" })

const bus = (group = topicName()) =>
  EventBus.layer.pipe(
    Layer.provide(KafkaTransport.layer({
      brokers: shared(),
      driver: driverName,
      sessionTimeout: Duration.seconds(6),
      heartbeatInterval: Duration.millis(200),
      metadataMaxAge: Duration.seconds(1),
      commitInterval: Duration.millis(50)
    })),
    Layer.provide(EventBusConfig.layer({ group, closeDeadline: Duration.millis(500) }))
  )

const range = (count: number, from = 0) => Array.from({ length: count }, (_, i) => from + i)

describe("handlers", () => {
  it.scopedLive("that publish to their own topic, and to others, in the middle of handling", () => {
    const [first, second] = [orders(topicName(), 2), orders(topicName(), 2)]
    return Effect.gen(function*() {
      const { publish, publishAll, subscribe } = yield* EventBus.EventBus
      const seen = new Map<string, Array<number>>()
      const note = (topic: string, id: string, n: number) => {
        const key = `${topic}/${id}`
        seen.set(key, [...seen.get(key) ?? [], n])
      }
      // Each event begets the next one in both topics, more of them at once than one partition has in its mailbox.
      yield* subscribe(first, ({ n }, { aggregateId }) =>
        Effect.gen(function*() {
          note("first", aggregateId, n)
          if (n >= 20) return
          yield* Effect.all([
            publish(first, { aggregateId, payload: { n: n + 1 } }),
            publishAll(second, range(10, n * 10).map((n) => ({ aggregateId, payload: { n } })))
          ], { concurrency: 2 })
        }), { onExhausted: FailurePolicy.drop })
      yield* subscribe(second, ({ n }, { aggregateId }) => Effect.sync(() => note("second", aggregateId, n)), {
        onExhausted: FailurePolicy.drop
      })
      yield* publishAll(first, range(10).map((i) => ({ aggregateId: `a${i}`, payload: { n: 0 } })))
      yield* eventually(
        "all are handled",
        () => [...seen.values()].reduce((sum, { length }) => sum + length, 0) >= 10 * 21 + 10 * 200,
        "40 seconds"
      )
      for (const i of range(10)) {
        expect(seen.get(`first/a${i}`)).toEqual(range(21))
        expect(seen.get(`second/a${i}`)).toEqual(range(200))
      }
    }).pipe(Effect.provide(bus()))
  }, 60_000)

  it.scopedLive(
    "that close their own subscription, or its scope, in the middle of handling: it ends, and nothing is lost",
    () =>
      Effect.gen(function*() {
        for (const how of ["close", "scope"] as const) {
          const topic = orders()
          const group = topicName()
          const done: Array<number> = []
          yield* Effect.gen(function*() {
            const { publishAll, subscribe } = yield* EventBus.EventBus
            const scope = yield* Scope.make()
            const closed = yield* Effect.makeLatch()
            let end: Effect.Effect<unknown> = Effect.void
            const subscription = yield* subscribe(topic, ({ n }) =>
              Effect.gen(function*() {
                if (n === 5) yield* Effect.ensuring(end, closed.open)
                done.push(n)
              }), { onExhausted: FailurePolicy.drop }).pipe(Scope.extend(scope))
            end = how === "close" ? subscription.close : Scope.close(scope, Exit.void)
            yield* publishAll(topic, range(20).map((n) => ({ aggregateId: "a", payload: { n } })))
            yield* Effect.timeoutFail(closed.await, {
              duration: "15 seconds",
              onTimeout: () => new Error(`closing from within hangs (${how})`)
            })
            yield* subscription.close
            yield* Scope.close(scope, Exit.void)
            yield* subscribe(topic, ({ n }) => Effect.sync(() => void done.push(n)), {
              onExhausted: FailurePolicy.drop
            })
            yield* eventually("the rest is handled", () => done.includes(19))
            expect([...new Set(done)]).toEqual(range(20))
          }).pipe(Effect.scoped, Effect.provide(bus(group)))
        }
      }),
    60_000
  )

  it.scopedLive("that throw, die, interrupt themselves and fail, at random: all are handled in order", () => {
    const topic = orders(topicName(), 2)
    return Effect.gen(function*() {
      const { publishAll, subscribe } = yield* EventBus.EventBus
      const seen = new Map<string, Array<number>>()
      let calls = 0
      yield* subscribe(topic, ({ n }, { aggregateId }) =>
        Effect.gen(function*() {
          switch (calls++ % 11) {
            case 3:
              return yield* Effect.fail("no")
            case 5:
              throw new Error("thrown")
            case 7:
              return yield* Effect.dieMessage("die")
            case 9:
              return yield* Effect.interrupt
          }
          seen.set(aggregateId, [...seen.get(aggregateId) ?? [], n])
        }), {
        onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop }),
        retry: Schedule.spaced("5 millis")
      })
      yield* publishAll(
        topic,
        range(20).flatMap((n) => range(5).map((i) => ({ aggregateId: `a${i}`, payload: { n } })))
      )
      yield* eventually("all are handled", () => range(5).every((i) => seen.get(`a${i}`)?.at(-1) === 19), "40 seconds")
      for (const one of seen.values()) expect([...new Set(one)]).toEqual(range(20))
    }).pipe(Effect.provide(bus()))
  }, 60_000)
})

describe("topics", () => {
  it.scopedLive(
    "that are deleted and made again while they are read, several times: what is in the last one is all handled",
    () => {
      const topic = orders(topicName(), 2)
      return Effect.gen(function*() {
        const { publishAll, subscribe } = yield* EventBus.EventBus
        const seen: Array<string> = []
        yield* subscribe(topic, ({ n }, { aggregateId, maybeDuplicate }) =>
          Effect.gen(function*() {
            yield* Effect.sleep("2 millis")
            if (!maybeDuplicate || !seen.includes(`${aggregateId}:${n}`)) seen.push(`${aggregateId}:${n}`)
          }), { onExhausted: FailurePolicy.drop })
        const events = (round: number) =>
          range(30).flatMap((n) => range(4).map((i) => ({ aggregateId: `a${i}`, payload: { n: round * 1_000 + n } })))
        for (const round of range(4)) {
          if (round > 0) {
            // In the middle of what is being handled.
            yield* eventually(
              "some are handled",
              () => seen.some((one) => one.endsWith(`:${(round - 1) * 1_000 + 3}`)),
              "30 seconds"
            )
            yield* withAdmin(async (admin) => {
              await admin.deleteTopics({ topics: [topic.name] })
              for (let i = 0; i < 200 && (await admin.listTopics()).includes(topic.name); i++) {
                await new Promise((resolve) => setTimeout(resolve, 20))
              }
              await admin.createTopics({ topics: [{ topic: topic.name, numPartitions: [2, 4, 1, 3][round]! }] })
            })
          }
          yield* Effect.retry(
            publishAll(topic, events(round)),
            Schedule.spaced("200 millis").pipe(Schedule.upTo("20 seconds"))
          )
        }
        yield* eventually(
          "the last ones are handled",
          () => range(4).every((i) => seen.includes(`a${i}:3029`)),
          "40 seconds"
        )
        for (const i of range(4)) {
          const own = seen.filter((one) => one.startsWith(`a${i}:`)).map((one) => Number(one.split(":")[1])).filter((
            n
          ) => n >= 3_000)
          expect([...new Set(own)]).toEqual(range(30, 3_000))
        }
      }).pipe(Effect.provide(bus()))
    },
    120_000
  )

  it.scopedLive(
    "with aborted transactions between the messages, and subscriptions that come and go: none is seen, none is missed",
    () => {
      const topic = orders()
      return Effect.gen(function*() {
        const { encode, publish, subscribe } = yield* EventBus.EventBus
        yield* publish(topic, { aggregateId: "a", payload: { n: 0 } })
        const producer = yield* Effect.acquireRelease(
          Effect.promise(async () => {
            const producer = kafka().producer({
              transactionalId: topic.name,
              idempotent: true,
              maxInFlightRequests: 1
            })
            await producer.connect()
            return producer
          }),
          (producer) => Effect.promise(() => producer.disconnect())
        )
        const seen: Array<number> = []
        for (const round of range(4)) {
          yield* Effect.scoped(Effect.gen(function*() {
            yield* subscribe(topic, ({ n }, { maybeDuplicate }) =>
              Effect.sync(() => {
                if (!maybeDuplicate || !seen.includes(n)) seen.push(n)
              }), { onExhausted: FailurePolicy.drop })
            for (const i of range(6)) {
              const n = 1 + round * 6 + i
              const message = yield* encode(topic, { aggregateId: "a", payload: { n: i % 3 === 1 ? -n : n } })
              yield* Effect.promise(async () => {
                const transaction = await producer.transaction()
                await transaction.send({
                  topic: topic.name,
                  messages: [{ key: "a", value: Buffer.from(message.value!) }]
                })
                await (i % 3 === 1 ? transaction.abort() : transaction.commit())
              })
            }
            // The last one of a round is committed, the markers come after it.
            yield* eventually("the round is handled", () => seen.includes(6 + round * 6), "30 seconds")
          }))
        }
        expect(seen).toEqual(range(25).filter((n) => n === 0 || (n - 1) % 3 !== 1))
      }).pipe(Effect.provide(bus()))
    },
    60_000
  )
})
