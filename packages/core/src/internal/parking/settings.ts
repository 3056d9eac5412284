import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type * as Policy from "../../FailurePolicy.js"
import type * as Observer from "../../Observer.js"
import type { IncomingMessage, Store } from "../../Transport.js"
import type { AddressBook } from "../addressBook.js"
import type { Counters } from "../counters.js"
import type { Carrier, Flight } from "../flight.js"
import type { Lasting } from "../lasting.js"
import type { Waiter } from "../quota.js"
import type { By } from "./letter.js"
import type { Parked } from "./parked.js"
import type { Writer } from "./writer.js"

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

/**
 * The lane of a partition, as far as parking goes.
 *
 * @internal
 */
export interface Host extends Carrier {
  /** Whether it is certain that no other member has the partition. */
  readonly isOwned: boolean
  /** The lane takes messages from now on. */
  readonly goOn: () => void
  /** A flight of a letter. Undefined: there is no room for its bytes, and the waiter is woken when there is. */
  readonly flightOfLetter: (message: IncomingMessage, waiter: Waiter) => Flight | undefined
  /** A letter waits for no room any more, and its flight did not come into a mailbox. */
  readonly forgetLetter: (flight: Flight | undefined, waiter: Waiter) => void
}

/**
 * The owner of a partition, for those who release its letters.
 *
 * @internal
 */
export interface Owner {
  readonly settings: Settings
  readonly host: Host
  readonly partition: number
  /** The name of this owner, in what it writes. */
  readonly owner: string
  readonly parked: ReadonlyMap<string, Parked>
  readonly writer: Writer
  /** Nothing is begun any more. */
  readonly isClosing: boolean
  /** Whether a former owner may have handled the letter of this revision. */
  readonly mayBeDuplicate: (revision: number) => boolean
  /** Takes a letter out of the store. */
  readonly remove: (one: Parked, offset: number) => void
  /** Its messages that waited go on. */
  readonly unblock: (one: Parked) => void
  /** Its messages go to its mailbox again. */
  readonly goesNormal: (one: Parked) => void
}
