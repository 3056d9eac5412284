import { ChurningMap } from "@effect-eventbus/core/ChurningMap"
import { it } from "@effect/vitest"
import * as fc from "effect/FastCheck"
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { describe, expect } from "vitest"

describe("ChurningMap", () => {
  it("answers as Map does, in the same order, however often entries come and go", () => {
    const step = fc.tuple(fc.constantFrom("set", "delete", "clear", "drain"), fc.nat(20), fc.nat(2_000))
    fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const map = new ChurningMap<number, number>()
      const model = new Map<number, number>()
      for (const [what, key, times] of steps) {
        if (what === "clear") {
          map.clear()
          model.clear()
        } else if (what === "drain") {
          // Enough for new chains to begin, with something left and with nothing.
          for (let i = 0; i < times; i++) {
            map.set(-1, i)
            map.delete(-1)
          }
          model.delete(-1)
        } else if (what === "set") {
          map.set(key, times)
          model.set(key, times)
        } else expect(map.delete(key)).toBe(model.delete(key))
        expect(map.has(key)).toBe(model.has(key))
        expect(map.get(key)).toBe(model.get(key))
        expect(map.size).toBe(model.size)
        expect([...map.keys()]).toEqual([...model.keys()])
        expect([...map.values()]).toEqual([...model.values()])
      }
    }))
  })

  it("lets what stood in it die young, where V8's map keeps it until a full collection", () => {
    setFlagsFromString("--expose-gc")
    const gc = runInNewContext("gc") as (options?: { readonly type: "minor" }) => void
    const old = () => getHeapSpaceStatistics().find(({ space_name }) => space_name === "old_space")!.space_used_size
    /** Bytes that grow old while 20,000 entries come and go, 100 at a time, through a map that is old itself. */
    const aged = (map: ChurningMap<number, object> | Map<number, object>) => {
      for (let i = -100; i < 0; i++) map.set(i, { i })
      gc()
      gc()
      for (let i = -100; i < 0; i++) map.delete(i)
      const before = old()
      for (let i = 0; i < 20_000; i++) {
        map.set(i, { text: Array.from({ length: 20 }, (_, n) => n + i) })
        if (i >= 100) map.delete(i - 100)
        if (i % 1_000 === 0) gc({ type: "minor" })
      }
      return old() - before
    }
    const ofMap = aged(new Map())
    expect(ofMap).toBeGreaterThan(1_000_000)
    expect(aged(new ChurningMap())).toBeLessThan(ofMap / 3)
  })
})
