import { describe, expect, it } from "vitest"
import type { Outage } from "../src/Circumstances.js"
import * as Figures from "../src/Figures.js"
import { Progress } from "../src/Progress.js"
import { log } from "./log.js"

const killed = (process: string, second: number): Outage => ({
  process,
  from: second * 1e9,
  to: Number.POSITIVE_INFINITY,
  why: "kill"
})

describe("the figures of a chaos run", () => {
  it("counts what was finished in a span", () => {
    expect(Figures.rate(log("a:S0=0 a:F0=1 a:F1=2 a:T2=3 a:F2=4"), { from: 1e9, to: 3e9 })).toBe(1)
  })

  it("takes the longest time in which nothing was finished, the edges included", () => {
    const span = { from: 0, to: 10e9 }
    expect(Figures.longestPauseMs(log("a:F0=1 a:F1=3 a:F2=8"), span)).toBe(5_000)
    expect(Figures.longestPauseMs(log("a:F0=1 a:F1=3 a:F2=5"), span)).toBe(5_000)
    expect(Figures.longestPauseMs(log("a:S0=1"), span)).toBe(10_000)
  })

  it("times a recovery until the last partition of the dead one goes on, elsewhere", () => {
    const entries = log("a:S0#0=1 a:S1#1=1 b:S2#2=1 a:S1#1=3.1 b:S3#2=4 b:S0#0=5 c:S1#1=7 c:S4#1=9")
    expect(Figures.recoveriesMs(entries, [killed("a", 3)])).toEqual([4_000])
  })

  it("leaves out partitions in which nothing goes on, and stops that are no kills", () => {
    const entries = log("a:S0#0=1 a:S1#1=1 b:S0#0=5")
    expect(Figures.recoveriesMs(entries, [killed("a", 3)])).toEqual([2_000])
    expect(Figures.recoveriesMs(entries, [{ ...killed("a", 3), why: "end" }])).toEqual([])
    expect(Figures.recoveriesMs(log("a:S0=1"), [killed("a", 3)])).toEqual([])
  })

  it("follows one kill after the other", () => {
    const entries = log("a:S0=1 b:S1=4 c:S2=9")
    expect(Figures.recoveriesMs(entries, [killed("b", 6), killed("a", 2)])).toEqual([2_000, 3_000])
  })
})

describe("the progress of a chaos run", () => {
  it("counts what is published and not finished, each event once and in whichever order it is heard of", () => {
    const progress = new Progress()
    progress.add(log("P0 P1 a:S0 a:F0 b:F0 a:F2"))
    expect(progress).toMatchObject({ published: 2, handled: 2, outstanding: 1, finishes: 3 })
    progress.add(log("P2 a:F1"))
    expect(progress).toMatchObject({ published: 3, handled: 3, outstanding: 0 })
  })
})
