/**
 * Gathers what happens for every message in plain fields, and gives it to Effect's metrics now and then: an update of a metric costs
 * several times as much as one of a field, and more while other code runs between two of them.
 */
type Update = (value: number) => void

/** So many values of a histogram are gathered at most, so that nobody waits long for them when they are given on. */
const most = 1_024

/** Durations below so many milliseconds are gathered. Longer ones are rare enough. */
const width = 256

/**
 * A counter.
 *
 * @internal
 */
export class Tally {
  private count = 0

  constructor(private readonly update: Update) {}

  add(): void {
    this.count++
  }

  flush(): void {
    if (this.count === 0) return
    this.update(this.count)
    this.count = 0
  }
}

/**
 * A histogram of durations. They come from a clock of whole milliseconds, so that many are the same.
 *
 * @internal
 */
export class Durations {
  /** How often each whole number of milliseconds was seen since the last time. */
  private readonly counts = new Uint32Array(width)
  private count = 0

  constructor(private readonly update: Update) {}

  add(millis: number): void {
    if (!(millis >= 0 && millis < width && Math.floor(millis) === millis)) return this.update(millis / 1000)
    this.counts[millis]!++
    if (++this.count === most) this.flush()
  }

  flush(): void {
    const { counts, update } = this
    for (let millis = 0; this.count > 0 && millis < width; millis++) {
      const seconds = millis / 1000
      const times = counts[millis]!
      for (let i = 0; i < times; i++) update(seconds)
      this.count -= times
      counts[millis] = 0
    }
  }
}
