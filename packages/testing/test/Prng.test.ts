import { Prng } from "@effect-eventbus/testing"
import { expect, it } from "@effect/vitest"

it("draws the known numbers of mulberry32 from a seed", () => {
  const { chance, next } = Prng.make(1)
  expect([next(), next(), next()].map((n) => n * 2 ** 32)).toEqual([2_693_262_067, 11_749_833, 2_265_367_787])
  // No number is drawn where nothing can happen.
  const other = Prng.make(1)
  expect(other.chance(0)).toBe(false)
  expect(other.next() * 2 ** 32).toBe(2_693_262_067)
  expect(chance(1)).toBe(true)
})
