/** One instance of the consumer. */
import * as Layer from "effect/Layer"
import * as Consumer from "../Consumer.js"
import { common, run, setting } from "./Program.js"

// Whoever started it has ended, killed perhaps: nobody else would end this process.
process.stdin.on("end", () => process.exit(1)).resume()

run(Layer.launch(Consumer.layer({
  ...common(),
  seed: Number(setting("SEED")),
  minWorkMs: Number(setting("MIN_WORK_MS")),
  maxWorkMs: Number(setting("MAX_WORK_MS")),
  failureRate: Number(setting("FAILURE_RATE"))
})))
