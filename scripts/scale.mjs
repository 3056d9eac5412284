import { runTypeScript } from "./lib/run.mjs"

runTypeScript("bench/src/scale/main.ts")
