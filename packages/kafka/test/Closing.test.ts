import { it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { describe, expect } from "vitest"
import { eventually, finishing, numbered, published, request, shared, spec, transport } from "./Harness.js"

/** Runs a program of its own until it ends by itself. */
const run = (mode: string, topic: string, onLine: (line: string, kill: () => void) => void) =>
  Effect.async<{ readonly code: number | null; readonly lines: ReadonlyArray<string> }>((resume) => {
    const child = spawn(process.execPath, ["--import", "tsx", new URL("child.ts", import.meta.url).pathname], {
      env: { ...process.env, MODE: mode, TOPIC: topic, BROKERS: shared().join(",") },
      stdio: ["ignore", "pipe", "inherit"]
    })
    const lines: Array<string> = []
    let rest = ""
    child.stdout.setEncoding("utf8").on("data", (data: string) => {
      const parts = (rest + data).split("\n")
      rest = parts.pop()!
      for (const line of parts) {
        lines.push(line)
        onLine(line, () => child.kill("SIGKILL"))
      }
    })
    child.on("close", (code) => resume(Effect.succeed({ code, lines })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

describe("closing", () => {
  it.scopedLive("leaves no socket, timer or listener: the process ends by itself", () =>
    Effect.gen(function*() {
      const topic = spec()
      const service = yield* transport()
      yield* published(service, topic, numbered(100))
      let closedAt = 0
      const { code, lines } = yield* run("close", topic.name, (line) => {
        if (line === "closed") closedAt = Date.now()
      }).pipe(Effect.timeout("60 seconds"))
      expect(code).toBe(0)
      expect(lines).toContain("handled 100")
      expect(lines).toContain("timers 0")
      // What would keep it alive does so for longer.
      expect(Date.now() - closedAt).toBeLessThan(4_000)
    }), 120_000)

  it.scopedLive(
    "a process that is killed: another handles the rest, and is told what may come again",
    () =>
      Effect.gen(function*() {
        const topic = spec()
        const service = yield* transport()
        yield* published(service, topic, numbered(100))
        yield* run("crash", topic.name, (line, kill) => {
          if (line === "committed") kill()
        }).pipe(Effect.timeout("60 seconds"))
        const { all, consumer } = finishing()
        yield* service.subscribe(request(topic), consumer)
        yield* eventually("the rest arrives", () => all().length >= 67)
        // The child finished all but every third: what it finished above the watermark is known from the commit.
        expect(all().map(({ offset }) => offset)).toEqual(
          Array.from({ length: 100 }, (_, i) => i).filter((offset) => offset % 3 !== 1)
        )
        expect(all().every(({ maybeDuplicate }) => maybeDuplicate)).toBe(true)
        yield* published(service, topic, numbered(1))
        yield* eventually("the new one arrives", () => all().length === 68)
        expect(all()[67]).toMatchObject({ offset: 100, maybeDuplicate: false })
      }),
    120_000
  )
})
