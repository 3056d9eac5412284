import { describe, expect, it } from "vitest"
import { calm, type Circumstances, type Outage } from "../src/Circumstances.js"
import { judge } from "../src/Judge.js"
import type { Kind } from "../src/Log.js"
import { log } from "./log.js"

const verdict = (text: string, circumstances: Partial<Circumstances> = {}) => {
  const { duplicates, handled, lost, overlaps, violations } = judge(log(text), { ...calm, ...circumstances })
  return { handled, lost, duplicates, violations, overlaps }
}

const late = (text: string, circumstances: Partial<Circumstances> = {}) => {
  const { excess, oldestDuplicateMs } = judge(log(text), { ...calm, unconfirmed: 2e9, session: 2e9, ...circumstances })
  return { late: excess, oldestDuplicateMs }
}

const outage = (process: string, from: number, to: number, why: Outage["why"]): Outage => ({
  process,
  from: from * 1e9,
  to: to * 1e9,
  why
})

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
    expect(verdict("P0 a:S0 b:S0 b:F0", { outages: [outage("a", 2, 100, "kill")] })).toMatchObject({ overlaps: 0 })
    // One that the machine did not let run was suspended, too.
    expect(verdict("P0=0 a:S0=1 b:S0=2 b:F0=3 a:W1500=3")).toMatchObject({ overlaps: 0 })
    expect(verdict("P0=0 a:S0=1 b:S0=2 b:F0=3 a:W500=3")).toMatchObject({ overlaps: 1 })
    // A network that is cut excuses nobody: whoever is not heard has to stop before another one starts.
    expect(verdict("P0 a:S0 b:S0 b:F0", { disturbances: [{ from: 0, to: 100e9 }] })).toMatchObject({ overlaps: 1 })
  })

  it("sees a plain message that was handled twice, and those that were not", () => {
    const result = judge(log("Q0 Q1 Q2 a:O0 b:O0 a:O1"), calm)
    expect(result).toMatchObject({ plainPublished: 3, plainTwice: 1, plainLost: 1 })
  })

  it("takes an event of which the publishing was unknown for two of the broker, and for nothing else", () => {
    expect(judge(log("U0 P0 a:S0 a:F0 a:S0 a:F0"), calm)).toMatchObject({ excess: 0, violations: 0 })
    expect(judge(log("P0 a:S0 a:F0 a:S0 a:F0"), calm)).toMatchObject({ violations: 1 })
  })

  it("sees a duplicate that does not say so", () => {
    expect(judge(log("P0 a:S0@1 a:F0@1 a:S0@2 a:F0@2"), calm)).toMatchObject({ duplicates: 1, announced: 0, excess: 1 })
    expect(judge(log("P0 a:S0@1 a:F0@1 a:S0@2? a:F0@2"), calm)).toMatchObject({
      duplicates: 1,
      announced: 1,
      excess: 0
    })
  })

  it("sees duplicates of what was finished long before its owner was killed", () => {
    const again = "a:F0=1 b:S0?=10"
    expect(late(again, { outages: [outage("a", 2, 1e9, "kill")] })).toEqual({ late: 0, oldestDuplicateMs: 1_000 })
    expect(late(again, { outages: [outage("a", 5, 1e9, "kill")] })).toEqual({ late: 1, oldestDuplicateMs: 4_000 })
  })

  it("reckons with a suspension, with faults of brokers and network, and with a session that was lost", () => {
    expect(late("a:F0=1 a:F1=8 b:S0?=10")).toEqual({ late: 1, oldestDuplicateMs: 5_000 })
    expect(late("a:F0=1 a:F1=4 b:S0?=10")).toEqual({ late: 0, oldestDuplicateMs: 1_000 })
    expect(late("a:F0=1 a:F1=8 b:S0?=10", { outages: [outage("a", 2, 7, "suspend")] }).late).toBe(0)
    expect(late("a:F0=1 a:F1=8 b:S0?=10", { disturbances: [{ from: 0, to: 2e9 }] })).toEqual({
      late: 0,
      oldestDuplicateMs: 0
    })
    // One that was over before, or came after, explains nothing.
    expect(late("a:F0=4 a:F1=9 b:S0?=10", { disturbances: [{ from: 0, to: 2e9 }] }).late).toBe(1)
    expect(late("a:F0=1 a:F1=8 b:S0?=10", { disturbances: [{ from: 11e9, to: 12e9 }] }).late).toBe(1)
  })

  it("takes what an owner said in a later epoch for no word of the one that ended", () => {
    expect(late("a:F0@1=1 a:F1@1=2 a:F2@2=9 a:S0@2?=10")).toEqual({ late: 0, oldestDuplicateMs: 0 })
    expect(late("a:F0@1=1 a:F1@1=8 a:S0@2?=10")).toEqual({ late: 1, oldestDuplicateMs: 5_000 })
  })

  it("knows parking: the order of an aggregate goes on where it was parked, in whichever process and epoch, and what is a letter is not lost", () => {
    expect(verdict("P0 P1 P2 a:S0 a:T0 a:K0 a:K1 a:K2 b:S0@2? b:F0@2 b:S1@2? b:F1@2 b:S2@2? b:F2@2")).toEqual({
      ...fine,
      handled: 3
    })
    // Released and parked again.
    expect(verdict("P0 P1 a:S0 a:T0 a:K0 a:S0 a:T0 a:K0 a:K1 a:S0 a:F0 a:S1 a:F1")).toEqual({ ...fine, handled: 2 })
    // A follower that overtakes a letter, a letter that nobody releases, and one that is handled twice by the same owner.
    expect(verdict("P0 P1 a:S0 a:T0 a:K0 a:S1 a:F1 a:S0 a:F0").violations).toBeGreaterThan(0)
    expect(verdict("P0 P1 a:S0 a:T0 a:K0 a:K1")).toMatchObject({ lost: 2 })
    expect(verdict("P0 P1 a:S0 a:T0 a:K0 a:S0 a:F0 a:S1 a:F1 a:S0 a:F0")).toMatchObject({ violations: 1 })
  })

  it("knows every kind of entry", () => {
    const kinds: ReadonlyArray<Kind> = ["S", "F", "T", "I", "P", "U", "O", "Q", "W", "K", "L"]
    expect(() => judge(kinds.flatMap((kind) => log(`a:${kind}0`)), calm)).not.toThrow()
  })
})
