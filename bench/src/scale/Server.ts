/** A nats-server of one's own, and what it costs: read from its monitoring port, and from the operating system. */
import * as NatsPackage from "@effect-eventbus/brokers/NatsPackage"
import * as Ports from "@effect-eventbus/brokers/Ports"
import * as TempFolder from "@effect-eventbus/brokers/TempFolder"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { join } from "node:path"

/** Counted since the server began. */
export interface Seen {
  readonly at: number
  readonly messagesIn: number
  /** Milliseconds of processor time; NaN where the operating system does not tell it. */
  readonly cpu: number
  readonly rssMb: number
}

/** Milliseconds of processor time of a process, on Linux. */
export const cpuOf = (pid: number): number => {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /, "").split(" ")
    // Hundredths of a second: user and system.
    return (Number(fields[11]) + Number(fields[12])) * 10
  } catch {
    return NaN
  }
}

const varz = async (port: number) => {
  const answer = await fetch(`http://127.0.0.1:${port}/varz`)
  return await answer.json() as { readonly in_msgs: number; readonly mem: number }
}

export const make = Effect.gen(function*() {
  const binary = yield* NatsPackage.get("2.15")
  const folder = yield* TempFolder.make("nats-scale")
  const [port, monitor] = (yield* Ports.take(2)) as [number, number]
  const start = Effect.acquireRelease(
    Effect.promise(async () => {
      const child = spawn(
        join(binary),
        ["-js", "-sd", join(folder, "data"), "-a", "127.0.0.1", "-p", String(port), "-m", String(monitor)],
        { stdio: "ignore" }
      )
      const startedAt = performance.now()
      while (true) {
        const isUp = await fetch(`http://127.0.0.1:${monitor}/healthz`).then(({ ok }) => ok, () => false)
        if (isUp) return { child, upAfter: performance.now() - startedAt }
        if (performance.now() - startedAt > 120_000) throw new Error("the server did not come up")
        await new Promise((resume) => setTimeout(resume, 20))
      }
    }),
    ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const { child } = yield* start
  let pid = child.pid!
  const see = Effect.promise(async (): Promise<Seen> => {
    const { in_msgs, mem } = await varz(monitor)
    return { at: performance.now(), messagesIn: in_msgs, cpu: cpuOf(pid), rssMb: mem / 1_048_576 }
  })
  /** How long the server takes to be there again after it was ended. */
  const restart = Effect.gen(function*() {
    yield* Effect.async<void>((resume) => {
      child.once("exit", () => resume(Effect.void))
      child.kill("SIGTERM")
    })
    const again = yield* start
    pid = again.child.pid!
    return again.upAfter
  })
  return { servers: [`127.0.0.1:${port}`], see, restart }
})
