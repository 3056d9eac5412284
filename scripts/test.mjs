import { runBinary } from "./lib/run.mjs"

runBinary("vitest", ["run", ...process.argv.slice(2)])
