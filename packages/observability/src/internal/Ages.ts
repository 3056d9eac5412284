/** So many seconds have a place of their own; what is older is in a map. */
const width = 64
const mask = width - 1

/**
 * How old the oldest of some things is, exact to a second. A thing costs two counts in a ring, however many there are.
 *
 * @internal
 */
export class Ages {
  /** How many things began in each of the newest seconds, at the second modulo `width`. */
  private readonly ring = new Uint32Array(width)
  /** The ring holds this second and those before it. */
  private newest = 0
  /** How many things began in each second before those. */
  private readonly older = new Map<number, number>()

  add(since: number): void {
    const second = Math.floor(since / 1000)
    if (second > this.newest) this.turn(second)
    if (second > this.newest - width) this.ring[second & mask]!++
    else this.older.set(second, (this.older.get(second) ?? 0) + 1)
  }

  remove(since: number): void {
    const second = Math.floor(since / 1000)
    if (second > this.newest - width) {
      if (this.ring[second & mask]! > 0) this.ring[second & mask]!--
      return
    }
    const count = this.older.get(second)
    if (count === undefined) return
    if (count === 1) this.older.delete(second)
    else this.older.set(second, count - 1)
  }

  /** In seconds. 0: there is nothing. */
  oldest(now: number): number {
    let first = Number.POSITIVE_INFINITY
    for (const second of this.older.keys()) if (second < first) first = second
    for (let second = this.newest; second > this.newest - width; second--) {
      if (second < first && this.ring[second & mask]! > 0) first = second
    }
    return first === Number.POSITIVE_INFINITY ? 0 : Math.max(0, Math.floor(now / 1000) - first)
  }

  /** Moves what leaves the ring into the map. */
  private turn(second: number): void {
    for (let old = this.newest - width + 1; old <= this.newest && old <= second - width; old++) {
      const count = this.ring[old & mask]!
      if (count > 0) this.older.set(old, (this.older.get(old) ?? 0) + count)
      this.ring[old & mask] = 0
    }
    this.newest = second
  }
}
