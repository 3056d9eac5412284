import { runTypeScript } from "./lib/run.mjs"

runTypeScript("bench/src/parking/main.ts")
