import { EventBus, FailurePolicy, MemoryTransport, Topic } from "@effect-eventbus/core"
import { Faults, Prng, VirtualTime } from "@effect-eventbus/testing"
import { expect, it } from "@effect/vitest"
import { Effect, Either, Layer, Logger, LogLevel, Random, Schema } from "effect"

class Placed extends Schema.TaggedClass<Placed>()("Placed", { n: Schema.Int }) {}
const Orders = Topic.envelope("orders", Placed, { partitions: 1 })

/** Publishes 100 orders one by one under faults, in virtual time, and answers what was handled and what was counted. */
const run = (options: Omit<Faults.Options, "seed">, seed = 1) => {
  const transport = MemoryTransport.layer().pipe(Faults.layer({ ...options, seed }))
  return Effect.runPromise(VirtualTime.run(
    Effect.scoped(Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { counts } = yield* Faults.Faults
      const handled: Array<string> = []
      const outcomes: Array<string> = []
      yield* bus.subscribe(
        Orders,
        ({ n }, { maybeDuplicate }) => Effect.sync(() => void handled.push(maybeDuplicate ? `${n} again` : `${n}`)),
        { onExhausted: FailurePolicy.drop }
      )
      for (let n = 0; n < 100; n++) {
        const result = yield* Effect.either(
          bus.publish(Orders, { aggregateId: `a${n % 5}`, payload: new Placed({ n }) })
        )
        outcomes.push(Either.isRight(result) ? "written" : String((result.left as { outcome?: string }).outcome))
      }
      yield* Effect.sleep("10 seconds")
      return { handled, outcomes, counts: { ...counts } }
    })).pipe(
      Effect.provide(Layer.provideMerge(EventBus.layer, transport)),
      Logger.withMinimumLogLevel(LogLevel.None)
    ),
    { seed, yieldRate: 0.05 }
  ))
}

const many = (outcomes: ReadonlyArray<string>, outcome: string) => outcomes.filter((one) => one === outcome).length

it("draws the known numbers of mulberry32 from a seed", () => {
  const { chance, next } = Prng.make(1)
  expect([next(), next(), next()].map((n) => Math.round(n * 2 ** 32))).toEqual([
    2_693_262_067,
    11_749_833,
    2_265_367_787
  ])
  expect(chance(0)).toBe(false)
  expect(next()).toBe(Prng.make(1 + 3 * 0x6d2b79f5 | 0).next())
})

it("publishes everything where no fault is asked for", async () => {
  const { counts, handled, outcomes } = await run({})
  expect(many(outcomes, "written")).toBe(100)
  expect(handled).toHaveLength(100)
  expect(Object.values(counts).every((count) => count === 0)).toBe(true)
})

it("refuses messages, which are not written then", async () => {
  const { counts, handled, outcomes } = await run({ failPublish: 0.3 })
  expect(many(outcomes, "not-written")).toBe(counts.failedPublishes)
  expect(counts.failedPublishes).toBeGreaterThan(10)
  expect(handled).toHaveLength(100 - counts.failedPublishes)
})

it("loses receipts of messages that are written", async () => {
  const { counts, handled, outcomes } = await run({ loseReceipt: 0.3 })
  expect(many(outcomes, "unknown")).toBe(counts.lostReceipts)
  expect(counts.lostReceipts).toBeGreaterThan(10)
  expect(handled).toHaveLength(100)
})

it("hands messages over twice, the second time as a possible duplicate", async () => {
  const { counts, handled } = await run({ duplicate: 0.3 })
  expect(counts.duplicates).toBeGreaterThan(10)
  expect(handled).toHaveLength(100 + counts.duplicates)
  expect(handled.filter((one) => one.endsWith("again"))).toHaveLength(counts.duplicates)
})

it("delays, and loses nothing", async () => {
  const late = { rate: 0.3, max: 50 }
  const { counts, handled } = await run({ delayPublish: late, delayDelivery: late })
  expect(counts.delays).toBeGreaterThan(10)
  expect(handled).toHaveLength(100)
})

it("repeats a run from its seed, and makes another one from another seed", async () => {
  const faults = { failPublish: 0.1, loseReceipt: 0.1, duplicate: 0.1, delayDelivery: { rate: 0.2, max: 30 } }
  const once = await run(faults, 7)
  expect(await run(faults, 7)).toEqual(once)
  expect(await run(faults, 8)).not.toEqual(once)
})

it("lets handlers fail and die, before or after their work", async () => {
  let worked = 0
  const handle = Faults.handler({ seed: 1, fail: 0.4, die: 0.2 })(() => Effect.sync(() => void worked++))
  const ends = { Success: 0, Fail: 0, Die: 0 }
  for (let i = 0; i < 200; i++) {
    const exit = await Effect.runPromiseExit(handle(undefined, undefined))
    if (exit._tag === "Success") ends.Success++
    else if (exit.cause._tag === "Fail" || exit.cause._tag === "Die") ends[exit.cause._tag]++
  }
  expect(Math.min(ends.Success, ends.Fail, ends.Die)).toBeGreaterThan(20)
  expect(worked).toBeGreaterThan(ends.Success + 20)
  expect(worked).toBeLessThan(180)
})

it("lets a day pass at once, in turns and random numbers that depend on the seed", async () => {
  const program = Effect.gen(function*() {
    const log: Array<string> = []
    yield* Effect.forEach(
      ["a", "b", "c"],
      (name) =>
        Effect.gen(function*() {
          for (let i = 0; i < 10; i++) {
            log.push(`${name}${i} ${yield* Random.nextIntBetween(0, 100)}`)
            yield* Effect.sleep("1 hours")
          }
        }),
      { concurrency: "unbounded" }
    )
    return log.join()
  })
  const once = (seed: number) => Effect.runPromise(VirtualTime.run(program, { seed, yieldRate: 0.1 }))
  expect(await once(3)).toBe(await once(3))
  expect(await once(3)).not.toBe(await once(4))
})
