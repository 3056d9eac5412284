import { runTypeScript } from "./lib/run.mjs"

runTypeScript("examples/src/main.ts")
