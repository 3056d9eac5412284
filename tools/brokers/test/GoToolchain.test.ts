import { describe, expect, it } from "@effect/vitest"
import * as GoToolchain from "../src/GoToolchain.js"

describe("GoToolchain", () => {
  it.each([
    ["go version go1.26.8 linux/amd64", true],
    ["go version go1.26rc1 linux/arm64", true],
    ["go version go2.0 linux/amd64", true],
    ["go version go1.25.9 linux/amd64", false],
    ["go version go1.19.8 linux/amd64", false],
    ["go: command not found", false]
  ])("takes what can build nats-server 2.15: %s → %s", (output, suffices) => {
    expect(GoToolchain.suffices(output)).toBe(suffices)
  })
})
