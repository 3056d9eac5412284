/**
 * Commits that are refused or not answered: since when, of which partitions, what
 * that means, and when nothing more is to be handled because of it. Whatever is handled
 * meanwhile comes again after a restart or a rebalance, so it can't go on without an end.
 */
import { toInvalidConfiguration } from "../KafkaErrors.js"
import type { KafkaFailure } from "./Failure.js"
import * as GroupState from "./GroupState.js"
import type { Lasting } from "./Lasting.js"
import { SAID_AFTER_MS } from "./Lasting.js"
import type { Partition } from "./Partition.js"

const WHAT = "commit"

export class CommitTroubles {
  private readonly failing = new Map<Partition, number>()
  private readonly held = new Set<Partition>()

  constructor(
    private readonly lasting: Lasting,
    private readonly now: () => number,
    /** A group that settles after a crash can refuse commits for so long. */
    private readonly patienceMs: number
  ) {}

  /** A commit of these partitions, asked for at that time, was not confirmed. */
  failed(partitions: Iterable<Partition>, error: KafkaFailure, sentAt: number): void {
    const limit = GroupState.outcomeOf(error.type) === "refused" ? SAID_AFTER_MS : this.patienceMs
    for (const partition of partitions) {
      if (partition.hasEnded) continue
      const since = this.failing.get(partition) ?? sentAt
      this.failing.set(partition, since)
      if (this.now() - since < limit) continue
      this.held.add(partition)
      partition.hold()
    }
    if (this.failing.size > 0) this.lasting.failed(WHAT, this.meaningOf(error, limit), error)
  }

  /** It was confirmed, or the partition is somebody else's. */
  over(partition: Partition): void {
    if (!this.failing.delete(partition)) return
    if (this.held.delete(partition)) partition.release()
    if (this.failing.size === 0) this.lasting.worked(WHAT)
  }

  private meaningOf(error: KafkaFailure, limit: number): string {
    const ids = [...this.failing.keys()].map(({ id }) => id).sort((a, b) => a - b).join(", ")
    const why = toInvalidConfiguration(error)?.issues[0] ?? error.type
    const then = this.held.size > 0
      ? "nothing more of these partitions is handled until commits succeed"
      : `after ${Math.round(limit / 1_000)} s nothing more of these partitions is handled`
    return `Nothing can be committed for partition ${ids} (${why}): what is handled meanwhile comes again after a restart ` +
      `or a rebalance; ${then}`
  }
}
