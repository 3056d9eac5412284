/** A fleet of processes on a real broker: started, stopped, suspended and killed for real. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { type ChildProcess, spawn } from "node:child_process"
import { createWriteStream, mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Bundle from "./Bundle.js"
import type { Outage } from "./Circumstances.js"
import type { Fleet, Instance, Participant, Publisher } from "./Fleet.js"
import * as Log from "./Log.js"

interface Child extends Participant {
  readonly child: ChildProcess
  readonly ended: Effect.Effect<void>
  readonly kill: Effect.Effect<void>
}

/** The programs have been bundled to the folder, which takes the logs as well. */
export const make = (
  folder: string,
  environment: Readonly<Record<string, string>>,
  logs?: string | undefined
): Fleet => {
  if (logs !== undefined) mkdirSync(logs, { recursive: true })
  const outages: Array<Outage> = []
  /** A file: it is there as soon as all are well. */
  const well = join(folder, "well")

  const start = (program: Bundle.Program, name: string) =>
    Effect.gen(function*() {
      const log = join(folder, `${name}.log`)
      const ended = yield* Deferred.make<void>()
      const child = spawn(process.execPath, [Bundle.path(folder, program)], {
        env: { ...environment, CHAOS_LOG: log, CHAOS_WELL: well },
        stdio: ["pipe", "ignore", "pipe"]
      })
      let errors = ""
      let alive = true
      const complain = (text: string) => {
        errors = (errors + text).slice(-20_000)
      }
      child.stderr.setEncoding("utf8").on("data", complain)
      if (logs !== undefined) child.stderr.pipe(createWriteStream(join(logs, `${name}.log`)))
      // A process that was killed no longer reads.
      child.stdin.on("error", (error) => complain(`${error.message}\n`))
      child.on("error", (error) => complain(`${error.message}\n`))
      child.on("exit", (code) => {
        alive = false
        if (code !== null && code !== 0) complain(`it ended with ${code}\n`)
        outages.push({ process: name, from: Log.now(), to: Number.POSITIVE_INFINITY, why: "end" })
        Deferred.unsafeDone(ended, Effect.void)
      })
      const one: Child = {
        name,
        child,
        poll: Log.follower(log, name),
        isAlive: () => alive,
        errors: () => errors,
        ended: Deferred.await(ended),
        kill: Effect.suspend(() => {
          if (!alive) return Effect.void
          // From here on nothing that it does counts: the signal may take a moment.
          outages.push({ process: name, from: Log.now(), to: Number.POSITIVE_INFINITY, why: "kill" })
          child.kill("SIGKILL")
          return Deferred.await(ended)
        })
      }
      // It ends with the run at the latest.
      yield* Effect.addFinalizer(() => one.kill)
      return one
    })

  const instance = (one: Child): Instance => {
    let suspendedAt: number | undefined
    const signal = (name: NodeJS.Signals) => Effect.sync(() => void one.child.kill(name))
    return {
      ...one,
      suspend: Effect.suspend(() => {
        suspendedAt = Log.now()
        return signal("SIGSTOP")
      }),
      resume: Effect.zipRight(
        signal("SIGCONT"),
        Effect.sync(() => {
          if (suspendedAt !== undefined) {
            outages.push({ process: one.name, from: suspendedAt, to: Log.now(), why: "suspend" })
          }
          suspendedAt = undefined
        })
      ),
      stop: (withinMs) =>
        Effect.suspend(() => {
          if (!one.isAlive()) return Effect.succeed(true)
          return Effect.zipRight(
            signal("SIGTERM"),
            Effect.timeoutTo(one.ended, { duration: withinMs, onSuccess: () => true, onTimeout: () => false })
          ).pipe(Effect.tap((inTime) => inTime ? Effect.void : one.kill))
        })
    }
  }

  const publisher = (one: Child): Publisher => ({
    ...one,
    tell: (handled) => void one.child.stdin!.write(`${handled}\n`),
    finish: Effect.suspend(() => {
      one.child.stdin!.end()
      return one.ended
    })
  })

  return {
    outages,
    heal: Effect.sync(() => writeFileSync(well, "")),
    startInstance: (name) => Effect.map(start("worker", name), instance),
    startPublisher: Effect.map(start("publisher", "publisher"), publisher)
  }
}
