/** Runs programs of tests in processes of their own. */
import { Deferred, Effect } from "effect"
import { spawn } from "node:child_process"
import { createRequire } from "node:module"
import { fileURLToPath, pathToFileURL } from "node:url"

const tsx = pathToFileURL(createRequire(new URL("../../../package.json", import.meta.url)).resolve("tsx")).href

export interface Given {
  readonly topic: string
  readonly transport?: string
  readonly next?: string
  readonly collector?: string
  readonly kafka: ReadonlyArray<string>
  readonly nats: ReadonlyArray<string>
}

/** Answers the first line that the program says, and how to wait for its end. The scope ends it. */
export const start = (program: string, { collector = "", kafka, nats, next = "", topic, transport = "" }: Given) =>
  Effect.gen(function*() {
    const said = yield* Deferred.make<Record<string, unknown>, Error>()
    const ended = yield* Deferred.make<void, Error>()
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        const file = fileURLToPath(new URL(`./programs/${program}.ts`, import.meta.url))
        const child = spawn(process.execPath, ["--import", tsx, file], {
          stdio: ["pipe", "pipe", "pipe"],
          env: {
            ...process.env,
            KAFKAJS_NO_PARTITIONER_WARNING: "1",
            GIVEN_TOPIC: topic,
            GIVEN_TRANSPORT: transport,
            GIVEN_NEXT: next,
            GIVEN_COLLECTOR: collector,
            GIVEN_KAFKA: kafka.join(","),
            GIVEN_NATS: nats.join(",")
          }
        })
        let out = ""
        let errors = ""
        const read = (line: string) => {
          if (line.startsWith("{")) Deferred.unsafeDone(said, Effect.succeed(JSON.parse(line)))
        }
        child.stdout.setEncoding("utf8").on("data", (text) => {
          const lines = (out + text).split("\n")
          out = lines.pop()!
          for (const line of lines) {
            errors += `${line}\n`
            read(line)
          }
        })
        child.stderr.setEncoding("utf8").on("data", (text) => errors += text)
        child.stdin.on("error", () => {})
        child.on("close", (code) => {
          const failure = Effect.fail(new Error(`${program} ended with ${code}:\n${errors.slice(-4_000)}`))
          Deferred.unsafeDone(said, failure)
          Deferred.unsafeDone(ended, code === 0 ? Effect.void : failure)
        })
        return child
      }),
      (child) =>
        Effect.gen(function*() {
          child.stdin.end()
          yield* Effect.ignore(Effect.timeout(Effect.interruptible(Deferred.await(ended)), "10 seconds"))
          yield* Effect.sync(() => child.kill("SIGKILL"))
        })
    )
    return {
      said: Effect.timeoutFail(Deferred.await(said), {
        duration: "60 seconds",
        onTimeout: () => new Error(`${program} says nothing`)
      }),
      ended: Deferred.await(ended)
    }
  })
