import type { Pause } from "../../Control.js"
import type { Carrier, Flight } from "../flight.js"
import { Waiter } from "../quota.js"
import type { Slot } from "../slot.js"

/**
 * Where messages without a key wait while the subscription is paused. No mailbox has this key, and nobody takes it for an aggregate's.
 *
 * @internal
 */
export const keyless = " keyless"

/** A mailbox, as far as pausing goes. */
interface Box {
  readonly key: string
  readonly size: number
  readonly slot: Slot
  readonly turn: unknown
  isControlled: boolean
}

/** The mailboxes of a subscription, as far as pausing goes. They get back the boxes that they have given. */
interface Book {
  readonly capacity: number
  readonly get: (key: string) => Box | undefined
  readonly all: () => ReadonlyArray<Box>
  handOf(mailbox: Box): Flight | undefined
  takeOut(mailbox: Box): ReadonlyArray<Flight>
  readonly offer: (flight: Flight, waiter: Waiter) => boolean
  readonly place: (flight: Flight, waiter: Waiter) => boolean
  readonly refuse: (waiter: Waiter) => false
  readonly cancel: (waiter: Waiter) => void
  readonly unused: (paused: Paused) => void
  readonly onPauseEnded: ((key: string, pause: Pause) => void) | undefined
}

/**
 * The place where the flights of one aggregate wait while it is paused, and until all of them are in a mailbox again. What comes
 * meanwhile goes behind them, so that the order stays.
 *
 * @internal
 */
export class Aside {
  flights: Array<Flight> = []
  /** Its own pause. */
  pause: Pause | undefined
  /** The lane of its last flight. */
  lane: Carrier | undefined
  /** Its lane closes, and what was settled before is handled all the same. */
  isLetGo = false
  private isDraining = false
  private readonly waiters = new Set<Waiter>()
  private readonly waiter = new Waiter(() => this.drain())

  constructor(readonly key: string, private readonly owner: Paused) {}

  get isPaused(): boolean {
    return !this.isLetGo && (this.pause !== undefined || this.owner.isAll)
  }

  /** Whether this flight stays here. One that is given up does not, nor does one that probes for what keeps its subscription from going on. */
  private keeps(flight: Flight): boolean {
    return this.isPaused && flight.verdict === undefined && !this.owner.lets(flight, this)
  }

  /** `false`: there is no room, and the waiter is woken when there is some. */
  offer(flight: Flight, waiter: Waiter): boolean {
    if (this.flights.length >= this.owner.book.capacity) {
      this.waiters.add(waiter)
      waiter.room = this
      return this.owner.book.refuse(waiter)
    }
    this.cancel(waiter)
    this.flights.push(flight)
    this.added(flight)
    if (flight.carrier.letsGo) {
      this.isLetGo = true
      this.drain()
    }
    return true
  }

  cancel(waiter: Waiter): void {
    this.waiters.delete(waiter)
    if (waiter.room === this) waiter.room = undefined
  }

  /** These come before all others. */
  putFirst(flights: ReadonlyArray<Flight>): void {
    this.flights = [...flights, ...this.flights]
    for (const flight of flights) this.added(flight)
  }

  take(which: (flight: Flight) => boolean): ReadonlyArray<Flight> {
    const taken = this.flights.filter((flight) => !flight.isAside && which(flight))
    if (taken.length === 0) return taken
    this.flights = this.flights.filter((flight) => !taken.includes(flight))
    for (const flight of taken) flight.carrier.aside(-1)
    this.roomCame()
    return taken
  }

  /** Puts the flights into their mailbox, if nothing keeps them here. What its slot has not let go of yet stays, and what is behind it. */
  drain(): void {
    // A place that it takes may wake its own waiter.
    if (this.isDraining) return
    this.isDraining = true
    try {
      for (let [flight] = this.flights; flight?.isAside === false; [flight] = this.flights) {
        if (flight.state !== "ended") {
          if (this.keeps(flight)) break
          if (!this.owner.book.place(flight, this.waiter)) break
        }
        this.flights.shift()
        flight.carrier.aside(-1)
      }
    } finally {
      this.isDraining = false
    }
    if (this.flights.length === 0) this.isLetGo = false
    // One that may pass goes on waiting for its place.
    const [first] = this.flights
    if (first === undefined ? this.isPaused : this.keeps(first)) this.owner.book.cancel(this.waiter)
    this.owner.emptied(this)
    this.roomCame()
  }

  private added(flight: Flight): void {
    this.lane = flight.carrier
    flight.carrier.aside(1)
  }

  private roomCame(): void {
    if (this.waiters.size === 0 || this.flights.length >= this.owner.book.capacity) return
    const waiters = Array.from(this.waiters)
    for (const waiter of waiters) this.owner.book.cancel(waiter)
    for (const waiter of waiters) waiter.wake()
  }
}

/**
 * What is paused of one subscription: all of it, or some of its aggregates. It is there only while something is paused, so that nothing is
 * looked up otherwise.
 *
 * @internal
 */
export class Paused {
  readonly asides = new Map<string, Aside>()
  /** Who keeps the subscription from beginning anything: somebody who has paused it, open circuits, its guard. */
  readonly holders = new Set<object>()
  /** Lanes may take messages all the same: a circuit looks for one to probe with, and there is none. */
  admits = false

  constructor(readonly book: Book) {}

  /** The subscription begins nothing. */
  get isAll(): boolean {
    return this.holders.size > 0
  }

  /** Lanes take no messages. */
  get refuses(): boolean {
    return this.isAll && !this.admits
  }

  /** Whether a flight probes for the circuit that alone keeps it from beginning. */
  lets({ trial }: Flight, aside: Aside | undefined): boolean {
    return trial !== undefined && aside?.pause === undefined && trial.passes(this.holders)
  }

  /** As `AddressBook.offer`. */
  offer(flight: Flight, waiter: Waiter): boolean {
    const key = flight.key ?? keyless
    const aside = this.asides.get(key) ?? (this.isAll ? this.asideOf(key) : undefined)
    if (aside === undefined) return this.book.place(flight, waiter)
    waiter.share?.cancel(waiter)
    if (waiter.room !== aside) waiter.room?.cancel(waiter)
    // That wakes others, and what waited here may be in its mailbox now.
    if (this.asides.get(key) !== aside) return this.book.offer(flight, waiter)
    if (!aside.offer(flight, waiter)) return false
    this.admits = false
    return true
  }

  /** From now on nothing begins, until all that hold it have let go. `except`: it is in hand, and is about to step aside by itself. */
  hold(holder: object, except?: Flight): void {
    this.holders.add(holder)
    for (const aside of this.asides.values()) this.endProbe(aside)
    for (const mailbox of this.book.all()) if (mailbox.size > 0) this.clear(mailbox, except)
  }

  /** `false`: others hold it still. */
  letGoOf(holder: object): boolean {
    this.holders.delete(holder)
    if (this.isAll) return false
    this.admits = false
    for (const aside of Array.from(this.asides.values())) aside.drain()
    this.book.unused(this)
    return true
  }

  pause(key: string, pause: Pause): void {
    const aside = this.asideOf(key)
    aside.pause = pause
    this.endProbe(aside)
    const mailbox = this.book.get(key)
    if (mailbox !== undefined && mailbox.size > 0) this.clear(mailbox)
  }

  resume(aside: Aside): void {
    const { key, pause } = aside
    aside.pause = undefined
    aside.drain()
    if (pause !== undefined) this.book.onPauseEnded?.(key, pause)
  }

  /** How many aggregates are paused by themselves. */
  get count(): number {
    let count = 0
    for (const { pause } of this.asides.values()) if (pause !== undefined) count++
    return count
  }

  /** When the oldest pause of an aggregate began. */
  get since(): number | undefined {
    let since: number | undefined
    for (const { pause } of this.asides.values()) {
      if (pause !== undefined && !(since !== undefined && since <= pause.since)) since = pause.since
    }
    return since
  }

  holdsBack(key: string, turn: unknown): boolean {
    return this.asides.get(turn === undefined ? key : keyless)?.isPaused ?? this.isAll
  }

  /** The flight is in hand and may not begin: it is the first of those that wait, as soon as its slot has let go of it. */
  stepsAside(flight: Flight): void {
    const aside = this.asideOf(flight.key ?? keyless)
    flight.isAside = true
    aside.putFirst([flight])
    flight.trial?.over(flight)
  }

  /** The slot has let go of it. */
  left(flight: Flight): void {
    this.asides.get(flight.key ?? keyless)?.drain()
  }

  take(which: (flight: Flight) => boolean): ReadonlyArray<Flight> {
    return Array.from(this.asides.values()).flatMap((aside) => {
      const taken = aside.take(which)
      if (taken.length > 0) this.emptied(aside)
      return taken
    })
  }

  /** What this lane has settled before is handled although it is paused: it would be lost. */
  letGo(lane: Carrier): void {
    for (const aside of Array.from(this.asides.values())) {
      if (!aside.flights.some(({ carrier }) => carrier === lane)) continue
      aside.isLetGo = true
      aside.drain()
    }
  }

  /** Pauses that were not asked to survive it end with the lane of their messages. */
  laneEnded(lane: Carrier): void {
    for (const aside of Array.from(this.asides.values())) {
      if (aside.lane !== lane) continue
      aside.lane = undefined
      if (aside.pause?.survivesRebalance === false) this.resume(aside)
    }
  }

  /** As `take`, of one aggregate. */
  takeOf(aside: Aside, which: (flight: Flight) => boolean): ReadonlyArray<Flight> {
    const taken = aside.take(which)
    if (taken.length > 0) this.emptied(aside)
    return taken
  }

  /** These go first, as soon as nothing keeps them. */
  handOver(key: string, flights: ReadonlyArray<Flight>): void {
    const aside = this.asideOf(key)
    aside.putFirst(flights)
    aside.drain()
  }

  emptied(aside: Aside): void {
    if (aside.flights.length > 0 || aside.pause !== undefined) return
    if (this.asides.get(aside.key) === aside) this.asides.delete(aside.key)
    this.book.unused(this)
  }

  /** Its first flight was to probe, and waits for a place. It can't probe any more. */
  private endProbe(aside: Aside): void {
    const [flight] = aside.flights
    if (flight?.trial !== undefined && !flight.isAside && !this.lets(flight, aside)) flight.trial.over(flight)
  }

  private asideOf(key: string): Aside {
    const found = this.asides.get(key) ?? new Aside(key, this)
    this.asides.set(key, found)
    return found
  }

  /** What waits in the mailbox waits aside, also a flight in hand that waits for its next attempt. */
  private clear(mailbox: Box, except?: Flight): void {
    const { slot } = mailbox
    const aside = this.asideOf(mailbox.turn === undefined ? mailbox.key : keyless)
    aside.putFirst(this.book.takeOut(mailbox))
    const flight = this.book.handOf(mailbox)
    if (flight === undefined) return
    mailbox.isControlled = true
    aside.lane ??= flight.carrier
    // What is on its way out of its slot already must not begin there once more.
    if (flight === except || flight.isAside || this.lets(flight, aside)) return
    if (flight.state === "waiting" || flight.state === "held") slot.again(flight)
  }
}
