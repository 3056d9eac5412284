/**
 * Runs a program in virtual time, as quickly as possible: whenever nothing is left to do, the clock goes on to the next timer.
 * The order in which fibers take turns depends on the seed only, so a run can be repeated.
 *
 * It is for many runs of programs that wait: the `TestClock` looks at the real time to find out whether every fiber
 * is asleep, which takes milliseconds for each step; here a thousand runs take seconds. What a program waits for
 * has to be inside it (the memory transport is): it must not wait for sockets, files or child processes.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { RuntimeFiber } from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Random from "effect/Random"
import type * as Scheduler from "effect/Scheduler"
import * as Prng from "./Prng.js"

/**
 * The program did not end: all fibers wait and no timer is set (`"deadlock"`), it goes on without letting time pass
 * (`"livelock"`), or it has not ended by the horizon.
 *
 * @since 0.1.0
 * @category errors
 */
export class NeverEnds extends Data.TaggedError("NeverEnds")<{
  readonly reason: "deadlock" | "livelock" | "horizon"
  readonly at: number
}> {
  override get message() {
    return `The program has not ended after ${
      Duration.format(Duration.millis(this.at))
    } of virtual time (${this.reason})`
  }
}

/**
 * The seed, and how long a program may take.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** For Effect's `Random` service and for the turns of the fibers. Default: 0. */
  readonly seed?: number | undefined
  /**
   * How likely a fiber lets the others go first, at each of its steps; up to 0.1 (with more, starting several fibers at once was
   * seen to end as a livelock). Default: 0, then it goes on for up to 2,048 steps.
   */
  readonly yieldRate?: number | undefined
  /** How long the program may take, in virtual time. Default: 1 day. */
  readonly horizon?: Duration.DurationInput | undefined
}

/**
 * Runs a program in virtual time, and ends as the program does.
 *
 * @since 0.1.0
 * @category running
 */
export const run = <A, E>(effect: Effect.Effect<A, E>, options: Options = {}): Effect.Effect<A, E | NeverEnds> =>
  Effect.async((resume) => {
    const machine = new Machine(options)
    machine.run(effect, (exit) => resume(exit))
  })

interface Timer {
  readonly at: number
  wake: (() => void) | undefined
}

/** How often promises and microtasks get their turn before the clock goes on. */
const quietTurns = 8
/** How often the event loop gets its turn before nothing more is expected from it. */
const idleTurns = 1_000
const maxTasksAtOnce = 1_000_000

class Machine implements Scheduler.Scheduler {
  private now = 0
  private tasks: Array<Scheduler.Task> = []
  /** Ascending by time. Timers for the same time are in the order in which they were set. */
  private readonly timers: Array<Timer> = []
  private readonly prng: Prng.Prng
  private readonly yieldRate: number
  private readonly horizon: number
  private ran = 0
  private quiet = 0
  private idle = 0
  private onEnd: (() => void) | undefined

  constructor(private readonly options: Options) {
    this.prng = Prng.make(options.seed ?? 0)
    this.yieldRate = options.yieldRate ?? 0
    this.horizon = Duration.toMillis(options.horizon ?? Duration.days(1))
  }

  readonly clock: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis: () => this.now,
    unsafeCurrentTimeNanos: () => BigInt(Math.round(this.now * 1e6)),
    currentTimeMillis: Effect.sync(() => this.now),
    currentTimeNanos: Effect.sync(() => BigInt(Math.round(this.now * 1e6))),
    sleep: (duration) =>
      Effect.async<void>((resume) => {
        const millis = Duration.toMillis(duration)
        if (millis === Number.POSITIVE_INFINITY) return
        const timer = this.set(this.now + millis, () => resume(Effect.void))
        return Effect.sync(() => {
          timer.wake = undefined
        })
      })
  }

  shouldYield(fiber: RuntimeFiber<unknown, unknown>): number | false {
    if (this.yieldRate > 0 && this.prng.next() < this.yieldRate) return 0
    return (fiber as unknown as { readonly currentOpCount: number }).currentOpCount > 2_048 ? 0 : false
  }

  scheduleTask(task: Scheduler.Task): void {
    this.tasks.push(task)
  }

  run<A, E>(effect: Effect.Effect<A, E>, onEnd: (exit: Exit.Exit<A, E | NeverEnds>) => void): void {
    const program = effect.pipe(
      Effect.withClock(this.clock),
      Effect.withRandom(Random.make(this.options.seed ?? 0)),
      Effect.withScheduler(this)
    )
    const fiber = Effect.runFork(program, { scheduler: this })
    fiber.addObserver((exit) => {
      this.onEnd ??= () => onEnd(exit)
    })
    const give = (reason: NeverEnds["reason"]) => {
      fiber.unsafeInterruptAsFork(FiberId.none)
      onEnd(Exit.fail(new NeverEnds({ reason, at: this.now })))
    }
    const turn = (): void => {
      this.runTasks()
      if (this.onEnd !== undefined) return this.onEnd()
      if (this.ran > maxTasksAtOnce) return give("livelock")
      if (this.tasks.length > 0 || this.quiet++ < quietTurns) return queueMicrotask(turn)
      this.quiet = 0
      if (this.advance()) return this.now > this.horizon ? give("horizon") : queueMicrotask(turn)
      if (this.idle++ < idleTurns) return void setImmediate(turn)
      give("deadlock")
    }
    // Between two runs the event loop has its turn, so that many runs don't starve the rest of the process.
    setImmediate(turn)
  }

  private runTasks(): void {
    while (this.tasks.length > 0 && this.ran <= maxTasksAtOnce) {
      const tasks = this.tasks
      this.tasks = []
      this.quiet = 0
      this.idle = 0
      this.ran += tasks.length
      for (const task of tasks) task()
    }
  }

  private set(at: number, wake: () => void): Timer {
    const timer: Timer = { at, wake }
    let index = this.timers.length
    while (index > 0 && this.timers[index - 1]!.at > at) index--
    this.timers.splice(index, 0, timer)
    return timer
  }

  /** Goes on to the next timer. */
  private advance(): boolean {
    for (let timer = this.timers.shift(); timer !== undefined; timer = this.timers.shift()) {
      if (timer.wake === undefined) continue
      this.now = Math.max(this.now, timer.at)
      this.ran = 0
      timer.wake()
      return true
    }
    return false
  }
}
