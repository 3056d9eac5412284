import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type { Delivery, EnvelopeDelivery } from "../Delivery.js"
import type { Envelope } from "../Envelope.js"
import type { DecodeError, Position, UnknownEventType } from "../EventBusError.js"
import type { DeadLetter, Drop, Park } from "../FailurePolicy.js"
import type { Headers } from "../Headers.js"
import type * as Observer from "../Observer.js"
import type { IncomingMessage, Semantics } from "../Transport.js"
import type { Counters } from "./counters.js"
import type { Home, Host } from "./home.js"
import type { Read } from "./incoming.js"
import type { By, Failed } from "./parking/letter.js"
import type { Share } from "./quota.js"
import type { Slot, Task } from "./slot.js"

/**
 * Where flights may go from each state. Nothing follows `ended`.
 *
 * @internal
 */
export const transitions: { readonly [From in Observer.State]: ReadonlyArray<Observer.State> } = {
  settling: ["queued", "ended"],
  queued: ["running", "parking", "ended"],
  running: ["waiting", "held", "dead-lettering", "parking", "ended"],
  waiting: ["running", "held", "dead-lettering", "parking", "ended"],
  held: ["running", "parking", "ended"],
  "dead-lettering": ["running", "waiting", "ended"],
  parking: ["running", "waiting", "queued", "ended"],
  ended: []
}

/**
 * How a flight is handled when its slot runs it.
 *
 * @internal
 */
export interface Behaviour {
  readonly receive: (flight: Flight, host: Host) => Effect.Effect<void>
  /** The fiber died with the flight in hand: what is done before the restart waits. */
  readonly crashed?: (flight: Flight) => Effect.Effect<void>
  /** The restarts for the flight have ended. */
  readonly giveUp: (
    flight: Flight,
    cause: Cause.Cause<unknown>,
    host: Host,
    /** Somebody has given it up by hand. */
    byHand?: Verdict
  ) => Effect.Effect<void>
}

/**
 * The parked message that a flight is, which somebody has released.
 *
 * @internal
 */
export interface Released {
  readonly failures: ReadonlyArray<Failed>
  readonly by: By
  readonly ended: (flight: Flight) => void
}

/**
 * What somebody has decided on a flight by hand: it is given up.
 *
 * @internal
 */
export interface Verdict {
  readonly policy: DeadLetter | Drop | Park | undefined
  readonly defect: unknown
}

/**
 * What keeps a lane from messages that end the process.
 *
 * @internal
 */
export interface Sentry {
  /** No message is taken before the store was read. */
  readonly isOpening: boolean
  /** Whether the flight may be one that a process has died with. Then it gets the sentry. */
  readonly concerns: (flight: Flight) => boolean
  readonly came: (flight: Flight) => void
  readonly ended: (flight: Flight) => void
  /** Whether its handler may begin: at once, alone, not yet, or never, because of a cause. */
  readonly verdict: (flight: Flight) => "begins" | "suspect" | "probation" | Cause.Cause<never>
  /** Waits until it may be run alone. `false`: it is asked for its verdict once more. */
  readonly turn: (flight: Flight) => Effect.Effect<boolean>
  /** What was run alone has ended. */
  readonly done: (flight: Flight, isFinished: boolean) => Effect.Effect<void>
  /** The lane has ended by itself, not by the end of the process. */
  readonly close: Effect.Effect<void>
}

/**
 * What circuits know of a flight: it failed by one, or it probes for one.
 *
 * @internal
 */
export interface Trial {
  /** Whether it may begin although these keep its subscription from beginning anything. */
  readonly passes: (holders: ReadonlySet<object>) => boolean
  /** It has ended, or probes no longer. */
  readonly over: (flight: Flight) => void
}

/**
 * The subscription that a flight belongs to. Slots may be shared by several, so each flight carries its own.
 *
 * @internal
 */
export interface Subscriber {
  /** `topic/group`. */
  readonly name: string
  readonly group: string
  readonly semantics: Semantics
  readonly behaviour: Behaviour
  readonly home: Home
  readonly counters: Counters
  readonly observer: Observer.Service
  /** Milliseconds since the epoch. */
  readonly time: () => number
}

/**
 * The lane that has taken a flight.
 *
 * @internal
 */
export interface Carrier {
  readonly subscriber: Subscriber
  readonly epoch: number
  /** The permits that handlers of this lane take of the subscription's `concurrency`. Undefined: it is unbounded. */
  readonly permits: Share | undefined
  /** Whether a handler of this lane may start now. */
  readonly mayBegin: () => boolean
  /** A slot has taken the flight, which had been queued, in hand. */
  readonly begun: (flight: Flight) => void
  /** Its closing handles also what is paused: it was settled before, and would be lost. */
  readonly letsGo: boolean
  /** So many flights more, or fewer, wait aside, because their aggregates are paused. */
  readonly aside: (by: number) => void
  /** The flight is held, for the first time or once more. */
  readonly holds: (flight: Flight) => void
  /** The flight has ended. `from` is the state before. */
  readonly ended: (flight: Flight, from: Observer.State) => void
  /** What is parked of the lane's partition. Undefined: the subscription has no such policy. */
  readonly parking:
    | { readonly park: (flight: Flight, cause: Cause.Cause<unknown>) => Effect.Effect<boolean> }
    | undefined
}

/**
 * One message between the moment a lane takes it and the moment the broker need not deliver it again. Everything that changes
 * on its way is here, with all transitions between its states.
 *
 * @internal
 */
export class Flight implements Observer.FlightView, Task {
  state: Observer.State
  since: number
  readonly takenAt: number
  outcome: Observer.Outcome | undefined
  attempt = 0
  /** How often its handler was started again after a crash. A crash after which the flight is given up does not count. */
  restarts = 0
  /** The policy is `hold` and the retries have ended: from now on the flight is held between its attempts. */
  isHeld = false
  /** The actor's fiber died with this flight in hand, and the handler was not started since. */
  hasCrashed = false
  lastCause: Cause.Cause<unknown> | undefined
  retry: Schedule.ScheduleDriver<unknown, never> | undefined
  /** What it waits for while its state is `waiting`. */
  waitsFor: "retry" | "restart" | "permit" | "circuit" | "guard" | "suspect" | "probation" = "retry"
  /** Its aggregate is paused, and it leaves its slot without having ended. */
  isAside = false
  /** Asked before each start of its handler: a process may have died with the message. Undefined: nobody suspects it. */
  sentry: Sentry | undefined
  /** A slot has taken it in hand. */
  hasBegun = false
  /** It was parked, and is released. */
  letter: Released | undefined = undefined
  /** It is given up when its slot runs it next. */
  verdict: Verdict | undefined
  /** Undefined: it has nothing to do with a circuit. */
  trial: Trial | undefined
  /** The failure policy has done what it does, and `onFailure` is told of it: nothing else follows. */
  isDecided = false
  /** The handler's argument, once it is decoded. */
  event: unknown = undefined
  isDecoded = false
  /** How the event is decoded, if that needs an effect. */
  decoding: Effect.Effect<unknown, DecodeError | UnknownEventType> | undefined
  /** The mailbox's key. Undefined: the message has no key, and gets one of the shared keys when it is dispatched. */
  readonly key: string | undefined
  readonly aggregateId: string | undefined
  /** The envelope, if the message is one. Each attempt has one of its own. */
  envelope: Envelope | undefined
  undecodable: DecodeError | UnknownEventType | undefined
  readonly isTombstone: boolean
  /** The aggregate's mailbox, from dispatching on. */
  mailbox:
    | {
      readonly key: string
      readonly slot: Slot
      readonly placement: { readonly strategy: { readonly name: string } }
      readonly isControlled: boolean
      readonly holdsBack: (flight: Flight) => boolean
      readonly steppedAside: (flight: Flight) => void
      readonly left: () => void
    }
    | undefined

  constructor(
    readonly message: IncomingMessage,
    readonly carrier: Carrier,
    read: Read,
    /** In bytes. */
    readonly size: number,
    state: "settling" | "queued"
  ) {
    this.key = read.mailbox
    this.aggregateId = read.aggregateId
    this.envelope = read.envelope
    this.undecodable = read.undecodable
    this.isTombstone = read.isTombstone
    this.state = state
    this.takenAt = this.since = carrier.subscriber.time()
  }

  get subscription(): string {
    return this.carrier.subscriber.name
  }
  get topic(): string {
    return this.message.topic
  }
  get partition(): number {
    return this.message.partition
  }
  get offset(): number {
    return this.message.offset
  }
  get maybeDuplicate(): boolean {
    return this.message.maybeDuplicate
  }
  get headers(): Headers {
    return this.message.headers
  }
  get group(): string {
    return this.carrier.subscriber.group
  }
  get semantics(): Semantics {
    return this.carrier.subscriber.semantics
  }
  get epoch(): number {
    return this.carrier.epoch
  }
  get strategy(): string | undefined {
    return this.mailbox?.placement.strategy.name
  }
  get position(): Position {
    return { topic: this.topic, partition: this.partition, offset: this.offset }
  }

  /** The handler's second argument: plain data, which does not change afterwards. */
  delivery(): Delivery | EnvelopeDelivery {
    const { aggregateId, attempt, carrier, envelope, message } = this
    const delivery: { -readonly [K in keyof Delivery]: Delivery[K] } & { envelope?: Envelope } = {
      topic: message.topic,
      partition: message.partition,
      offset: message.offset,
      group: carrier.subscriber.group,
      epoch: carrier.epoch,
      maybeDuplicate: message.maybeDuplicate,
      deliveryCount: message.deliveryCount,
      attempt,
      // A codec of the user's own may read an id that is no valid aggregate id.
      aggregateId: aggregateId ?? envelope?.aggregateId,
      key: message.key,
      headers: message.headers,
      timestamp: message.timestamp,
      value: message.value
    }
    if (envelope !== undefined) delivery.envelope = envelope
    // A plain message's event is its bytes, which may be a copy.
    else if (this.isDecoded && message.value !== null) delivery.value = this.event as Uint8Array
    return delivery
  }

  // ----- transitions

  /** Its lane has taken it: from now on the transport has it no more. */
  taken(): void {
    this.told(undefined, this.takenAt)
  }

  /** The broker has confirmed the settlement. The flight goes to its mailbox. */
  settled(): void {
    this.to("queued")
  }

  /**
   * The handler is about to start, for the first time or after a wait. `false`: the lane lets nothing start any more, and the
   * flight has ended; or its aggregate is paused, and it leaves its slot.
   */
  begin(): boolean {
    if (this.state === "ended") return false
    if (!this.carrier.mayBegin()) {
      this.giveBack()
      return false
    }
    if (this.mailbox?.isControlled === true && this.mailbox.holdsBack(this)) return false
    this.to("running")
    return true
  }

  /** The handler starts once more. */
  started(): void {
    if (++this.attempt > 1) this.carrier.subscriber.counters.retried++
    if (!this.hasCrashed) return
    this.hasCrashed = false
    this.restarts++
  }

  /** No code of the user runs until the flight begins again. */
  wait(why: "retry" | "permit" | "circuit" | "guard" | "suspect" | "probation"): void {
    this.waitsFor = why
    this.to("waiting")
  }

  /** Whether the lane lets handlers start; if not, the flight has ended. Asked before a wait that would be in vain. */
  goesOn(): boolean {
    if (this.carrier.mayBegin()) return true
    this.giveBack()
    return false
  }

  /** It waits until its subscription goes on, and leaves its slot. `false`: nothing keeps it. */
  standsBy(why: "circuit" | "guard"): boolean {
    this.wait(why)
    return this.mailbox?.holdsBack(this) === true
  }

  /** From now on the flight is tried until it succeeds. */
  willHold(): void {
    if (!this.isHeld) this.carrier.subscriber.counters.held++
    this.isHeld = true
  }

  /** The flight waits for its next attempt. */
  hold(): void {
    this.to("held")
    if (this.trial !== undefined) this.trial.over(this)
    this.carrier.holds(this)
  }

  /** The user's code runs again: it is told how the flight ends, or that it is held from now on. */
  report(isEnd = true): void {
    this.isDecided = isEnd
    this.to("running")
  }

  /** Its letter is being written to the store, or waits for that. */
  park(): void {
    this.to("parking")
  }

  /** Its aggregate is not parked any more. The flight goes to its mailbox. */
  unpark(): void {
    this.to("queued")
  }

  deadLetter(): void {
    this.to("dead-lettering")
  }

  end(outcome: Observer.Outcome): void {
    const { state } = this
    if (state === "ended") return
    this.outcome = outcome
    this.to("ended")
    this.carrier.ended(this, state)
    if (this.trial !== undefined) this.trial.over(this)
  }

  /** The flight was not handled. If it is settled already it is lost, or its handler has failed; else it comes again. */
  giveBack(): void {
    const isSettled = this.semantics === "at-most-once" && this.state !== "settling"
    this.end(!isSettled ? "unfinished" : this.lastCause === undefined ? "lost" : "failed")
  }

  private to(state: Observer.State): void {
    const { carrier, since, state: from } = this
    if (from === state) return
    this.state = state
    this.since = carrier.subscriber.time()
    if (from === "queued" && state !== "ended" && state !== "parking" && !this.hasBegun) {
      this.hasBegun = true
      carrier.begun(this)
    }
    this.told(from, since)
  }

  private told(from: Observer.State | undefined, since: number): void {
    const { counters, observer } = this.carrier.subscriber
    counters.transition(this, from)
    if (observer.transition !== undefined) observer.transition(this, from, since)
  }

  // ----- what its slot does with it

  get home(): Home {
    return this.carrier.subscriber.home
  }

  run(host: Host): Effect.Effect<void> {
    return this.verdict === undefined
      ? this.carrier.subscriber.behaviour.receive(this, host)
      : this.judged(host, this.verdict)
  }

  private judged(host: Host, verdict: Verdict): Effect.Effect<void> {
    if (!this.begin()) return Effect.void
    this.verdict = undefined
    const byHand = Cause.die(verdict.defect)
    const cause = this.lastCause === undefined ? byHand : Cause.sequential(this.lastCause, byHand)
    return this.carrier.subscriber.behaviour.giveUp(this, cause, host, verdict)
  }

  crashed(cause: Cause.Cause<never>, isRestarted: boolean): Effect.Effect<void> | undefined {
    this.hasCrashed = true
    this.lastCause = cause
    const { behaviour, counters, observer } = this.carrier.subscriber
    if (isRestarted) {
      counters.restarted++
      if (observer.event !== undefined) observer.event({ _tag: "Restarted", flight: this })
    }
    if (this.state === "ended") return undefined
    this.waitsFor = "restart"
    this.to("waiting")
    return behaviour.crashed?.(this)
  }

  giveUp(cause: Cause.Cause<never>, host: Host): Effect.Effect<void> {
    return this.carrier.subscriber.behaviour.giveUp(this, cause, host)
  }

  interrupted(): void {
    this.giveBack()
  }

  left(): void {
    const { mailbox } = this
    if (mailbox === undefined) return
    if (!this.isAside) return mailbox.left()
    this.isAside = false
    this.mailbox = undefined
    mailbox.steppedAside(this)
  }
}
