import { it } from "@effect/vitest"
import { judged, seed } from "./model/judged.js"
import * as Schedule from "./model/Schedule.js"

const runs = Number(process.env.TEST_PARKING_RUNS ?? (process.env.TEST_LONG === "1" ? 1_000 : 60))

it(
  `keeps the contract in ${runs} random schedules of parking, releasing and discarding (TEST_MODEL_SEED=${seed})`,
  () =>
    judged(
      "parking",
      Schedule.parked,
      runs,
      ({ commands }, add) => add("byHand", commands.filter(({ _tag }) => _tag === "control").length)
    ),
  900_000
)
