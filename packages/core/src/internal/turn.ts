import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import type * as FiberRefs from "effect/FiberRefs"
import * as Scheduler from "effect/Scheduler"
import { refsOf } from "./refs.js"

/** How long handlers may run before the event loop has its turn, in milliseconds. */
const longest = 10

/** So often it is asked whether the turn is over before the clock is read again, as long as no handler takes long. */
const readEvery = 2

const nothing: ReadonlyArray<Scheduler.Task> = []

/**
 * The turns of the event loop. Handlers that never wait would keep it from heartbeats, leases and timers. So this scheduler of
 * the slots' fibers lets no fiber go on once the present turn has lasted too long, and each slot asks before each task. It is also
 * the clock of flights: the clock is read once for several of them.
 *
 * Effect's default scheduler makes a queue and a promise for each fiber that is given to it. Here the slots that are woken in one
 * tick share a queue. Fibers yield as with the default scheduler.
 *
 * @internal
 */
export class Turns implements Scheduler.Scheduler {
  private now = 0
  private since = 0
  private starts = 0
  private every = readEvery
  /** A handler of this turn took long. */
  private isSlow = false
  private isArmed = false
  /** Slots that ask between two tasks, and were told that the turn is over. */
  private waiting: Array<() => void> = []
  /** What was scheduled, by priority. */
  private readonly scheduled = new Scheduler.PriorityBuckets()
  /** What is being run, from `at` on. A turn that is over leaves the rest to the next one. */
  private running: ReadonlyArray<Scheduler.Task> = []
  private at = 0
  /** `drain` is going to be called. */
  private isScheduled = false
  /** It is called in the event loop's next turn. */
  private isPutOff = false
  private readonly isLive: boolean
  /** No heartbeat or lease waits for the event loop: the clock is one that a test sets, or time is simulated by a scheduler of the user's own. */
  private readonly isVirtual: boolean
  /** Of the fiber that was asked about last. */
  private refs: FiberRefs.FiberRefs | undefined
  private mostOps = 0

  /** `scheduler` is the one of the fiber that makes the supervisor. */
  constructor(private readonly clock: Clock.Clock, scheduler: Scheduler.Scheduler = Scheduler.defaultScheduler) {
    this.isLive = clock === Context.get(DefaultServices.liveServices, Clock.Clock)
    // Another clock than Effect's own may still be one of real time. Effect's `TestClock` is the one that has `adjust`.
    this.isVirtual = !this.isLive && ("adjust" in clock || !isOfEventLoop(scheduler))
  }

  /** Milliseconds since the epoch. */
  time(): number {
    if (!this.isLive) return this.clock.unsafeCurrentTimeMillis()
    if (!this.isArmed) this.arm()
    return this.now
  }

  /** Whole milliseconds since some point in time. Unlike the wall clock it is never set back. */
  monotonic(): number {
    return this.isLive ? Math.trunc(performance.now()) : Number(this.clock.unsafeCurrentTimeNanos() / 1_000_000n)
  }

  /** A handler is about to start. `true`: the event loop has to have its turn before. */
  isOver(): boolean {
    if (this.isVirtual) return false
    if (!this.isArmed) this.arm()
    else if (++this.starts >= this.every) this.read()
    return this.now - this.since >= longest
  }

  /** Whether slots or fibers wait for the event loop's turn. */
  get isAwaited(): boolean {
    return this.waiting.length > 0 || this.at < this.running.length
  }

  /** Waits until the event loop has had its turn. */
  readonly next: Effect.Effect<void> = Effect.async<void>((resume) => {
    if (!this.isArmed) this.arm()
    this.waiting.push(() => resume(Effect.void))
  })

  shouldYield(fiber: Fiber.RuntimeFiber<unknown, unknown>): number | false {
    // The default scheduler looks up two FiberRefs at each operation. They can only have changed where the FiberRefs have.
    const refs = refsOf(fiber)
    if (refs !== this.refs) {
      this.refs = refs
      this.mostOps = fiber.getFiberRef(FiberRef.currentMaxOpsBeforeYield)
    }
    return fiber.currentOpCount > this.mostOps && Scheduler.defaultScheduler.shouldYield(fiber)
  }

  scheduleTask(task: Scheduler.Task, priority: number): void {
    if (this.isVirtual) return Scheduler.defaultScheduler.scheduleTask(task, priority)
    this.scheduled.scheduleTask(task, priority)
    if (this.isScheduled) return
    this.isScheduled = true
    queueMicrotask(this.drain)
  }

  private readonly drain = (): void => {
    if (this.at === this.running.length) {
      const { buckets } = this.scheduled
      this.scheduled.buckets = []
      this.running = buckets.length === 1 ? buckets[0]![1] : buckets.flatMap(([, tasks]) => tasks)
      this.at = 0
    }
    try {
      while (this.at < this.running.length) {
        if (this.isOver()) return
        this.running[this.at++]!()
      }
      this.running = nothing
      this.at = 0
    } finally {
      if (this.at === this.running.length && this.scheduled.buckets.length === 0) this.isScheduled = false
      else if (this.isOver()) this.isPutOff = true
      else queueMicrotask(this.drain)
    }
  }

  private arm(): void {
    this.isArmed = true
    this.starts = 0
    // If a handler took long, the clock is read before each start, also in the next turn.
    this.every = this.isSlow ? 1 : readEvery
    this.isSlow = false
    this.now = this.since = this.present()
    afterEvents(this.ended)
  }

  /** A clock of the user's own may stand still or jump, so turns are not measured by it. */
  private present(): number {
    return this.isLive ? this.clock.unsafeCurrentTimeMillis() : performance.now()
  }

  private read(): void {
    const now = this.present()
    if (now - this.now > 1) {
      this.isSlow = true
      this.every = 1
    }
    // The wall clock can be set back.
    if (now < this.since) this.since = now
    this.now = now
    this.starts = 0
  }

  private readonly ended = (): void => {
    this.isArmed = false
    for (const resume of this.waiting.splice(0)) resume()
    if (!this.isPutOff) return
    this.isPutOff = false
    this.drain()
  }
}

/**
 * Whether a scheduler runs fibers on the event loop as Effect does: it is Effect's default one, or that of a bus, which fibers of
 * handlers have. With any other the event loop's turns mean nothing.
 */
export const isOfEventLoop = (scheduler: Scheduler.Scheduler): boolean =>
  scheduler === Scheduler.defaultScheduler || scheduler instanceof Turns

// Taken once, as fake timers of a test library may replace it for a while: what was given to these would never run.
// Browsers have none.
const afterThis: (run: () => void) => unknown = typeof setImmediate === "function" ? setImmediate : setTimeout

/** Runs something when the event loop has had its turn. */
export const afterEvents = (run: () => void): void => void afterThis(run)
