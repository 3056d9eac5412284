import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as BrokerNode from "../src/BrokerNode.js"
import { waitUntil } from "./fixture.js"

/** Notes that it runs, and takes its time to end. */
const program = `echo begun >> "$0"; trap 'echo asked >> "$0"; sleep 0.3; exit 0' TERM; while :; do sleep 0.05; done`

describe("A node", () => {
  it.scopedLive("is started again also where whoever stopped it did not wait for its end", () =>
    Effect.gen(function*() {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "eventbus-node-test-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
      )
      const notes = join(folder, "notes")
      const lines = () => readFileSync(notes, "utf8").split("\n").slice(0, -1)
      const node = yield* BrokerNode.make({
        broker: "nats",
        id: 1,
        address: "127.0.0.1:1",
        folder,
        command: "sh",
        args: ["-c", program, notes],
        probe: Effect.void
      })
      yield* node.start
      yield* waitUntil("it runs", () => lines().length === 1)
      const stopping = yield* Effect.fork(node.stop)
      yield* waitUntil("it is asked to end", () => lines().includes("asked"))
      yield* Fiber.interrupt(stopping)
      yield* node.start
      yield* waitUntil("it runs again", () => lines().filter((line) => line === "begun").length === 2, 5_000)
    }))
})
