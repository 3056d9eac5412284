/**
 * Under which leaders the messages were written that were read of a partition.
 * Kafka counts a partition's leaders by epochs, and every record batch has that of
 * its leader. Two logs that have a message of the same epoch at the same offset are
 * the same up to there (KIP-101): so what was read is told from what is there
 * now, also where a log was cut at its end and has grown again.
 */

/** From an offset on, messages of an epoch. */
interface Entry {
  readonly epoch: number
  readonly from: number
}

/** Leaders change seldom; what is older than so many changes counts as one. */
const MAX_ENTRIES = 64

export class Lineage {
  private entries: Array<Entry> = []

  /** `bound` is an epoch that all messages before those which were noted have at most; −1 where none is known. */
  constructor(private readonly bound: number) {}

  /** A batch was read. Those of one leader, which are nearly all, cost a comparison. */
  note(epoch: number, offset: number): void {
    const last = this.entries.at(-1)
    if (epoch < 0 || (last !== undefined && last.epoch >= epoch)) return
    if (this.entries.length === MAX_ENTRIES) this.entries.shift()
    this.entries.push({ epoch, from: offset })
  }

  /** An epoch that the messages below an offset have at most; −1 where none is known. */
  before(offset: number): number {
    for (let i = this.entries.length - 1; i >= 0; i--) {
      const { epoch, from } = this.entries[i]!
      if (from < offset) return epoch
    }
    return this.bound
  }

  /** Where the messages of an epoch and of those before it end, as far as is known. */
  endOf(epoch: number): number {
    return this.entries.find((entry) => entry.epoch > epoch)?.from ?? Infinity
  }

  has(epoch: number): boolean {
    return this.entries.some((entry) => entry.epoch === epoch)
  }

  /** The largest epoch below another one of which messages were read; −1 where there is none. */
  below(epoch: number): number {
    return this.entries.filter((entry) => entry.epoch < epoch).at(-1)?.epoch ?? -1
  }

  /** Of what is below an offset. */
  upTo(offset: number): Lineage {
    const cut = new Lineage(this.bound)
    cut.entries = this.entries.filter(({ from }) => from < offset)
    return cut
  }
}
