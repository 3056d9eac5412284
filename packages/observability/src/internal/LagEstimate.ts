/** So many ends of a log are kept. Of more every second one is, and of later ones as few. */
const maxEnds = 256

/**
 * How old the oldest message of a partition is that is not finished, by what was seen of the end of the log: a message at an offset was
 * published after the last time that the log ended there or before. It asks no broker.
 *
 * @internal
 */
export class LagEstimate {
  private ends: Array<{ readonly end: number; lastSeen: number }> = []
  /** Of so many ends that are seen one is kept. */
  private every = 1
  private seen = 0

  /** Milliseconds; at most so old, as far as it was watched. 0: nothing is left. */
  see(end: number, watermark: number, now: number): number {
    // Another log has the name now, or it was cut.
    if (end < (this.ends.at(-1)?.end ?? 0)) this.ends = []
    const last = this.ends.at(-1)
    if (last?.end === end) last.lastSeen = now
    else {
      // The newest one is always the present end.
      if (++this.seen % this.every !== 0 && this.ends.length > 1) this.ends.pop()
      this.ends.push({ end, lastSeen: now })
    }
    // Of the ends that are passed only the newest tells something.
    let passed = -1
    while (passed + 1 < this.ends.length && this.ends[passed + 1]!.end <= watermark) passed++
    if (passed > 0) this.ends.splice(0, passed)
    if (this.ends.length > maxEnds) {
      this.ends = this.ends.filter((_, i) => i % 2 === 0 || i === this.ends.length - 1)
      this.every *= 2
    } else if (this.ends.length <= 2) this.every = 1
    return end <= watermark ? 0 : now - this.ends[0]!.lastSeen
  }
}
