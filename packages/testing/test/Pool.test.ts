import { EventBus, FailurePolicy, MemoryBroker, MemoryTransport, Strategy } from "@effect-eventbus/core"
import { Effect, FiberRef, Layer } from "effect"
import { describe, expect } from "vitest"
import { inBus, newTopic, orDrop, Step, test, withStrategy } from "../src/conformance/Bench.js"
import { isolation } from "../src/conformance/isolation.js"
import { order } from "../src/conformance/order.js"
import { eventually } from "../src/Eventually.js"

const pool = (size: number, capacity?: number) => Strategy.pool({ name: "pool", size, capacity })

const onBroker = MemoryTransport.layerBroker.pipe(
  Layer.provide(Layer.succeed(MemoryBroker.MemoryBroker, Effect.runSync(MemoryBroker.make({}))))
)

const subject = (strategy: Strategy.Service) =>
  withStrategy({ name: "memory", layer: onBroker, strict: onBroker, inProcess: true, strategy })

describe("eight slots that all aggregates share", () => {
  order(subject(pool(8)))
  isolation(subject(pool(8)))
})

const steps = (count: number, aggregates: number, takes = 0) =>
  Array.from({ length: count }, (_, i) => ({
    aggregateId: `order-${i % aggregates}`,
    payload: new Step({ sequence: Math.floor(i / aggregates), fails: 0, dies: 0, takes })
  }))

const mine = FiberRef.unsafeMake("nobody's")

describe("two subscriptions of one bus that share a pool", () => {
  test("each keeps the order of its aggregates, and no slot runs two handlers at once", () =>
    inBus(
      subject(pool(2)).layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const [one, other] = [newTopic("pool-one"), newTopic("pool-other")]
        const seen = new Map<string, Array<number>>()
        let [running, most] = [0, 0]
        const handler =
          (name: string) => ({ sequence }: Step, { aggregateId, attempt }: { aggregateId: string; attempt: number }) =>
            Effect.gen(function*() {
              most = Math.max(most, ++running)
              yield* Effect.sleep(1)
              running--
              if (attempt === 1 && sequence === 3) return yield* Effect.fail("failed")
              if (attempt === 1 && sequence === 5) return yield* Effect.die("died")
              const key = `${name}/${aggregateId}`
              seen.set(key, [...seen.get(key) ?? [], sequence])
            })
        yield* bus.subscribe(one, handler("one"), orDrop)
        yield* bus.subscribe(other, handler("other"), orDrop)
        yield* bus.publishAll(one, steps(80, 10))
        yield* bus.publishAll(other, steps(80, 10))
        yield* eventually("all are handled", () => Array.from(seen.values()).flat().length === 160)
        expect(seen.size).toBe(20)
        for (const sequences of seen.values()) expect(sequences).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
        expect(most).toBe(2)
      })
    ))

  test("what the handlers of one set, or were made with, is not seen by those of the other", () =>
    inBus(
      subject(pool(1)).layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const [one, other] = [newTopic("pool-one"), newTopic("pool-other")]
        const seen: Array<string> = []
        const subscribe = (topic: typeof one, name: string) =>
          bus.subscribe(topic, ({ sequence }, { attempt }) =>
            Effect.gen(function*() {
              seen.push(`${name}: ${yield* FiberRef.get(mine)}`)
              yield* FiberRef.set(mine, "touched")
              if (sequence === 1 && attempt === 1) return yield* Effect.die("died")
            }), { onExhausted: FailurePolicy.drop }).pipe(Effect.locally(mine, `${name}'s`))
        yield* subscribe(one, "one")
        yield* subscribe(other, "other")
        // Alternately, so that the one slot goes from one to the other.
        for (const message of steps(6, 1)) {
          yield* bus.publish(one, message)
          yield* bus.publish(other, message)
        }
        yield* eventually("all are handled", () => seen.length === 14)
        expect(new Set(seen)).toEqual(new Set(["one: one's", "other: other's"]))
      })
    ))

  test("a busy one leaves room in the shared mailboxes for the other", () =>
    inBus(
      subject(pool(2, 4)).layer,
      Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const [busy, quiet] = [newTopic("pool-busy"), newTopic("pool-quiet")]
        let [busyOnes, quietOnes] = [0, 0]
        yield* bus.publishAll(busy, steps(400, 40))
        yield* bus.subscribe(busy, () => Effect.zipRight(Effect.sleep(50), Effect.sync(() => busyOnes++)), orDrop)
        yield* eventually("the busy one is under way", () => busyOnes > 4)
        yield* bus.subscribe(quiet, () => Effect.sync(() => quietOnes++), orDrop)
        yield* bus.publishAll(quiet, steps(10, 10))
        yield* eventually("the quiet one is done", () => quietOnes === 10, "6 seconds")
        expect(busyOnes).toBeLessThan(400)
      }),
      { closeDeadline: "0 millis" }
    ))
})
