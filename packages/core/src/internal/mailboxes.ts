import * as Effect from "effect/Effect"
import { ChurningMap } from "../ChurningMap.js"
import type * as Strategy from "../Strategy.js"
import type * as Supervisor from "../Supervisor.js"
import * as Closing from "./closing.js"
import type { Flight, Subscriber } from "./flight.js"
import * as Logging from "./logging.js"
import type { Share, Waiter } from "./quota.js"
import type { Slot, SlotOptions } from "./slot.js"

/** How many mailboxes the messages without a key share. */
const keyless = 256

/**
 * What is known of an active aggregate of one subscription: how many of its flights wait or are in hand, and which slot they go
 * to. The mailbox is empty when that number is 0. Only then may the aggregate move to another slot.
 *
 * @internal
 */
export class Mailbox {
  size = 0

  constructor(readonly key: string, readonly slot: Slot, private readonly owner: AddressBook) {}

  /** One of its flights has left the slot. */
  left(): void {
    this.size--
    if (this.size === 0) this.owner.emptied(this)
  }
}

/**
 * The mailboxes of a bus: each active aggregate's record, and the slots that all subscriptions share where the strategy has a
 * fixed number of them.
 *
 * @internal
 */
export class Mailboxes {
  private readonly shared = new Map<number, Slot>()
  /** Slots in which a handler goes on that can't be interrupted. Its lane has waited for it and named it. */
  readonly stuck = new WeakSet<Slot>()
  /** One that nobody uses would keep places for itself. */
  private readonly sharedPlaces: Share | undefined

  constructor(
    readonly supervisor: Supervisor.Service,
    readonly strategy: Strategy.Service,
    private readonly defaultCapacity: number
  ) {
    this.sharedPlaces = strategy.slots === "per-aggregate" ? undefined : supervisor.places()
  }

  /** The mailboxes of one subscription. */
  open(subscriber: Subscriber): AddressBook {
    return new AddressBook(this, subscriber)
  }

  optionsOf(place: Share, onEnd: (slot: Slot) => void): SlotOptions {
    const { capacity, restart } = this.strategy
    return {
      capacity: capacity ?? this.defaultCapacity,
      restart: restart === "never" ? undefined : restart ?? this.supervisor.restart,
      place,
      onEnd
    }
  }

  /** A slot that several subscriptions share. Undefined: there is no place for it, and the waiter is woken when there is. */
  sharedSlot(key: string, subscriber: Subscriber, waiter: Waiter): Slot | undefined {
    const { slots } = this.strategy
    const places = this.sharedPlaces
    if (slots === "per-aggregate" || places === undefined) return undefined
    const index = slots.slotOf(key)
    // As in `offer`.
    if (waiter.share !== undefined && this.shared.has(index)) waiter.share.cancel(waiter)
    const found = this.shared.get(index)
    if (found !== undefined) return found
    if (!this.supervisor.admit(places, waiter)) return undefined
    // As in `slotFor`.
    const made = this.shared.get(index)
    if (made !== undefined) {
      places.give(1)
      return made
    }
    const options = this.optionsOf(places, (ended) => {
      if (this.shared.get(index) === ended) this.shared.delete(index)
    })
    const slot = this.supervisor.start(`${this.strategy.name}-${index}`, subscriber.home, options)
    this.shared.set(index, slot)
    return slot
  }

  /** Ends the shared slots. The bus has closed its subscriptions before. */
  readonly shutdown: Effect.Effect<void> = Effect.suspend(() =>
    // A supervisor may outlive the bus.
    Effect.map(stopAll("the bus", this.shared.values(), this.stuck), () => this.sharedPlaces?.end())
  )
}

/**
 * The mailboxes of one subscription by their keys.
 *
 * @internal
 */
export class AddressBook {
  private readonly mailboxes = new ChurningMap<string, Mailbox>()
  /** Of the actors that are its own; undefined where slots are shared. */
  private readonly places: Share | undefined
  private readonly options: SlotOptions | undefined
  /** The keys of empty mailboxes for messages that have no key. They are used first, so that idle slots get work first. */
  private readonly free: Array<string> = Array.from({ length: keyless }, (_, i) => ` rr-${i}`)
  private nextKeyless = 0

  constructor(private readonly owner: Mailboxes, private readonly subscriber: Subscriber) {
    this.places = owner.strategy.slots === "per-aggregate" ? owner.supervisor.places() : undefined
    this.options = this.places && owner.optionsOf(this.places, (slot) => {
      if (this.mailboxes.get(slot.name)?.slot === slot) this.mailboxes.delete(slot.name)
    })
  }

  /** Puts a flight into its mailbox. `false`: there is no room, and the waiter is woken when some is reserved for it. */
  offer(flight: Flight, waiter: Waiter): boolean {
    const key = flight.key ?? this.keylessKey()
    // Others may have made the mailbox while this one waited for a place. Giving the place back wakes those who wait for one.
    if (waiter.share !== undefined && this.mailboxes.has(key)) waiter.share.cancel(waiter)
    let mailbox = this.mailboxes.get(key)
    const slot = mailbox?.slot ?? this.slotFor(key, waiter)
    if (slot === undefined) return false
    if (waiter.room !== undefined && waiter.room !== slot) waiter.room.cancel(waiter)
    if (!slot.offer(flight, waiter)) return false
    mailbox ??= this.mailboxes.get(key)
    if (mailbox === undefined) this.mailboxes.set(key, mailbox = new Mailbox(key, slot, this))
    mailbox.size++
    flight.mailbox = mailbox
    if (flight.key === undefined) this.takeKeyless(key)
    return true
  }

  /** The waiter waits no more. */
  cancel(waiter: Waiter): void {
    waiter.share?.cancel(waiter)
    waiter.room?.cancel(waiter)
  }

  interrupt(which: (flight: Flight) => boolean): void {
    for (const slot of this.slots()) slot.interrupt((task) => which(task as Flight))
  }

  /** The flights that wait in mailboxes, in their order. */
  queued(which: (flight: Flight) => boolean): ReadonlyArray<Flight> {
    return this.slots().flatMap((slot) => slot.waiting().filter((task) => which(task as Flight)) as Array<Flight>)
  }

  /** The flights that slots have in hand. */
  inHand(which: (flight: Flight) => boolean): ReadonlyArray<Flight> {
    return this.slots().flatMap(({ taskInHand }) =>
      taskInHand !== undefined && which(taskInHand as Flight) ? [taskInHand as Flight] : []
    )
  }

  /** Waits until a flight's handler runs no more, which could not be interrupted. */
  freed(flight: Flight): Effect.Effect<void> {
    const { slot } = flight.mailbox!
    this.owner.stuck.add(slot)
    return slot.freed(flight)
  }

  /** How many actors of this subscription live. */
  live(): number {
    return this.isShared ? this.slots().length : this.mailboxes.size
  }

  slots(): ReadonlyArray<Slot> {
    const slots = Array.from(this.mailboxes.values(), ({ slot }) => slot)
    return this.isShared ? Array.from(new Set(slots)) : slots
  }

  /** A mailbox has become empty. With an actor per aggregate the mailbox is kept as long as its actor lives. */
  emptied(mailbox: Mailbox): void {
    if (mailbox.key.startsWith(" rr-")) this.free.push(mailbox.key)
    if (this.isShared) this.mailboxes.delete(mailbox.key)
  }

  /** The subscription ends. The slots that only it uses end with it. */
  readonly shutdown: Effect.Effect<void> = Effect.suspend(() =>
    Effect.map(
      this.isShared ? Effect.void : stopAll(this.subscriber.name, this.slots(), this.owner.stuck),
      () => this.places?.end()
    )
  )

  get isShared(): boolean {
    return this.places === undefined
  }

  private slotFor(key: string, waiter: Waiter): Slot | undefined {
    const { options, owner, subscriber } = this
    if (options === undefined) return owner.sharedSlot(key, subscriber, waiter)
    if (!owner.supervisor.admit(options.place, waiter)) return undefined
    // Making room wakes others. A transport may offer their messages at once, and one of them may have made this mailbox.
    const made = this.mailboxes.get(key)
    if (made === undefined) return owner.supervisor.start(key, subscriber.home, options)
    options.place.give(1)
    return made.slot
  }

  /** The mailbox's key for a message that has no key: one with an empty mailbox, else the next in turn. An aggregate id has no space, so the keys differ from all ids. */
  private keylessKey(): string {
    return this.free[0] ?? ` rr-${this.nextKeyless}`
  }

  private takeKeyless(key: string): void {
    if (this.free[0] === key) this.free.shift()
    else this.nextKeyless = (this.nextKeyless + 1) % keyless
  }
}

/** Ends slots, and waits for all but the stuck ones. What handlers have forked may not be interruptible: then it goes on, and is named. */
const stopAll = (what: string, slots: Iterable<Slot>, stuck: WeakSet<Slot>): Effect.Effect<void> => {
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
