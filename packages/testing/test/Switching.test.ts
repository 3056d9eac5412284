import { it } from "@effect/vitest"
import { judged, seed } from "./model/judged.js"
import * as Schedule from "./model/Schedule.js"

const runs = Number(process.env.TEST_SWITCHING_RUNS ?? (process.env.TEST_LONG === "1" ? 1_500 : 150))

it(
  `keeps the contract in ${runs} random schedules with switches of the strategy (TEST_MODEL_SEED=${seed})`,
  () =>
    judged(
      "switching",
      Schedule.switched,
      runs,
      ({ commands }, add) => add("switches", commands.filter(({ _tag }) => _tag === "switch").length)
    ),
  900_000
)
