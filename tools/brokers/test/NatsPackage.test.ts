import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as NatsPackage from "../src/NatsPackage.js"

it.effect("a version that can be asked for is one of the two lines, or an exact one", () =>
  Effect.gen(function*() {
    for (const text of ["2.15", "2.9", "2.11.3"]) expect(yield* NatsPackage.versionOf(text)).toBe(text)
    for (const text of ["", "2.11", "latest", "v2.11.3", "2.11.3-RC.1"]) {
      expect((yield* Effect.flip(NatsPackage.versionOf(text))).message).toContain("no version of nats-server")
    }
  }))

it("a server on the PATH is taken for the version that it is", () => {
  expect(NatsPackage.isOf("2.15")("nats-server: v2.15.2\n")).toBe(true)
  expect(NatsPackage.isOf("2.11.3")("nats-server: v2.11.3\n")).toBe(true)
  expect(NatsPackage.isOf("2.11.3")("nats-server: v2.11.30\n")).toBe(false)
  expect(NatsPackage.isOf("2.1")("nats-server: v2.15.2\n")).toBe(false)
})
