import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Strategy from "../Strategy.js"
import type * as Supervisor from "../Supervisor.js"
import * as Closing from "./closing.js"
import type { FullMailboxes } from "./fullMailboxes.js"
import type { Home } from "./home.js"
import * as Logging from "./logging.js"
import type { Share, Waiter } from "./quota.js"
import * as Restarts from "./restarts.js"
import type { Slot, SlotOptions } from "./slot.js"

/**
 * What the slots of a bus are made of, where their strategy does not say.
 *
 * @internal
 */
export interface Defaults {
  readonly capacity: number
  readonly restartBase: Duration.Duration
  readonly full: FullMailboxes
}

/**
 * A strategy in use: what its slots are made of, and the slots that all subscriptions share where it has a fixed number of them.
 *
 * @internal
 */
export class Placement {
  private readonly shared = new Map<number, Slot>()
  /** Of the shared slots. Places that nobody uses would be kept from others, so they are there only while the placement is open. */
  private places: Share | undefined
  /** Whether aggregates are placed here. If not, those that are still here are about to move. */
  isOpen = false

  constructor(
    /** Its `slotOf` is guarded. */
    readonly strategy: Strategy.Service,
    private readonly supervisor: Supervisor.Service,
    private readonly defaults: Defaults
  ) {}

  get isShared(): boolean {
    return this.strategy.slots !== "per-aggregate"
  }

  /** How many mailboxes messages without a key take turns over. */
  get turns(): number {
    return this.strategy.slots === "per-aggregate" ? keyless : this.strategy.slots.count
  }

  get isEmpty(): boolean {
    return this.shared.size === 0
  }

  open(): void {
    if (this.isOpen) return
    this.isOpen = true
    if (this.isShared) this.places = this.supervisor.places()
  }

  /** No aggregate is placed here any more. Slots end as soon as they are idle. */
  close(): void {
    this.isOpen = false
    const { places } = this
    this.places = undefined
    places?.end()
    for (const slot of Array.from(this.shared.values())) slot.endIfIdle()
  }

  optionsOf(place: Share, onEnd: (slot: Slot) => void): SlotOptions {
    const { capacity, reportFullAfter, restart } = this.strategy
    return {
      capacity: capacity ?? this.defaults.capacity,
      restart: restart === "never" || restart === 0
        ? undefined
        : typeof restart === "number"
        ? Restarts.upTo(restart, this.defaults.restartBase)
        : restart ?? this.supervisor.restart,
      place,
      onEnd,
      full: reportFullAfter === undefined ? undefined : this.defaults.full.after(this.strategy.name, reportFullAfter)
    }
  }

  /**
   * A slot that several subscriptions share: the one with that number, or the key's one. Undefined: there is no place for it, and the
   * waiter is woken when there is.
   */
  sharedSlot(key: string, number: number | undefined, home: Home, waiter: Waiter): Slot | undefined {
    const { places, strategy: { name, slots } } = this
    if (slots === "per-aggregate" || places === undefined) return undefined
    const index = number === undefined ? slots.slotOf(key) : number % slots.count
    // As in `AddressBook.offer`.
    if (waiter.share !== undefined && this.shared.has(index)) waiter.share.cancel(waiter)
    const found = this.shared.get(index)
    if (found !== undefined) return found
    if (!this.supervisor.admit(places, waiter)) return undefined
    // As in `AddressBook.slotFor`.
    const made = this.shared.get(index)
    if (made !== undefined) {
      places.give(1)
      return made
    }
    const options = this.optionsOf(places, (ended) => {
      if (this.shared.get(index) === ended) this.shared.delete(index)
    })
    const slot = this.supervisor.start(`${name}-${index}`, home, options)
    this.shared.set(index, slot)
    return slot
  }

  /** Ends the shared slots. The bus has closed its subscriptions before. */
  shutdown(stuck: WeakSet<Slot>): Effect.Effect<void> {
    return Effect.suspend(() =>
      // A supervisor may outlive the bus.
      Effect.map(stopAll("the bus", this.shared.values(), stuck), () => this.places?.end())
    )
  }
}

/** How many mailboxes the messages without a key share where each has a slot of its own. */
const keyless = 256

/**
 * Ends slots, and waits for all but the stuck ones. What handlers have forked may not be interruptible: then it goes on, and is named.
 *
 * @internal
 */
export const stopAll = (what: string, slots: Iterable<Slot>, stuck: WeakSet<Slot>): Effect.Effect<void> => {
  const remaining = new Set(slots)
  const stopping = Array.from(remaining, (slot) => {
    const stopped = Effect.map(slot.stop(), () => remaining.delete(slot))
    return stuck.has(slot) ? Effect.asVoid(Effect.forkDaemon(stopped)) : Effect.asVoid(stopped)
  })
  return Closing.patiently(Effect.forEach(stopping, (stopped) => stopped, { discard: true }), () => {
    const names = Array.from(remaining).filter((slot) => !stuck.has(slot)).map(({ name }) => name)
    return names.length === 0 ? Effect.void : Logging.warning(
      `${what}: the fibers of ${names.length} actors don't end, because handlers have forked something uninterruptible, and closing goes on without them: ${
        Closing.some(names)
      }`
    )
  })
}
