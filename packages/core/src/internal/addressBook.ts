import * as Effect from "effect/Effect"
import { ChurningMap } from "../ChurningMap.js"
import type { Pause } from "../Control.js"
import type * as Supervisor from "../Supervisor.js"
import { keyless as keylessPlace, Paused } from "./control/paused.js"
import { Crew } from "./crew.js"
import type { Flight, Subscriber } from "./flight.js"
import { Keyless, type Turn } from "./keyless.js"
import { type Placement, stopAll } from "./placement.js"
import { type Share, Waiter } from "./quota.js"
import type { Slot, SlotOptions } from "./slot.js"

/**
 * What is known of an active aggregate of one subscription: how many of its flights wait or are in hand, and which slot they go
 * to. The mailbox is empty when that number is 0. Only then may the aggregate move to another slot.
 *
 * @internal
 */
export class Mailbox {
  size = 0
  /** Its aggregate was paused while a flight was in hand: each start asks whether it still is. */
  isControlled = false
  /** Where its last message came from. */
  topic = ""
  partition = -1

  constructor(
    readonly key: string,
    readonly slot: Slot,
    readonly placement: Placement,
    private readonly owner: AddressBook,
    /** For messages that have no key. */
    readonly turn: Turn | undefined
  ) {}

  /** Whether the flight in hand may not begin. Then it steps aside. */
  holdsBack(flight: Flight): boolean {
    return this.owner.holdsBack(this, flight)
  }

  /** A flight has left the slot, and has not ended: it waits aside. */
  steppedAside(flight: Flight): void {
    this.left()
    this.owner.paused?.left(flight)
  }

  /** One of its flights has left the slot. */
  left(): void {
    this.size--
    if (this.size === 0) this.owner.emptied(this)
    else if (this.owner.carries) this.owner.carry(this)
  }
}

/**
 * The mailboxes of the bus, as far as those of one subscription know them.
 *
 * @internal
 */
export interface Owner {
  readonly supervisor: Supervisor.Service
  /** Where aggregates are placed that have no mailbox yet. */
  readonly current: Placement
  /** Goes up with each switch. */
  readonly generation: number
  /** How many tasks a mailbox holds. */
  readonly capacity: number
  readonly stuck: WeakSet<Slot>
  /** Where an aggregate is placed that has no mailbox. */
  readonly placementOf: (key: string, subscription: string) => Placement
  readonly isUsed: (placement: Placement) => boolean
  /** A mailbox has moved. */
  readonly moved: () => void
}

/**
 * The mailboxes of one subscription by their keys.
 *
 * @internal
 */
export class AddressBook {
  private readonly mailboxes = new ChurningMap<string, Mailbox>()
  /** The mailboxes that have messages, and whose aggregates are to move. */
  readonly leaving = new Set<Mailbox>()
  /** What its own actors are made of, where slots are not shared. */
  private readonly own = new Map<Placement, SlotOptions>()
  /** Who waits for a place or for room in a mailbox. A switch wakes them. */
  private readonly waiting = new Set<Waiter>()
  private keyless: Keyless | undefined
  /** Whether messages that wait move with their aggregate. */
  carries = false
  /** How many actors of this subscription have ended. */
  endedActors = 0
  /** What is paused. Undefined: nothing is. */
  paused: Paused | undefined
  /** The aggregate's last message came from another partition of the topic. */
  onOtherPartition: ((mailbox: Mailbox, flight: Flight) => void) | undefined
  /** The pause of an aggregate has ended. */
  onPauseEnded: ((key: string, pause: Pause) => void) | undefined
  /** How many actors of its own live. */
  private ownActors = 0
  /** A bound on them, in recovery. */
  private crew: Crew | undefined

  constructor(
    private readonly owner: Owner,
    private readonly subscriber: Subscriber,
    private readonly onEnd: () => void
  ) {
    // An idle subscription has its minimum of places, too.
    if (!owner.current.isShared) this.ownOptions(owner.current)
  }

  /** Puts a flight into its mailbox. `false`: there is no room, and the waiter is woken when some is reserved for it. */
  offer(flight: Flight, waiter: Waiter): boolean {
    return this.paused === undefined ? this.place(flight, waiter) : this.paused.offer(flight, waiter)
  }

  /** As `offer`, whether the aggregate is paused or not. */
  place(flight: Flight, waiter: Waiter): boolean {
    const turn = flight.key === undefined ? this.turns.next : undefined
    const key = flight.key ?? turn!.key
    // Others may have made the mailbox while this one waited for a place. Giving the place back wakes those who wait for one.
    if (waiter.share !== undefined && this.mailboxes.has(key)) waiter.share.cancel(waiter)
    let mailbox = this.mailboxes.get(key)
    const placement = mailbox?.placement ?? this.placementOf(key)
    const slot = mailbox?.slot ?? this.slotFor(placement, key, turn, waiter)
    if (slot === undefined) return this.refuse(waiter)
    if (waiter.room !== undefined && waiter.room !== slot) waiter.room.cancel(waiter)
    if (!slot.offer(flight, waiter)) return this.refuse(waiter)
    if (this.waiting.size > 0) this.waiting.delete(waiter)
    mailbox ??= this.mailboxes.get(key)
    if (mailbox === undefined) {
      this.mailboxes.set(key, mailbox = new Mailbox(key, slot, placement, this, turn))
    }
    mailbox.size++
    if (this.crew !== undefined) this.crew.becameBusy(slot)
    flight.mailbox = mailbox
    if (mailbox.partition !== flight.partition) this.cameFrom(mailbox, flight)
    turn?.owner.take(turn)
    return true
  }

  /** The waiter waits no more. */
  cancel(waiter: Waiter): void {
    this.waiting.delete(waiter)
    waiter.share?.cancel(waiter)
    waiter.room?.cancel(waiter)
  }

  interrupt(which: (flight: Flight) => boolean): void {
    for (const slot of this.slots()) slot.interrupt((task) => which(task as Flight))
    // Some that had begun wait aside.
    for (const flight of this.paused?.take((one) => one.state !== "queued" && which(one)) ?? []) flight.giveBack()
  }

  /** The flights that wait in mailboxes, in their order. Those that wait aside leave it. */
  queued(which: (flight: Flight) => boolean): ReadonlyArray<Flight> {
    const inMailboxes = this.slots().flatMap((slot) =>
      slot.waiting().filter((task) => which(task as Flight)) as Array<Flight>
    )
    return this.paused === undefined ? inMailboxes : [...inMailboxes, ...this.paused.take(which)]
  }

  // ----- control

  get(key: string): Mailbox | undefined {
    return this.mailboxes.get(key)
  }

  all(): ReadonlyArray<Mailbox> {
    return Array.from(this.mailboxes.values())
  }

  /** The flight of a mailbox that its slot has in hand. */
  handOf(mailbox: Mailbox): Flight | undefined {
    const inHand = mailbox.slot.taskInHand as Flight | undefined
    return inHand?.mailbox === mailbox ? inHand : undefined
  }

  /** How many flights of one aggregate wait. */
  get capacity(): number {
    return this.owner.capacity
  }

  /** Something is paused from now on, or more. */
  get pauses(): Paused {
    return this.paused ??= new Paused(this)
  }

  /** Nothing is paused any more. */
  unused(paused: Paused): void {
    if (this.paused === paused && !paused.isAll && paused.asides.size === 0) this.paused = undefined
  }

  /** Takes out the flights of a mailbox that are not in hand. */
  takeOut(mailbox: Mailbox): ReadonlyArray<Flight> {
    const { slot } = mailbox
    const flights = slot.takeOut((task) => (task as Flight).mailbox === mailbox) as ReadonlyArray<Flight>
    if (flights.length === 0) return flights
    for (const flight of flights) flight.mailbox = undefined
    mailbox.size -= flights.length
    if (mailbox.size === 0) this.emptied(mailbox)
    slot.tookOut()
    return flights
  }

  holdsBack(mailbox: Mailbox, flight: Flight): boolean {
    const { paused } = this
    // What is given up does not begin, and what its lane has settled does.
    if (flight.verdict !== undefined || flight.carrier.letsGo) return false
    if (paused === undefined || !paused.holdsBack(mailbox.key, mailbox.turn)) {
      mailbox.isControlled = false
      return false
    }
    if (paused.lets(flight, paused.asides.get(mailbox.turn === undefined ? mailbox.key : keylessPlace))) return false
    paused.stepsAside(flight)
    return true
  }

  /** Takes out the flights of one aggregate that are not in hand, also those that wait aside. They are in no order. */
  takeOutOf(key: string, which: (flight: Flight) => boolean): ReadonlyArray<Flight> {
    const flights: Array<Flight> = []
    const aside = this.paused?.asides.get(key)
    if (aside !== undefined) { for (const flight of this.paused!.takeOf(aside, which)) flights.push(flight) }
    const mailbox = this.mailboxes.get(key)
    if (mailbox !== undefined && mailbox.turn === undefined) {
      const ours = (task: unknown) => (task as Flight).mailbox === mailbox && which(task as Flight)
      const { slot } = mailbox
      const out = slot.takeOut(ours) as ReadonlyArray<Flight>
      for (const flight of out) flight.mailbox = undefined
      mailbox.size -= out.length
      for (const flight of out) flights.push(flight)
      if (out.length > 0) {
        if (mailbox.size === 0) this.emptied(mailbox)
        slot.tookOut()
      }
    }
    return flights
  }

  /** Whether flights of an aggregate wait that are not in hand. */
  isWaiting(key: string, which: (flight: Flight) => boolean): boolean {
    const mailbox = this.mailboxes.get(key)
    return this.paused?.asides.get(key)?.flights.some(which) === true ||
      mailbox?.slot.waiting().some((task) => (task as Flight).mailbox === mailbox && which(task as Flight)) === true
  }

  /** Puts flights before all others of an aggregate that wait aside, and from there into its mailbox as there is room. */
  handOver(key: string, flights: ReadonlyArray<Flight>): void {
    if (flights.length > 0) this.pauses.handOver(key, flights)
  }

  /** The flights that slots have in hand. */
  inHand(which: (flight: Flight) => boolean): ReadonlyArray<Flight> {
    return this.slots().flatMap(({ taskInHand }) =>
      taskInHand !== undefined && which(taskInHand as Flight) ? [taskInHand as Flight] : []
    )
  }

  get subscription(): string {
    return this.subscriber.name
  }

  /** Waits until a flight's handler runs no more, which could not be interrupted. */
  freed(flight: Flight): Effect.Effect<void> {
    const { slot } = flight.mailbox!
    this.owner.stuck.add(slot)
    return slot.freed(flight)
  }

  /** How many actors of this subscription live. */
  live(): number {
    return this.hasShared ? this.slots().length : this.mailboxes.size
  }

  /** How full the fullest mailbox is, from 0 to 1. */
  fullest(): number {
    return this.slots().reduce((most, slot) => Math.max(most, slot.use), 0)
  }

  slots(): ReadonlyArray<Slot> {
    const slots = Array.from(this.mailboxes.values(), ({ slot }) => slot)
    return this.hasShared ? Array.from(new Set(slots)) : slots
  }

  /** A mailbox has become empty. With an actor per aggregate the mailbox is kept as long as its actor lives. */
  emptied(mailbox: Mailbox): void {
    const { placement, turn } = mailbox
    if (!this.isPlaced(mailbox)) return this.moved(mailbox)
    if (turn !== undefined) turn.owner.give(turn)
    if (placement.isShared) this.mailboxes.delete(mailbox.key)
    else if (this.crew !== undefined) this.crew.becameIdle(mailbox.slot)
  }

  /** So many actors of its own may live from now on; more only end when they are idle. Undefined: as many as the bus allows. */
  limitActors(most: number | undefined): void {
    const former = this.crew
    this.crew = most === undefined ? undefined : new Crew(most, () => this.ownActors, this.idleOnes())
    this.crew?.serve()
    former?.end()
  }

  /** In recovery: ends the actors that became idle before a time. */
  endIdleSince(time: number): void {
    this.crew?.endIdleSince(time)
  }

  /** Its own actors that are idle, in the order in which they became so. */
  private idleOnes(): ReadonlyArray<Slot> {
    const idle: Array<Slot> = []
    for (const { placement, size, slot } of this.mailboxes.values()) {
      if (size === 0 && !placement.isShared) idle.push(slot)
    }
    return idle.sort((a, b) => a.idleSince - b.idleSince)
  }

  /**
   * The strategy has changed. What has messages is going to move when it is empty. The answer ends the slots of the rest, and wakes all who
   * wait: they may find room elsewhere.
   */
  rearrange(): () => void {
    const { owner } = this
    this.keyless = undefined
    this.leaving.clear()
    const empty: Array<Mailbox> = []
    for (const mailbox of this.mailboxes.values()) {
      if (this.isPlaced(mailbox)) continue
      if (mailbox.size === 0) empty.push(mailbox)
      else this.leaving.add(mailbox)
    }
    for (const { key } of empty) this.mailboxes.delete(key)
    const ended = Array.from(this.own).filter(([placement]) => !owner.isUsed(placement))
    for (const [placement] of ended) this.own.delete(placement)
    if (!owner.current.isShared) this.ownOptions(owner.current)
    return () => {
      for (const [, { place }] of ended) place.end()
      for (const { placement, slot } of empty) if (!placement.isShared) slot.endIfIdle()
      const waiting = Array.from(this.waiting)
      for (const waiter of waiting) this.cancel(waiter)
      for (const waiter of waiting) waiter.wake()
    }
  }

  /** Moves the aggregates that have messages waiting and none in hand, and from now on each other one as soon as none is. */
  carryAll(carries: boolean): void {
    this.carries = carries && this.leaving.size > 0
    if (!this.carries) return
    for (const mailbox of Array.from(this.leaving)) {
      const inHand = mailbox.slot.taskInHand as Flight | undefined
      if (inHand?.mailbox === mailbox) continue
      this.carry(mailbox)
      mailbox.slot.tookOut()
    }
  }

  /** None of its messages is in hand: those that wait go to the aggregate's slot of the present strategy, if there is a place for it. */
  carry(mailbox: Mailbox): void {
    const { key, slot, turn } = mailbox
    // Messages without a key have no order. They stay, and no others come after them.
    if (turn !== undefined || !this.leaving.has(mailbox)) return
    const placement = this.placementOf(key)
    const other = this.slotToCarryTo(placement, key)
    if (other === undefined) return
    const flights = slot.takeOut((task) => (task as Flight).mailbox === mailbox) as ReadonlyArray<Flight>
    const next = new Mailbox(key, other, placement, this, undefined)
    next.size = flights.length
    next.topic = mailbox.topic
    next.partition = mailbox.partition
    for (const flight of flights) flight.mailbox = next
    this.mailboxes.set(key, next)
    other.putIn(flights)
    this.moved(mailbox)
  }

  private slotToCarryTo(placement: Placement, key: string): Slot | undefined {
    const { owner, subscriber } = this
    // It does not wait for a place: the next chance is the end of the aggregate's next message.
    const waiter = new Waiter(() => {})
    const slot = placement.isShared
      ? placement.sharedSlot(key, undefined, subscriber.home, waiter)
      : this.crew?.hasRoom !== false && owner.supervisor.admit(this.ownOptions(placement).place, waiter)
      ? this.start(key, this.ownOptions(placement))
      : undefined
    this.cancel(waiter)
    return slot
  }

  private start(key: string, options: SlotOptions): Slot {
    this.ownActors++
    return this.owner.supervisor.start(key, this.subscriber.home, options)
  }

  /** The subscription ends. The slots that only it uses end with it. */
  readonly shutdown: Effect.Effect<void> = Effect.suspend(() => {
    const own = Array.from(this.mailboxes.values()).flatMap(({ placement, slot }) => placement.isShared ? [] : [slot])
    return Effect.map(stopAll(this.subscriber.name, own, this.owner.stuck), () => {
      for (const { place } of this.own.values()) place.end()
      this.leaving.clear()
      this.onEnd()
      this.owner.moved()
    })
  })

  private placementOf(key: string): Placement {
    return this.owner.placementOf(key, this.subscriber.name)
  }

  /** Whether its next message goes to the same slot. If not, the mailbox is about to move, or to be replaced. */
  private isPlaced({ key, placement, turn }: Mailbox): boolean {
    return placement === this.placementOf(key) && (turn === undefined || turn.owner === this.keyless)
  }

  private get hasShared(): boolean {
    return this.owner.current.isShared || this.owner.generation > 0
  }

  private get turns(): Keyless {
    const { current, generation } = this.owner
    return this.keyless ??= new Keyless(current.turns, generation === 0 ? "" : `.${generation}`)
  }

  /** Of a topic that is a pattern (NATS) each subject has partitions of its own. Messages without a key belong to no aggregate. */
  private cameFrom(mailbox: Mailbox, flight: Flight): void {
    const isSame = mailbox.topic === flight.topic && mailbox.turn === undefined
    if (isSame && this.onOtherPartition !== undefined) this.onOtherPartition(mailbox, flight)
    mailbox.topic = flight.topic
    mailbox.partition = flight.partition
  }

  refuse(waiter: Waiter): false {
    this.waiting.add(waiter)
    return false
  }

  /** The aggregate has nothing in hand and nothing waiting: its next message goes where the present strategy says. */
  private moved(mailbox: Mailbox): void {
    const { key, placement, slot } = mailbox
    if (this.mailboxes.get(key) === mailbox) this.mailboxes.delete(key)
    // Its slot is in the middle of something.
    if (!placement.isShared || !placement.isOpen) queueMicrotask(() => slot.endIfIdle())
    if (!this.leaving.delete(mailbox)) return
    if (this.leaving.size === 0) this.carries = false
    this.owner.moved()
  }

  private slotFor(placement: Placement, key: string, turn: Turn | undefined, waiter: Waiter): Slot | undefined {
    const { owner, subscriber } = this
    if (placement.isShared) return placement.sharedSlot(key, turn?.index, subscriber.home, waiter)
    const options = this.ownOptions(placement)
    const { crew } = this
    if (crew !== undefined && !crew.admits(waiter)) {
      // Others can use the place that was reserved for it.
      waiter.share?.cancel(waiter)
      return undefined
    }
    if (!owner.supervisor.admit(options.place, waiter)) {
      crew?.unused()
      return undefined
    }
    // Making room wakes others. A transport may offer their messages at once, and one of them may have made this mailbox.
    const made = this.mailboxes.get(key)
    if (made === undefined) return this.start(key, options)
    options.place.give(1)
    crew?.unused()
    return made.slot
  }

  private ownOptions(placement: Placement): SlotOptions {
    const found = this.own.get(placement)
    if (found !== undefined) return found
    const place: Share = this.owner.supervisor.places()
    const options = placement.optionsOf(place, (slot) => {
      this.endedActors++
      this.ownActors--
      this.crew?.ended(slot)
      if (this.mailboxes.get(slot.name)?.slot === slot) this.mailboxes.delete(slot.name)
    })
    this.own.set(placement, options)
    return options
  }
}
