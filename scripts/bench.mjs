import { runTypeScript } from "./lib/run.mjs"

runTypeScript("bench/src/main.ts")
