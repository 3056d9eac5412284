import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import { setTimeout } from "node:timers/promises"

/** Polls until the condition holds; fails at the deadline. */
export const waitUntil = (what: string, condition: () => boolean | Promise<boolean>, millis = 60_000) =>
  Effect.promise(async () => {
    const deadline = performance.now() + millis
    while (!(await condition())) {
      if (performance.now() > deadline) throw new Error(`${what}: not within ${millis} ms`)
      await setTimeout(25)
    }
  })

/** The command lines of all running processes that mention the text. */
export const processesWith = (text: string) =>
  execFileSync("ps", ["-eo", "pid,args"], { encoding: "utf8" })
    .split("\n")
    .filter((line) => line.includes(text))
