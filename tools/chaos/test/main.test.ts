import { spawn } from "node:child_process"
import { createRequire } from "node:module"
import { fileURLToPath, pathToFileURL } from "node:url"
import { expect, it } from "vitest"

/** The program in a process of its own, in which something is left behind that would keep it alive. */
const run = (...args: ReadonlyArray<string>) =>
  new Promise<{ readonly code: number | null; readonly out: string; readonly errors: string }>((resolve) => {
    const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href
    const left = `data:text/javascript,${encodeURIComponent("setInterval(() => {}, 1000)")}`
    const main = fileURLToPath(new URL("../src/main.ts", import.meta.url))
    const child = spawn(process.execPath, ["--import", tsx, "--import", left, main, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      timeout: 50_000,
      killSignal: "SIGKILL"
    })
    let [out, errors] = ["", ""]
    child.stdout.on("data", (chunk) => out += chunk)
    child.stderr.on("data", (chunk) => errors += chunk)
    child.on("close", (code) => resolve({ code, out, errors }))
  })

it("ends by itself with its exit code, and has written all, whatever is left behind", async () => {
  const [good, bad] = await Promise.all([
    run("--transport", "memory", "--seconds", "4", "--aggregates", "10", "--json"),
    run("--transport", "pigeons")
  ])
  expect(good.code).toBe(0)
  expect(JSON.parse(good.out)).toMatchObject({ transport: "memory", lost: 0, plainTwice: 0 })
  expect(bad.code).toBe(1)
  expect(bad.errors).toContain("pigeons")
}, 60_000)
