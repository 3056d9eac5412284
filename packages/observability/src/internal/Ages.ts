/**
 * How old the oldest of some things is, exact to a second. A thing costs two look-ups in a small map, however many there are.
 *
 * @internal
 */
export class Ages {
  /** How many things began in each second. */
  private readonly seconds = new Map<number, number>()

  add(since: number): void {
    const second = Math.floor(since / 1000)
    this.seconds.set(second, (this.seconds.get(second) ?? 0) + 1)
  }

  remove(since: number): void {
    const second = Math.floor(since / 1000)
    const count = this.seconds.get(second)
    if (count === undefined) return
    if (count === 1) this.seconds.delete(second)
    else this.seconds.set(second, count - 1)
  }

  /** In seconds. 0: there is nothing. */
  oldest(now: number): number {
    let first = Number.POSITIVE_INFINITY
    for (const second of this.seconds.keys()) if (second < first) first = second
    return first === Number.POSITIVE_INFINITY ? 0 : Math.max(0, Math.floor(now / 1000) - first)
  }
}
