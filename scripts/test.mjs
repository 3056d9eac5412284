import { runBinary } from "./lib/run.mjs"

// Vitest leaves one core free; most of these tests wait for brokers and timers, so that on two cores two files go at a time.
runBinary("vitest", ["run", "--maxWorkers=2", "--minWorkers=1", ...process.argv.slice(2)])
