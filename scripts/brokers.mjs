import { runTypeScript } from "./lib/run.mjs"

runTypeScript("tools/brokers/src/main.ts")
