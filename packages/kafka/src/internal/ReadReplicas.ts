/**
 * From which broker a partition is read: its leader, or the replica near to us that the
 * leader has named (`kafka.rack`, KIP-392). What was named is good for a while, and until
 * anything goes wrong there.
 */
import type { Partition } from "./Partition.js"

interface Named {
  readonly node: number
  readonly until: number
}

export class ReadReplicas {
  private readonly named = new WeakMap<Partition, Named>()
  constructor(
    /** Milliseconds of a clock that nobody sets. */
    private readonly now: () => number,
    private readonly maxAgeMs: number
  ) {}

  nodeOf(partition: Partition, leader: number): number {
    return leader < 0 ? leader : this.named.get(partition)?.node ?? leader
  }

  /** It is time to ask the leader again. */
  isOver(partition: Partition): boolean {
    const named = this.named.get(partition)
    return named !== undefined && this.now() >= named.until
  }

  /** Whether it is read from another than its leader. */
  has(partition: Partition): boolean {
    return this.named.has(partition)
  }

  name(partition: Partition, node: number): void {
    this.named.set(partition, { node, until: this.now() + this.maxAgeMs })
  }

  forget(partition: Partition): void {
    this.named.delete(partition)
  }
}
