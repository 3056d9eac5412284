import { OrderChecker } from "@effect-eventbus/core"
import { expect, it } from "@effect/vitest"
import { Effect, FastCheck as fc, Metric } from "effect"

const at = (aggregateId: string, offset: number, epoch = 1, partition = 0) => ({
  topic: "orders",
  group: "group",
  aggregateId,
  offset,
  epoch,
  partition
})

it("lets ascending offsets, retries and a step back in a new epoch pass, and nothing else", () => {
  const { start } = OrderChecker.make()
  expect([start(at("a", 3)), start(at("a", 3)), start(at("b", 1)), start(at("a", 7))]).toEqual([true, true, true, true])
  expect(start(at("a", 5))).toBe(false)
  expect(start(at("a", 8))).toBe(true)
  expect(start(at("a", 2, 2))).toBe(true)
  expect(start(at("a", 1, 2))).toBe(false)
})

it("never reports what is in order, and sees a step back of what it remembers", () =>
  fc.assert(fc.property(fc.array(fc.nat(500), { minLength: 1 }), fc.integer({ min: 1, max: 4 }), (ids, capacity) => {
    const checker = OrderChecker.make({ aggregatesPerShard: capacity })
    ids.forEach((id, offset) => expect(checker.start(at(`order-${id}`, offset + 1))).toBe(true))
    expect(checker.size()).toBeLessThanOrEqual(256 * capacity)
    // The newest one is remembered.
    expect(checker.start(at(`order-${ids[ids.length - 1]}`, 0))).toBe(false)
  })))

it("forgets the aggregate that was still for the longest, and keeps its memory bounded", () => {
  const checker = OrderChecker.make({ aggregatesPerShard: 2 })
  for (let i = 0; i < 10_000; i++) checker.start(at(`order-${i}`, i))
  expect(checker.size()).toBe(512)
  expect(checker.start(at("order-0", -1))).toBe(true)
})

it.effect("counts as a metric", () =>
  Effect.gen(function*() {
    const handler = OrderChecker.observe(OrderChecker.make())(() => Effect.void)
    const before = yield* Metric.value(OrderChecker.violations)
    for (const offset of [1, 2, 1]) yield* handler(undefined, at("a", offset) as never)
    expect((yield* Metric.value(OrderChecker.violations)).count).toBe(before.count + 1)
  }))
