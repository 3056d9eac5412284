import { runTypeScript } from "./lib/run.mjs"

runTypeScript("bench/src/store/main.ts")
