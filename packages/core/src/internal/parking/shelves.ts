import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Letter from "./letter.js"
import type { Known, Parked } from "./parked.js"
import type { Owner } from "./settings.js"

/** How many letters of an aggregate are read at a time, and how many bytes of them. */
const maxLetters = 64
const maxBytes = 1_048_576

/** How many bytes are read together, of a partition. */
const maxTogether = 4_194_304

/** A letter that was read. It is of use as long as its revision is the one that is known. */
interface Read {
  readonly revision: number
  readonly size: number
  /** It is in the store. */
  readonly isThere: boolean
  /** Undefined: it is of a newer version. */
  readonly letter: Letter.Letter | undefined
}

/** @internal */
export type Found = readonly [Known, Read]

/**
 * Reads the letters of a partition that are released: of the aggregates that wait for theirs, and of those that come next. Some stores have to be
 * read from a letter on to find another one, so reading those of each aggregate by themselves would read all of the store for each of them.
 *
 * @internal
 */
export class Shelves {
  private readonly turn = Effect.unsafeMakeSemaphore(1)
  private readonly needed = new Set<Parked>()
  private readonly shelves = new Map<Parked, Map<number, Read>>()
  private bytes = 0

  constructor(private readonly lane: Owner) {}

  /** The first letters of an aggregate. None: the lane closes. `next` are those that are released after it. */
  letters(one: Parked, next: Iterable<Parked>): Effect.Effect<ReadonlyArray<Found>> {
    const read = Effect.suspend(() => {
      // It may have been read with another one's.
      const found = this.take(one)
      return found.length > 0 || this.lane.isClosing
        ? Effect.succeed(found)
        : Effect.map(this.fill(one, next), () => this.take(one))
    })
    return Effect.suspend(() => {
      const found = this.take(one)
      if (found.length > 0) return Effect.succeed(found)
      this.needed.add(one)
      return Effect.ensuring(this.turn.withPermits(1)(read), Effect.sync(() => this.needed.delete(one)))
    })
  }

  /** Nothing is released any more. */
  clear(): void {
    this.shelves.clear()
    this.bytes = 0
  }

  private take(one: Parked): ReadonlyArray<Found> {
    const shelf = this.shelves.get(one)
    if (shelf === undefined) return []
    this.shelves.delete(one)
    for (const { size } of shelf.values()) this.bytes -= size
    const found: Array<Found> = []
    for (const known of one.first(maxLetters, maxBytes)) {
      const read = shelf.get(known.offset)
      if (read?.revision !== known.revision) break
      found.push([known, read])
    }
    return found
  }

  private fill(one: Parked, next: Iterable<Parked>): Effect.Effect<void> {
    const { reading, schedule, store } = this.lane.settings
    return Effect.suspend(() => {
      // What was read for somebody who did not come.
      if (this.bytes > maxTogether) this.clear()
      const wanted = this.wanted(one, next)
      const values = new Map<string, Uint8Array>()
      const left = new Map(Array.from(wanted, ([key, [, { revision }]]) => [key, revision]))
      let after = Infinity
      for (const revision of left.values()) after = Math.min(after, revision - 1)
      const reads = Stream.runForEachWhile(
        store.read(this.lane.partition, { after, keys: Array.from(wanted.keys()) }),
        ({ key, revision, value }) =>
          Effect.sync(() => {
            if (value === null || !wanted.has(key)) return true
            values.set(key, value)
            if (revision >= (left.get(key) ?? 0)) left.delete(key)
            return left.size > 0
          })
      )
      return Effect.map(
        reading.retry(reads, { schedule, while: () => !this.lane.isClosing }),
        () => this.put(wanted, values)
      )
    }).pipe(
      // It was closed meanwhile.
      Effect.ignore
    )
  }

  private wanted(one: Parked, next: Iterable<Parked>): ReadonlyMap<string, readonly [Parked, Known]> {
    const wanted = new Map<string, readonly [Parked, Known]>()
    let bytes = 0
    const want = (one: Parked) => {
      for (const known of one.first(maxLetters, maxBytes)) {
        wanted.set(Letter.keyOf(one.key, known.offset, known.owner), [one, known])
        bytes += known.size
      }
    }
    want(one)
    for (const others of [this.needed, next]) {
      for (const other of others) {
        if (bytes >= maxTogether) return wanted
        if (other !== one && !this.shelves.has(other) && this.lane.parked.get(other.key) === other) want(other)
      }
    }
    return wanted
  }

  private put(
    wanted: ReadonlyMap<string, readonly [Parked, Known]>,
    values: ReadonlyMap<string, Uint8Array>
  ): void {
    for (const [key, [one, { offset, revision, size }]] of wanted) {
      const value = values.get(key)
      const letter = value && Letter.decode(value, this.lane.partition)
      let shelf = this.shelves.get(one)
      if (shelf === undefined) this.shelves.set(one, shelf = new Map())
      shelf.set(offset, { revision, size, isThere: value !== undefined, letter })
      this.bytes += size
    }
  }
}
