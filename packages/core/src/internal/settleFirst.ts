import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import { SettlementFailed } from "../EventBusError.js"
import type { Assignment } from "../Transport.js"
import type { AddressBook } from "./addressBook.js"
import { describeCause } from "./describeCause.js"
import type { Flight } from "./flight.js"
import type { Intake, Stage } from "./intake.js"
import type { Lasting } from "./lasting.js"
import * as Logging from "./logging.js"
import { type Quota, type Share, Waiter } from "./quota.js"
import { SettleTurn, type SettleTurns } from "./settleTurns.js"

/** @internal */
export interface Settings {
  readonly mailboxes: AddressBook
  /** How many messages of all lanes of the subscription are settled and not yet handled: what a kill can lose. */
  readonly settledAhead: Quota
  readonly turns: SettleTurns
  /** Gives back the room of what closed lanes have lost. */
  readonly withheld: Array<() => void>
  readonly lasting: Lasting
  readonly fork: (effect: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
}

const settleRetry = Schedule.exponential("100 millis").pipe(
  Schedule.union(Schedule.spaced("5 seconds")),
  Schedule.jittered
)

/**
 * The stage of at-most-once messages, which are settled before they are handled. Messages wait here, and are settled several at a
 * time. When the broker has confirmed the settlement, they go to their mailboxes.
 *
 * @internal
 */
export class SettleFirst implements Stage {
  /** Flights that are taken and not settled. */
  private readonly waiting: Array<Flight> = []
  /** Flights that are settled and not in their mailboxes yet. */
  private undispatched: Array<Flight> = []
  private isClosing = false
  /** The lane closes, and the flights that were taken are settled and handled before. */
  private isFinishing = false
  /** The deadline of closing is over. Flights that are lost now give back no room: more would be settled, and be lost as well. */
  private isOver = false
  private withheld = 0
  /** How many of those that wait, from the first on, the broker may have settled without having confirmed it. */
  private unconfirmed = 0
  private isDispatching = false
  private readonly ahead: Share
  private readonly mayGoOn: Effect.Latch = Effect.unsafeMakeLatch(false)
  private readonly waiter = new Waiter(() => this.mayGoOn.unsafeOpen())
  private readonly turn: SettleTurn
  private readonly forMailbox = new Waiter(() => this.dispatchMore?.())
  private dispatchMore: (() => void) | undefined
  private readonly pump: Fiber.RuntimeFiber<void>

  constructor(
    private readonly intake: Intake,
    private readonly assignment: Assignment,
    private readonly settings: Settings
  ) {
    for (const give of settings.withheld.splice(0)) give()
    this.ahead = settings.settledAhead.share()
    this.turn = new SettleTurn(settings.turns, () => this.mayGoOn.unsafeOpen())
    this.pump = settings.fork(this.watched)
  }

  add(flight: Flight): void {
    this.waiting.push(flight)
    // The pump may wait for messages. Where it waits for room, its waiter wakes it.
    if (this.waiting.length === 1) this.mayGoOn.unsafeOpen()
  }

  left(): void {
    if (this.isOver) this.withheld++
    else this.ahead.give(1)
  }

  /** The lane has ended. The next lane of the subscription has the room of what this one lost; where there is none, nobody needs it. */
  release(): void {
    const count = this.withheld
    this.withheld = 0
    if (count > 0) this.settings.withheld.push(() => this.ahead.give(count))
  }

  close(finishes: boolean): void {
    this.isClosing = true
    this.isFinishing = finishes
    this.mayGoOn.unsafeOpen()
  }

  get ended(): Effect.Effect<void> {
    return Effect.asVoid(Fiber.await(this.pump))
  }

  readonly stop: Effect.Effect<void> = Effect.suspend(() => {
    this.isOver = this.isFinishing
    this.isFinishing = false
    this.ahead.cancel(this.waiter)
    this.settings.mailboxes.cancel(this.forMailbox)
    return Effect.zipRight(
      Fiber.interrupt(this.pump),
      Effect.suspend(() => {
        this.ahead.end()
        const { partition, topic } = this.assignment
        return this.unconfirmed === 0 ? Effect.void : Logging.warning(
          `${topic}[${partition}]: the broker has not confirmed in time that ${this.unconfirmed} messages are settled. They were not handled, and count as lost, because the broker may have settled them`,
          { topic, partition, lost: this.unconfirmed }
        )
      })
    )
  })

  drain(): ReadonlyArray<Flight> {
    // The broker may have settled them, and then they don't come again.
    for (const flight of this.waiting.splice(0, this.unconfirmed)) flight.end("lost")
    return [...this.waiting.splice(0), ...this.undispatched.splice(0)]
  }

  get unsettled(): number {
    return this.waiting.length
  }

  get waitsForRoom(): Flight | undefined {
    return this.undispatched[0]
  }

  private get goesOn(): boolean {
    return !this.isClosing || (this.isFinishing && this.waiting.length > 0)
  }

  private readonly run: Effect.Effect<void> = Effect.suspend(() =>
    Effect.whileLoop({
      while: () => this.goesOn,
      body: () => this.settleSome,
      step: () => {}
    })
  )

  /** A fault of ours must not leave a lane that takes messages and does nothing with them. */
  private readonly watched: Effect.Effect<void> = Effect.suspend(() =>
    Effect.catchAllDefect(Effect.ensuring(this.run, this.endTurn), (defect) => {
      const { partition, topic } = this.assignment
      this.close(false)
      this.intake.breakOff()
      return Logging.error(
        `Settling ${topic}[${partition}] died, and nothing more of it is handled here: ${
          describeCause(Cause.die(defect))
        }`,
        { topic, partition }
      )
    })
  )

  private readonly endTurn: Effect.Effect<void> = Effect.sync(() => this.turn.end())

  private readonly settleSome: Effect.Effect<void> = Effect.uninterruptibleMask((restore) => {
    this.mayGoOn.unsafeClose()
    // What is settled for a handler that may not begin would be lost.
    if (this.waiting.length > 0 && !this.intake.mayBegin()) {
      this.close(false)
      this.intake.breakOff()
      return Effect.void
    }
    const wanted = this.waiting.length
    // Room for some of them is left to gather while others settle.
    if (wanted > 0 && !this.ahead.hasRoom(wanted, this.waiter) && !this.turn.begin()) {
      return this.goesOn ? restore(this.mayGoOn.await) : Effect.void
    }
    const count = wanted === 0 ? 0 : this.ahead.takeUpTo(wanted, this.waiter)
    if (count === 0) {
      this.turn.end()
      return this.goesOn ? restore(this.mayGoOn.await) : Effect.void
    }
    return restore(this.settle(this.waiting.slice(0, count))).pipe(
      // Whatever happens, an interruption included: the room that was taken is used or given back.
      Effect.onExit((exit) =>
        Effect.sync(() => {
          if (Exit.isFailure(exit)) return this.ahead.give(count)
          this.unconfirmed = 0
          this.undispatched = this.waiting.splice(0, count)
          for (const flight of this.undispatched) flight.settled()
        })
      ),
      Effect.matchEffect({
        // The partition is gone, or the lane closes. The messages stay unsettled and come again elsewhere.
        onFailure: () =>
          Effect.sync(() => {
            this.close(false)
            this.intake.breakOff()
          }),
        onSuccess: () => restore(this.dispatch)
      })
    )
  })

  private settle(flights: ReadonlyArray<Flight>): Effect.Effect<void, SettlementFailed> {
    const { partition, topic } = this.assignment
    let mayBeSettled = false
    return Effect.suspend(() => {
      this.unconfirmed = flights.length
      return this.assignment.settle(flights.map((flight) => flight.message))
    }).pipe(
      // A defect of the transport must not stop the lane in silence.
      Effect.catchAllDefect((cause) => new SettlementFailed({ topic, partition, isRetryable: true, cause })),
      Effect.tapError(({ isRetryable }) => Effect.sync(() => mayBeSettled ||= isRetryable)),
      // It waits for its next attempt without keeping others from theirs.
      Effect.ensuring(this.endTurn),
      (settling) =>
        this.settings.lasting.retry(settling, {
          schedule: settleRetry,
          while: (error) => error.isRetryable && this.goesOn
        }),
      // It is tried no more: the partition was taken away, as a rule.
      Effect.tapError((error) => {
        if (!mayBeSettled) this.unconfirmed = 0
        return Logging.warning(error.message, { topic, partition })
      })
    )
  }

  /** Puts the settled flights into their mailboxes, and waits when a mailbox has no room. */
  private readonly dispatch: Effect.Effect<void> = Effect.async<void>((resume) => {
    const more = this.dispatchMore = (): void => {
      // An offer that makes room for itself wakes its own waiter.
      if (this.isDispatching) return
      this.isDispatching = true
      try {
        if (!this.dispatchSome()) return
      } finally {
        this.isDispatching = false
      }
      this.dispatchMore = undefined
      resume(Effect.void)
    }
    more()
  })

  /** `false`: a mailbox has no room. */
  private dispatchSome(): boolean {
    for (let flight = this.undispatched[0]; flight !== undefined; flight = this.undispatched[0]) {
      if (flight.state !== "ended" && !this.settings.mailboxes.offer(flight, this.forMailbox)) return false
      this.undispatched.shift()
    }
    return true
  }
}
