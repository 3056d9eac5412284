import { runTypeScript } from "./lib/run.mjs"

runTypeScript("tools/chaos/src/main.ts")
