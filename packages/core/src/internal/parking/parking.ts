import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type * as Policy from "../../FailurePolicy.js"
import type * as Observer from "../../Observer.js"
import type { Assignment, Problem, Store } from "../../Transport.js"
import type { AddressBook } from "../addressBook.js"
import * as Closing from "../closing.js"
import type { Counters } from "../counters.js"
import { Lasting } from "../lasting.js"
import { type Host, ParkedLane } from "./lane.js"
import type { By } from "./letter.js"

/**
 * What the lanes of a subscription share.
 *
 * @internal
 */
export interface Settings {
  readonly policy: Policy.Park
  readonly store: Store
  readonly book: AddressBook
  readonly counters: Counters
  readonly timeout: Duration.Duration
  readonly holdInterval: Duration.Duration
  /** When the store is asked again. It has no end. */
  readonly schedule: Schedule.Schedule<unknown>
  readonly writing: Lasting
  readonly reading: Lasting
  /** Aggregates that somebody has parked, and that had no message then. */
  readonly wanted: Map<string, By>
  /** Runs something until the subscription ends. */
  readonly fork: (effect: Effect.Effect<void>) => unknown
  readonly tell: (
    event: Omit<Extract<Observer.Event, { readonly _tag: "Parked" | "Released" | "Discarded" }>, "subscription">
  ) => void
  /** Tells the subscriber of a letter that is discarded. It never fails. */
  readonly discarded: (gap: Policy.Gap) => Effect.Effect<void>
}

/** @internal */
export const writing = (): Lasting =>
  new Lasting("Letters can't be written to the store, so the messages of parked aggregates stay unfinished")

/** @internal */
export const reading = (): Lasting =>
  new Lasting(
    "The store of parked messages can't be read, so the partition does not begin, or its letters are not released"
  )

/**
 * What a subscription has parked, of the partitions that it owns.
 *
 * @internal
 */
export class Parking {
  readonly lanes = new Set<ParkedLane>()

  constructor(readonly settings: Settings) {}

  lane(host: Host, assignment: Assignment): ParkedLane {
    const lane = new ParkedLane(host, assignment, this.settings, () => this.lanes.delete(lane))
    this.lanes.add(lane)
    return lane
  }

  /** The lanes whose index is known. */
  get ready(): ReadonlyArray<ParkedLane> {
    return Array.from(this.lanes).filter(({ isClosing, isReady }) => isReady && !isClosing)
  }

  has(aggregate: string): boolean {
    for (const { parked } of this.lanes) if (parked.has(aggregate)) return true
    return false
  }

  keys(): ReadonlyArray<string> {
    return Array.from(this.lanes).flatMap(({ parked }) => Array.from(parked.keys()))
  }

  /** What waits, and what fails. */
  get problems(): ReadonlyArray<Problem> {
    const { reading, writing } = this.settings
    const blocked = Array.from(this.lanes).flatMap((lane) => lane.blocked)
    const held = blocked.length === 0 ? [] : [{
      message:
        `The messages of ${blocked.length} parked aggregates wait, because they have as many letters as they may or the store refuses one: ${
          Closing.some(blocked.map(({ key }) => key))
        }`,
      since: Math.min(...blocked.map(({ since }) => since))
    }]
    return [...writing.problems, ...reading.problems, ...held]
  }
}
