import type { IncomingMessage } from "../Transport.js"

/**
 * A bound on something that messages hold while they are unfinished: bytes, or a number of them.
 *
 * @internal
 */
export class Budget {
  used = 0
  private waiters = new Set<() => void>()

  constructor(readonly max: number) {}

  /** Takes what is free of an amount, and answers how much that was. */
  takeUpTo(amount: number): number {
    const taken = Math.min(amount, this.free)
    this.used += taken
    return taken
  }

  get free(): number {
    return Math.max(0, this.max - this.used)
  }

  /** Takes an amount if it fits. One that never fits is taken alone. Otherwise `onRoom` is called once, when something is given back. */
  take(amount: number, onRoom: () => void): boolean {
    if (this.used > 0 && this.used + amount > this.max) {
      this.waiters.add(onRoom)
      return false
    }
    this.used += amount
    return true
  }

  give(amount: number): void {
    this.used -= amount
    if (this.waiters.size === 0) return
    const waiters = this.waiters
    this.waiters = new Set()
    for (const wake of waiters) wake()
  }

  /** Calls once when something is given back. */
  onRoom(wake: () => void): void {
    this.waiters.add(wake)
  }
}

/**
 * The bytes of a message that stay in memory with it.
 *
 * @internal
 */
export const sizeOf = (message: Pick<IncomingMessage, "key" | "value" | "headers">): number => {
  let size = (message.value === null ? 0 : message.value.length) + (message.key === null ? 0 : message.key.length)
  for (const name in message.headers) {
    const value = message.headers[name]
    // A transport that is not ours may hand over a null.
    if (value === undefined || value === null) continue
    size += name.length
    if (typeof value === "string" || value instanceof Uint8Array) size += value.length
    else for (const one of value) size += one.length
  }
  return size
}
