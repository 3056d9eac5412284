/**
 * `npm run chaos -- --transport kafka|nats [--seconds N] [--instances N] [--aggregates N] [--partitions N]
 * [--kill-every 5s] [--actions kill,stop,suspend] [--seed S] [--json]`
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import { parseArgs } from "node:util"
import * as Chaos from "./Chaos.js"

const options = Effect.try(() => {
  const { values } = parseArgs({
    options: {
      transport: { type: "string", default: "kafka" },
      seconds: { type: "string", default: "60" },
      instances: { type: "string", default: "4" },
      aggregates: { type: "string", default: "300" },
      partitions: { type: "string", default: "12" },
      "kill-every": { type: "string", default: "5s" },
      actions: { type: "string", default: "kill,stop,suspend" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
      json: { type: "boolean", default: false }
    }
  })
  const { transport } = values
  if (transport !== "kafka" && transport !== "nats") throw new Error("--transport: kafka or nats")
  const actions = values.actions.split(",").map((action) => {
    if (action === "kill" || action === "stop" || action === "suspend") return action
    throw new Error("--actions: kill, stop, suspend")
  })
  const count = (name: "seconds" | "instances" | "aggregates" | "partitions" | "seed") => {
    const number = Number(values[name])
    if (!Number.isSafeInteger(number) || number < 1) throw new Error(`--${name}: a whole number`)
    return number
  }
  const killEvery = /^(\d+(?:\.\d+)?)s?$/.exec(values["kill-every"])
  if (killEvery === null) throw new Error("--kill-every: seconds, such as 5s")
  const run: Chaos.Options = {
    transport,
    seconds: count("seconds"),
    instances: count("instances"),
    aggregates: count("aggregates"),
    partitions: count("partitions"),
    killEverySeconds: Number(killEvery[1]),
    seed: count("seed"),
    maxWorkMs: 5,
    failureRate: 0.01,
    ahead: 3_000,
    actions,
    onProgress: (line) => process.stderr.write(`${line}\n`)
  }
  return { run, json: values.json }
})

const fields = [
  "transport",
  "seconds",
  "instances",
  "kills",
  "published",
  "handled",
  "lost",
  "duplicates",
  "violations",
  "overlaps",
  "longestPauseMs",
  "calmRate",
  "chaosRate"
] as const

const main = Effect.gen(function*() {
  const { json, run } = yield* options
  const start = performance.now()
  const result = yield* Chaos.run(run)
  const all = [...fields, "announced", "plainPublished", "plainTwice", "plainLost"] as const
  process.stdout.write(
    json
      ? `${JSON.stringify(Object.fromEntries(fields.map((field) => [field, result[field]])))}\n`
      : `${all.map((field) => `  ${field.padEnd(16)}${result[field]}`).join("\n")}\n  seed            ${run.seed}\n` +
        `  took            ${Duration.format(Duration.millis(Math.round(performance.now() - start)))}\n` +
        result.examples.map((example) => `  ! ${example}\n`).join("")
  )
  if (result.lost + result.violations + result.overlaps + result.plainTwice > 0) process.exitCode = 1
})

NodeRuntime.runMain(main.pipe(Logger.withMinimumLogLevel(LogLevel.Warning)))
