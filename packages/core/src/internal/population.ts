import type { Quota, Share, Waiter } from "./quota.js"
import type { Ends, Slot } from "./slot.js"

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

  becameIdle(slot: Slot): void {
    slot.idleSince = this.now()
    const { older } = this.idle
    slot.older = older
    slot.younger = this.idle
    older.younger = slot
    this.idle.older = slot
    if (this.quota.waiting > 0) this.makeRoom()
  }

  becameBusy(slot: Slot): void {
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

  ended(slot: Slot): void {
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

  private get oldest(): Slot | undefined {
    const { younger } = this.idle
    return younger === this.idle ? undefined : younger as Slot
  }
}
