import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import type * as FiberRefs from "effect/FiberRefs"
import * as Option from "effect/Option"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { endScope, type Home, type Host } from "./home.js"
import type { Ends, Mortal, Population } from "./population.js"
import type { Share, Waiter } from "./quota.js"
import { flagsOf, refsOf } from "./refs.js"
import { Room } from "./room.js"
import type { Turns } from "./turn.js"

/**
 * Something that a slot runs. The bus makes its messages tasks.
 *
 * @internal
 */
export interface Task {
  /** Where it runs. */
  readonly home: Home
  /** Handles the task. It has no typed failure. A defect ends the slot's fiber. */
  readonly run: (host: Host) => Effect.Effect<void>
  /**
   * The fiber ended while it handled this task. The next fiber runs the answer, if there is one, then waits as the schedule says, and begins
   * with this task again. `isRestarted`: the slot has a schedule of restarts.
   */
  readonly crashed: (cause: Cause.Cause<never>, isRestarted: boolean) => Effect.Effect<void> | void
  /** The restart schedule has ended for the task: this is its last run. A defect here is one more crash. */
  readonly giveUp: (cause: Cause.Cause<never>, host: Host) => Effect.Effect<void>
  /** The task was interrupted in hand, or was in the mailbox when its slot ended. */
  readonly interrupted: () => void
  /** The task has left its slot, whether it was handled or not. */
  readonly left: () => void
}

/**
 * What a slot is made of.
 *
 * @internal
 */
export interface SlotOptions {
  /** How many tasks its mailbox holds, the one in hand included. */
  readonly capacity: number
  /** When the slot is started again after a defect. Undefined: never, so that a task whose handler dies is given up at once. */
  readonly restart: Schedule.Schedule<unknown, Cause.Cause<never>> | undefined
  /** The place that `admit` has given to the slot. */
  readonly place: Share
  /** It has ended. */
  readonly onEnd: (slot: Slot) => void
  /** Who is told that messages wait for room in its mailbox. Undefined: nobody. */
  readonly full?: Fullness | undefined
}

/**
 * Who is told whether a slot's mailbox is full.
 *
 * @internal
 */
export interface Fullness {
  /** A task has found no room. */
  readonly isFull: (slot: Slot) => void
  /** There is room again that nobody waits for. */
  readonly hasRoom: (slot: Slot) => void
  /** It has been full for long. */
  readonly tell: (slot: Slot) => void
}

/** The tasks of all empty mailboxes. It is never written to: an array of its own would be a part of each idle slot's memory. */
const none: Array<Task | undefined> = []

/** Tasks that are done are cut off the array when there are this many, and when they are half of it. */
const cutAt = 64

/** A task has made its fiber die. */
interface Trouble {
  /** Of the restarts for this task. Undefined once the schedule has ended. */
  restarts?: Schedule.ScheduleDriver<unknown, Cause.Cause<never>> | undefined
  /** The schedule has ended: the task runs for the last time. */
  givingUp?: Cause.Cause<never>
}

/**
 * The state that the slots of a supervisor share.
 *
 * @internal
 */
export class Yard {
  /** The slot whose fiber is about to wait. */
  private waiting: Slot | undefined
  /** How the fiber of an idle slot waits. All slots use this one effect: an effect per slot would be a tenth of an idle slot's memory. */
  private readonly wait = Effect.async<void>((resume) => {
    const slot = this.waiting
    this.waiting = undefined
    // The fiber may have yielded since it looked into the mailbox, and another slot may have come here meanwhile. Then it looks again.
    if (slot === undefined || !slot.waitsWith(resume)) resume(Effect.void)
  })

  constructor(readonly population: Population, readonly turns: Turns) {}

  /** The effect by which a slot's fiber waits for a task, to be run next. */
  waitOf(slot: Slot): Effect.Effect<void> {
    this.waiting = slot
    return this.wait
  }
}

/**
 * An actor: one fiber and one bounded mailbox, which runs one task at a time. The fiber changes with each restart, the rest stays. It
 * knows nothing of aggregates and nothing of brokers.
 *
 * @internal
 */
export class Slot implements Host, Mortal {
  idleSince = 0
  /** Its neighbours in the list of those that are idle; undefined where it isn't in it. */
  older: Mortal | Ends | undefined
  younger: Mortal | Ends | undefined
  scope: Scope.CloseableScope | undefined
  /**
   * The mailbox, which survives the fiber. The tasks before `next` are done, and the task at `next` may be in hand. It is a plain
   * array, bounded by `offer`. A take from Effect's `Queue` makes a Deferred when the fiber waits, which was most of the cost of a message.
   */
  private tasks = none
  private next = 0
  /** Set while the fiber waits for a task. */
  private wake: ((effect: Effect.Effect<void>) => void) | undefined
  /** Also while its fiber died of the task, and is to be started again. */
  private inHand = false
  /**
   * Whether this round of the loop runs a task: one that only waits for a turn must not take what was in hand before a crash for done.
   * After it has run, the next round looks at what the task has set.
   */
  private round: "waits" | "runs" | "has run" = "waits"
  private isStopped = false
  private interrupting: Task | undefined
  /** The task in hand that was interrupted to begin once more. */
  private beginsAgain: Task | undefined
  /** The task in hand has made its fiber die. */
  private trouble: Trouble | undefined
  /** The mailbox has been full. */
  private room: Room | undefined
  private fiber!: Fiber.RuntimeFiber<void>
  /** The FiberRefs with which each attempt begins. */
  private refs!: FiberRefs.FiberRefs

  constructor(
    private readonly yard: Yard,
    /** For logs. */
    readonly name: string,
    /** Where it runs: at first at the home of its first task. */
    private home: Home,
    /** Slots share these. */
    private readonly options: SlotOptions
  ) {
    yard.population.began()
    this.run(this.loop)
  }

  get place(): Share {
    return this.options.place
  }

  /** Runs the tasks one after the other. Each fiber makes its own: kept here it would be a part of each idle slot's memory. */
  private get loop(): Effect.Effect<void> {
    return Effect.whileLoop({
      while: () => !this.isStopped,
      body: (): Effect.Effect<void> => {
        if (this.round === "has run") {
          this.round = "waits"
          if (this.isChanged) return this.renew
        }
        if (this.next === this.tasks.length) return this.yard.waitOf(this)
        if (this.yard.turns.isOver()) return this.yard.turns.next
        const task = this.current()
        if (task.home !== this.home) return this.moveTo(task.home)
        this.inHand = true
        this.round = "runs"
        const givingUp = this.trouble?.givingUp
        return givingUp === undefined ? task.run(this) : task.giveUp(givingUp, this)
      },
      step: () => {
        if (this.round !== "runs") return
        this.round = "has run"
        this.done()
      }
    })
  }

  /** How many tasks it has, the one in hand included. */
  get size(): number {
    return this.tasks.length - this.next
  }

  /** How full its mailbox is, from 0 to 1. */
  get use(): number {
    return this.size / this.options.capacity
  }

  /** Puts a task behind the others. `false`: the mailbox is full, and the waiter is woken when there is room for it. */
  offer(task: Task, waiter: Waiter): boolean {
    const { room, size } = this
    if (room?.take(waiter) !== true && size + (room?.kept ?? 0) >= this.options.capacity) {
      this.room ??= new Room()
      this.room.wait(waiter)
      waiter.room = this
      this.options.full?.isFull(this)
      return false
    }
    waiter.room = undefined
    if (size === 0) {
      this.yard.population.becameBusy(this)
      this.tasks = [task]
      this.next = 0
    } else this.tasks.push(task)
    this.awake()
    return true
  }

  /** The waiter waits no more, and needs no room that was reserved for it. */
  cancel(waiter: Waiter): void {
    waiter.room = undefined
    const { room } = this
    if (room === undefined) return
    room.cancel(waiter)
    this.tellRoom(room)
  }

  get taskInHand(): Task | undefined {
    return this.inHand ? this.current() : undefined
  }

  /** The tasks in the mailbox that are not in hand. */
  waiting(): ReadonlyArray<Task> {
    return this.tasks.slice(this.inHand ? this.next + 1 : this.next) as ReadonlyArray<Task>
  }

  count(which: (task: Task) => boolean): number {
    let count = 0
    for (let i = this.next; i < this.tasks.length; i++) if (which(this.tasks[i]!)) count++
    return count
  }

  /** Takes tasks out that are not in hand. */
  takeOut(which: (task: Task) => boolean): ReadonlyArray<Task> {
    const from = this.inHand ? this.next + 1 : this.next
    const waiting = this.tasks.slice(from) as ReadonlyArray<Task>
    const out = waiting.filter(which)
    if (out.length > 0) this.tasks = [...this.tasks.slice(0, from), ...waiting.filter((task) => !which(task))]
    return out
  }

  /** Tasks were taken out, and it may have nothing to do now. Those who wait for room are woken. */
  tookOut(): void {
    if (this.size === 0 && this.tasks !== none) {
      this.tasks = none
      this.next = 0
      if (!this.isStopped) this.yard.population.becameIdle(this)
    }
    const { room } = this
    if (room === undefined) return
    while (room.isAwaited && this.size + room.kept < this.options.capacity) room.serve()
    this.tellRoom(room)
  }

  /** Puts in tasks that were taken out of another slot, also beyond its capacity. */
  putIn(tasks: ReadonlyArray<Task>): void {
    if (this.size === 0) {
      this.yard.population.becameBusy(this)
      this.tasks = tasks.slice()
      this.next = 0
    } else for (const task of tasks) this.tasks.push(task)
    this.awake()
  }

  /** Interrupts the task in hand if `which` is true for it, and goes on with the next task. */
  interrupt(which: (task: Task) => boolean): void {
    if (this.isStopped || !this.inHand || this.interrupting !== undefined) return
    const task = this.current()
    if (!which(task)) return
    this.interrupting = task
    this.fiber.unsafeInterruptAsFork(FiberId.none)
  }

  /** Ends what the task in hand waits for, or does, and begins with it once more. It is no crash. `false`: it is not in hand. */
  again(task: Task): boolean {
    if (this.isStopped || !this.inHand || this.interrupting !== undefined || this.current() !== task) return false
    if (this.beginsAgain === task) return true
    this.beginsAgain = task
    this.fiber.unsafeInterruptAsFork(FiberId.none)
    return true
  }

  get fullness(): Fullness | undefined {
    return this.options.full
  }

  /** Ends it if it has nothing to do. */
  endIfIdle(): void {
    if (!this.isStopped && !this.inHand && this.size === 0) this.end()
  }

  /** Ends an idle slot. */
  end(): void {
    this.isStopped = true
    this.options.onEnd(this)
    this.options.full?.hasRoom(this)
    this.yard.population.ended(this)
    // The waiters for room here find another slot.
    this.room?.end()
    // Its loop ends by itself: an interruption costs several times as much, and slots may come and go by the thousand a second.
    if (!this.awake()) this.fiber.unsafeInterruptAsFork(FiberId.none)
  }

  /** Ends it with what is in its mailbox. The answer waits until it has ended. */
  stop(): Effect.Effect<void> {
    this.isStopped = true
    this.yard.population.becameBusy(this)
    this.fiber.unsafeInterruptAsFork(FiberId.none)
    return this.stopped
  }

  /** Waits until the task, which was interrupted, runs no more. */
  freed(task: Task): Effect.Effect<void> {
    const { fiber } = this
    return this.taskInHand !== task ? Effect.void : Effect.flatMap(
      Fiber.await(fiber),
      // Another fiber may have followed, as in `stopped`.
      () => this.fiber === fiber ? Effect.void : this.freed(task)
    )
  }

  private get stopped(): Effect.Effect<void> {
    const { fiber } = this
    return Effect.flatMap(Fiber.await(fiber), () => {
      // Another fiber may have followed, which releases what an attempt had opened.
      if (this.fiber !== fiber) return this.stopped
      for (; this.next < this.tasks.length; this.next++) this.tasks[this.next]!.interrupted()
      this.options.onEnd(this)
      this.options.full?.hasRoom(this)
      this.yard.population.ended(this)
      return Effect.void
    })
  }

  /** Keeps `resume` for the next task. `false`: its fiber is not the one that runs now, or there is something to do. */
  waitsWith(resume: (effect: Effect.Effect<void>) => void): boolean {
    if (this.isStopped || this.next < this.tasks.length) return false
    if (Option.getOrUndefined(Fiber.getCurrentFiber()) !== this.fiber) return false
    this.wake = resume
    return true
  }

  /** Resumes the fiber where it waits for a task. */
  private awake(): boolean {
    const { wake } = this
    if (wake === undefined) return false
    this.wake = undefined
    wake(Effect.void)
    return true
  }

  private current(): Task {
    return this.tasks[this.next]!
  }

  private run(effect: Effect.Effect<void>): void {
    // The former fiber has ended, and waits for nothing any more.
    this.wake = undefined
    this.round = "waits"
    this.fiber = this.home.fork(this, effect)
    this.refs = refsOf(this.fiber)
    this.fiber.addObserver((exit) => this.ended(exit))
  }

  /** An attempt has ended, and what it has set must not be seen by what follows. */
  renewed(): Effect.Effect<void> | undefined {
    return this.isChanged ? this.renew : undefined
  }

  private get isChanged(): boolean {
    return refsOf(this.fiber) !== this.refs || flagsOf(this.fiber, this.home.flags) !== this.home.flags
  }

  /** What an attempt has set is not seen by the next one. */
  private get renew(): Effect.Effect<void> {
    const refs = Effect.updateFiberRefs(() => this.refs)
    const { flags } = this.home
    const now = flagsOf(this.fiber, flags)
    return now === flags ? refs : Effect.zipRight(Effect.patchRuntimeFlags(RuntimeFlags.diff(now, flags)), refs)
  }

  /** The next task belongs to another subscription. */
  private moveTo(home: Home): Effect.Effect<void> {
    this.home = home
    return Effect.updateFiberRefs((fiberId) => this.refs = home.refs(this, fiberId))
  }

  private done(): void {
    const task = this.current()
    this.inHand = false
    this.tasks[this.next++] = undefined
    this.trouble = undefined
    // Before the slot is idle, and so may end: its mailbox must be known as empty by then.
    task.left()
    if (this.next === this.tasks.length) {
      this.tasks = none
      this.next = 0
      if (!this.isStopped) this.yard.population.becameIdle(this)
    } else if (this.next >= cutAt && this.next * 2 >= this.tasks.length) {
      this.tasks.splice(0, this.next)
      this.next = 0
    }
    if (this.room !== undefined) {
      this.room.serve()
      this.tellRoom(this.room)
    }
  }

  private tellRoom({ kept }: Room): void {
    const { capacity, full } = this.options
    if (full !== undefined && this.size + kept < capacity) full.hasRoom(this)
  }

  private ended(exit: Exit.Exit<void>): void {
    if (this.scope === undefined) return this.goOn(exit)
    // First the scope of the attempt is closed.
    this.fiber = this.home.fork(this, Effect.uninterruptible(endScope(this, exit)))
    this.fiber.addObserver(() => this.goOn(exit))
  }

  private goOn(exit: Exit.Exit<void>): void {
    // `stop` interrupts the remaining tasks itself.
    if (this.isStopped) return
    const target = this.interrupting
    this.interrupting = undefined
    const { beginsAgain } = this
    this.beginsAgain = undefined
    if (target !== undefined && this.inHand && this.current() === target) {
      target.interrupted()
      this.done()
      return this.run(this.loop)
    }
    // The target was done just before the interruption arrived. The task that is in hand now was not meant.
    if (Exit.isSuccess(exit) || target !== undefined) return this.run(this.loop)
    if (beginsAgain !== undefined && Cause.isInterruptedOnly(exit.cause)) return this.run(this.loop)
    const first = this.inHand ? this.current().crashed(exit.cause, this.options.restart !== undefined) : undefined
    this.run(this.restart(exit.cause, first ?? Effect.void))
  }

  /** Waits as the schedule says and goes on. When the schedule has ended for the task in hand, that task is given up. */
  private restart(cause: Cause.Cause<never>, first: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      yield* first
      if (this.isChanged) yield* this.renew
      const { restart } = this.options
      const trouble = this.trouble ??= {}
      let goesOn = false
      if (restart !== undefined) {
        const driver = trouble.restarts ??= yield* Schedule.driver(restart)
        // A schedule that throws has ended, too.
        goesOn = yield* Effect.exit(driver.next(cause)).pipe(Effect.map(Exit.isSuccess))
        if (!goesOn) trouble.restarts = undefined
      }
      if (!goesOn && this.inHand) trouble.givingUp = cause
      yield* this.loop
    })
  }
}
