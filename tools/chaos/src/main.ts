/** `npm run chaos`: see `CommandLine.usage`, and docs/chaos.md. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Chaos from "./Chaos.js"
import * as CommandLine from "./CommandLine.js"
import * as Report from "./Report.js"

const main = Effect.gen(function*() {
  const { isCompared, json, options } = yield* CommandLine.parse(process.argv.slice(2), Date.now() % 1_000_000)
  const say = (line: string) => process.stderr.write(`${line}\n`)
  if (isCompared) say("a run in which nobody is ill:")
  const well = isCompared ? yield* Chaos.run({ ...options, areIll: false }, say) : undefined
  if (isCompared) say(`a run in which ${options.patients} aggregates are ill:`)
  const start = performance.now()
  const result = yield* Chaos.run(options, say)
  const tookMs = performance.now() - start
  process.stdout.write(json ? Report.json(result, options, well) : Report.table(result, options, tookMs, well))
  for (const example of result.examples) process.stderr.write(`! ${example}\n`)
  if (!Chaos.isGood(result)) process.exitCode = 1
})

/** What is piped may be on its way still. */
const flushed = Effect.forEach(
  [process.stdout, process.stderr],
  (stream) => Effect.async<void>((resume) => void stream.write("", () => resume(Effect.void))),
  { discard: true }
).pipe(
  Effect.timeoutOption("5 seconds")
)

NodeRuntime.runMain(
  main.pipe(
    Effect.catchAll((error) =>
      Effect.sync(() => {
        process.stderr.write(`${error.message}\n`)
        process.exitCode = 1
      })
    ),
    Effect.ensuring(flushed),
    Logger.withMinimumLogLevel(LogLevel.Warning)
  ),
  {
    // The run is over, whatever is left behind: node's own clean-up was seen to wait for that without end.
    teardown: (exit) => process.exit(Exit.isSuccess(exit) ? process.exitCode : 1)
  }
)
