/**
 * `npm run bench -- [--only kafka-noop,nats] [--systems ours] [--rounds 5] [--seconds 4]
 * [--steps 100000] [--json] [--docs] [--profile]`
 */
import * as Processors from "@effect-eventbus/brokers/Processors"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import { parseArgs } from "node:util"
import * as Bench from "./Bench.js"
import * as Page from "./Page.js"
import * as Report from "./Report.js"
import { select, workloads } from "./Workload.js"

const options = Effect.try(() => {
  const { values } = parseArgs({
    options: {
      only: { type: "string", default: "" },
      systems: { type: "string", default: "" },
      rounds: { type: "string", default: "5" },
      seconds: { type: "string", default: "4" },
      steps: { type: "string", default: "" },
      json: { type: "boolean", default: false },
      docs: { type: "boolean", default: false },
      profile: { type: "boolean", default: false }
    }
  })
  const list = (text: string) => text.split(",").map((part) => part.trim()).filter((part) => part !== "")
  const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)]
  if (!Number.isSafeInteger(rounds) || rounds < 1) throw new Error("--rounds: a whole number of at least 1")
  if (!(seconds > 0 && seconds <= 600)) throw new Error("--seconds: a number above 0")
  const steps = values.steps === "" ? Infinity : Number(values.steps)
  if (!(steps > 0)) throw new Error("--steps: a number above 0")
  const selected = select(list(values.only))
  if (selected.length === 0) throw new Error(`--only: parts of ${workloads.map(({ name }) => name).join(", ")}`)
  const run: Bench.Options = {
    workloads: selected,
    systems: list(values.systems),
    rounds,
    seconds,
    steps,
    profile: values.profile,
    onProgress: (line) => process.stderr.write(`${line}\n`)
  }
  return { ...values, run }
})

const main = Effect.gen(function*() {
  const { docs, json, run } = yield* options
  const processors = Processors.watch()
  const rows = Report.rows(yield* Bench.run(run))
  const use = Processors.describe(processors())
  const args = process.argv.slice(2)
  const command = args.length === 0 ? "npm run bench" : `npm run bench -- ${args.join(" ")}`
  process.stdout.write(json ? `${Report.json(rows)}\n` : `${Report.table(rows)}\n\n${Report.goalTable(rows)}\n${use}\n`)
  if (docs) yield* Effect.try(() => Page.write(rows, command, use))
  if (Report.faults(rows) > 0) process.exitCode = 1
})

NodeRuntime.runMain(main)
