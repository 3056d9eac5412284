/**
 * A chaos run: instances of one group on a real broker are killed, stopped, suspended and started again while events
 * are published; then everybody's log is judged.
 */
import { Kafka, Nats } from "@effect-eventbus/brokers"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Fleet, type Process, ProcessFailed } from "./Fleet.js"
import { judge, type Verdict } from "./Judge.js"
import * as Log from "./Log.js"

export interface Options {
  readonly transport: "kafka" | "nats"
  /** How long it goes on, the calm beginning (a fifth of it) included. */
  readonly seconds: number
  readonly instances: number
  readonly aggregates: number
  readonly partitions: number
  readonly killEverySeconds: number
  readonly seed: number
  /** Of each handler, in ms: between 0 and this. */
  readonly maxWorkMs: number
  readonly failureRate: number
  /** How many events are published and not yet handled at most. */
  readonly ahead: number
  /** What may happen to an instance. */
  readonly actions: ReadonlyArray<"kill" | "stop" | "suspend">
  /** Settings of the bus in each instance, as variables of the environment. */
  readonly settings?: Readonly<Record<string, string>> | undefined
  readonly onProgress?: ((line: string) => void) | undefined
}

export interface Result extends Verdict {
  readonly transport: string
  readonly seconds: number
  readonly instances: number
  readonly kills: number
  /** The longest time in which nobody finished anything, in ms. */
  readonly longestPauseMs: number
  /** Events handled per second, before and during the chaos. */
  readonly calmRate: number
  readonly chaosRate: number
}

export class Stuck extends Data.TaggedError("Stuck")<{ readonly handled: number; readonly output: string }> {
  override get message() {
    return `Nothing was handled for a minute, after ${this.handled} events:\n${this.output}`
  }
}

/** A small generator with a seed, so that a run can be repeated (mulberry32). */
const random = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
}

const brokerSettings = Effect.fnUntraced(function*(transport: Options["transport"]) {
  if (transport === "kafka") {
    const { bootstrap } = yield* Kafka.make({ own: true })
    return {
      EVENTBUS_TRANSPORT: "kafka",
      EVENTBUS_KAFKA_BROKERS: bootstrap.join(","),
      EVENTBUS_KAFKA_SESSION_TIMEOUT: "2 seconds",
      EVENTBUS_KAFKA_HEARTBEAT_INTERVAL: "300 millis"
    }
  }
  const { servers } = yield* Nats.make({ own: true })
  return { EVENTBUS_TRANSPORT: "nats", EVENTBUS_NATS_SERVERS: servers.join(",") }
})

const folder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "effect-eventbus-chaos-"))),
  (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
)

const handledBy = (fleet: Fleet): number => fleet.processes.reduce((sum, { finished }) => sum + finished(), 0)

export const run = (options: Options) =>
  Effect.scoped(Effect.gen(function*() {
    const say = options.onProgress ?? (() => {})
    const next = random(options.seed)
    const pick = <A>(of: ReadonlyArray<A>): A => of[Math.floor(next() * of.length)]!
    const clean = Object.entries(process.env).filter(([name]) => !/^(EVENTBUS_|CHAOS_|VITEST)/.test(name))
    const fleet = new Fleet(yield* folder, {
      ...Object.fromEntries(clean),
      ...(yield* brokerSettings(options.transport)),
      EVENTBUS_RETRY_BASE: "5 millis",
      EVENTBUS_RESTART_BASE: "5 millis",
      EVENTBUS_HOLD_INTERVAL: "100 millis",
      EVENTBUS_DRAIN_DEADLINE: "1 seconds",
      ...options.settings,
      CHAOS_RUN: Date.now().toString(36),
      CHAOS_PARTITIONS: String(options.partitions),
      CHAOS_AGGREGATES: String(options.aggregates),
      CHAOS_AHEAD: String(options.ahead),
      CHAOS_MAX_WORK_MS: String(options.maxWorkMs),
      CHAOS_FAILURE_RATE: String(options.failureRate)
    })
    let started = 0
    let kills = 0
    const startWorker = Effect.suspend(() => fleet.start("worker", `worker-${started++}`))
    const workers: Array<Process> = []
    for (let i = 0; i < options.instances; i++) workers.push(yield* startWorker)
    const publisher = yield* fleet.start("publisher", "publisher")
    yield* Effect.forkScoped(Effect.forever(Effect.delay(
      Effect.sync(() => publisher.isAlive() && publisher.tell(String(handledBy(fleet)))),
      "50 millis"
    )))

    const sleepWatching = (ms: number) =>
      Effect.gen(function*() {
        const until = performance.now() + ms
        while (performance.now() < until) {
          yield* Effect.sleep(Math.min(200, Math.max(1, until - performance.now())))
          for (const one of [...workers, publisher]) {
            if (!one.isAlive()) return yield* new ProcessFailed({ name: one.name, output: one.errors() })
          }
        }
      })

    const untilHandledMoves = (above: number) =>
      Effect.gen(function*() {
        const until = performance.now() + 60_000
        while (handledBy(fleet) <= above) {
          if (performance.now() > until) {
            return yield* new Stuck({ handled: above, output: fleet.processes.map((one) => one.errors()).join("\n") })
          }
          yield* Effect.sleep(20)
        }
      })

    // Calm: everybody is there, and nothing happens.
    yield* untilHandledMoves(0)
    yield* sleepWatching(2_000)
    const calmMs = Math.max(3_000, options.seconds * 200)
    const calmStart = process.hrtime.bigint()
    yield* sleepWatching(calmMs)
    const calmEnd = process.hrtime.bigint()
    say(`calm: ${handledBy(fleet)} handled`)

    // Chaos: one instance after the other, each replaced.
    const chaosEnd = performance.now() + options.seconds * 1_000 - calmMs
    while (performance.now() < chaosEnd) {
      yield* sleepWatching(Math.min(options.killEverySeconds * 1_000, Math.max(1, chaosEnd - performance.now())))
      if (performance.now() >= chaosEnd) break
      const index = Math.floor(next() * workers.length)
      const victim = workers[index]!
      const action = pick(options.actions)
      say(`${action} ${victim.name}: ${handledBy(fleet)} handled`)
      if (action === "suspend") {
        yield* victim.suspend
        yield* Effect.sleep(500 + next() * 3_500)
        yield* victim.resume
        continue
      }
      kills++
      yield* action === "kill" ? victim.kill : victim.stop(15_000)
      if (next() < 0.5) yield* Effect.sleep(next() * 2_000)
      workers[index] = yield* startWorker
    }
    const chaosStop = process.hrtime.bigint()

    // The end: what was published has to be handled, too.
    publisher.endInput()
    yield* Effect.timeout(publisher.ended, "60 seconds")
    const published = Log.read(publisher.log, publisher.name)
    yield* untilJudgedDone(fleet, published)
    yield* Effect.forEach(workers, (worker) => worker.stop(30_000), { concurrency: "unbounded", discard: true })

    const entries = fleet.processes.flatMap(({ log, name }) => readIfThere(log, name))
    const verdict = judge(entries, fleet.outages)
    const finishes = entries.filter(({ kind }) => kind === "F").map(({ at }) => at).sort((a, b) => a < b ? -1 : 1)
    const rate = (from: bigint, to: bigint) =>
      Math.round(finishes.filter((at) => at >= from && at < to).length / (Number(to - from) / 1e9))
    const during = finishes.filter((at) => at >= calmStart && at < chaosStop)
    const longestPauseMs = during.reduce(
      (most, at, i) => i === 0 ? 0 : Math.max(most, Number(at - during[i - 1]!) / 1e6),
      0
    )
    const result: Result = {
      transport: options.transport,
      seconds: options.seconds,
      instances: options.instances,
      kills,
      ...verdict,
      longestPauseMs: Math.round(longestPauseMs),
      calmRate: rate(calmStart, calmEnd),
      chaosRate: rate(calmEnd, chaosStop)
    }
    return result
  }))

const readIfThere = (log: string, name: string): ReadonlyArray<Log.Entry> => {
  try {
    return Log.read(log, name)
  } catch (cause) {
    // An instance that was killed before it opened its log saw nothing.
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return []
    throw cause
  }
}

/** Until nothing is outstanding, or nothing has moved for long: then the judge says what is lost. */
const untilJudgedDone = (fleet: Fleet, published: ReadonlyArray<Log.Entry>) =>
  Effect.gen(function*() {
    let before = -1
    let moved = performance.now()
    while (performance.now() - moved < 20_000) {
      const entries = [
        ...published,
        ...fleet.processes.flatMap(({ log, name }) => name.startsWith("worker") ? readIfThere(log, name) : [])
      ]
      const { handled, lost } = judge(entries, [])
      if (lost === 0) return
      if (handled !== before) moved = performance.now()
      before = handled
      yield* Effect.sleep(500)
    }
  })
