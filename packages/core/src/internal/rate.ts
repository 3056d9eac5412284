import { Quota, type Share, type Waiter } from "./quota.js"

/** What one share has taken, and time has not yet given back. */
interface Taken {
  readonly share: Share
  amount: number
}

/**
 * A limit of so many per second: a quota of `burst` to which time gives back what was taken, in the order in which it was taken. So it
 * is as fair as every quota, and a user that waits has its turn.
 *
 * @internal
 */
export class Rate {
  readonly quota: Quota
  /** For each millisecond. */
  private perMs: number
  private readonly taken: Array<Taken> = []
  /** Until when time has given back, in milliseconds. */
  private at: number
  /** The part of one that time has given back. */
  private credit = 0
  private isRefilling = false

  /** `onWaiting` is told that the first user has to wait: somebody has to call `refill` in `delay` milliseconds. */
  constructor(
    perSecond: number,
    burst: number,
    private readonly now: () => number,
    onWaiting: () => void
  ) {
    this.perMs = perSecond / 1_000
    this.quota = new Quota(burst, (isReached) => isReached && onWaiting())
    this.at = now()
  }

  /** Takes an amount of a share. `false`: it would be more than the limit, and the waiter is woken when it is no longer. */
  take(share: Share, amount: number, waiter: Waiter): boolean {
    this.refill()
    if (!share.take(amount, waiter)) return false
    const last = this.taken.at(-1)
    if (this.perMs === Infinity) share.give(amount)
    else if (last?.share === share) last.amount += amount
    else this.taken.push({ share, amount })
    return true
  }

  /** Another limit from now on. */
  set(perSecond: number, burst: number): void {
    this.refill()
    this.perMs = perSecond / 1_000
    this.credit = 0
    this.quota.resize(burst)
    // A burst that was larger before is no debt.
    while (this.giveBack(this.quota.used - burst) > 0);
    // Without a limit all that was taken is given back now.
    this.refill()
  }

  get isAwaited(): boolean {
    return this.quota.waiting > 0
  }

  /** How long until time gives back the next one, in milliseconds. */
  get delay(): number {
    const rest = (1 - this.credit) / this.perMs - (this.now() - this.at)
    // A timer takes no more than some days, and nobody waits for one without a limit.
    return this.perMs === Infinity ? 1 : Math.min(Math.max(1, Math.ceil(rest)), 60_000)
  }

  /** Gives back what time has given back since it was last asked. Whoever is woken by it may ask again at once. */
  refill(): void {
    if (this.isRefilling) return
    this.isRefilling = true
    try {
      const now = this.now()
      // Infinity times nothing is no number.
      this.credit = this.perMs === Infinity ? Infinity : this.credit + Math.max(0, now - this.at) * this.perMs
      this.at = now
      while (this.credit >= 1 && this.taken.length > 0) this.credit -= this.giveBack(Math.floor(this.credit))
      // Time saves nothing up beyond the burst.
      if (this.taken.length === 0) this.credit = 0
    } finally {
      this.isRefilling = false
    }
  }

  /** Gives back up to an amount of what was taken first, and answers how much of it. */
  private giveBack(most: number): number {
    const first = this.taken[0]
    if (first === undefined || most <= 0) return 0
    const amount = Math.min(first.amount, most)
    first.amount -= amount
    if (first.amount === 0) this.taken.shift()
    first.share.give(amount)
    return amount
  }
}

const isPositive = (value: unknown): value is number => typeof value === "number" && value > 0 && value < Infinity

/**
 * What is wrong with a limit.
 *
 * @internal
 */
export const issuesOf = (
  limit: { readonly perSecond: number; readonly burst?: number | undefined } | "unlimited"
): ReadonlyArray<string> => {
  if (limit === "unlimited") return []
  const { burst, perSecond } = limit
  return [
    ...isPositive(perSecond) ? [] : [`perSecond: expected a number above 0, got ${String(perSecond)}`],
    ...burst === undefined || Number.isSafeInteger(burst) && burst > 0
      ? []
      : [`burst: expected a whole number of at least 1, got ${String(burst)}`]
  ]
}
