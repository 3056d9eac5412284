import type { PartitionStatus } from "@effect-eventbus/core/Transport"

/** What keeps a partition from moving, and since when. */
export interface Standstill {
  readonly what: "partition" | "watermark"
  readonly since: number
}

/**
 * How a partition gets on, by what was seen at each look. The rules are Burrow's, from inside: it stands still only if neither its position
 * nor its watermark moves while there is something to do. It does not if its lag shrinks, or the log's end is reached.
 *
 * @internal
 */
export class PartitionWatch {
  private last: PartitionStatus | undefined
  private lag = 0
  /** When either moved last, or there was nothing to do. */
  private movedAt = 0
  /** The same for the watermark alone. */
  private finishedAt = 0

  see(status: PartitionStatus, now: number): void {
    const { end, epoch, position, watermark } = status
    const { last } = this
    const lag = Math.max(end ?? position, position) - watermark
    const isAnew = last === undefined || last.epoch !== epoch || lag < this.lag
    if (isAnew || lag === 0 || last.position !== position || last.watermark !== watermark) this.movedAt = now
    if (isAnew || watermark >= position || last.watermark !== watermark) this.finishedAt = now
    this.lag = lag
    this.last = status
  }

  /** Whether it stands still for longer than `bound`, in milliseconds. */
  standstill(elapsed: (since: number) => number, bound: number): Standstill | undefined {
    if (elapsed(this.movedAt) > bound) return { what: "partition", since: this.movedAt }
    return elapsed(this.finishedAt) > bound ? { what: "watermark", since: this.finishedAt } : undefined
  }
}
