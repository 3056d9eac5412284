import { describe, expect, it } from "vitest"
import * as Letters from "../src/Letters.js"
import { log } from "./log.js"

const ofPatient = (text: string) => log(text).map((entry) => ({ ...entry, aggregate: "patient-1" }))

const span = { from: 0, to: 100e9 }

describe("the letters of a chaos run", () => {
  it("counts messages that became letters, those that did so again, and those that were handled then", () => {
    const entries = ofPatient("a:F0=1 a:S1=2 a:T1=3 a:K1=4 a:K2=5 a:S1=6 a:K1=7 b:S1=8 b:F1=9")
    expect(Letters.count(entries, span)).toMatchObject({ parked: 2, again: 1, released: 1, strangersRate: 0 })
  })

  it("takes the rate and the waits of strangers, each event once", () => {
    const entries = log("P0=1 P1=1 a:F0=2 a:F1=5 b:F1=9")
    expect(Letters.count(entries, { from: 0, to: 10e9 })).toMatchObject({
      parked: 0,
      strangersRate: 0,
      strangersP50: 4_000,
      strangersP99: 4_000
    })
    expect(Letters.count(entries, { from: 1e9, to: 3e9 }).strangersP50).toBe(1_000)
  })

  it("adds what each of the living said last", () => {
    const entries = log("a:L7=1 a:L2=3 b:L5=2 c:L9=1")
    expect(Letters.left(entries, [{ name: "a" }, { name: "b" }, { name: "d" }])).toBe(7)
  })
})
