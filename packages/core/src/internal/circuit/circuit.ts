import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Schedule from "effect/Schedule"
import type { Change, State } from "../../Circuit.js"
import { describeCause } from "../describeCause.js"
import type { Flight, Trial as FlightTrial } from "../flight.js"
import * as Safely from "../safely.js"
import { choose, maxProbesOfOne } from "./choose.js"
import type { Member } from "./member.js"

/** When a message probes, unless somebody has said otherwise. */
const defaultProbe = Schedule.exponential("1 second", 2).pipe(
  Schedule.union(Schedule.spaced("30 seconds")),
  Schedule.jittered
)

/** How often a message to probe with is looked for, where there is none. */
const lookEvery = "250 millis"

/** A circuit that opens again within this time, in milliseconds, goes on with the waits that it had. */
const relapse = 60_000

const maxReason = 500

/**
 * What a circuit needs of its bus.
 *
 * @internal
 */
export interface Surroundings {
  /** Milliseconds since the epoch. */
  readonly time: () => number
  readonly changed: (change: Change) => void
  /** Something is wrong with a schedule. */
  readonly warn: (text: string) => void
  readonly fork: (effect: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
}

/**
 * What circuits know of one flight.
 *
 * @internal
 */
export class Trial implements FlightTrial {
  /** The one that it probes for now. */
  probesFor: Circuit | undefined
  /** The one that its last failure was of. */
  failedBy: Circuit | undefined
  /** How often it has probed. */
  probes = 0

  passes(holders: ReadonlySet<object>): boolean {
    return this.probesFor !== undefined && holders.size === 1 && holders.has(this.probesFor)
  }

  over(flight: Flight): void {
    this.probesFor?.probeOver(flight, flight.outcome === "handled")
  }

  static of(flight: Flight): Trial {
    return (flight.trial ??= new Trial()) as Trial
  }
}

/** How a probe ended: it has failed by the circuit once more, or it says nothing. A success closes the circuit, and ends the probing. */
type Verdict = "failed" | "nothing"

/**
 * A circuit. While it is open it holds the subscriptions that have it, and one message at a time probes.
 *
 * @internal
 */
export class Circuit {
  private state: State["state"] = "closed"
  private since: number
  private openedAt: number | undefined
  private closedAt = -Infinity
  private reason: string | undefined
  private isByHand = false
  private readonly members = new Set<Member>()
  private probe: Flight | undefined
  private decide: ((verdict: Verdict) => void) | undefined
  /** Of the probing: it goes up whenever that begins or ends. */
  private generation = 0
  private probing: Fiber.RuntimeFiber<void> | undefined
  private driver: Schedule.ScheduleDriver<unknown> | undefined

  /** `schedule`: undefined for the default; `"never"`: nothing probes, so that somebody has to close it. */
  constructor(
    readonly name: string,
    readonly kind: State["kind"],
    private readonly surroundings: Surroundings,
    private schedule: Schedule.Schedule<unknown> | "never" | undefined
  ) {
    this.since = surroundings.time()
  }

  get isOpen(): boolean {
    return this.state !== "closed"
  }

  get shown(): State {
    return {
      name: this.name,
      kind: this.kind,
      state: this.state,
      since: this.since,
      openedAt: this.openedAt,
      reason: this.reason,
      isByHand: this.isByHand,
      subscriptions: Array.from(this.members, ({ name }) => name)
    }
  }

  get isUnused(): boolean {
    return this.members.size === 0
  }

  has(member: Member): boolean {
    return this.members.has(member)
  }

  join(member: Member): void {
    if (this.members.has(member)) return
    this.members.add(member)
    if (this.isOpen) member.book.pauses.hold(this)
  }

  /** The subscription has ended. */
  leave(member: Member): void {
    if (!this.members.delete(member)) return
    // What nobody can probe for would stay open for ever.
    if (this.isOpen && !this.isByHand && !Array.from(this.members).some(({ canProbe }) => canProbe)) this.close()
  }

  /** A message has failed by it, or would be given up, and stays unfinished. */
  failed(flight: Flight, reason: () => string, schedule?: Schedule.Schedule<unknown>): void {
    const trial = Trial.of(flight)
    // It may probe for another one.
    if (trial.probesFor !== undefined && trial.probesFor !== this) trial.over(flight)
    trial.failedBy = this
    if (this.probe === flight) {
      this.reason = Safely.cut(reason(), maxReason)
      this.to("open")
      this.endProbe("failed")
    } else if (!this.isOpen) {
      if (schedule !== undefined) this.schedule = schedule
      this.open(reason(), false, flight)
    }
  }

  /** The message fails by something else, so the dependency answers. A guard waits for an end. */
  answered(flight: Flight): void {
    if (this.probe === flight && this.kind === "circuit") this.close()
  }

  openByHand(reason: string): void {
    if (!this.isOpen) return this.open(reason, true)
    this.isByHand = true
    this.reason = Safely.cut(reason, maxReason)
    this.endProbing()
    this.to("open")
  }

  close(): void {
    if (!this.isOpen) return
    this.closedAt = this.surroundings.time()
    this.endProbing()
    const { isByHand, openedAt, reason } = this
    const from = this.state
    this.state = "closed"
    this.since = this.closedAt
    this.openedAt = this.reason = undefined
    this.isByHand = false
    this.surroundings.changed({ ...this.shown, reason, isByHand, from, openFor: this.closedAt - openedAt! })
    for (const member of Array.from(this.members)) {
      // The first of them may fail at once, and open it again.
      if (this.isOpen || member.book.paused?.holders.has(this) !== true) continue
      if (member.book.paused.letGoOf(this)) member.goOn()
    }
  }

  /** The message that probes has ended, or can't go on. */
  probeOver(flight: Flight, isHandled: boolean): void {
    if (this.probe !== flight) return
    if (isHandled) this.close()
    else this.endProbe("nothing")
  }

  private open(reason: string, isByHand: boolean, by?: Flight): void {
    const now = this.surroundings.time()
    if (now - this.closedAt > relapse) this.driver = undefined
    this.reason = Safely.cut(reason, maxReason)
    this.isByHand = isByHand
    this.openedAt = now
    for (const { book } of this.members) book.pauses.hold(this, by)
    this.to("open")
    if (!isByHand && this.schedule !== "never") this.probing = this.surroundings.fork(this.rounds(++this.generation))
  }

  private to(state: State["state"]): void {
    const from = this.state
    if (from === state) return
    this.state = state
    this.since = this.surroundings.time()
    this.surroundings.changed({ ...this.shown, from, openFor: undefined })
  }

  // ----- probing

  private endProbe(verdict: Verdict): void {
    const { decide, probe } = this
    this.probe = this.decide = undefined
    if (probe !== undefined) Trial.of(probe).probesFor = undefined
    decide?.(verdict)
  }

  private endProbing(): void {
    const { probing } = this
    this.probing = undefined
    this.generation++
    this.endProbe("nothing")
    this.admitNone()
    probing?.unsafeInterruptAsFork(FiberId.none)
  }

  private rounds(generation: number): Effect.Effect<void> {
    return Effect.whileLoop({
      while: () => this.generation === generation,
      body: () => this.unbroken(Effect.zipRight(this.wait, this.round(generation))),
      step: () => {}
    })
  }

  /** A fault of ours must not leave it open without a probe. */
  private unbroken(round: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.catchAllDefect(round, (defect) => {
      this.surroundings.warn(`Probing for "${this.name}" died, and goes on: ${describeCause(Cause.die(defect))}`)
      this.endProbe("nothing")
      return Effect.sleep("1 second")
    })
  }

  /** Waits for the next probe. */
  private get wait(): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      const { schedule } = this
      if (schedule === "never") return yield* Effect.never
      // Without a compiler anything may be here.
      const next = yield* Effect.exit(Effect.gen(this, function*() {
        const driver = this.driver ??= yield* Schedule.driver(schedule ?? defaultProbe)
        return yield* driver.next(undefined)
      }))
      if (Exit.isSuccess(next)) return
      this.driver = undefined
      if (Cause.isInterrupted(next.cause)) return yield* Effect.interrupt
      if (Cause.isDie(next.cause)) {
        this.schedule = undefined
        this.surroundings.warn(`The schedule of the probes of "${this.name}" died, so they come by the default one`)
        return
      }
      this.surroundings.warn(
        `The schedule of the probes of "${this.name}" has ended: it stays open until somebody closes it`
      )
      return yield* Effect.never
    })
  }

  /** Messages probe one after the other, until one has told something. */
  private round(generation: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.generation !== generation) return Effect.void
      this.to("half-open")
      let verdict: Verdict = "nothing"
      return Effect.whileLoop({
        while: () => verdict === "nothing" && this.generation === generation,
        body: () => this.one,
        step: (next) => verdict = next
      })
    })
  }

  /** Lanes take some messages, so that there is another one to probe with. */
  private admit(): void {
    for (const { book: { paused }, canProbe, goOn, isClosing } of Array.from(this.members)) {
      if (!canProbe || isClosing || paused?.holders.has(this) !== true || paused.holders.size > 1) continue
      paused.admits = true
      goOn()
    }
  }

  private admitNone(): void {
    for (const { book } of this.members) if (book.paused !== undefined) book.paused.admits = false
  }

  private readonly one: Effect.Effect<Verdict> = Effect.suspend(() => {
    const chosen = choose(this.members, this)
    if (chosen === undefined) {
      this.admit()
      return Effect.as(Effect.sleep(lookEvery), "nothing" as const)
    }
    if (chosen.isDoubtful) this.admit()
    else this.admitNone()
    return Effect.async<Verdict>((resume) => {
      const trial = Trial.of(chosen.flight)
      trial.probesFor = this
      trial.probes = Math.min(trial.probes + 1, maxProbesOfOne)
      this.probe = chosen.flight
      this.decide = (verdict) => resume(Effect.succeed(verdict))
      chosen.aside.drain()
    })
  })
}
