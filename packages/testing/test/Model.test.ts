import { Oracles } from "@effect-eventbus/testing"
import { expect, it } from "@effect/vitest"
import { Effect, FastCheck as fc } from "effect"
import * as Schedule from "./model/Schedule.js"

const runs = Number(process.env.EVENTBUS_MODEL_RUNS ?? 1_000)
const seed = Number(process.env.EVENTBUS_MODEL_SEED ?? Date.now() % 2 ** 31)
const path = process.env.EVENTBUS_MODEL_PATH

it(`keeps the contract in ${runs} random schedules (EVENTBUS_MODEL_SEED=${seed})`, async () => {
  const sum = { schedules: 0, finished: 0, duplicates: 0 }
  await fc.assert(
    fc.asyncProperty(Schedule.schedule, async (schedule) => {
      const { duplicates, findings, finished } = await Effect.runPromise(Schedule.run(schedule))
      sum.schedules++
      sum.finished += finished
      sum.duplicates += duplicates
      expect(Oracles.render(findings)).toBe("")
    }),
    {
      numRuns: runs,
      seed,
      // A machine that does other things as well gets through fewer of them.
      interruptAfterTimeLimit: 45_000,
      ...(path === undefined ? {} : { path, endOnFailure: true })
    }
  )
  process.stdout.write(`model: ${JSON.stringify({ seed, ...sum })}\n`)
  expect(sum.finished).toBeGreaterThan(0)
}, 180_000)

it("repeats a schedule exactly", () =>
  fc.assert(
    fc.asyncProperty(Schedule.schedule, async (schedule) => {
      const once = await Effect.runPromise(Schedule.run(schedule))
      const again = await Effect.runPromise(Schedule.run(schedule))
      expect(again.log).toBe(once.log)
    }),
    { numRuns: 10, interruptAfterTimeLimit: 20_000 }
  ))
