import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { processesWith, waitUntil } from "./fixture.js"

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url))

/** `npm run brokers` with its temporary folders below one of the test's own. */
const running = Effect.acquireRelease(
  Effect.sync(() => {
    const temporary = mkdtempSync(join(tmpdir(), "orphans-"))
    const child = spawn(process.execPath, ["--import", "tsx", main], {
      env: {
        ...process.env,
        TMPDIR: temporary,
        TEST_KAFKA_BROKERS: "",
        TEST_NATS_SERVERS: ""
      },
      stdio: ["ignore", "pipe", "inherit"]
    })
    const state = { output: "", exit: undefined as number | string | null | undefined }
    child.stdout.on("data", (chunk) => state.output += String(chunk))
    child.once("exit", (code, signal) => state.exit = signal ?? code)
    return { child, state, temporary }
  }),
  ({ child, temporary }) =>
    Effect.sync(() => {
      child.kill("SIGKILL")
      rmSync(temporary, { recursive: true, force: true })
    })
)

/** tsx keeps a folder of its own there. */
const brokerFolders = (temporary: string) => readdirSync(temporary).filter((name) => name.startsWith("eventbus-"))

const endsBy = (signal: "SIGKILL" | "SIGTERM") =>
  Effect.gen(function*() {
    const { child, state, temporary } = yield* running
    yield* waitUntil("brokers", () => {
      if (state.exit !== undefined) throw new Error(`it ended with ${state.exit} instead`)
      return state.output.includes("export TEST_NATS_SERVERS=")
    }, 200_000)
    assert.lengthOf(brokerFolders(temporary), 2)
    assert.isAtLeast(processesWith(temporary).length, 4)
    child.kill(signal)
    yield* waitUntil(
      "nothing left",
      () => brokerFolders(temporary).length === 0 && processesWith(temporary).length === 0
    )
    yield* waitUntil("its exit", () => state.exit !== undefined)
    return state.exit
  }).pipe(Effect.scoped)

describe("Orphans", () => {
  it.live(
    "SIGKILL of the parent leaves no process and no folder",
    () => Effect.map(endsBy("SIGKILL"), (exit) => assert.strictEqual(exit, "SIGKILL")),
    240_000
  )

  it.live("SIGTERM ends in order", () => Effect.map(endsBy("SIGTERM"), (exit) => assert.strictEqual(exit, 0)), 240_000)
})
