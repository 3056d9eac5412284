/**
 * A bound that several users share: bytes, live actors, settled messages or running handlers. The first user to ask is the first to
 * be served. Room is reserved for the user that has waited longest, so that no user keeps a bound for itself. A quarter of the
 * bound is divided among the users as their minimum share. A user below its minimum share passes the users that wait for more
 * than theirs, as long as the first of them still gets its room.
 *
 * @internal
 */
export class Quota {
  used = 0
  /** What each share may take, however much the others hold. */
  private minimum = 0
  /** The sum of what the shares have not used of their minimum. */
  private kept = 0
  private readonly shares = new Set<Share>()
  /** The shares that have waiters. The first of them has the next turn. */
  private readonly queue: Array<Share> = []

  /** `onBound` is told when the first user has to wait, and when the last one no longer waits. */
  constructor(public max: number, private readonly onBound?: (isReached: boolean) => void) {}

  /** One more user. */
  share(): Share {
    const share = new Share(this)
    this.shares.add(share)
    this.divide()
    // The minimum shares are rounded down, and less may be kept for others now.
    this.serve()
    return share
  }

  /** Another bound from now on. */
  resize(max: number): void {
    this.max = max
    this.divide()
    this.serve()
  }

  /** How many users wait. */
  get waiting(): number {
    return this.queue.length
  }

  /** Whether a share that does not wait can have an amount now. An amount above the whole bound fits when nothing is used. */
  fits(share: Share, amount: number): boolean {
    if (this.room(share, amount) >= amount) return true
    return this.queue.length === 0 && (this.used === 0 || !this.isSmall(amount) && amount <= this.max - this.used)
  }

  /** How much of an amount a share that does not wait can have now. */
  room(share: Share, amount: number): number {
    const free = this.max - this.used
    const unused = Math.max(0, this.minimum - share.used)
    const own = Math.min(free, unused)
    // The waiting shares go first, except before a minimum share. A first waiter that needs even that room is not passed.
    const most = this.queue.length === 0
      ? Math.max(own, free - (this.kept - unused))
      : this.isPassable
      ? own
      : 0
    return Math.max(0, Math.min(amount, most))
  }

  /** For `Share` only. */
  changed(share: Share, by: number): void {
    const unused = Math.max(0, this.minimum - share.used)
    share.used += by
    this.used += by
    // A share that has ended keeps no minimum.
    if (!share.isEnded) this.kept += Math.max(0, this.minimum - share.used) - unused
  }

  /** For `Share` only. */
  queued(share: Share): void {
    this.queue.push(share)
    if (this.queue.length === 1) this.onBound?.(true)
  }

  /** For `Share` only. */
  left(share: Share): void {
    const index = this.queue.indexOf(share)
    if (index === -1) return
    this.queue.splice(index, 1)
    if (this.queue.length === 0) this.onBound?.(false)
  }

  /** For `Share` only. */
  ended(share: Share): void {
    if (!this.shares.delete(share)) return
    this.left(share)
    this.divide()
    this.serve()
  }

  /** Reserves room for the waiters, in their order, and wakes them. */
  serve(): void {
    // Without room there is nobody to look for, and there may be hundreds of shares.
    for (let i = 0; i < this.queue.length && this.used < this.max;) {
      const share = this.queue[i]!
      const isFirst = i === 0
      if (!this.fitsWaiting(share, isFirst)) {
        // Behind the first one only a minimum share can be served.
        if (this.minimum === 0) return
        i++
        continue
      }
      this.queue.splice(i, 1)
      const waiter = share.next()
      this.changed(share, waiter.wanted)
      waiter.granted = waiter.wanted
      if (share.hasWaiters) this.queue.push(share)
      else if (this.queue.length === 0) this.onBound?.(false)
      waiter.wake()
      i = 0
    }
  }

  private fitsWaiting(share: Share, isFirst: boolean): boolean {
    const amount = share.wanted
    if (isFirst && this.used === 0) return true
    const free = this.max - this.used
    const unused = Math.max(0, this.minimum - share.used)
    if (amount <= Math.min(free, unused)) return isFirst || this.isPassable
    // Behind one that nobody passes, nothing has to be kept for others: they might never give back what it waits for.
    return isFirst && amount <= (this.isPassable ? free - (this.kept - unused) : free)
  }

  /** Whether the first one who waits gets its room even if all others use their minimum share. */
  private get isPassable(): boolean {
    return this.isSmall(this.queue[0]!.wanted)
  }

  /** Whether there is an amount beside the minimum shares. */
  private isSmall(amount: number): boolean {
    return amount <= this.max - this.minimum * this.shares.size
  }

  private divide(): void {
    this.minimum = this.shares.size === 0 ? 0 : Math.floor(this.max / 4 / this.shares.size)
    this.kept = 0
    for (const share of this.shares) this.kept += Math.max(0, this.minimum - share.used)
  }
}

/**
 * A waiter for room. It waits for one amount at a time.
 *
 * @internal
 */
export class Waiter {
  wanted = 0
  /** The amount that is reserved for it and not yet taken. */
  granted = 0
  /** The share of which it waits for room, or has some. */
  share: Share | undefined
  /** The mailbox in which it waits for room, or has some. */
  room: { readonly cancel: (waiter: Waiter) => void } | undefined

  /** `wake` is called once, when the amount is reserved. The waiter then has to ask again, or to cancel. */
  constructor(readonly wake: () => void) {}
}

/**
 * One user of a quota.
 *
 * @internal
 */
export class Share {
  used = 0
  isEnded = false
  private readonly waiters: Array<Waiter> = []
  /** Those for whom room was reserved that they have not taken. */
  private readonly reserved = new Set<Waiter>()

  constructor(private readonly quota: Quota) {}

  get hasWaiters(): boolean {
    return this.waiters.length > 0
  }

  /** What its first waiter asks for. */
  get wanted(): number {
    return this.waiters[0]!.wanted
  }

  /** Takes an amount. `false`: there is no room for it, and the waiter is woken when there is. */
  take(amount: number, waiter: Waiter): boolean {
    if (this.takeReserved(amount, waiter)) return true
    if (this.waiters.length === 0 && this.quota.fits(this, amount)) {
      this.quota.changed(this, amount)
      return true
    }
    this.wait(amount, waiter)
    return false
  }

  /** Takes as much of an amount as there is room for. 0: the waiter is woken when there is some. */
  takeUpTo(amount: number, waiter: Waiter): number {
    const reserved = Math.min(waiter.granted, amount)
    if (waiter.granted > 0) this.takeReserved(reserved, waiter)
    const more = this.waiters.length === 0 ? this.quota.room(this, amount - reserved) : 0
    if (more > 0) this.quota.changed(this, more)
    if (reserved + more === 0) this.wait(1, waiter)
    return reserved + more
  }

  /** Whether `takeUpTo` would take the whole amount. */
  hasRoom(amount: number, waiter: Waiter): boolean {
    const more = amount - waiter.granted
    return more <= 0 || this.waiters.length === 0 && this.quota.room(this, more) === more
  }

  give(amount: number): void {
    if (amount === 0) return
    this.quota.changed(this, -amount)
    if (this.quota.waiting > 0) this.quota.serve()
  }

  /** The waiter waits no more. What was reserved for it is given back. */
  cancel(waiter: Waiter): void {
    const granted = this.unreserve(waiter)
    if (granted > 0) return this.give(granted)
    const index = this.waiters.indexOf(waiter)
    if (index === -1) return
    this.waiters.splice(index, 1)
    waiter.share = undefined
    if (this.waiters.length === 0) this.quota.left(this)
    // The other waiters may have waited for this one only.
    this.quota.serve()
  }

  /** Nobody takes from it any more. What was reserved goes to others; what it holds is given back as before. */
  end(): void {
    this.isEnded = true
    for (const waiter of this.waiters.splice(0)) waiter.share = undefined
    for (const waiter of this.reserved) this.quota.changed(this, -this.unreserve(waiter))
    this.quota.ended(this)
  }

  /** For `Quota` only: the waiter that is served. */
  next(): Waiter {
    const waiter = this.waiters.shift()!
    this.reserved.add(waiter)
    return waiter
  }

  private takeReserved(amount: number, waiter: Waiter): boolean {
    const granted = this.unreserve(waiter)
    if (granted === 0) return false
    if (granted < amount) {
      this.give(granted)
      return false
    }
    this.give(granted - amount)
    return true
  }

  private unreserve(waiter: Waiter): number {
    const { granted } = waiter
    if (granted === 0) return 0
    waiter.granted = 0
    waiter.share = undefined
    this.reserved.delete(waiter)
    return granted
  }

  private wait(amount: number, waiter: Waiter): void {
    waiter.wanted = amount
    // Nobody would take what is reserved for one that has ended.
    if (this.isEnded || this.waiters.includes(waiter)) return
    waiter.share = this
    this.waiters.push(waiter)
    if (this.waiters.length === 1) this.quota.queued(this)
  }
}
