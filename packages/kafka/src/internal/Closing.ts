/**
 * One deadline for all that closes together: the last commits, leaving groups, what
 * is still to be sent, the connections. Where a broker stands still, each of them would
 * otherwise wait for as long as all of them may take.
 */
export class Closing {
  private until = -Infinity
  private endedAt = -Infinity
  private active = 0

  constructor(
    /** Milliseconds of a clock that nobody sets. */
    private readonly now: () => number,
    private readonly withinMs: number
  ) {}

  /** Something closes: the time of what closes already is its time, too, also where that has just used it up. */
  begin(): void {
    const now = this.now()
    const goesOn = this.active > 0 || (this.endedAt >= this.until && now - this.endedAt < this.withinMs)
    if (!goesOn) this.until = now + this.withinMs
    this.active++
  }

  end(): void {
    this.active--
    this.endedAt = this.now()
  }

  /** How long the next step may take: something even after the deadline, for a broker that is there again. */
  get leftMs(): number {
    return Math.max(FLOOR_MS, this.until - this.now())
  }
}

const FLOOR_MS = 25
