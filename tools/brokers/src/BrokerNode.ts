/**
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { closeSync, existsSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { BrokerError, system } from "./BrokerError.js"
import * as Command from "./Command.js"

/**
 * One server of a cluster, and what a chaos test does to it.
 *
 * @since 0.1.0
 * @category models
 */
export interface BrokerNode {
  /** From 1. */
  readonly id: number
  /** host:port as clients use it; the same after every restart. */
  readonly address: string
  /** SIGKILL; returns when the process is gone. */
  readonly kill: Effect.Effect<void, BrokerError>
  /** SIGTERM; returns when the process is gone (SIGKILL after 20 s). */
  readonly stop: Effect.Effect<void, BrokerError>
  /** SIGSTOP: sockets stay open and nobody answers. */
  readonly suspend: Effect.Effect<void, BrokerError>
  /** SIGCONT. */
  readonly resume: Effect.Effect<void, BrokerError>
  /** SIGUSR2: a NATS server goes into lame duck mode, and ends after that. */
  readonly lameDuck: Effect.Effect<void, BrokerError>
  /** Starts it again with the same data and port, and waits until it is ready; does nothing while it runs. */
  readonly start: Effect.Effect<void, BrokerError>
  /** The end of its log. */
  readonly log: Effect.Effect<string>
}

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  readonly broker: "kafka" | "nats" | "prometheus"
  readonly id: number
  readonly address: string
  /** The cluster's folder, which notes the process for the warden. */
  readonly folder: string
  readonly command: string
  readonly args: ReadonlyArray<string>
  /** The container that the command attaches to, where signals have to go. */
  readonly container?: string | undefined
  /** Succeeds when this very server is ready; asked again every 50 ms. */
  readonly probe: Effect.Effect<void, BrokerError>
  /** Default 60 s. */
  readonly readyWithin?: Duration.DurationInput | undefined
}

interface Running {
  readonly signal: (signal: Signal) => Effect.Effect<void, BrokerError>
  readonly ended: Deferred.Deferred<string>
  /** It was told to end. */
  isEnding: boolean
}

type Signal = "SIGTERM" | "SIGKILL" | "SIGSTOP" | "SIGCONT" | "SIGUSR2"

/** How long a process may take to end by itself. */
const stopPatience = "20 seconds"

/** The process notes itself before it becomes the broker, so the warden can't miss one. */
const noteAndExec = `echo $$ > "$1" && [ ! -e "$2" ] || exit 1; shift 2; exec "$@"`

const dockerSignal: Record<Signal, ReadonlyArray<string>> = {
  SIGTERM: ["kill", "--signal", "TERM"],
  SIGKILL: ["kill", "--signal", "KILL"],
  SIGSTOP: ["pause"],
  SIGCONT: ["unpause"],
  SIGUSR2: ["kill", "--signal", "USR2"]
}

/** The signal is delivered a moment later, and until then its threads may answer. Where there is no /proc nobody can tell. */
const untilStopped = (child: ChildProcess): Effect.Effect<void> =>
  Effect.try(() => {
    const tasks = `/proc/${child.pid}/task`
    return !existsSync(tasks) ||
      readdirSync(tasks).every((task) => /\) [TtZX] /.test(readFileSync(join(tasks, task, "stat"), "utf8")))
  }).pipe(
    // A thread ended while it was looked at: look again.
    Effect.orElseSucceed(() => false),
    Effect.repeat({ until: (stopped) => stopped, schedule: Schedule.spaced("2 millis") }),
    Effect.timeoutOption("2 seconds"),
    Effect.asVoid
  )

const isPortClash = (log: string) => /address already in use|port is already allocated/i.test(log)

/**
 * A node that is not started yet; when the scope closes its process ends: SIGTERM, and SIGKILL 2 s later.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options): Effect.Effect<BrokerNode, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { address, broker, folder, id } = options
    const logFile = join(folder, `node-${id}.log`)
    const pidFile = join(folder, `node-${id}.pid`)
    const one = yield* Effect.makeSemaphore(1)
    let running: Running | undefined

    const log = Effect.sync(() => lastLines(logFile))

    const spawned = Effect.async<Running, BrokerError>((resume) => {
      const ended = Deferred.unsafeMake<string>(FiberId.none)
      const output = openSync(logFile, "a")
      const child = spawn("sh", [
        "-c",
        noteAndExec,
        "eventbus-node",
        pidFile,
        join(folder, "closed"),
        options.command,
        ...options.args
      ], { detached: true, stdio: ["ignore", output, output] })
      closeSync(output)
      child.once("error", (cause) => resume(Effect.fail(system(broker, "can't be started")(cause))))
      child.once("exit", (code, signal) => {
        running = undefined
        rmSync(pidFile, { force: true })
        Deferred.unsafeDone(ended, Effect.succeed(signal ?? `code ${code}`))
      })
      child.once("spawn", () => resume(Effect.succeed({ ended, signal: signalOf(child), isEnding: false })))
    }).pipe(Effect.tap((made) => Effect.sync(() => running = made)), Effect.uninterruptible)

    // A process that is already gone isn't an error: ChildProcess.kill only says so.
    const signalOf = (child: ChildProcess) => (signal: Signal): Effect.Effect<void, BrokerError> =>
      options.container === undefined
        ? Effect.try({ try: () => void child.kill(signal), catch: system(broker, `${signal} failed`) }).pipe(
          Effect.zipRight(signal === "SIGSTOP" ? untilStopped(child) : Effect.void)
        )
        : Effect.asVoid(Command.expect("docker", [...dockerSignal[signal], options.container]))

    const end = (signal: "SIGTERM" | "SIGKILL", patience: Duration.DurationInput) =>
      Effect.suspend(() => {
        const current = running
        if (current === undefined) return Effect.void
        current.isEnding = true
        const wait = Effect.asVoid(Deferred.await(current.ended))
        const kill = Effect.zipRight(current.signal("SIGKILL"), wait)
        return signal === "SIGKILL"
          ? kill
          // A suspended process would never see SIGTERM.
          : current.signal("SIGTERM").pipe(
            Effect.zipRight(options.container === undefined ? current.signal("SIGCONT") : Effect.void),
            // In a finalizer nothing else can be interrupted, and the time limit would wait for a broker that takes its time.
            Effect.zipRight(Effect.interruptible(wait)),
            Effect.timeoutTo({ duration: patience, onSuccess: () => Effect.void, onTimeout: () => kill }),
            Effect.flatten
          )
      })

    const exited = (made: Running) =>
      Effect.flatMap(Deferred.await(made.ended), (how) => {
        const lines = lastLines(logFile)
        const reason = isPortClash(lines) ? "PortInUse" : "Exited"
        return Effect.fail(
          new BrokerError({ broker, reason, detail: `node ${id} ended while it started (${how}).`, log: lines })
        )
      })

    const ready = options.probe.pipe(
      Effect.retry(Schedule.spaced("50 millis")),
      Effect.timeoutFail({
        duration: options.readyWithin ?? "60 seconds",
        onTimeout: () =>
          new BrokerError({
            broker,
            reason: "NotReady",
            detail: `node ${id} at ${address} runs and did not become ready in ${
              Duration.format(options.readyWithin ?? "60 seconds")
            }.`,
            advice: "In a cluster, a majority has to run. Look at its log, and whether the machine is overloaded.",
            log: lastLines(logFile)
          })
      })
    )

    // In a fiber of its own, as whoever starts it in a finalizer can't be interrupted, and the losers of races have to be.
    const started = (made: Running) => Effect.disconnect(Effect.interruptible(Effect.raceFirst(ready, exited(made))))

    const start = Effect.suspend(() =>
      running === undefined
        ? Effect.flatMap(spawned, started)
        // Whoever told it to end has not waited for that.
        : running.isEnding
        ? Effect.zipRight(end("SIGTERM", stopPatience), Effect.flatMap(spawned, started))
        : Effect.void
    )

    yield* Effect.addFinalizer(() => Effect.orDie(end("SIGTERM", "2 seconds")))

    return {
      id,
      address,
      log,
      kill: one.withPermits(1)(end("SIGKILL", 0)),
      stop: one.withPermits(1)(end("SIGTERM", stopPatience)),
      suspend: Effect.suspend(() => running?.signal("SIGSTOP") ?? Effect.void),
      resume: Effect.suspend(() => running?.signal("SIGCONT") ?? Effect.void),
      lameDuck: Effect.suspend(() => running?.signal("SIGUSR2") ?? Effect.void),
      start: one.withPermits(1)(start)
    }
  })

/**
 * Starts the nodes of a cluster together, and ends them together when the scope closes.
 *
 * @since 0.1.0
 * @category constructors
 */
export const startAll = (
  launches: ReadonlyArray<Options>
): Effect.Effect<ReadonlyArray<BrokerNode>, BrokerError, Scope.Scope> =>
  Effect.gen(function*() {
    const together = yield* Scope.fork(yield* Effect.scope, ExecutionStrategy.parallel)
    const nodes = yield* Scope.extend(Effect.forEach(launches, make), together)
    yield* Effect.forEach(nodes, (node) => node.start, { concurrency: "unbounded", discard: true })
    return nodes
  })

/**
 * Runs an attempt again, from scratch, when somebody else was quicker to take one of its ports.
 *
 * @since 0.1.0
 * @category combinators
 */
export const againOnPortClash = <A>(
  attempt: Effect.Effect<A, BrokerError, Scope.Scope>
): Effect.Effect<A, BrokerError, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const inner = yield* Scope.fork(yield* Effect.scope, ExecutionStrategy.sequential)
      return yield* Effect.onError(
        restore(Scope.extend(attempt, inner)),
        (cause) => Scope.close(inner, Exit.failCause(cause))
      )
    })
  ).pipe(Effect.retry({ times: 4, while: (error) => error.reason === "PortInUse" }))

const lastLines = (file: string): string => {
  try {
    return readFileSync(file, "utf8").split("\n").slice(-25).join("\n")
  } catch (cause) {
    return `(no log: ${String(cause)})`
  }
}
