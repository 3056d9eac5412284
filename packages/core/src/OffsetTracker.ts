/**
 * Which offsets of one partition are finished, and the watermark that follows:
 * the lowest offset that is not finished. For transports whose settlement is a
 * position (Kafka's committed offset, a position in memory).
 *
 * Offsets that were never delivered (compacted away, control records, aborted
 * transactions) count as finished, as soon as a later position is known.
 *
 * @since 0.1.0
 */

/**
 * The offsets of one partition, from the watermark to the position.
 *
 * @since 0.1.0
 * @category models
 */
export interface OffsetTracker {
  /** The lowest offset that is not finished: what a commit may say. */
  readonly watermark: number
  /** The next offset that has not been delivered yet. */
  readonly position: number
  /** How many delivered offsets are not finished. */
  readonly unfinished: number
  /** How far the position is ahead of the watermark, in offsets. */
  readonly ahead: number
  /** An offset is being delivered. Offsets ascend; one below the position is refused (`false`): it was delivered before. */
  readonly deliver: (offset: number) => boolean
  /** Whether an offset at or above the position is known to be finished. Then it need not be delivered. */
  readonly wasFinished: (offset: number) => boolean
  /** An offset is finished. `false`: it is not among the unfinished ones. */
  readonly finish: (offset: number) => boolean
  /** No offset below this one will be delivered any more: the end of a batch, with its gaps. */
  readonly advance: (position: number) => void
  /** Finished offsets at or above the watermark, as ascending ranges `[from, to)`. */
  readonly finishedAbove: () => ReadonlyArray<readonly [from: number, to: number]>
}

/**
 * A tracker that begins at an offset. `finished` are offsets above it that
 * are known to be finished (from the metadata of a commit): `deliver` refuses them.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  start: number,
  finished: ReadonlyArray<readonly [from: number, to: number]> = []
): OffsetTracker => new OffsetTrackerImpl(start, finished)

/** Delivered offsets wait in a ring buffer, ascending; the head is the watermark's. */
class OffsetTrackerImpl implements OffsetTracker {
  private offsets: Float64Array = new Float64Array(64)
  private done: Uint8Array = new Uint8Array(64)
  private head = 0
  private size = 0
  private known: Array<readonly [number, number]>
  position: number
  unfinished = 0

  constructor(start: number, finished: ReadonlyArray<readonly [number, number]>) {
    this.position = start
    this.known = merged(finished.filter(([from, to]) => to > start && to > from))
  }

  get watermark(): number {
    return this.size === 0 ? this.position : this.offsets[this.head]!
  }

  get ahead(): number {
    return this.position - this.watermark
  }

  deliver(offset: number): boolean {
    if (offset < this.position) return false
    const fresh = this.known.length === 0 || !this.wasFinished(offset)
    this.position = offset + 1
    if (this.size === this.offsets.length) this.grow()
    const index = (this.head + this.size) & (this.offsets.length - 1)
    this.offsets[index] = offset
    this.done[index] = fresh ? 0 : 1
    this.size++
    if (fresh) this.unfinished++
    else this.trim()
    return fresh
  }

  finish(offset: number): boolean {
    const index = this.find(offset)
    if (index === -1 || this.done[index] === 1) return false
    this.done[index] = 1
    this.unfinished--
    if (index === this.head) this.trim()
    return true
  }

  advance(position: number): void {
    if (position > this.position) this.position = position
  }

  finishedAbove(): ReadonlyArray<readonly [number, number]> {
    const ranges: Array<readonly [number, number]> = []
    const mask = this.offsets.length - 1
    let from = -1
    let to = -1
    for (let i = 0; i < this.size; i++) {
      const index = (this.head + i) & mask
      if (this.done[index] === 0) {
        if (from !== -1) ranges.push([from, to])
        from = -1
        continue
      }
      if (from === -1) from = this.offsets[index]!
      to = this.offsets[index]! + 1
    }
    if (from !== -1) ranges.push([from, to])
    for (const range of this.known) {
      if (range[1] > this.position) ranges.push([Math.max(range[0], this.position), range[1]])
    }
    return ranges
  }

  private trim(): void {
    const mask = this.offsets.length - 1
    while (this.size > 0 && this.done[this.head] === 1) {
      this.head = (this.head + 1) & mask
      this.size--
    }
  }

  private find(offset: number): number {
    const mask = this.offsets.length - 1
    let low = 0
    let high = this.size - 1
    while (low <= high) {
      const middle = (low + high) >>> 1
      const index = (this.head + middle) & mask
      const found = this.offsets[index]!
      if (found === offset) return index
      if (found < offset) low = middle + 1
      else high = middle - 1
    }
    return -1
  }

  wasFinished(offset: number): boolean {
    while (this.known.length > 0 && this.known[0]![1] <= this.position) this.known.shift()
    return this.known.some(([from, to]) => from <= offset && offset < to)
  }

  private grow(): void {
    const length = this.offsets.length
    const offsets = new Float64Array(length * 2)
    const done = new Uint8Array(length * 2)
    for (let i = 0; i < this.size; i++) {
      const index = (this.head + i) & (length - 1)
      offsets[i] = this.offsets[index]!
      done[i] = this.done[index]!
    }
    this.offsets = offsets
    this.done = done
    this.head = 0
  }
}

const merged = (ranges: ReadonlyArray<readonly [number, number]>): Array<readonly [number, number]> => {
  const disjoint: Array<readonly [number, number]> = []
  for (const [from, to] of ranges.slice().sort((a, b) => a[0] - b[0])) {
    const last = disjoint[disjoint.length - 1]
    if (last === undefined || from > last[1]) disjoint.push([from, to])
    else disjoint[disjoint.length - 1] = [last[0], Math.max(last[1], to)]
  }
  return disjoint
}
