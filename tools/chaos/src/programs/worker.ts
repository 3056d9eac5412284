/** One instance of the consumer. */
import * as Layer from "effect/Layer"
import * as Consumer from "../Consumer.js"
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

const to = Number(setting("ILL_TO"))

run(
  Layer.launch(Consumer.layer({
    ...settings,
    seed: Number(setting("SEED")),
    minWorkMs: Number(setting("MIN_WORK_MS")),
    maxWorkMs: Number(setting("MAX_WORK_MS")),
    failureRate: Number(setting("FAILURE_RATE")),
    switchEverySeconds: Number(setting("SWITCH_EVERY")) || undefined,
    season: Number(setting("PATIENTS")) > 0 ? { from: Number(setting("ILL_FROM")), to } : undefined
  })),
  Consumer.observer(settings.topics, settings.write)
)
