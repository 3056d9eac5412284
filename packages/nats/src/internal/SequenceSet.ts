/**
 * A set of stream sequences as ascending ranges. What is finished is dense, or made so by those sequences between that are known to
 * be others': millions of sequences are a few ranges. At the bound the lowest ones are forgotten.
 */
export class SequenceSet {
  private from: Array<number> = []
  private to: Array<number> = []

  constructor(private readonly maxRanges: number) {}

  /** How many ranges there are. */
  get ranges(): number {
    return this.from.length
  }

  has(sequence: number): boolean {
    const index = this.rangeAtOrBelow(sequence)
    return index !== -1 && sequence < this.to[index]!
  }

  add(sequence: number): void {
    this.addRange(sequence, sequence + 1)
  }

  /** Adds the sequences from the first one on that are below the second one. */
  addRange(from: number, to: number): void {
    if (from >= to) return
    // Those that it touches become one with it.
    const below = this.rangeAtOrBelow(from)
    const first = below !== -1 && this.to[below]! >= from ? below : below + 1
    let end = first
    while (end < this.from.length && this.from[end]! <= to) end++
    if (first === end) {
      this.from.splice(first, 0, from)
      this.to.splice(first, 0, to)
      if (this.from.length > this.maxRanges) {
        this.from.shift()
        this.to.shift()
      }
      return
    }
    this.from[first] = Math.min(this.from[first]!, from)
    this.to[first] = Math.max(this.to[end - 1]!, to)
    if (end - first === 1) return
    this.from.splice(first + 1, end - first - 1)
    this.to.splice(first + 1, end - first - 1)
  }

  /** Takes out this sequence and all above it. */
  removeFrom(sequence: number): void {
    const below = this.rangeAtOrBelow(sequence - 1)
    this.from.length = below + 1
    this.to.length = below + 1
    if (below !== -1) this.to[below] = Math.min(this.to[below]!, sequence)
  }

  /** The highest of the ranges, ascending: the beginning of each, and its end, which is not in it. */
  bounds(maxRanges: number): ReadonlyArray<number> {
    const bounds: Array<number> = []
    for (let i = Math.max(0, this.from.length - maxRanges); i < this.from.length; i++) {
      bounds.push(this.from[i]!, this.to[i]!)
    }
    return bounds
  }

  addBounds(bounds: ReadonlyArray<number>): void {
    for (let i = 0; i + 1 < bounds.length; i += 2) this.addRange(bounds[i]!, bounds[i + 1]!)
  }

  /** The first sequence from this one on that is not in the set. */
  next(sequence: number): number {
    const index = this.rangeAtOrBelow(sequence)
    return index === -1 ? sequence : Math.max(sequence, this.to[index]!)
  }

  /** A copy with these as well. */
  with(sequences: Iterable<number>): SequenceSet {
    const copy = new SequenceSet(this.maxRanges)
    copy.from = [...this.from]
    copy.to = [...this.to]
    for (const sequence of sequences) copy.add(sequence)
    return copy
  }

  clear(): void {
    this.from = []
    this.to = []
  }

  /** The index of the last range that begins at or below the sequence. */
  private rangeAtOrBelow(sequence: number): number {
    const last = this.from.length - 1
    if (last === -1 || this.from[0]! > sequence) return -1
    if (this.from[last]! <= sequence) return last
    let low = 0
    let high = last
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if (this.from[middle]! <= sequence) low = middle
      else high = middle - 1
    }
    return low
  }
}
