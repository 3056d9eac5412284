import { runBinary } from "./lib/run.mjs"

// `--long`: the long run, see vitest.workspace.ts.
const args = process.argv.slice(2)
if (args[0] === "--long") {
  args.shift()
  process.env.TEST_LONG = "1"
}

// Vitest leaves one core free; most of these tests wait for brokers and timers, so that on two cores two files go at a time.
runBinary("vitest", ["run", "--maxWorkers=2", "--minWorkers=1", ...args])
