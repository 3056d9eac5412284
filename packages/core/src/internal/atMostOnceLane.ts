import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import { SettlementFailed } from "../EventBusError.js"
import type { Assignment, IncomingMessage, Lane, LaneReport } from "../Transport.js"
import type { LaneSettings } from "./atLeastOnceLane.js"
import { type Budget, sizeOf } from "./budget.js"
import { Condition } from "./condition.js"
import type { Work, WorkLane } from "./work.js"

/** @internal */
export interface AtMostOnceSettings extends LaneSettings {
  /** What is settled and not yet handled, of all lanes of the subscription. */
  readonly settledAhead: Budget
  readonly fork: (effect: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
}

const settleRetry = Schedule.exponential("100 millis").pipe(
  Schedule.union(Schedule.spaced("5 seconds")),
  Schedule.jittered
)

/**
 * One partition's messages where each is settled before it is handled: they wait here, some of them
 * are settled together, and when the broker has confirmed it they go to their mailboxes.
 *
 * @internal
 */
export class AtMostOnceLane implements Lane, WorkLane {
  /** Taken, and not settled. */
  private waiting: Array<Work> = []
  /** Settled, and not handled. */
  private settled = 0
  /** Of those the ones that are not in their mailboxes yet. */
  private undispatched: Array<Work> = []
  private inHand = 0
  private refused = false
  private closing = false
  /** Closing, and what was taken is to be settled and handled before. */
  private finishing = false
  private dropping = false
  /** The deadline of closing is over. What is lost now gives no room to settle more, which would be lost as well. */
  private over = false
  private lost = 0
  private countedAsLost = 0
  private unfinished = 0
  private readonly mayGoOn: Effect.Latch = Effect.unsafeMakeLatch(false)
  private readonly drained = new Condition(() => this.settled === 0 || (this.dropping && this.inHand === 0))
  private readonly quiet = new Condition(() => this.inHand === 0)
  private readonly pump: Fiber.RuntimeFiber<void>

  constructor(private readonly assignment: Assignment, private readonly settings: AtMostOnceSettings) {
    this.pump = settings.fork(this.run)
  }

  get epoch(): number {
    return this.assignment.epoch
  }

  offer(messages: ReadonlyArray<IncomingMessage>): number {
    if (this.closing) return 0
    const { bytes, counters, maxUnfinished, router } = this.settings
    let taken = 0
    this.refused = false
    while (taken < messages.length) {
      const message = messages[taken]!
      const size = sizeOf(message)
      if (this.waiting.length + this.settled >= maxUnfinished || !bytes.take(size, this.resume)) {
        this.refused = true
        break
      }
      this.waiting.push(router.route(message, this, size))
      counters.received++
      taken++
    }
    if (taken > 0) this.mayGoOn.unsafeOpen()
    return taken
  }

  begin(work: Work): boolean {
    if (this.dropping) {
      this.lose(work)
      return false
    }
    work.begun = true
    this.inHand++
    return true
  }

  finish(work: Work): void {
    if (work.released) return
    this.release(work)
    if (this.refused) this.resume()
  }

  interrupted(work: Work): void {
    this.lose(work)
  }

  close(options: { readonly deadline: Duration.Duration; readonly finishQueued: boolean }): Effect.Effect<LaneReport> {
    return Effect.gen(this, function*() {
      this.closing = true
      this.finishing = options.finishQueued
      this.mayGoOn.unsafeOpen()
      // What is being settled now may be settled: it must get its chance to be handled.
      const worked = Effect.zipRight(Fiber.await(this.pump), this.drained.wait)
      yield* Effect.timeoutOption(Effect.interruptible(worked), options.deadline)
      this.finishing = false
      this.dropping = true
      this.over = options.finishQueued
      yield* Fiber.interrupt(this.pump)
      this.settings.mailboxes.interrupt((work) => work.lane === this)
      yield* this.quiet.wait
      return this.report()
    })
  }

  /** What is left is given up: in `waiting` unsettled, in mailboxes (to be dropped at their turn) and on the way there settled. */
  private report(): LaneReport {
    this.unfinished += this.waiting.length
    for (const work of this.waiting.splice(0)) this.settings.bytes.give(work.size)
    for (const work of this.undispatched.splice(0)) this.lose(work)
    this.drained.changed()
    const lost = this.lost + this.settled
    this.settings.counters.lost += lost - this.countedAsLost
    this.countedAsLost = lost
    return { unfinished: this.unfinished, lost }
  }

  private get goesOn(): boolean {
    return !this.closing || (this.finishing && this.waiting.length > 0)
  }

  private readonly run: Effect.Effect<void> = Effect.suspend(() =>
    Effect.whileLoop({
      while: () => this.goesOn,
      body: () => this.waiting.length === 0 ? this.sleep : this.settleSome,
      step: () => {}
    })
  )

  private readonly sleep: Effect.Effect<void> = Effect.suspend(() => {
    // Looked at here, in one go with closing the latch: something may have come since the loop looked.
    if (!this.goesOn || (this.waiting.length > 0 && this.settings.settledAhead.free > 0)) return Effect.void
    this.mayGoOn.unsafeClose()
    return this.mayGoOn.await
  })

  private readonly goOn = (): void => this.mayGoOn.unsafeOpen()

  private readonly settleSome: Effect.Effect<void> = Effect.gen(this, function*() {
    const { settledAhead } = this.settings
    const count = settledAhead.takeUpTo(this.waiting.length)
    if (count === 0) {
      settledAhead.onRoom(this.goOn)
      return yield* this.sleep
    }
    const confirmed = yield* this.settle(this.waiting.slice(0, count)).pipe(
      // Whatever happens, an interruption included: the room that was taken is used or given back.
      Effect.onExit((exit) =>
        Effect.sync(() => {
          if (Exit.isFailure(exit)) return settledAhead.give(count)
          this.undispatched = this.waiting.splice(0, count)
          this.settled += count
        })
      ),
      Effect.isSuccess
    )
    if (confirmed) return yield* this.dispatch
    // The partition is gone, or the lane closes: the messages stay unsettled and come again elsewhere.
    this.closing = true
    this.finishing = false
  })

  private settle(works: ReadonlyArray<Work>): Effect.Effect<void, SettlementFailed> {
    const { partition, topic } = this.assignment
    return this.assignment.settle(works.map((work) => work.message)).pipe(
      // A transport that breaks must not stop the lane in silence.
      Effect.catchAllDefect((cause) => new SettlementFailed({ topic, partition, isRetryable: true, cause })),
      Effect.tapError((error) => Effect.logWarning(error.message)),
      Effect.retry({ schedule: settleRetry, while: (error) => error.isRetryable && this.goesOn })
    )
  }

  /** Puts what is settled into the mailboxes, and waits where one has no room. */
  private readonly dispatch: Effect.Effect<void> = Effect.async<void>((resume) => {
    const attempt = (): void => {
      for (let work = this.undispatched[0]; work !== undefined; work = this.undispatched[0]) {
        if (!this.settings.mailboxes.offer(work.mailbox, work, attempt)) return
        this.undispatched.shift()
      }
      resume(Effect.void)
    }
    attempt()
  })

  private readonly resume = (): void => {
    if (!this.refused || this.closing) return
    this.refused = false
    this.assignment.resume()
  }

  private lose(work: Work): void {
    if (work.released) return
    this.lost++
    this.release(work)
  }

  private release(work: Work): void {
    work.released = true
    this.settled--
    if (work.begun) this.inHand--
    this.settings.bytes.give(work.size)
    if (!this.over) this.settings.settledAhead.give(1)
    this.quiet.changed()
    this.drained.changed()
  }
}
