/**
 * A run: brokers, topics with their load, and then round after round each
 * measurement in a process of its own, so that none has another's heap or compiled code. In each round everybody has a turn; what
 * is compared was measured within seconds of each other.
 */
import { Brokers } from "@effect-eventbus/brokers"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { execFile, spawn } from "node:child_process"
import { mkdirSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Job, Measurement } from "./Job.js"
import * as KafkaRaw from "./systems/KafkaRaw.js"
import * as NatsRaw from "./systems/NatsRaw.js"
import { loadOf, type Workload } from "./Workload.js"

export interface Options {
  readonly workloads: ReadonlyArray<Workload>
  /** Only these systems; all where none is given. */
  readonly systems: ReadonlyArray<string>
  readonly rounds: number
  readonly seconds: number
  /** The most steps on a topic, for a machine that has little time. Default: what lasts for `seconds`. */
  readonly steps: number
  /** Whether a profile of each process is written to `bench/build/profiles`. */
  readonly profile: boolean
  readonly onProgress: (line: string) => void
}

/** One measurement of a round. */
export interface Result {
  readonly workload: Workload
  readonly system: string
  readonly round: number
  readonly measurement: Measurement
}

export class WorkerFailed extends Data.TaggedError("WorkerFailed")<{ readonly job: Job; readonly output: string }> {
  override get message() {
    return `${this.job.workload}, ${this.job.system}: the process failed:\n${this.output}`
  }
}

const folder = fileURLToPath(new URL("../", import.meta.url))
const profiles = join(folder, "build", "profiles")

/** What is measured is compiled, like what is published. */
const compile = Effect.async<void, Error>((resume) => {
  const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin", "tsc")
  execFile(
    process.execPath,
    [tsc, "-b", folder],
    (error, stdout) => resume(error === null ? Effect.void : Effect.fail(new Error(`tsc -b bench failed:\n${stdout}`)))
  )
})

const work = (task: "fill" | "measure", job: Job, profile: boolean): Effect.Effect<Measurement, WorkerFailed> =>
  Effect.async((resume) => {
    const name = `${job.workload}-${job.system.replaceAll(" ", "-")}`
    const child = spawn(process.execPath, [
      "--expose-gc",
      ...(profile ? ["--cpu-prof", "--cpu-prof-dir", join(profiles, name)] : []),
      // Our packages as they are published, and not their sources. A loader would do that, too, with a thread and 44 MiB of its own.
      "--conditions=compiled",
      join(folder, "build", "src", "worker.js"),
      task,
      JSON.stringify(job)
    ], { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, KAFKAJS_NO_PARTITIONER_WARNING: "1" } })
    let out = ""
    let errors = ""
    child.stdout.on("data", (chunk) => out += chunk)
    child.stderr.on("data", (chunk) => errors += chunk)
    child.on("error", (error) => resume(new WorkerFailed({ job, output: error.message })))
    child.on("close", (code) =>
      resume(
        code === 0
          ? Effect.succeed(JSON.parse(out) as Measurement)
          : new WorkerFailed({ job, output: errors + out })
      ))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** How many steps there are to do: for `seconds` and the warm-up. */
export const stepsOf = (workload: Workload, seconds: number): number => {
  switch (workload.kind) {
    case "consume":
      return Math.ceil(workload.perSecond * seconds * 1.25)
    case "dispatch":
      return 1e9
    case "publish":
      return 1e9
    case "latency":
    case "sustained":
      return 1e9
    case "idle":
      return workload.actors
    case "resting":
      return workload.subscriptions
    case "steady":
      return workload.steps
  }
}

const isLoaded = (workload: Workload) => workload.kind === "consume" && workload.transport !== "memory"

export const run = (options: Options) =>
  Effect.gen(function*() {
    const { onProgress, seconds, workloads } = options
    const stepsFor = (workload: Workload): number => Math.min(options.steps, stepsOf(workload, seconds))
    onProgress("Compiling ...")
    yield* compile
    if (options.profile) mkdirSync(profiles, { recursive: true })
    const names = (["kafka", "nats"] as const).filter((name) => workloads.some(({ transport }) => transport === name))
    if (names.length > 0) onProgress("Bringing up the brokers (the first time takes a minute or two) ...")
    const brokers = yield* Brokers.make(names)
    const prefix = `bench.${Date.now().toString(36)}.`
    yield* Effect.addFinalizer(() =>
      Effect.promise(async () => {
        if (brokers.kafka.length > 0) await KafkaRaw.clean(brokers.kafka, prefix)
        if (brokers.nats.length > 0) await NatsRaw.clean(brokers.nats, prefix)
      })
    )
    const jobOf = (workload: Workload, system: string, topic: string): Job => ({
      workload: workload.name,
      system,
      seconds,
      steps: stepsFor(workload),
      topic: prefix + topic,
      ...brokers
    })

    // A topic that several workloads read has enough for the one that reads most.
    const loads = new Map<string, Workload>()
    for (const workload of workloads) {
      if (workload.kind !== "consume" || !isLoaded(workload)) continue
      const load = loadOf(workload)
      const other = loads.get(load)
      if (other === undefined || stepsFor(other) < stepsFor(workload)) loads.set(load, workload)
    }
    for (const [load, workload] of loads) {
      onProgress(`Filling ${load}: ${stepsFor(workload).toLocaleString("en")} envelopes ...`)
      yield* work("fill", jobOf(workload, "ours", load), false)
    }

    const results: Array<Result> = []
    let serial = 0
    for (let round = 0; round < options.rounds; round++) {
      for (const workload of workloads) {
        const systems = workload.systems.filter((system) =>
          options.systems.length === 0 || options.systems.includes(system)
        )
        // Whoever begins may find the machine in another state: each is first in turn.
        for (let i = 0; i < systems.length; i++) {
          const system = systems[(i + round) % systems.length]!
          const load = workload.kind === "consume" && isLoaded(workload) ? loads.get(loadOf(workload)) : undefined
          const topic = workload.kind === "consume" && isLoaded(workload)
            ? loadOf(workload)
            : workload.kind === "resting"
            ? "resting"
            : `new${serial++}`
          const job = jobOf(workload, system, topic)
          const measurement = yield* work(
            "measure",
            load === undefined ? job : { ...job, steps: stepsFor(load) },
            options.profile
          )
          results.push({ workload, system, round, measurement })
          onProgress(
            `round ${round + 1}/${options.rounds} ${workload.name} ${system}: ${
              workload.kind === "resting"
                ? `${measurement.cpuPercent.toFixed(1)} % of a core, ${measurement.sockets} sockets`
                : `${Math.round(measurement.rate).toLocaleString("en")}/s`
            }` +
              (measurement.violations + measurement.lost > 0
                ? ` (${measurement.violations} out of order, ${measurement.lost} lost)`
                : "")
          )
        }
      }
    }
    return results
  }).pipe(Effect.scoped)
