/** Real processes that live one after the other, on a real broker. */
import * as Effect from "effect/Effect"
import { build } from "esbuild"
import { spawn } from "node:child_process"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

export interface Life {
  readonly handled: ReadonlyArray<number>
  readonly poison: ReadonlyArray<number>
  readonly given: ReadonlyArray<string>
  readonly log: ReadonlyArray<string>
  readonly seconds: number
  readonly signal: string | null
}

/** The program as one file: compiling it for each life would take seconds. */
export const program = Effect.promise(async () => {
  const outfile = join(mkdtempSync(join(tmpdir(), "lives-")), "life.cjs")
  await build({
    entryPoints: [fileURLToPath(new URL("../src/programs/life.ts", import.meta.url))],
    outfile,
    bundle: true,
    platform: "node",
    format: "cjs",
    target: "node20",
    external: ["*.node", "@platformatic/kafka"],
    logLevel: "silent"
  })
  return outfile
})

/** Lives until it dies, or until `until` says so; then it is killed with `signal`. */
export const live = (file: string, args: ReadonlyArray<string>, options: {
  readonly until: (life: Omit<Life, "seconds" | "signal">) => boolean
  readonly signal?: NodeJS.Signals
  /** From the moment on at which it has the partition. */
  readonly atMostMs: number
}) =>
  Effect.async<Life>((resume) => {
    const since = performance.now()
    const child = spawn(process.execPath, [file, ...args], { stdio: ["pipe", "pipe", "inherit"] })
    const life = {
      handled: [] as Array<number>,
      poison: [] as Array<number>,
      given: [] as Array<string>,
      log: [] as Array<string>
    }
    const end = () => child.kill(options.signal ?? "SIGKILL")
    let timer: NodeJS.Timeout | undefined
    let rest = ""
    child.stdout.setEncoding("utf8").on("data", (data: string) => {
      const lines = (rest + data).split("\n")
      rest = lines.pop()!
      for (const line of lines) {
        const [what, offset] = line.split(" ")
        if (what === "assigned") timer = setTimeout(end, options.atMostMs)
        else if (what === "handled") life.handled.push(Number(offset))
        else if (what === "poison") life.poison.push(Number(offset))
        else if (what === "given") life.given.push(line)
        else life.log.push(line)
      }
      if (options.until(life)) end()
    })
    child.on("close", (_, signal) => {
      clearTimeout(timer)
      resume(Effect.succeed({ ...life, seconds: (performance.now() - since) / 1_000, signal }))
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })
