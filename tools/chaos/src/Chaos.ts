/**
 * A chaos run: instances of one group on a real broker are killed, stopped, suspended and started again while events
 * are published, connections break and brokers come and go, as asked; then everybody's log is judged.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Bundle from "./Bundle.js"
import type { Circumstances, Disturbance } from "./Circumstances.js"
import * as Figures from "./Figures.js"
import { type Fleet, type Instance, ParticipantFailed, type Publisher } from "./Fleet.js"
import * as InMemory from "./InMemory.js"
import { judge, type Verdict } from "./Judge.js"
import * as Letters from "./Letters.js"
import * as Log from "./Log.js"
import type { Options } from "./Options.js"
import * as Patients from "./Patients.js"
import * as Processes from "./Processes.js"
import { Progress } from "./Progress.js"
import * as Random from "./Random.js"
import * as Stage from "./Stage.js"

export interface Result extends Verdict {
  readonly transport: string
  readonly seconds: number
  readonly instances: number
  /** Instances that were killed or stopped. */
  readonly kills: number
  readonly suspensions: number
  /** Faults of the network, and restarts of brokers. */
  readonly cuts: number
  readonly brokerRestarts: number
  /** Instances that hung when they were to end, and were killed. */
  readonly slowStops: number
  /** The longest time in which nobody finished anything, in ms. */
  readonly longestPauseMs: number
  /** The longest time from a kill until the last of the dead one's partitions was handled again, in ms. */
  readonly recoverMs: number
  /** Events handled per second, before and during the chaos. */
  readonly calmRate: number
  readonly chaosRate: number
  readonly letters: Letters.Letters
}

/** Whether the guarantees held. */
export const isGood = (result: Result): boolean =>
  result.lost + result.violations + result.overlaps + result.excess + result.plainTwice + result.letters.left === 0

export class Stuck extends Data.TaggedError("Stuck")<{ readonly handled: number; readonly output: string }> {
  override get message() {
    return `Nothing was handled for a minute, after ${this.handled} events:\n${this.output}`
  }
}

export type Say = (line: string) => void

/** What is handled is taken out of the store a little later, and an instance tells each second what is there. */
const lettersPatienceMs = 10_000

/** For how long the next blow waits for who was started after the last one. */
const startPatienceMs = 15_000

/** After so long without anything handled a run is given up. */
const patienceMs = 60_000
/** Those that are killed again and again may get nothing done in the meantime. */
const relentlessPatienceMs = 180_000

const folder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "effect-eventbus-chaos-"))),
  (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
)

const environment = (options: Options, stage: Stage.Stage): Record<string, string> => ({
  ...Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(EVENTBUS_|CHAOS_|VITEST|NODE_OPTIONS)/.test(name))
  ),
  ...stage.settings,
  EVENTBUS_RETRY_BASE: "5 millis",
  EVENTBUS_RESTART_BASE: "5 millis",
  EVENTBUS_HOLD_INTERVAL: "100 millis",
  EVENTBUS_DRAIN_DEADLINE: "1 seconds",
  EVENTBUS_CLOSE_DEADLINE: "5 seconds",
  ...options.settings,
  CHAOS_LOG_LEVEL: options.logs === undefined ? "Warning" : "Info",
  CHAOS_RUN: `${options.seed}`,
  CHAOS_PARTITIONS: String(options.partitions),
  CHAOS_AGGREGATES: String(options.aggregates),
  CHAOS_AHEAD: String(options.ahead),
  CHAOS_STRATEGY: options.strategy,
  CHAOS_SWITCH_EVERY: String(options.switchEverySeconds ?? 0),
  CHAOS_SEED: String(options.seed),
  CHAOS_MIN_WORK_MS: String(options.minWorkMs),
  CHAOS_MAX_WORK_MS: String(options.maxWorkMs),
  CHAOS_FAILURE_RATE: String(options.failureRate),
  CHAOS_PATIENTS: String(options.patients),
  CHAOS_RATE: String(options.rate ?? 0),
  CHAOS_ILL_FROM: String(Patients.seasonOf(options)?.from ?? 0),
  CHAOS_ARE_ILL: options.areIll ? "yes" : "no"
})

/** What a run knows while it goes on. */
class Run {
  readonly entries: Array<Log.Entry> = []
  readonly progress = new Progress()
  readonly instances: Array<Instance> = []
  readonly disturbances: Array<Disturbance> = []
  readonly counts = { kills: 0, suspensions: 0, cuts: 0, brokerRestarts: 0, slowStops: 0 }
  /** All that were ever started: what the dead wrote last is still to be read. */
  private readonly everybody: Array<Instance | Publisher> = []
  private readonly handling = new Set<string>()
  private started = 0

  constructor(readonly options: Options, readonly fleet: Fleet, readonly say: Say) {}

  readonly startInstance = Effect.suspend(() => this.fleet.startInstance(`worker-${this.started++}`)).pipe(
    Effect.tap((instance) => Effect.sync(() => this.everybody.push(instance)))
  )

  readonly startPublisher = Effect.suspend(() => this.fleet.startPublisher).pipe(
    Effect.tap((publisher) => Effect.sync(() => this.everybody.push(publisher)))
  )

  readonly disturbed = (disturbance: Disturbance): void => {
    this.disturbances.push(disturbance)
  }

  poll(): void {
    for (const one of this.everybody) {
      const entries = one.poll()
      for (const entry of entries) {
        this.entries.push(entry)
        if (entry.kind === "S") this.handling.add(entry.process)
      }
      this.progress.add(entries)
    }
  }

  hasHandled(instance: string): boolean {
    return this.handling.has(instance)
  }

  get output(): string {
    return this.everybody.map((one) => `${one.name}: ${one.errors()}`).join("\n").slice(-20_000)
  }
}

const makeRun = (options: Options, say: Say) =>
  Effect.gen(function*() {
    if (options.transport === "memory") {
      return { run: new Run(options, yield* InMemory.make(options), say), stage: Stage.none }
    }
    const path = yield* folder
    const [stage] = yield* Effect.all([Stage.make(options), Bundle.make(path)], { concurrency: "unbounded" })
    return { run: new Run(options, Processes.make(path, environment(options, stage), options.logs), say), stage }
  })

export const run = (options: Options, say: Say = () => {}) =>
  Effect.scoped(Effect.gen(function*() {
    const { run, stage } = yield* makeRun(options, say)
    for (let i = 0; i < options.instances; i++) run.instances.push(yield* run.startInstance)
    const publisher = yield* run.startPublisher
    const watch = yield* Effect.forkScoped(watching(run, publisher))
    const result = yield* Effect.raceFirst(story(run, stage, publisher), Fiber.join(watch))
    return result
  }))

/** Reads the logs, tells the publisher, and fails when somebody ended by itself or nobody moves. It never succeeds. */
const watching = (run: Run, publisher: Publisher): Effect.Effect<never, ParticipantFailed | Stuck> => {
  let finishes = 0
  let moved = performance.now()
  return Effect.suspend((): Effect.Effect<void, ParticipantFailed | Stuck> => {
    run.poll()
    const { progress } = run
    if (publisher.isAlive()) publisher.tell(progress.strangers)
    for (const one of run.instances) {
      if (!one.isAlive()) return new ParticipantFailed({ name: one.name, output: one.errors() })
    }
    if (progress.finishes > finishes) moved = performance.now()
    finishes = progress.finishes
    return performance.now() - moved > (run.options.relentless ? relentlessPatienceMs : patienceMs)
      ? new Stuck({ handled: progress.handled, output: run.output })
      : Effect.sleep("50 millis")
  }).pipe(Effect.forever)
}

const until = (condition: () => boolean) =>
  Effect.suspend(() => condition() ? Effect.void : Effect.sleep("20 millis")).pipe(Effect.repeat({ until: condition }))

const story = (run: Run, stage: Stage.Stage, publisher: Publisher) =>
  Effect.gen(function*() {
    const { options, progress, say } = run
    // Calm: everybody is there, and nothing happens.
    yield* Effect.timeoutOption(until(() => run.instances.every(({ name }) => run.hasHandled(name))), startPatienceMs)
    yield* until(() => progress.handled > 0)
    yield* Effect.sleep("2 seconds")
    const calmMs = Math.max(3_000, Math.min(20_000, options.seconds * 200))
    const calmFrom = Log.now()
    yield* Effect.sleep(calmMs)
    const calmTo = Log.now()
    say(`calm: ${progress.handled} handled`)

    const endsAt = calmTo + (options.seconds * 1_000 - calmMs) * 1e6
    const isEnough = () => Log.now() >= endsAt && progress.published >= options.envelopes
    // A broker that could not be started again is the run's failure.
    yield* Effect.raceFirst(chaos(run, isEnough), weather(run, stage))
    yield* Stage.mend(stage, { say: () => {}, disturbed: run.disturbed })
    const chaosTo = Log.now()
    yield* run.fleet.heal

    // The end: what was published has to be handled, too.
    const finishing = performance.now()
    yield* publisher.finish
    const tookMs = Math.round(performance.now() - finishing)
    if (tookMs > stopPatienceMs) say(`the publisher took ${tookMs} ms to end:\n${publisher.errors()}`)
    run.poll()
    say(`the end: ${progress.outstanding} to be handled`)
    const begun = performance.now()
    yield* settledOrStill(run)
    say(`the end: settled after ${Math.round(performance.now() - begun)} ms, ${progress.outstanding} outstanding`)
    yield* Effect.timeoutOption(until(() => Letters.left(run.entries, run.instances) === 0), lettersPatienceMs)
    const left = Letters.left(run.entries, run.instances)
    yield* Effect.forEach(run.instances.splice(0), (instance) => stopped(run, instance), {
      concurrency: "unbounded",
      discard: true
    })
    run.poll()
    return verdictOf(run, { from: calmFrom, to: calmTo }, { from: calmTo, to: chaosTo }, left)
  })

/** An instance has 5 s to close, and its broker may be gone or be told late: what takes longer than this hangs, and is killed. */
const stopPatienceMs = 20_000

const stopped = ({ counts, progress, say }: Run, instance: Instance): Effect.Effect<void> =>
  Effect.map(instance.stop(stopPatienceMs), (inTime) => {
    if (inTime) return
    counts.slowStops++
    say(
      `${instance.name} did not end within ${stopPatienceMs} ms after SIGTERM, and was killed: ${progress.handled} handled`
    )
  })

const weather = (run: Run, stage: Stage.Stage) => {
  const { cutEverySeconds, restartEverySeconds } = run.options
  const report = (what: "cuts" | "brokerRestarts"): Stage.Weather => ({
    say: (line) => {
      run.counts[what]++
      run.say(`${line}: ${run.progress.handled} handled`)
    },
    disturbed: run.disturbed
  })
  return Effect.all([
    cutEverySeconds === undefined ? Effect.never : Stage.cuts(stage, run.options, report("cuts")),
    restartEverySeconds === undefined ? Effect.never : Stage.restarts(stage, run.options, report("brokerRestarts"))
  ], { concurrency: "unbounded", discard: true })
}

/** One instance after the other: killed, stopped or suspended, and replaced, until it is enough. */
const chaos = (run: Run, isEnough: () => boolean): Effect.Effect<void, ParticipantFailed, Scope.Scope> => {
  const { counts, instances, options, progress, say } = run
  const random = Random.make(options.seed, "instances")
  const once = Effect.gen(function*() {
    const index = Math.floor(random() * instances.length)
    const victim = instances[index]!
    const action = Random.pick(random, options.actions)
    const [away, suspended] = [random() < 0.5 ? random() * 2_000 : 0, 500 + random() * 3_500]
    say(`${action} ${victim.name}: ${progress.handled} handled`)
    if (action === "suspend") {
      counts.suspensions++
      yield* victim.suspend
      yield* Effect.ensuring(Effect.sleep(suspended), victim.resume)
      return
    }
    counts.kills++
    // It is expected to end now.
    instances.splice(index, 1)
    yield* action === "kill" ? victim.kill : stopped(run, victim)
    yield* Effect.sleep(away)
    const successor = yield* run.startInstance
    instances.splice(index, 0, successor)
    // On a machine that is busy otherwise it may take long to start: nobody is killed before it did anything.
    if (options.relentless) return
    yield* Effect.timeoutOption(until(() => isEnough() || run.hasHandled(successor.name)), startPatienceMs)
  })
  return Effect.gen(function*() {
    // What an action takes counts: one begins every so many seconds, if it can.
    let at = performance.now() + options.killEverySeconds * 1_000
    for (;;) {
      yield* until(() => isEnough() || performance.now() >= at)
      if (isEnough()) return
      yield* once
      const every = options.killEverySeconds * 1_000 * (options.relentless ? 0.5 + random() : 1)
      at = Math.max(at + every, performance.now() + 500)
    }
  })
}

/** Until nothing is outstanding, or nothing has moved for long: then the judge says what is lost. */
const settledOrStill = ({ options, progress }: Run) =>
  Effect.gen(function*() {
    const stillMs = Math.max(20_000, 4 * options.sessionTimeoutMs)
    let finishes = -1
    let moved = performance.now()
    while (progress.outstanding > 0 && performance.now() - moved < stillMs) {
      if (progress.finishes !== finishes) moved = performance.now()
      finishes = progress.finishes
      yield* Effect.sleep("50 millis")
    }
  })

const verdictOf = (run: Run, calm: Figures.Span, chaos: Figures.Span, left: number): Result => {
  const { counts, disturbances, entries, fleet, options } = run
  const circumstances: Circumstances = {
    outages: fleet.outages,
    disturbances,
    // Commits go every second, and on a busy machine take up to another one.
    unconfirmed: 2e9,
    session: options.sessionTimeoutMs * 1e6
  }
  return {
    transport: options.transport,
    seconds: options.seconds,
    instances: options.instances,
    ...counts,
    ...judge(entries, circumstances),
    longestPauseMs: Figures.longestPauseMs(entries, { from: calm.from, to: chaos.to }),
    recoverMs: Math.max(0, ...Figures.recoveriesMs(entries, fleet.outages)),
    calmRate: Figures.rate(entries, calm),
    chaosRate: Figures.rate(entries, chaos),
    letters: { ...Letters.count(entries, { from: calm.from, to: chaos.to }), left }
  }
}
