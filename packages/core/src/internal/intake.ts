import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import type * as Observer from "../Observer.js"
import type { Assignment, IncomingMessage, Lane, LaneReport } from "../Transport.js"
import type { AddressBook } from "./addressBook.js"
import * as Closing from "./closing.js"
import { Condition } from "./condition.js"
import { describeCause } from "./describeCause.js"
import { type Carrier, Flight, type Sentry, type Subscriber } from "./flight.js"
import { Gate } from "./gate.js"
import type { Incoming } from "./incoming.js"
import * as Logging from "./logging.js"
import { Pace } from "./pace.js"
import type { ParkedLane } from "./parking/lane.js"
import type { Parking } from "./parking/parking.js"
import { type Quota, type Share, Waiter } from "./quota.js"
import type { Rate } from "./rate.js"
import * as Safely from "./safely.js"
import { sizeOf } from "./size.js"
import type { Slot } from "./slot.js"

/**
 * The state and the settings that the lanes of a subscription share.
 *
 * @internal
 */
export interface IntakeSettings {
  readonly subscriber: Subscriber
  readonly mailboxes: AddressBook
  readonly incoming: Incoming
  readonly bytes: Quota
  /** How many handlers run at once. Undefined: every message in hand may run. */
  readonly concurrency: Quota | undefined
  /** How many messages are taken in a second. Undefined: as many as there is room for. */
  readonly rate: Rate | undefined
  /** Unfinished messages of one partition. */
  readonly maxUnfinished: number
  /** Runs something when the event loop has had its turn. Undefined: the lane takes all messages at once. */
  readonly nextTurn: ((run: () => void) => void) | undefined
  /** Whether slots wait for the event loop's turn. */
  readonly isTurnAwaited: () => boolean
  /** Logs an error. */
  readonly say?: (text: string) => void
  /** Makes what keeps the lane from messages that end the process. */
  readonly sentry?: ((assignment: Assignment, onOpened: () => void) => Sentry) | undefined
  /** Makes the stage in which messages are settled before they go to their mailboxes. Undefined: they are settled when they are finished. */
  readonly settleFirst: ((intake: Intake, assignment: Assignment) => Stage) | undefined
  /** Where parked aggregates are known. Undefined: no policy parks. */
  readonly parking?: Parking | undefined
}

/**
 * A stage between taking a message and its mailbox.
 *
 * @internal
 */
export interface Stage {
  readonly add: (flight: Flight) => void
  /** The lane closes. With `finishes` the flights that were taken still go through. */
  readonly close: (finishes: boolean) => void
  /** Waits until the last flight that may go through has done so. */
  readonly ended: Effect.Effect<void>
  /** Ends the stage at once, even while flights wait in it. */
  readonly stop: Effect.Effect<void>
  /** A flight that had gone through has ended. */
  readonly left: (flight: Flight) => void
  /** The flights that have not gone through, which leave the stage. */
  readonly drain: () => ReadonlyArray<Flight>
  /** How many flights it has that are not settled. */
  readonly unsettled: number
  /** The flight that has gone through, and waits for room in its mailbox, or for an actor. */
  readonly waitsForRoom: Flight | undefined
  /** The lane has ended, and its flights with it. */
  readonly release: () => void
}

/**
 * The lane of one partition. It takes messages from the transport, puts them into the mailboxes, bounds how many are unfinished,
 * and tells the assignment which have finished.
 *
 * @internal
 */
export class Intake implements Lane, Carrier {
  private unfinished = 0
  /** Flights that slots have in hand. */
  private inHand = 0
  /** How many flights ended unfinished. */
  private left = 0
  private lost = 0
  private refused = false
  private closing = false
  private isRevoked = false
  /** The transport's `resume` threw, and that was said. */
  private hasThrown = false
  /** No handler of this lane begins any more. */
  private dropping = false
  /** Handlers go on that can't be interrupted; `freed` waits for their end. */
  isStuck = false
  freed: Effect.Effect<void> = Effect.void
  /** A flight that found no room in its mailbox. It is offered again before all others. */
  private head: Flight | undefined
  private isFull = false
  private readonly forRate: Gate | undefined
  /** In recovery. */
  private forRecovery: Gate | undefined
  private isSlowed = false
  private readonly held = new Set<Flight>()
  private readonly bytes: Share
  private readonly stage: Stage | undefined
  private readonly sentry: Sentry | undefined
  readonly permits: Share | undefined
  readonly parking: ParkedLane | undefined
  letsGo = false
  /** How many flights wait aside, because their aggregates are paused. */
  private asides = 0
  private readonly forBytes = new Waiter(() => this.resume())
  private readonly forMailbox = new Waiter(() => this.resume())
  private readonly drained = new Condition(() => this.dropping ? this.inHand === 0 : this.isWorkedOff)
  private readonly quiet = new Condition(() => this.inHand === 0)
  private readonly pace: Pace

  constructor(private readonly assignment: Assignment, private readonly settings: IntakeSettings) {
    this.bytes = settings.bytes.share()
    this.permits = settings.concurrency?.share()
    this.forRate = settings.rate && new Gate(settings.rate, () => this.resume())
    this.pace = new Pace({
      unfinished: () => this.unfinished,
      most: settings.maxUnfinished,
      nextTurn: settings.nextTurn,
      isTurnAwaited: settings.isTurnAwaited,
      resume: () => this.resume()
    })
    this.stage = settings.settleFirst?.(this, assignment)
    this.sentry = settings.sentry?.(assignment, () => this.resume())
    this.parking = settings.parking?.lane(this, assignment)
    this.tell("Assigned")
  }

  get subscriber(): Subscriber {
    return this.settings.subscriber
  }

  get epoch(): number {
    return this.assignment.epoch
  }

  get partition(): number {
    return this.assignment.partition
  }

  offer(messages: ReadonlyArray<IncomingMessage>): number {
    if (this.closing) return 0
    let taken = 0
    this.refused = this.settings.mailboxes.paused?.refuses === true || this.sentry?.isOpening === true ||
      this.parking?.isReady === false
    if (this.refused) return this.standBy()
    while (taken < messages.length) {
      if (!this.take(messages[taken]!)) {
        this.refused = true
        break
      }
      taken++
    }
    return taken
  }

  /** The subscription is paused. No room is kept from others meanwhile. */
  private standBy(): 0 {
    this.forgetHead()
    this.bytes.cancel(this.forBytes)
    this.forRate?.cancel()
    this.forRecovery?.cancel()
    return 0
  }

  private take(message: IncomingMessage): boolean {
    if (this.pace.isOver) return false
    const flight = this.head?.message === message ? this.head : this.flightOf(message)
    if (flight === undefined) return false
    const isParked = this.parking !== undefined && this.parking.takes(flight)
    if (isParked) {
      // It was refused by its mailbox before.
      if (this.head === flight) this.settings.mailboxes.cancel(this.forMailbox)
    } else if (this.stage === undefined && !this.settings.mailboxes.offer(flight, this.forMailbox)) {
      this.head = flight
      return false
    }
    this.head = undefined
    this.forRate?.took()
    this.forRecovery?.took()
    flight.taken()
    flight.sentry?.came(flight)
    this.pace.took()
    this.stage?.add(flight)
    if (isParked) this.parking!.add(flight)
    return true
  }

  /** Undefined: a bound is reached. */
  private flightOf(message: IncomingMessage): Flight | undefined {
    this.forgetHead()
    const { incoming, maxUnfinished } = this.settings
    if (this.unfinished >= maxUnfinished) {
      this.full(true)
      return undefined
    }
    const size = sizeOf(message)
    if (!this.bytes.take(size, this.forBytes)) return undefined
    if (!this.isInRate()) {
      this.bytes.give(size)
      return undefined
    }
    this.unfinished++
    const state = this.stage === undefined ? "queued" : "settling"
    const flight = new Flight(message, this, incoming.read(message), size, state)
    if (this.sentry?.concerns(flight) === true) flight.sentry = this.sentry
    return flight
  }

  private isInRate(): boolean {
    const { forRate, forRecovery, isSlowed } = this
    if (forRate === undefined && forRecovery === undefined && !isSlowed) return true
    const isAllowed = forRate?.admits() !== false && forRecovery?.admits() !== false
    if (isSlowed === isAllowed) {
      this.isSlowed = !isAllowed
      this.reached("rate", this.isSlowed)
    }
    return isAllowed
  }

  /** From now on the lane keeps within this rate, too, while the subscription is in recovery. Undefined: no longer. */
  limit(rate: Rate | undefined): void {
    if (this.closing) return
    this.forRecovery?.end()
    this.forRecovery = rate && new Gate(rate, () => this.resume())
    this.resume()
  }

  /** The next message, while it waits for room in its mailbox, or for an actor. */
  get waitsForRoom(): Flight | undefined {
    return this.head ?? this.stage?.waitsForRoom
  }

  /** Forgets the flight that had no room. The transport still has its message. */
  private forgetHead(): void {
    const { head } = this
    if (head === undefined) return
    this.head = undefined
    this.settings.mailboxes.cancel(this.forMailbox)
    this.unfinished--
    this.bytes.give(head.size)
  }

  // ----- called by flights

  mayBegin(): boolean {
    if (!this.dropping && !this.isOwned) this.dropping = true
    return !this.dropping
  }

  get isOwned(): boolean {
    try {
      return this.assignment.isOwned?.() !== false
    } catch (thrown) {
      // Then it is not certain, and a defect would run the message into its failure policy.
      const { partition, topic } = this.assignment
      this.settings.say?.(
        `The transport's isOwned threw (${
          Safely.nameOf(thrown)
        }), so no handler of ${topic}[${partition}] begins any more`
      )
      return false
    }
  }

  begun(): void {
    this.inHand++
  }

  ended(flight: Flight, from: Observer.State): void {
    this.unfinished--
    if (flight.isHeld) this.held.delete(flight)
    flight.sentry?.ended(flight)
    try {
      if (this.parking !== undefined) this.parking.ended(flight)
      if (flight.outcome === "unfinished") this.left++
      else if (flight.outcome === "lost") this.lost++
      else if (this.stage === undefined && flight.letter === undefined) this.assignment.finish(flight.message)
    } finally {
      // Also if the transport throws: closing would wait for a flight that has ended.
      this.gone(flight, from)
    }
  }

  /** Gives back what the flight had. */
  private gone(flight: Flight, from: Observer.State): void {
    if (flight.hasBegun) this.inHand--
    this.bytes.give(flight.size)
    if (from !== "settling") this.stage?.left(flight)
    if (this.isFull) this.full(false)
    if (this.refused) this.resume()
    if (!this.closing) return
    this.quiet.changed()
    this.drained.changed()
  }

  holds(flight: Flight): void {
    this.held.add(flight)
    if (this.closing) this.drained.changed()
  }

  aside(by: number): void {
    this.asides += by
    if (this.closing) this.drained.changed()
  }

  /** The subscription is not paused any more, or what is parked is known. */
  goOn(): void {
    this.resume()
  }

  // ----- letters

  flightOfLetter(message: IncomingMessage, waiter: Waiter): Flight | undefined {
    const size = sizeOf(message)
    if (this.bytes.isEnded || !this.bytes.take(size, waiter)) return undefined
    this.unfinished++
    return new Flight(message, this, this.settings.incoming.read(message), size, "queued")
  }

  forgetLetter(flight: Flight | undefined, waiter: Waiter): void {
    if (flight === undefined) return this.bytes.cancel(waiter)
    this.unfinished--
    this.bytes.give(flight.size)
  }

  /** The stage before the mailboxes has broken. The lane takes nothing more, and the transport is going to close it. */
  breakOff(): void {
    this.closing = true
  }

  // ----- closing

  /** With `untilDone` there is no deadline: a replay ends when all is handled. */
  close(options: {
    readonly deadline: Duration.Duration
    readonly finishQueued: boolean
    readonly untilDone?: boolean
    /** Goes on soon after the deadline, also without handlers that can't be interrupted. */
    readonly goesOn?: boolean
  }): Effect.Effect<LaneReport> {
    return Effect.gen(this, function*() {
      const isFirst = !this.isRevoked
      this.closing = true
      this.forgetHead()
      this.settings.mailboxes.cancel(this.forMailbox)
      this.bytes.cancel(this.forBytes)
      this.forRate?.end()
      this.forRecovery?.end()
      this.parking?.stop()
      this.stage?.close(options.finishQueued)
      if (this.stage !== undefined) {
        this.letsGo = true
        this.settings.mailboxes.paused?.letGo(this)
      }
      // What was settled before its handler would be lost: it is worked off as long as the partition is certainly ours.
      if (options.finishQueued || this.stage !== undefined) {
        const worked = Effect.zipRight(this.stage?.ended ?? Effect.void, this.drained.wait)
        yield* options.untilDone === true
          ? worked
          : Effect.timeoutOption(Effect.interruptible(worked), options.deadline)
        this.dropping = true
      } else {
        this.dropping = true
        this.interrupt((flight) => flight.state !== "running")
        yield* this.quiet.waitFor(options.deadline)
      }
      if (this.stage !== undefined) yield* this.stage.stop
      this.interrupt(() => true)
      if (this.parking !== undefined) yield* this.parking.close(options.deadline)
      yield* options.goesOn === true
        ? Closing.patiently(this.quiet.wait, () => this.abandon)
        : Effect.zipRight(this.quietAtLast, Effect.suspend(() => this.freed))
      for (const flight of this.stage?.drain() ?? []) flight.giveBack()
      if (this.unfinished > 0) {
        for (const flight of this.settings.mailboxes.queued((flight) => flight.carrier === this)) flight.giveBack()
      }
      this.settings.mailboxes.paused?.laneEnded(this)
      this.drained.changed()
      this.bytes.end()
      this.stage?.release()
      if (isFirst && this.sentry !== undefined) yield* this.sentry.close
      this.permits?.end()
      this.revoked()
      if (isFirst && !options.finishQueued && this.lost > 0) yield* this.warnOfLoss
      return { unfinished: this.left, lost: this.lost }
    })
  }

  /** Waits until no handler runs, and names those that can't be interrupted. */
  private get quietAtLast(): Effect.Effect<void> {
    const warn = Effect.suspend(() =>
      this.warnOf(this.running, "were interrupted and go on, so the partition is not let go yet")
    )
    const warnings = Effect.schedule(Effect.delay(warn, "10 seconds"), Schedule.spaced("1 minute"))
    return this.inHand === 0 ? Effect.void : Effect.scoped(
      Effect.zipRight(Effect.forkScoped(Effect.interruptible(warnings)), this.quiet.wait)
    )
  }

  /** Closing goes on without the handlers that run: their messages are given back, and are not begun in this process until they have ended. */
  private get abandon(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { running } = this
      const freed = Effect.all(running.map((flight) => this.settings.mailboxes.freed(flight)), { discard: true })
      return Effect.flatMap(Effect.forkDaemon(freed), (fiber) => {
        this.isStuck = true
        this.freed = Effect.asVoid(Fiber.await(fiber))
        for (const flight of running) flight.giveBack()
        return this.warnOf(
          running,
          "can't be interrupted, and closing goes on without them. Their messages come again, possibly while they still run"
        )
      })
    })
  }

  private get running(): ReadonlyArray<Flight> {
    return this.settings.mailboxes.inHand((flight) => flight.carrier === this)
  }

  private warnOf(flights: ReadonlyArray<Flight>, what: string): Effect.Effect<void> {
    const names = flights.map(({ aggregateId, offset }) => aggregateId ?? `offset ${offset}`)
    const { partition, topic } = this.assignment
    const text = `${names.length} handlers of ${topic}[${partition}] ${what}: ${Closing.some(names)}`
    return Logging.warning(text, { topic, partition, group: this.settings.subscriber.group })
  }

  /** What a rebalance loses is in no report of closing. */
  private get warnOfLoss(): Effect.Effect<void> {
    const { partition, topic } = this.assignment
    return Logging.warning(
      `${topic}[${partition}] was taken away: ${this.lost} messages were settled before and are lost, because their handlers had not begun`,
      { topic, partition, group: this.settings.subscriber.group, lost: this.lost }
    )
  }

  private revoked(): void {
    if (this.isRevoked) return
    this.isRevoked = true
    this.tell("Revoked")
  }

  /** Nothing is left except flights of paused aggregates, held flights and the flights behind them. None of these would finish before the deadline. */
  private get isWorkedOff(): boolean {
    // What waits to be settled is not begun any more: the stage has ended before this is asked.
    if (this.unfinished === (this.stage?.unsettled ?? 0)) return true
    if (this.held.size + this.asides === 0) return false
    const slots = new Set<Slot>()
    for (const { isAside, mailbox, state } of this.held) {
      // Its attempt runs, and may succeed. Or somebody has given it up, and its letter is confirmed soon.
      if (state === "running" || state === "dead-lettering") return false
      if (mailbox !== undefined && !isAside) slots.add(mailbox.slot)
    }
    let blocked = this.asides
    for (const slot of slots) blocked += slot.count((task) => (task as Flight).carrier === this)
    return blocked === this.unfinished
  }

  private interrupt(which: (flight: Flight) => boolean): void {
    // It looks at all slots of the subscription, and lanes close by the hundred.
    if (this.inHand === 0) return
    this.settings.mailboxes.interrupt((flight) => flight.carrier === this && which(flight))
  }

  /** The lane has room again, or the event loop had its turn. The transport is told once for each refusal. */
  private resume(): void {
    if (!this.refused || this.closing || this.pace.isOver) return
    this.refused = false
    try {
      this.assignment.resume()
    } catch (thrown) {
      // Others wait for the same room, or switch: they must not pay for it.
      if (this.hasThrown) return
      this.hasThrown = true
      const { partition, topic } = this.assignment
      this.settings.say?.(
        `The transport's resume threw (${
          describeCause(Cause.die(thrown))
        }), so it may offer nothing more of ${topic}[${partition}]`
      )
    }
  }

  private full(isReached: boolean): void {
    if (this.isFull === isReached) return
    this.isFull = isReached
    this.reached("unfinished", isReached)
  }

  private reached(bound: "unfinished" | "rate", isReached: boolean): void {
    const { name, observer } = this.subscriber
    const { partition } = this.assignment
    observer.event?.({ _tag: "Bound", bound, subscription: name, partition, isReached })
  }

  private tell(_tag: "Assigned" | "Revoked"): void {
    const { group, observer } = this.subscriber
    const { epoch, partition, topic } = this.assignment
    observer.event?.({ _tag, topic, group, partition, epoch })
  }
}
