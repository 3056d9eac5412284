import { Oracles } from "@effect-eventbus/testing"
import { expect } from "@effect/vitest"
import { Effect, FastCheck as fc } from "effect"
import * as Schedule from "./Schedule.js"

/** Of the random schedules. A test's name has it, and `TEST_MODEL_SEED` repeats it. */
export const seed = Number(process.env.TEST_MODEL_SEED ?? Date.now() % 2 ** 31)

/**
 * Runs so many random schedules, in each of which the oracles must find nothing, and prints what they amount to. `count` counts what is
 * particular to them.
 */
export const judged = async (
  name: string,
  schedules: typeof Schedule.schedule,
  runs: number,
  count: (schedule: Schedule.Schedule, add: (what: string, number: number) => void) => void
): Promise<void> => {
  const path = process.env.TEST_MODEL_PATH
  const repeat = `Repeat it with TEST_MODEL_SEED=${seed} and TEST_MODEL_PATH=<the path that fast-check tells>`
  const sum: Record<string, number> = { schedules: 0, finished: 0, duplicates: 0 }
  const add = (what: string, number: number) => void (sum[what] = (sum[what] ?? 0) + number)
  await fc.assert(
    fc.asyncProperty(schedules, async (schedule) => {
      const { discards, duplicates, findings, finished, parks } = await Effect.runPromise(Schedule.run(schedule))
      add("schedules", 1)
      add("finished", finished)
      add("duplicates", duplicates)
      if (schedule.parks === true) {
        add("parks", parks)
        add("discards", discards)
      }
      count(schedule, add)
      expect(Oracles.render(findings), repeat).toBe("")
    }),
    { numRuns: runs, seed, ...(path === undefined ? {} : { path, endOnFailure: true }) }
  )
  process.stdout.write(`${name}: ${JSON.stringify({ seed, ...sum })}\n`)
  if (path === undefined) expect(sum["schedules"]).toBe(runs)
  expect(sum["finished"]).toBeGreaterThan(0)
}
