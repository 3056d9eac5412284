/**
 * A set of stream sequences as ascending ranges. What is finished is dense, so
 * millions of sequences are a few ranges; at the bound the lowest ones are forgotten.
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
    const index = this.rangeAtOrBelow(sequence)
    if (index !== -1 && sequence < this.to[index]!) return
    const joinsBelow = index !== -1 && this.to[index] === sequence
    const joinsAbove = this.from[index + 1] === sequence + 1
    if (joinsBelow && joinsAbove) {
      this.to[index] = this.to[index + 1]!
      this.from.splice(index + 1, 1)
      this.to.splice(index + 1, 1)
    } else if (joinsBelow) this.to[index] = sequence + 1
    else if (joinsAbove) this.from[index + 1] = sequence
    else {
      this.from.splice(index + 1, 0, sequence)
      this.to.splice(index + 1, 0, sequence + 1)
      if (this.from.length > this.maxRanges) {
        this.from.shift()
        this.to.shift()
      }
    }
  }

  /** The first sequence from this one on that is not in the set. */
  next(sequence: number): number {
    const index = this.rangeAtOrBelow(sequence)
    return index === -1 ? sequence : Math.max(sequence, this.to[index]!)
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
