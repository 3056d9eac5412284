/** The processes of a run: started, stopped, suspended and killed for real. */
import type { Scope } from "effect"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn } from "node:child_process"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Outage } from "./Judge.js"
import * as Log from "./Log.js"

export class ProcessFailed
  extends Data.TaggedError("ProcessFailed")<{ readonly name: string; readonly output: string }>
{
  override get message() {
    return `${this.name} ended by itself:\n${this.output}`
  }
}

export interface Process {
  readonly name: string
  readonly log: string
  /** How many events it has finished. */
  readonly finished: () => number
  readonly tell: (line: string) => void
  readonly endInput: () => void
  readonly isAlive: () => boolean
  readonly kill: Effect.Effect<void>
  readonly suspend: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  /** SIGTERM, and SIGKILL when it has not ended in time. `true` when it ended by itself. */
  readonly stop: (withinMs: number) => Effect.Effect<boolean>
  readonly ended: Effect.Effect<void>
  readonly errors: () => string
}

export class Fleet {
  readonly processes: Array<Process> = []
  readonly outages: Array<Outage> = []

  constructor(private readonly folder: string, private readonly environment: Readonly<Record<string, string>>) {}

  /** Starts one of this folder's programs; it is killed at the latest when the scope ends. */
  start(program: "worker" | "publisher", name: string): Effect.Effect<Process, never, Scope.Scope> {
    return Effect.gen(this, function*() {
      const log = join(this.folder, `${name}.log`)
      const ended = yield* Deferred.make<void>()
      const child = spawn(
        process.execPath,
        ["--import", "tsx", fileURLToPath(new URL(`./${program}.ts`, import.meta.url))],
        { env: { ...this.environment, CHAOS_LOG: log }, stdio: ["pipe", "ignore", "pipe"] }
      )
      const one = this.process(name, log, child, ended)
      this.processes.push(one)
      yield* Effect.addFinalizer(() => one.kill)
      return one
    })
  }

  private process(name: string, log: string, child: ChildProcess, ended: Deferred.Deferred<void>): Process {
    let errors = ""
    let suspendedAt: bigint | undefined
    let alive = true
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      errors = (errors + text).slice(-20_000)
    })
    // A process that was killed no longer reads.
    child.stdin!.on("error", (error) => {
      errors += `${error.message}\n`
    })
    child.on("exit", () => {
      alive = false
      this.outages.push({ process: name, from: process.hrtime.bigint(), to: 2n ** 62n })
      Deferred.unsafeDone(ended, Effect.void)
    })
    const signal = (name: NodeJS.Signals) => Effect.sync(() => void child.kill(name))
    const awaitEnd = Deferred.await(ended)
    return {
      name,
      log,
      finished: Log.follower(log),
      tell: (line) => child.stdin!.write(`${line}\n`),
      endInput: () => child.stdin!.end(),
      isAlive: () => alive,
      kill: Effect.suspend(() => {
        if (!alive) return Effect.void
        // From here on nothing that it does counts: the signal may take a moment.
        this.outages.push({ process: name, from: process.hrtime.bigint(), to: 2n ** 62n })
        return Effect.zipRight(signal("SIGKILL"), awaitEnd)
      }),
      suspend: Effect.zipRight(
        Effect.sync(() => {
          suspendedAt = process.hrtime.bigint()
        }),
        signal("SIGSTOP")
      ),
      resume: Effect.zipRight(
        signal("SIGCONT"),
        Effect.sync(() => {
          // Rule 12: a process that was suspended may overlap with its successor for a moment after it goes on.
          if (suspendedAt !== undefined) {
            this.outages.push({ process: name, from: suspendedAt, to: process.hrtime.bigint() + 1_000_000_000n })
          }
          suspendedAt = undefined
        })
      ),
      stop: (withinMs) =>
        Effect.gen(function*() {
          if (!alive) return true
          yield* signal("SIGTERM")
          const inTime = yield* Effect.timeoutTo(awaitEnd, {
            duration: withinMs,
            onSuccess: () => true,
            onTimeout: () => false
          })
          if (!inTime) yield* Effect.zipRight(signal("SIGKILL"), awaitEnd)
          return inTime
        }),
      ended: awaitEnd,
      errors: () => errors
    }
  }
}
