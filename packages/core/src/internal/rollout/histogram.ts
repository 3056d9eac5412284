/** In milliseconds. */
const smallest = 0.01
const growth = 1.06
/** The last one begins at about an hour. */
const buckets = 340

const perBucket = Math.log(growth)

/**
 * Times in milliseconds, counted in buckets that are 6 % wide. Within a bucket they are taken as spread evenly.
 *
 * @internal
 */
export class Histogram {
  private readonly counts = new Float64Array(buckets)
  total = 0

  add(time: number, count = 1): void {
    const place = Math.ceil(Math.log(time / smallest) / perBucket)
    // A time of 0, or below it where a clock was set back, belongs to the first bucket.
    this.counts[place > 0 ? Math.min(place, buckets - 1) : 0]! += count
    this.total += count
  }

  /** Adds what another one has counted, each so many times. */
  addAll(other: Histogram, times = 1): void {
    for (let i = 0; i < buckets; i++) this.counts[i]! += other.counts[i]! * times
    this.total += other.total * times
  }

  /** The time that so many are above; undefined if there are not as many. */
  timeBelow(count: number): number | undefined {
    let left = count
    for (let i = buckets - 1; i >= 0; i--) {
      const here = this.counts[i]!
      if (here > 0 && here >= left) return smallest * growth ** (i - left / here)
      left -= here
    }
    return undefined
  }

  quantile(share: number): number | undefined {
    return this.total === 0 ? undefined : this.timeBelow(this.total * (1 - share))
  }

  /** How many are above a time. */
  above(time: number): number {
    const exact = Math.log(time / smallest) / perBucket
    const place = Math.max(0, Math.ceil(exact))
    let count = 0
    for (let i = buckets - 1; i > place; i--) count += this.counts[i]!
    return place >= buckets ? 0 : count + this.counts[place]! * Math.min(1, place - exact)
  }
}
