/** Members that come and go: with a name that they keep, and killed while others start. */
import type { Transport } from "@effect-eventbus/core"
import { it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Scope } from "effect"
import { describe, expect } from "vitest"
import {
  eventually,
  finishing,
  makeConsumer,
  numbered,
  published,
  request,
  spec,
  topicName,
  transport
} from "./Harness.js"

const ended = (service: Transport.Service, request: Transport.SubscribeRequest, consumer: Transport.Consumer) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope, { _tag: "Sequential" })
    const source = yield* service.subscribe(request, consumer).pipe(Scope.extend(scope))
    return { source, end: Scope.close(scope, Exit.void) }
  })

describe("static members", () => {
  it.scopedLive(
    "one that is started again goes on at once with what it had, and the others notice nothing",
    () =>
      Effect.gen(function*() {
        const topic = spec(topicName(), 4)
        const named = (groupInstanceId: string) =>
          transport({ groupInstanceId, heartbeatInterval: Duration.millis(100) })
        const [first, other] = [yield* named("a"), yield* named("b")]
        yield* published(first, topic, numbered(40, (i) => `k${i}`))
        const before = finishing()
        const { end } = yield* ended(first, request(topic), before.consumer)
        const bystander = finishing()
        yield* other.subscribe(request(topic), bystander.consumer)
        yield* eventually("they share", () => before.open().length === 2 && bystander.open().length === 2)
        const had = before.open().map(({ assignment }) => assignment.partition).sort()
        const lanes = bystander.lanes.length
        yield* end
        const begun = performance.now()
        const after = finishing()
        const again = yield* named("a")
        yield* again.subscribe(request(topic), after.consumer)
        yield* eventually("it has what it had", () => after.open().length === 2)
        // Below the session timeout of 20 s.
        expect(performance.now() - begun).toBeLessThan(15_000)
        expect(after.open().map(({ assignment }) => assignment.partition).sort()).toEqual(had)
        for (const { assignment } of after.open()) {
          const epoch = before.lanes.filter((one) => one.assignment.partition === assignment.partition).at(-1)!
          expect(assignment.epoch).toBeGreaterThan(epoch.assignment.epoch)
        }
        yield* published(other, topic, numbered(40, (i) => `k${i}`))
        const all = () => [...before.all(), ...bystander.all(), ...after.all()]
        yield* eventually("all arrive", () => all().length >= 80)
        expect(all()).toHaveLength(80)
        expect(all().some(({ maybeDuplicate }) => maybeDuplicate)).toBe(false)
        expect(bystander.lanes).toHaveLength(lanes)
      }),
    40_000
  )

  it.scopedLive("of two with one name the first one ends for good, and says so", () =>
    Effect.gen(function*() {
      const topic = spec()
      const named = transport({ groupInstanceId: "a", heartbeatInterval: Duration.millis(100) })
      const [one, two] = [finishing(), finishing()]
      const first = yield* (yield* named).subscribe(request(topic), one.consumer)
      const failed = yield* Effect.fork(Effect.flip(first.failed!))
      yield* (yield* named).subscribe(request(topic), two.consumer)
      const error = yield* Fiber.join(failed).pipe(Effect.timeout("15 seconds"))
      expect(error).toMatchObject({ _tag: "InvalidConfiguration" })
      expect(error.message).toContain("groupInstanceId")
      expect(one.open()).toEqual([])
      expect(two.open()).toHaveLength(1)
    }), 40_000)
})

describe("the status of a source", () => {
  it.scopedLive("says where each partition stands", () =>
    Effect.gen(function*() {
      const topic = spec(topicName(), 2)
      const service = yield* transport()
      yield* published(service, topic, numbered(10))
      const consumer = makeConsumer()
      const source = yield* service.subscribe(request(topic), consumer.consumer)
      yield* eventually("they arrive", () => consumer.all().length === 10)
      const held = consumer.lanes.find(({ taken }) => taken.length > 0)!
      for (const one of held.taken.slice(0, 4)) held.assignment.finish(one)
      const { isConnected, partitions, problems } = yield* source.status!
      expect(isConnected).toBe(true)
      expect(problems).toEqual([])
      expect(partitions).toHaveLength(2)
      const { epoch, partition } = held.assignment
      const own = partitions.find((one) => one.partition === partition)!
      expect(own).toMatchObject({ topic: topic.name, epoch, position: 10, watermark: 4, end: 10 })
      expect(Math.abs(own.movedAt - Date.now())).toBeLessThan(20_000)
      expect(partitions.find((one) => one.partition !== partition)).toMatchObject({ position: 0, watermark: 0 })
    }), 30_000)
})
