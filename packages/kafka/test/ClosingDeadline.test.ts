import { expect, it } from "vitest"
import { Closing } from "../src/internal/Closing.js"

const of = () => {
  const clock = { at: 0 }
  return { clock, closing: new Closing(() => clock.at, 5_000) }
}

it("what closes while others do shares their deadline, and what comes after one that used its time up has next to none", () => {
  const { clock, closing } = of()
  closing.begin()
  clock.at = 3_000
  closing.begin()
  expect(closing.leftMs).toBe(2_000)
  clock.at = 5_000
  closing.end()
  closing.end()
  for (let i = 0; i < 10; i++) {
    closing.begin()
    expect(closing.leftMs).toBe(25)
    clock.at += closing.leftMs
    closing.end()
  }
})

it("what closes later, or after one that was done in time, has a deadline of its own", () => {
  const { clock, closing } = of()
  closing.begin()
  clock.at = 10
  closing.end()
  closing.begin()
  expect(closing.leftMs).toBe(5_000)
  clock.at = 6_000
  closing.end()
  clock.at = 12_000
  closing.begin()
  expect(closing.leftMs).toBe(5_000)
})
