import { describe, expect, it } from "vitest"
import { judge } from "../src/Judge.js"
import type { Entry, Kind } from "../src/Log.js"

/** A log in short: `"P0 a:S0 a:F0"` is published 0, then started and finished in process a. */
const log = (text: string): ReadonlyArray<Entry> =>
  text.split(" ").map((word, i) => {
    const [, process, kind, sequence, epoch] = /^(?:(\w+):)?([A-Z])(\d+)(?:@(\d+))?$/.exec(word)!
    return {
      kind: kind as Kind,
      at: BigInt(i),
      process: process ?? "publisher",
      aggregate: "order-1",
      sequence: Number(sequence),
      epoch: Number(epoch ?? 1),
      maybeDuplicate: false
    }
  })

const verdict = (text: string, outages: Parameters<typeof judge>[1] = []) => {
  const { duplicates, handled, lost, overlaps, violations } = judge(log(text), outages)
  return { handled, lost, duplicates, violations, overlaps }
}

const fine = { lost: 0, duplicates: 0, violations: 0, overlaps: 0 }

describe("the judge of a chaos run", () => {
  it("finds nothing wrong with order, retries and followers", () => {
    expect(verdict("P0 P1 a:S0 a:T0 a:S0 a:F0 a:S1 a:F1")).toEqual({ ...fine, handled: 2 })
  })

  it("counts what was published and never finished as lost", () => {
    expect(verdict("P0 P1 a:S0 a:F0")).toEqual({ ...fine, handled: 1, lost: 1 })
  })

  it("sees a start before the message before it was finished", () => {
    expect(verdict("P0 P1 a:S1 a:F1 a:S0 a:F0").violations).toBeGreaterThan(0)
  })

  it("lets an aggregate step back in another process, or another epoch, and counts it", () => {
    expect(verdict("P0 P1 a:S0 a:F0 a:S1 a:F1 b:S0 b:F0 b:S1 b:F1")).toEqual({ ...fine, handled: 2, duplicates: 2 })
    expect(verdict("P0 P1 a:S0@1 a:F0@1 a:S1@1 a:F1@1 a:S0@2 a:F0@2")).toEqual({ ...fine, handled: 2, duplicates: 1 })
  })

  it("sees a step back within one process and one epoch", () => {
    expect(verdict("P0 P1 a:S0 a:F0 a:S1 a:F1 a:S0 a:F0")).toMatchObject({ violations: 1 })
  })

  it("sees two handlers of one aggregate at once, unless one of the processes was dead or suspended", () => {
    expect(verdict("P0 a:S0 b:S0 a:F0 b:F0")).toMatchObject({ overlaps: 1 })
    expect(verdict("P0 a:S0 b:S0 b:F0", [{ process: "a", from: 2n, to: 100n }])).toMatchObject({ overlaps: 0 })
  })

  it("sees a plain message that was handled twice, and those that were not", () => {
    const result = judge(log("Q0 Q1 Q2 a:O0 b:O0 a:O1"), [])
    expect(result).toMatchObject({ plainPublished: 3, plainTwice: 1, plainLost: 1 })
  })
})
