/** One instance of the consumer. */
import * as Layer from "effect/Layer"
import { existsSync } from "node:fs"
import * as Consumer from "../Consumer.js"
import * as Patients from "../Patients.js"
import { common, run, setting } from "./Program.js"

// Whoever started it has ended, killed perhaps: nobody else would end this process.
process.stdin.on("end", () => process.exit(1)).resume()

const settings = common()

// A machine that is too busy suspends a process as SIGSTOP does: the judge has to know. From half a second on.
let ran = performance.now()
setInterval(() => {
  const waited = performance.now() - ran
  if (waited > 500) settings.write("W", "-", Math.round(waited))
  ran = performance.now()
}, 100).unref()

// All instances have the same beginning, so that a patient is ill in all of them.
const season = Patients.seasonOf(
  { areIll: setting("ARE_ILL") === "yes", patients: Number(setting("PATIENTS")) },
  Number(setting("ILL_FROM"))
)
if (season !== undefined) {
  setInterval(() => {
    if (existsSync(setting("WELL"))) Patients.heal(season)
  }, 100).unref()
}

run(
  Layer.launch(Consumer.layer({
    ...settings,
    seed: Number(setting("SEED")),
    minWorkMs: Number(setting("MIN_WORK_MS")),
    maxWorkMs: Number(setting("MAX_WORK_MS")),
    failureRate: Number(setting("FAILURE_RATE")),
    switchEverySeconds: Number(setting("SWITCH_EVERY")) || undefined,
    season
  })),
  Consumer.observer(settings.topics, settings.write)
)
