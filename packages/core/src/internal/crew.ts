import { ChurningMap } from "../ChurningMap.js"
import type { Waiter } from "./quota.js"
import { Room } from "./room.js"
import type { Slot } from "./slot.js"

/**
 * A bound on the actors of one subscription, beside that of the bus. Idle ones end to make room, the one that has been idle for the
 * longest first. Who waits first is served first.
 *
 * @internal
 */
export class Crew {
  /** The idle actors, in the order in which they became idle. */
  private readonly idle = new ChurningMap<Slot, true>()
  private readonly room = new Room()
  private isServing = false

  /** `live` says how many there are. `idle` are in the order in which they became idle. */
  constructor(readonly most: number, private readonly live: () => number, idle: ReadonlyArray<Slot>) {
    for (const slot of idle) this.idle.set(slot, true)
  }

  /** Whether one more may live. `false`: the waiter is woken when there is room. Who is admitted and makes no actor has to say so. */
  admits(waiter: Waiter): boolean {
    if (waiter.room === this && this.room.take(waiter)) {
      waiter.room = undefined
      return true
    }
    // Who waits already goes first.
    if (this.hasRoom && !this.room.isAwaited) return true
    if (waiter.room !== this) waiter.room?.cancel(waiter)
    this.room.wait(waiter)
    waiter.room = this
    this.serve()
    if (!this.room.take(waiter)) return false
    waiter.room = undefined
    return true
  }

  /** Whether one more may live that does not wait. */
  get hasRoom(): boolean {
    return this.live() + this.room.kept < this.most
  }

  /** Somebody was admitted and has made no actor. */
  unused(): void {
    this.later()
  }

  /** The waiter waits no more. */
  cancel(waiter: Waiter): void {
    waiter.room = undefined
    this.room.cancel(waiter)
  }

  becameBusy(slot: Slot): void {
    this.idle.delete(slot)
  }

  /** It is in the middle of something yet. */
  becameIdle(slot: Slot): void {
    this.idle.set(slot, true)
    this.later()
  }

  /** It is in the middle of something yet. */
  ended(slot: Slot): void {
    this.idle.delete(slot)
    this.later()
  }

  /** Ends those that became idle before a time. */
  endIdleSince(time: number): void {
    for (const slot of Array.from(this.idle.keys())) {
      if (slot.idleSince > time) return
      this.endIdle(slot)
    }
  }

  /** Ends idle ones while too many live, and wakes those who wait as long as there is room. */
  readonly serve = (): void => {
    if (this.isServing) return
    this.isServing = true
    try {
      while (this.live() > this.most && this.endOldest());
      while (this.room.isAwaited) {
        if (this.hasRoom) this.room.serve()
        else if (!this.endOldest()) return
      }
    } finally {
      this.isServing = false
    }
  }

  /** There is no bound any more. */
  end(): void {
    this.idle.clear()
    this.room.end()
  }

  private later(): void {
    if (this.room.isAwaited || this.live() > this.most) queueMicrotask(this.serve)
  }

  private endOldest(): boolean {
    const [slot] = this.idle.keys()
    if (slot === undefined) return false
    this.endIdle(slot)
    return true
  }

  private endIdle(slot: Slot): void {
    this.idle.delete(slot)
    slot.endIfIdle()
  }
}
