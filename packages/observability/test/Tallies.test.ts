import { expect, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { Ages } from "../src/internal/Ages.js"
import { Durations, Tally } from "../src/internal/Tallies.js"

const sorted = (values: ReadonlyArray<number>) => Array.from(values).sort((a, b) => a - b)

it("what is gathered is given on once, each value as often as it came", () => {
  const counted: Array<number> = []
  const tally = new Tally((value) => counted.push(value))
  tally.flush()
  for (let i = 0; i < 3; i++) tally.add()
  tally.flush()
  tally.flush()
  expect(counted).toEqual([3])

  const millis = fc.oneof(fc.integer({ min: -5, max: 300 }), fc.double({ min: 0, max: 400, noNaN: true }))
  fc.assert(fc.property(fc.array(millis, { maxLength: 50 }), (values) => {
    const seen: Array<number> = []
    const durations = new Durations((value) => seen.push(value))
    for (const value of values) durations.add(value)
    durations.flush()
    durations.flush()
    for (const value of values) durations.add(value)
    durations.flush()
    expect(sorted(seen)).toEqual(sorted([...values, ...values].map((value) => value / 1000)))
  }))
})

it("not more than about a thousand values are kept back", () => {
  let seen = 0
  const durations = new Durations(() => seen++)
  for (let i = 0; i < 10_000; i++) {
    durations.add(i % 7)
    expect(i - seen).toBeLessThan(1_024)
  }
})

it("the oldest age is that of a plain list, however the clock goes", () => {
  const step = fc.record({
    passes: fc.oneof(fc.integer({ min: 0, max: 3_000 }), fc.integer({ min: -90_000, max: 200_000 })),
    adds: fc.nat(3),
    removes: fc.array(fc.nat(20), { maxLength: 3 })
  })
  fc.assert(fc.property(fc.integer({ min: -100_000, max: 1e13 }), fc.array(step, { maxLength: 40 }), (start, all) => {
    const ages = new Ages()
    const list: Array<number> = []
    let now = start
    for (const { adds, passes, removes } of all) {
      now += passes
      for (let i = 0; i < adds; i++) {
        list.push(now)
        ages.add(now)
      }
      for (const at of removes) {
        const [since] = list.splice(at, 1)
        if (since !== undefined) ages.remove(since)
      }
      const first = Math.min(...list.map((since) => Math.floor(since / 1000)))
      expect(ages.oldest(now)).toBe(list.length === 0 ? 0 : Math.max(0, Math.floor(now / 1000) - first))
    }
  }))
})
