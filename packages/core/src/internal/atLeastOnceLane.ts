import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Actors } from "../ActorSupervisor.js"
import type { Assignment, IncomingMessage, Lane, LaneReport } from "../Transport.js"
import { type Budget, sizeOf } from "./budget.js"
import { Condition } from "./condition.js"
import type { Counters } from "./counters.js"
import { Pace } from "./pace.js"
import type { Router } from "./router.js"
import type { Work, WorkLane } from "./work.js"

/** @internal */
export interface LaneSettings {
  readonly mailboxes: Actors<Work>
  readonly router: Router
  readonly counters: Counters
  readonly bytes: Budget
  readonly maxUnfinished: number
  /** Runs something when the event loop has had its turn; undefined where all is taken at once. */
  readonly nextTurn?: ((run: () => void) => void) | undefined
}

/**
 * One partition's messages on their way to the mailboxes and back: bounds what is
 * unfinished, and tells the assignment what has finished.
 *
 * @internal
 */
export class AtLeastOnceLane implements Lane, WorkLane {
  private unfinished = 0
  /** Messages that actors have in hand. */
  private inHand = 0
  private refused = false
  private closing = false
  /** Nothing more begins. */
  private dropping = false
  /** A message that was routed and then found no room; it is offered again first. */
  private head: Work | undefined
  private readonly drained = new Condition(() => this.unfinished === 0 || (this.dropping && this.inHand === 0))
  private readonly quiet = new Condition(() => this.inHand === 0)

  private readonly pace: Pace

  constructor(private readonly assignment: Assignment, private readonly settings: LaneSettings) {
    this.pace = new Pace({
      unfinished: () => this.unfinished,
      most: settings.maxUnfinished,
      nextTurn: settings.nextTurn,
      resume: () => this.resume()
    })
  }

  get epoch(): number {
    return this.assignment.epoch
  }

  offer(messages: ReadonlyArray<IncomingMessage>): number {
    if (this.closing) return 0
    const { bytes, counters, mailboxes, maxUnfinished, router } = this.settings
    let taken = 0
    this.refused = false
    while (taken < messages.length) {
      const message = messages[taken]!
      if (this.unfinished >= maxUnfinished || this.pace.isOver) return this.refuse(taken)
      const size = this.head?.message === message ? this.head.size : sizeOf(message)
      if (!bytes.take(size, this.resume)) return this.refuse(taken)
      const work = this.head?.message === message ? this.head : router.route(message, this, size)
      if (!mailboxes.offer(work.mailbox, work, this.resume)) {
        this.head = work
        // Before it counts as refused: giving back must not resume this lane from within its offer.
        bytes.give(size)
        return this.refuse(taken)
      }
      this.head = undefined
      this.unfinished++
      this.pace.took()
      counters.received++
      taken++
    }
    return taken
  }

  begin(work: Work): boolean {
    work.waiting = false
    if (!this.dropping && this.assignment.isOwned?.() === false) this.dropping = true
    if (this.dropping) {
      this.release(work)
      return false
    }
    if (!work.begun) {
      work.begun = true
      this.inHand++
    }
    return true
  }

  finish(work: Work): void {
    if (work.released) return
    this.unfinished--
    this.assignment.finish(work.message)
    this.release(work)
    if (this.refused) this.resume()
  }

  interrupted(work: Work): void {
    this.release(work)
  }

  close(options: { readonly deadline: Duration.Duration; readonly finishQueued: boolean }): Effect.Effect<LaneReport> {
    return Effect.gen(this, function*() {
      this.closing = true
      this.head = undefined
      if (options.finishQueued) {
        yield* this.drained.waitFor(options.deadline)
        this.dropping = true
      } else {
        this.dropping = true
        this.interrupt((work) => work.waiting)
        yield* this.quiet.waitFor(options.deadline)
      }
      this.interrupt(() => true)
      yield* this.quiet.wait
      this.drained.changed()
      return { unfinished: this.unfinished, lost: 0 }
    })
  }

  /** Bytes and mailboxes call it when there may be room; it passes on one call for each refusal. */
  private readonly resume = (): void => {
    if (!this.refused || this.closing || this.pace.isOver) return
    this.refused = false
    this.assignment.resume()
  }

  private refuse(taken: number): number {
    this.refused = true
    return taken
  }

  private release(work: Work): void {
    if (work.released) return
    work.released = true
    if (work.begun) this.inHand--
    this.settings.bytes.give(work.size)
    this.quiet.changed()
    this.drained.changed()
  }

  private interrupt(which: (work: Work) => boolean): void {
    this.settings.mailboxes.interrupt((work) => work.lane === this && which(work))
  }
}
