/** The publisher: the coordinator tells it, on standard input, how much was handled; at the end of the input it stops. */
import { createInterface } from "node:readline"
import * as Publisher from "../Publisher.js"
import { common, run, setting } from "./Program.js"

const control: Publisher.Control = { handled: 0, stopped: false }
const input = createInterface({ input: process.stdin })
input.on("line", (line) => {
  control.handled = Number(line)
})
input.on("close", () => {
  control.stopped = true
  // Where the coordinator was killed, and the broker with it, nothing more will be confirmed.
  setTimeout(() => process.exit(1), 60_000).unref()
})

run(Publisher.publish({
  ...common(),
  aggregates: Number(setting("AGGREGATES")),
  patients: Number(setting("PATIENTS")),
  rate: Number(setting("RATE")) || undefined,
  ahead: Number(setting("AHEAD")),
  control
}))
