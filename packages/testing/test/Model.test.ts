import { expect, it } from "@effect/vitest"
import { Effect, FastCheck as fc } from "effect"
import { judged, seed } from "./model/judged.js"
import * as Schedule from "./model/Schedule.js"

const runs = Number(process.env.TEST_MODEL_RUNS ?? (process.env.TEST_LONG === "1" ? 3_000 : 500))

it(
  `keeps the contract in ${runs} random schedules (TEST_MODEL_SEED=${seed})`,
  () => judged("model", Schedule.schedule, runs, ({ commands }, add) => add("long", commands.length >= 10 ? 1 : 0)),
  900_000
)

it("repeats a schedule exactly", () =>
  fc.assert(
    fc.asyncProperty(Schedule.long, async (schedule) => {
      const once = await Effect.runPromise(Schedule.run(schedule))
      const again = await Effect.runPromise(Schedule.run(schedule))
      expect(again.log).toBe(once.log)
    }),
    { numRuns: 10 }
  ))
