import { assert, describe, it } from "@effect/vitest"
import * as Processors from "../src/Processors.js"

describe("Processors", () => {
  it("reads the line of all processors: guests are within user, and waiting for a disk is idle", () => {
    const stat = "cpu  10 1 5 70 4 0 2 8 3 0\ncpu0 5 1 2 30 2 0 1 4 1 0\nintr 1 2 3\n"
    assert.deepStrictEqual(Processors.parse(stat), { idle: 74, stolen: 8, all: 100 })
  })

  it("says nothing where the system tells nothing", () => {
    assert.isUndefined(Processors.parse("intr 1 2 3\n"))
    assert.strictEqual(Processors.describe(undefined), "")
  })

  it("says shares of all time", () =>
    assert.strictEqual(
      Processors.describe({ idle: 0.614, stolen: 0.0126 }),
      "processors 61 % idle, the host took 1.3 %"
    ))
})
