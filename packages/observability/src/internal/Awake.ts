/** A look that comes so much later than it should is not late because the machine is busy, in milliseconds. */
const slack = 1_000

/** So many times at which nobody could look are remembered. */
const most = 20

/**
 * How long things have lasted, without the time in which the process did not run. A process that was suspended, as its machine sleeps or its
 * container is frozen, could not get on either, and neither can a clock that was set forward tell how long something took.
 *
 * @internal
 */
export class Awake {
  private readonly gaps: Array<{ readonly until: number; readonly length: number }> = []

  constructor(private readonly interval: number, private lookedAt: number) {}

  /** Somebody looks, which happens at each interval at least. */
  look(now: number): void {
    const late = now - this.lookedAt - this.interval
    this.lookedAt = now
    if (late <= this.interval + slack) return
    this.gaps.push({ until: now, length: late })
    if (this.gaps.length > most) this.gaps.shift()
  }

  /** In milliseconds. */
  elapsed(since: number, now: number): number {
    let elapsed = now - since
    for (const { length, until } of this.gaps) elapsed -= Math.min(length, Math.max(0, until - since))
    return Math.max(0, elapsed)
  }
}
