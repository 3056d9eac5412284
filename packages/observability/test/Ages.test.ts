import { expect, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { Ages } from "../src/internal/Ages.js"

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
