/**
 * A map for entries that come and go all the time, such as the messages that a transport has in flight.
 *
 * V8's own `Map` and `Set` move to another table when many entries were deleted, and each outgrown table points to the next
 * one. Once a table has grown old, all tables after it, with the entries that they had, live until the next full collection. So
 * objects that should die young are copied twice, in pauses of several milliseconds. This map starts a new chain of tables from time
 * to time.
 *
 * @since 0.1.0
 */

/** A chain ends after so many deletions, or as many as there are entries. */
const atLeast = 512

/** The same for an empty map, for which a new chain costs nothing. */
const atLeastEmpty = 32

/**
 * Entries are in the order in which their keys were first set, as in `Map`. An iterator may go on to entries that are deleted while
 * it is used.
 *
 * @since 0.1.0
 * @category models
 */
export class ChurningMap<K, V> {
  private map = new Map<K, V>()
  private deletions = 0

  /**
   * @since 0.1.0
   */
  get size(): number {
    return this.map.size
  }

  /**
   * @since 0.1.0
   */
  get(key: K): V | undefined {
    return this.map.get(key)
  }

  /**
   * @since 0.1.0
   */
  has(key: K): boolean {
    return this.map.has(key)
  }

  /**
   * @since 0.1.0
   */
  set(key: K, value: V): this {
    this.map.set(key, value)
    return this
  }

  /**
   * @since 0.1.0
   */
  delete(key: K): boolean {
    if (!this.map.delete(key)) return false
    this.deletions++
    const { size } = this.map
    if (this.deletions >= (size === 0 ? atLeastEmpty : Math.max(atLeast, size))) {
      this.map = new Map(this.map)
      this.deletions = 0
    }
    return true
  }

  /**
   * @since 0.1.0
   */
  clear(): void {
    this.map = new Map()
    this.deletions = 0
  }

  /**
   * @since 0.1.0
   */
  keys(): IterableIterator<K> {
    return this.map.keys()
  }

  /**
   * @since 0.1.0
   */
  values(): IterableIterator<V> {
    return this.map.values()
  }
}
