/** Does the job that is given as JSON on the command line, and writes the measurement to standard output. */
import * as Effect from "effect/Effect"
import type { Job } from "./Job.js"
import * as Measure from "./Measure.js"
import { find } from "./Workload.js"

const [task, text] = process.argv.slice(2)
const job = JSON.parse(text!) as Job

const main = Effect.suspend(() => {
  const workload = find(job.workload)
  return task === "fill" && workload.kind === "consume"
    ? Effect.as(Measure.fill(workload, job), {})
    : Measure.run(job)
})

const result = await Effect.runPromise(main)
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0))
