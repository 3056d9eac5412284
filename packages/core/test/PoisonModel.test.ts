import { describe, expect, it } from "@effect/vitest"
import { type Scenario, simulate } from "./poison/simulate.js"

const usual: Scenario = {
  lives: 1_000,
  killedAfter: 10_000,
  rate: 100,
  handler: 20,
  roundTrip: 4,
  restart: 2_000,
  probation: 30_000,
  alone: 10_000,
  seed: 1
}

describe("a message that ends the process", () => {
  it("is started twice and given up in the third life; once more where processes die for other reasons, too", () => {
    const rows: Array<string> = []
    for (const killedAfter of [3_600, 300, 60]) {
      let innocent = 0
      let guilty = 0
      const starts = new Map<number, number>()
      for (let seed = 1; seed <= 5; seed++) {
        const outcome = simulate({
          ...usual,
          lives: 200,
          rate: 2,
          killedAfter: killedAfter * 1_000,
          isPoison: (offset) => offset % 1_000 === 500,
          seed
        })
        innocent += outcome.innocent.length
        guilty += outcome.guilty.length
        const convicted = new Set(outcome.guilty)
        for (const [offset, count] of outcome.starts) {
          if (convicted.has(offset)) starts.set(count, (starts.get(count) ?? 0) + 1)
        }
      }
      const counts = Array.from(starts).sort(([a], [b]) => a - b).map(([count, of]) => `${of} after ${count} starts`)
      rows.push(`killed every ${killedAfter} s: ${guilty} convicted (${counts.join(", ")}), ${innocent} innocents`)
      expect(innocent).toBe(0)
      expect(guilty).toBeGreaterThan(5)
    }
    console.log(rows.join("\n"))
  })
})

describe("lives that end at random moments", () => {
  const seconds = [2, 5, 10, 20, 30, 60, 120]
  const rateOf = (killedAfter: number) => killedAfter > 30 ? 3 : 10

  // The one that is found is the coincidence of the next test.
  it("convict no more than one innocent in 10,000 lives, however often a process is killed", () => {
    const rows: Array<string> = []
    let lives = 0
    let innocent = 0
    for (const killedAfter of seconds) {
      let struck = 0
      let wrong = 0
      let handled = 0
      for (let seed = 1; seed <= 3; seed++) {
        const outcome = simulate({
          ...usual,
          rate: rateOf(killedAfter),
          killedAfter: killedAfter * 1_000,
          seed
        })
        lives += usual.lives
        struck += outcome.struck
        wrong += outcome.innocent.length
        handled += outcome.handled
      }
      innocent += wrong
      rows.push(
        `killed every ${killedAfter} s: 3 × 1,000 lives, ${handled} handled, ${struck} struck, ${wrong} innocents convicted`
      )
    }
    console.log(rows.join("\n"))
    expect(innocent).toBeLessThanOrEqual(lives / 10_000)
  })

  it("can convict one only at their beginning, by a coincidence that looks like poison: in less than 1 % of the cases", () => {
    let begun = 0
    let innocent = 0
    for (const killedAfter of [10, 20, 30, 60, 120]) {
      for (let seed = 1; seed <= 200; seed++) {
        const rate = rateOf(killedAfter)
        const outcome = simulate({ ...usual, rate, lives: 10, killedAfter: killedAfter * 1_000, seed: seed * 104_729 })
        begun++
        innocent += outcome.innocent.length
      }
    }
    console.log(`${begun} beginnings, ${innocent} innocents convicted`)
    expect(innocent).toBeLessThan(begun / 100)
  })
})
