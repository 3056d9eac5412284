import type { Quota, Share, Waiter } from "./quota.js"

/**
 * A slot, as far as its life goes.
 *
 * @internal
 */
export interface Mortal {
  idleSince: number
  /** Its neighbours in the list of those that are idle; undefined where it isn't in it. */
  older: Mortal | Ends | undefined
  younger: Mortal | Ends | undefined
  readonly place: Share
  readonly end: () => void
}

/**
 * The node of the list of idle slots itself: the oldest comes after it, the youngest before it.
 *
 * @internal
 */
export interface Ends {
  older: Mortal | Ends
  younger: Mortal | Ends
}

/**
 * How many slots live, and which of them are idle. Idle slots end to make room for others, and the one that has been idle longest ends first.
 *
 * @internal
 */
export class Population {
  /** The idle slots as a ring, in the order in which they became idle. It is a ring because each task takes its slot out and puts it back. */
  private readonly idle: Ends
  live = 0

  constructor(private readonly quota: Quota, private readonly now: () => number) {
    const ends = {} as Ends
    ends.older = ends
    ends.younger = ends
    this.idle = ends
  }

  /** Whether one more may live. `false`: the waiter is woken when there is room. */
  admit(share: Share, waiter: Waiter): boolean {
    if (share.take(1, waiter)) return true
    this.makeRoom()
    return waiter.granted > 0 && share.take(1, waiter)
  }

  becameIdle(slot: Mortal): void {
    slot.idleSince = this.now()
    const { older } = this.idle
    slot.older = older
    slot.younger = this.idle
    older.younger = slot
    this.idle.older = slot
    if (this.quota.waiting > 0) this.makeRoom()
  }

  becameBusy(slot: Mortal): void {
    const { older, younger } = slot
    if (older === undefined || younger === undefined) return
    older.younger = younger
    younger.older = older
    slot.older = undefined
    slot.younger = undefined
  }

  began(): void {
    this.live++
  }

  ended(slot: Mortal): void {
    this.live--
    this.becameBusy(slot)
    slot.place.give(1)
  }

  /** Ends the slots that became idle before a time, and answers since when the next one is idle. */
  endIdleSince(time: number): number | undefined {
    for (let { oldest } = this; oldest !== undefined; { oldest } = this) {
      if (oldest.idleSince > time) return oldest.idleSince
      oldest.end()
    }
    return undefined
  }

  /** Idle slots end as long as a waiter is left. */
  private makeRoom(): void {
    for (let { oldest } = this; oldest !== undefined && this.quota.waiting > 0; { oldest } = this) oldest.end()
  }

  private get oldest(): Mortal | undefined {
    const { younger } = this.idle
    return younger === this.idle ? undefined : younger as Mortal
  }
}
