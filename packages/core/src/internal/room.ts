import type { Waiter } from "./quota.js"

/**
 * Who waits for room in a mailbox, first come first served. A waiter that is woken has its room reserved until it takes it, or cancels.
 *
 * @internal
 */
export class Room {
  private readonly waiters: Array<Waiter> = []
  private readonly reserved = new Set<Waiter>()

  /** For how many tasks room is reserved. */
  get kept(): number {
    return this.reserved.size
  }

  get isAwaited(): boolean {
    return this.waiters.length > 0
  }

  /** Takes the room that is reserved for a waiter. `false`: there is none. */
  take(waiter: Waiter): boolean {
    return this.reserved.delete(waiter)
  }

  wait(waiter: Waiter): void {
    if (!this.waiters.includes(waiter)) this.waiters.push(waiter)
  }

  /** The waiter waits no more, and the room that was reserved for it goes to the next one. */
  cancel(waiter: Waiter): void {
    const index = this.waiters.indexOf(waiter)
    if (index !== -1) this.waiters.splice(index, 1)
    if (this.reserved.delete(waiter)) this.serve()
  }

  /** There is room for one. */
  serve(): void {
    const waiter = this.waiters.shift()
    if (waiter === undefined) return
    this.reserved.add(waiter)
    waiter.wake()
  }

  /** There will be no room here. */
  end(): void {
    for (const waiter of this.waiters.splice(0)) waiter.wake()
  }
}
