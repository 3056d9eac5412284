import * as Effect from "effect/Effect"
import type * as Strategy from "../Strategy.js"
import type * as Supervisor from "../Supervisor.js"
import { AddressBook, type Mailbox, type Owner } from "./addressBook.js"
import { Condition } from "./condition.js"
import type { Subscriber } from "./flight.js"
import { type Defaults, Placement } from "./placement.js"
import type { Slot } from "./slot.js"

/**
 * A strategy that has a share of the aggregates.
 *
 * @internal
 */
export interface Candidate {
  readonly strategy: Strategy.Service
  readonly isIts: (key: string, subscription: string) => boolean
}

/**
 * The mailboxes of a bus: each active aggregate's record, and the strategy that says which slot it goes to.
 *
 * @internal
 */
export class Mailboxes implements Owner {
  /** By strategy: the present one, and former ones that aggregates have not left yet. */
  private readonly placements = new Map<Strategy.Service, Placement>()
  private readonly books = new Set<AddressBook>()
  /** Where aggregates are placed that have no mailbox yet, and don't belong to the candidate. */
  current: Placement
  private candidate: { readonly placement: Placement; readonly isIts: Candidate["isIts"] } | undefined
  /** Goes up with each switch. */
  generation = 0
  /** Called once when all aggregates have moved. */
  onMoved: (() => void) | undefined
  private readonly noneLeaves = new Condition(() => this.leaving === 0)
  /** Slots in which a handler goes on that can't be interrupted. Its lane has waited for it and named it. */
  readonly stuck = new WeakSet<Slot>()

  constructor(
    readonly supervisor: Supervisor.Service,
    strategy: Strategy.Service,
    private readonly defaults: Defaults
  ) {
    this.current = this.placed(strategy)
    this.current.open()
  }

  /** The mailboxes of one subscription. */
  open(subscriber: Subscriber): AddressBook {
    const book = new AddressBook(this, subscriber, () => this.books.delete(book))
    this.books.add(book)
    return book
  }

  /**
   * From now on aggregates are placed by this strategy, and those of the candidate's share by the candidate. Those that have messages waiting or
   * in hand move when they have none; the others have moved when this returns. If it carries, waiting messages move with their aggregate
   * as soon as none is in hand.
   */
  arrange(strategy: Strategy.Service, candidate: Candidate | undefined, carries: boolean): void {
    const former = [this.current, ...(this.candidate === undefined ? [] : [this.candidate.placement])]
    if (strategy !== this.current.strategy || candidate !== undefined || this.candidate !== undefined) {
      this.current = this.placed(strategy)
      this.candidate = candidate && { isIts: candidate.isIts, placement: this.placed(candidate.strategy) }
      this.current.open()
      this.candidate?.placement.open()
      this.generation++
      const moves = Array.from(this.books, (book) => book.rearrange())
      // From here on slots end, which wakes those who wait for places: their lanes may offer at once.
      for (const placement of former) if (!this.isUsed(placement)) placement.close()
      for (const move of moves) move()
    }
    for (const book of Array.from(this.books)) book.carryAll(carries)
    this.moved()
  }

  /** How many tasks a mailbox holds. */
  get capacity(): number {
    return this.current.strategy.capacity ?? this.defaults.capacity
  }

  /** Where an aggregate is placed that has no mailbox. */
  placementOf(key: string, subscription: string): Placement {
    const { candidate, current } = this
    return candidate !== undefined && candidate.isIts(key, subscription) ? candidate.placement : current
  }

  isUsed(placement: Placement): boolean {
    return placement === this.current || placement === this.candidate?.placement
  }

  /** How many mailboxes have still to move. */
  get leaving(): number {
    let count = 0
    for (const { leaving } of this.books) count += leaving.size
    return count
  }

  /** The mailboxes that have still to move, with the name of their subscription. */
  left(): ReadonlyArray<readonly [subscription: string, mailbox: Mailbox]> {
    return Array.from(this.books).flatMap((book) =>
      Array.from(book.leaving, (mailbox) => [book.subscription, mailbox] as const)
    )
  }

  /** Waits until all aggregates have moved. */
  get allMoved(): Condition {
    return this.noneLeaves
  }

  /** A mailbox has moved. */
  moved(): void {
    if (this.leaving > 0) return
    for (const [strategy, placement] of this.placements) {
      // A slot of one that is still busy is ended with the bus, or found at the next switch.
      if (!placement.isOpen && placement.isEmpty) this.placements.delete(strategy)
    }
    const { onMoved } = this
    this.onMoved = undefined
    this.noneLeaves.changed()
    onMoved?.()
  }

  /** Ends the shared slots. The bus has closed its subscriptions before. */
  readonly shutdown: Effect.Effect<void> = Effect.suspend(() =>
    Effect.forEach(Array.from(this.placements.values()), (placement) => placement.shutdown(this.stuck), {
      discard: true
    })
  )

  private placed(strategy: Strategy.Service): Placement {
    const found = this.placements.get(strategy) ?? new Placement(strategy, this.supervisor, this.defaults)
    this.placements.set(strategy, found)
    return found
  }
}
