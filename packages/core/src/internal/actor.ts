import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { Behaviour } from "../ActorSupervisor.js"
import { ChurningMap } from "../ChurningMap.js"

/** When so many handled messages stand before the rest of a mailbox, and are half of it, they are cut off. */
const cutAt = 64

/** @internal */
export interface Mortal {
  idleSince: number
  /** Its neighbours in the list of those that are idle; undefined where it isn't in it. */
  older: Mortal | Ends | undefined
  younger: Mortal | Ends | undefined
  readonly end: () => void
}

/** The list's own node: the oldest comes after it, the youngest before it. */
interface Ends {
  older: Mortal | Ends
  younger: Mortal | Ends
}

/**
 * All live actors of a supervisor, whichever subscription they serve.
 *
 * @internal
 */
export class Population {
  live = 0
  /** Those that are idle, in the order in which they became so, as a ring: each message takes its actor out and puts it back. */
  private readonly idle: Ends
  private waiters = new Set<() => void>()

  constructor(private readonly max: number, private readonly now: () => number) {
    const ends = {} as Ends
    ends.older = ends
    ends.younger = ends
    this.idle = ends
  }

  /** Whether one more may live; the actor that has been idle for the longest makes room for it. */
  admit(onRoom: () => void): boolean {
    if (this.live < this.max) return true
    const { oldest } = this
    if (oldest === undefined) {
      this.waiters.add(onRoom)
      return false
    }
    oldest.end()
    return true
  }

  becameIdle(actor: Mortal): void {
    actor.idleSince = this.now()
    const { older } = this.idle
    actor.older = older
    actor.younger = this.idle
    older.younger = actor
    this.idle.older = actor
    this.wake()
  }

  becameBusy(actor: Mortal): void {
    const { older, younger } = actor
    if (older === undefined || younger === undefined) return
    older.younger = younger
    younger.older = older
    actor.older = undefined
    actor.younger = undefined
  }

  ended(actor: Mortal): void {
    this.live--
    this.becameBusy(actor)
  }

  /** Tells those who wait for a place that there may be one. */
  wake(): void {
    if (this.waiters.size === 0) return
    const waiters = this.waiters
    this.waiters = new Set()
    for (const wake of waiters) wake()
  }

  /** Ends what became idle before a time, and answers since when the next one is idle. */
  endIdleSince(time: number): number | undefined {
    for (let { oldest } = this; oldest !== undefined; { oldest } = this) {
      if (oldest.idleSince > time) return oldest.idleSince
      oldest.end()
    }
    return undefined
  }

  private get oldest(): Mortal | undefined {
    const { younger } = this.idle
    return younger === this.idle ? undefined : younger as Mortal
  }
}

/** @internal */
export interface Settings<M, R> {
  readonly behaviour: Behaviour<M, R>
  readonly restart: Schedule.Schedule<unknown, Cause.Cause<never>>
  readonly mailboxCapacity: number
  readonly fork: (key: string, effect: Effect.Effect<void, never, R>) => Fiber.RuntimeFiber<void>
}

/**
 * The actors of one subscription by their keys.
 *
 * @internal
 */
export class ActorMap<M, R> {
  private readonly actors = new ChurningMap<string, Actor<M, R>>()
  /** The actor whose fiber is about to wait. */
  private waiting: Actor<M, R> | undefined
  /** How the fiber of an idle actor waits: one effect for all, as each one's own would be a tenth of what an idle actor takes. */
  private readonly wait = Effect.async<void>((resume) => {
    const actor = this.waiting
    this.waiting = undefined
    // The fiber may have yielded since it looked into the mailbox, and others may have come here meanwhile: then it looks again.
    if (actor === undefined || !actor.waitsWith(resume)) resume(Effect.void)
  })

  constructor(readonly population: Population, readonly settings: Settings<M, R>) {}

  offer(key: string, message: M, onRoom: () => void): boolean {
    let actor = this.actors.get(key)
    if (actor === undefined) {
      if (!this.population.admit(onRoom)) return false
      actor = new Actor(key, this)
      this.actors.set(key, actor)
      this.population.live++
      actor.start()
    }
    return actor.offer(message, onRoom)
  }

  interrupt(which: (message: M) => boolean): void {
    for (const actor of this.actors.values()) actor.interrupt(which)
  }

  live(): number {
    return this.actors.size
  }

  /** The effect by which an actor's fiber waits for a message, to be run next. */
  waitOf(actor: Actor<M, R>): Effect.Effect<void> {
    this.waiting = actor
    return this.wait
  }

  remove(actor: Actor<M, R>): void {
    this.actors.delete(actor.key)
    this.population.ended(actor)
  }

  readonly shutdown: Effect.Effect<void> = Effect.suspend(() => {
    const actors = Array.from(this.actors.values())
    this.actors.clear()
    // Nobody else may end them, now that they end here.
    for (const actor of actors) this.population.becameBusy(actor)
    const places = Effect.sync(() => {
      for (const actor of actors) this.population.ended(actor)
      this.population.wake()
    })
    return Effect.ensuring(Fiber.interruptAll(actors.map((actor) => actor.stop())), places)
  })
}

/** One aggregate's fiber and mailbox. The fiber changes with each restart, the rest stays. */
class Actor<M, R> implements Mortal {
  idleSince = 0
  older: Mortal | Ends | undefined
  younger: Mortal | Ends | undefined
  /**
   * The mailbox, which survives the fiber: what is before `next` is done, what is at `next` may be in hand. A plain
   * array, bounded by `offer`: each of `Queue`'s takes by a fiber that waits makes a Deferred, which was most of the cost of a message.
   */
  private mailbox: Array<M | undefined> = []
  private next = 0
  /** Set while the fiber waits for a message. */
  private wake: ((effect: Effect.Effect<void>) => void) | undefined
  private inHand = false
  private stopped = false
  private interrupting: M | undefined
  private restarts: Schedule.ScheduleDriver<unknown, Cause.Cause<never>> | undefined
  private givingUp: Cause.Cause<never> | undefined
  private waiters: Set<() => void> | undefined
  private fiber!: Fiber.RuntimeFiber<void>
  private readonly loop: Effect.Effect<void, never, R>

  constructor(readonly key: string, private readonly owner: ActorMap<M, R>) {
    this.loop = Effect.whileLoop({
      while: () => !this.stopped,
      body: (): Effect.Effect<void, never, R> => {
        if (this.next === this.mailbox.length) return this.owner.waitOf(this)
        this.inHand = true
        const message = this.current()
        const { behaviour } = this.owner.settings
        return this.givingUp === undefined ? behaviour.receive(message) : behaviour.giveUp(message, this.givingUp)
      },
      step: () => {
        if (this.inHand) this.done()
      }
    })
  }

  start(): void {
    this.run(this.loop)
  }

  offer(message: M, onRoom: () => void): boolean {
    const size = this.mailbox.length - this.next
    if (size >= this.owner.settings.mailboxCapacity) {
      this.waiters ??= new Set()
      this.waiters.add(onRoom)
      return false
    }
    if (size === 0) this.owner.population.becameBusy(this)
    this.mailbox.push(message)
    this.awake()
    return true
  }

  interrupt(which: (message: M) => boolean): void {
    if (this.stopped || !this.inHand || this.interrupting !== undefined) return
    const message = this.current()
    if (!which(message)) return
    this.interrupting = message
    this.fiber.unsafeInterruptAsFork(FiberId.none)
  }

  /** Ends an idle actor. */
  end(): void {
    this.owner.remove(this)
    const fiber = this.stop()
    // Its loop ends by itself: an interruption costs several times as much, and actors may come and go by the thousand a second.
    if (!this.awake()) fiber.unsafeInterruptAsFork(FiberId.none)
  }

  /** Whether its fiber is the one that runs now, and has nothing to do: it is to be resumed by this. */
  waitsWith(resume: (effect: Effect.Effect<void>) => void): boolean {
    if (this.stopped || this.next < this.mailbox.length) return false
    if (Option.getOrUndefined(Fiber.getCurrentFiber()) !== this.fiber) return false
    this.wake = resume
    return true
  }

  stop(): Fiber.RuntimeFiber<void> {
    this.stopped = true
    return this.fiber
  }

  /** Resumes the fiber where it waits for a message. */
  private awake(): boolean {
    const { wake } = this
    if (wake === undefined) return false
    this.wake = undefined
    wake(Effect.void)
    return true
  }

  private current(): M {
    return this.mailbox[this.next]!
  }

  private run(effect: Effect.Effect<void, never, R>): void {
    // A fiber that ended waits for nothing any more.
    this.wake = undefined
    this.fiber = this.owner.settings.fork(this.key, effect)
    this.fiber.addObserver(this.ended.bind(this))
  }

  private done(): void {
    this.inHand = false
    this.mailbox[this.next++] = undefined
    this.restarts = undefined
    this.givingUp = undefined
    if (this.next === this.mailbox.length) {
      this.mailbox.length = 0
      this.next = 0
      if (!this.stopped) this.owner.population.becameIdle(this)
    } else if (this.next >= cutAt && this.next * 2 >= this.mailbox.length) {
      this.mailbox.splice(0, this.next)
      this.next = 0
    }
    if (this.waiters !== undefined) {
      const waiters = this.waiters
      this.waiters = undefined
      for (const wake of waiters) wake()
    }
  }

  private ended(exit: Exit.Exit<void>): void {
    const { behaviour } = this.owner.settings
    if (this.stopped) {
      if (this.inHand) behaviour.interrupted(this.current())
      return
    }
    const target = this.interrupting
    this.interrupting = undefined
    if (target !== undefined && this.inHand && this.current() === target) {
      behaviour.interrupted(target)
      this.done()
      return this.run(this.loop)
    }
    // The target was done just before the interruption arrived: whatever is in hand now was not meant.
    if (Exit.isSuccess(exit) || target !== undefined) return this.run(this.loop)
    if (this.inHand) behaviour.crashed(this.current(), exit.cause)
    this.run(this.restart(exit.cause))
  }

  /** Waits as the schedule says and goes on; when it has ended for the message in hand, that message is given up. */
  private restart(cause: Cause.Cause<never>): Effect.Effect<void, never, R> {
    return Effect.gen(this, function*() {
      const driver = this.restarts ??= yield* Schedule.driver(this.owner.settings.restart)
      const goesOn = yield* Effect.isSuccess(driver.next(cause))
      if (!goesOn) {
        yield* driver.reset
        if (this.inHand) this.givingUp = cause
      }
      yield* this.loop
    })
  }
}
