/**
 * On which connection to a coordinator a group asks for what is not joining and no heartbeat: commits, above all.
 * Groups share one, so that those that rest cost none. A broker answers the requests of a connection one after
 * the other, and one that does not answer in time ends it: a group that is answered slowly gets a connection of
 * its own until that is over, and nobody waits behind it.
 */

/** A role of the client's connections. */
export const SHARED = "group"

/** Whoever waits longer is slow. */
const SLOW_MS = 1_000

export class GroupLinks {
  /** When each of the requests was made that wait for their answers on the shared connection. */
  private readonly waiting = new Set<{ readonly since: number }>()
  constructor(
    /** Milliseconds of a clock that nobody sets. */
    readonly now: () => number
  ) {}

  get isSlow(): boolean {
    const [oldest] = this.waiting
    return oldest !== undefined && this.now() - oldest.since > SLOW_MS
  }

  /** A request is made on it; to be called when it is over. */
  asked(): () => void {
    const one = { since: this.now() }
    this.waiting.add(one)
    return () => void this.waiting.delete(one)
  }
}

/** Of one group. */
export class GroupLink {
  private isSlow = false
  private onOwn = 0
  constructor(private readonly links: GroupLinks, readonly own: string) {}

  /** A request is made: on which connection, and what to call when it is over; it answers whether its own connection has had its use. */
  ask(): { readonly role: string; readonly over: () => boolean } {
    const since = this.links.now()
    const isShared = !this.isSlow && !this.links.isSlow
    const over = isShared ? this.links.asked() : undefined
    if (!isShared) this.onOwn++
    return {
      role: isShared ? SHARED : this.own,
      over: () => {
        over?.()
        if (!isShared) this.onOwn--
        this.isSlow = this.links.now() - since > SLOW_MS
        return !isShared && !this.isSlow && this.onOwn === 0
      }
    }
  }
}
