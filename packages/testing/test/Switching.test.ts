import { Oracles } from "@effect-eventbus/testing"
import { expect, it } from "@effect/vitest"
import { Effect, FastCheck as fc } from "effect"
import * as Schedule from "./model/Schedule.js"

const runs = Number(process.env.TEST_SWITCHING_RUNS ?? (process.env.TEST_LONG === "1" ? 1_500 : 200))
const seed = Number(process.env.TEST_MODEL_SEED ?? Date.now() % 2 ** 31)
const path = process.env.TEST_MODEL_PATH
const repeat = `Repeat it with TEST_MODEL_SEED=${seed} and TEST_MODEL_PATH=<the path that fast-check tells>`

it(
  `keeps the contract in ${runs} random schedules with switches of the strategy (TEST_MODEL_SEED=${seed})`,
  async () => {
    const sum = { schedules: 0, switches: 0, finished: 0, duplicates: 0 }
    await fc.assert(
      fc.asyncProperty(Schedule.switched, async (schedule) => {
        const { duplicates, findings, finished } = await Effect.runPromise(Schedule.run(schedule))
        sum.schedules++
        sum.switches += schedule.commands.filter(({ _tag }) => _tag === "switch").length
        sum.finished += finished
        sum.duplicates += duplicates
        expect(Oracles.render(findings), repeat).toBe("")
      }),
      {
        numRuns: runs,
        seed,
        ...(path === undefined ? {} : { path, endOnFailure: true })
      }
    )
    process.stdout.write(`switching: ${JSON.stringify({ seed, ...sum })}\n`)
    if (path === undefined) expect(sum.schedules).toBe(runs)
    expect(sum.finished).toBeGreaterThan(0)
  },
  900_000
)
