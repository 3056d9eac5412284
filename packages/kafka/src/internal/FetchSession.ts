/**
 * What one connection has told its broker about what it wants to fetch (KIP-227):
 * the broker remembers it, so that a request says only what has changed, and an
 * answer has only what is new. Hundreds of partitions that have nothing cost nothing.
 */
import type { FetchRequest } from "./logApis.js"
import type { FetchResponse } from "./records.js"

/** A partition as it is wanted now. */
export interface Wanted {
  readonly topic: string
  readonly partition: number
  readonly currentLeaderEpoch: number
  readonly fetchOffset: number
  readonly maxBytes: number
}

const MAX_EPOCH = 0x7fffffff

export class FetchSession {
  private id = 0
  private epoch = 0
  private known = new Map<string, Map<number, Wanted>>()

  /** The topics of the next request. Whoever sends it says then what came of it: `accepted` or `lost`. */
  next(wanted: ReadonlyArray<Wanted>): Pick<FetchRequest, "sessionId" | "sessionEpoch" | "topics" | "forgottenTopics"> {
    const { known } = this
    const isFull = this.id === 0
    const before = isFull ? new Map<string, Map<number, Wanted>>() : known
    const now = new Map<string, Map<number, Wanted>>()
    const topics = new Map<string, Array<Wanted>>()
    for (const one of wanted) {
      let own = now.get(one.topic)
      if (own === undefined) now.set(one.topic, own = new Map())
      own.set(one.partition, one)
      if (isSame(before.get(one.topic)?.get(one.partition), one)) continue
      const changed = topics.get(one.topic)
      if (changed === undefined) topics.set(one.topic, [one])
      else changed.push(one)
    }
    const forgottenTopics: Array<{ readonly topic: string; readonly partitions: ReadonlyArray<number> }> = []
    for (const [topic, partitions] of before) {
      const gone = [...partitions.keys()].filter((partition) => now.get(topic)?.has(partition) !== true)
      if (gone.length > 0) forgottenTopics.push({ topic, partitions: gone })
    }
    this.known = now
    return {
      sessionId: this.id,
      sessionEpoch: this.epoch,
      topics: Array.from(topics, ([topic, partitions]) => ({ topic, partitions })),
      forgottenTopics
    }
  }

  /** The broker has answered the last request. Where it keeps no session, the next one says everything again. */
  accepted({ sessionId }: FetchResponse): void {
    this.id = sessionId
    this.epoch = sessionId === 0 ? 0 : this.epoch === MAX_EPOCH ? 1 : this.epoch + 1
  }

  get isOpen(): boolean {
    return this.id !== 0
  }

  /** What the broker knows is not known any more: the next request begins a session. */
  lost(): void {
    this.id = 0
    this.epoch = 0
  }

  /** From where the last request wanted a partition. */
  offsetOf(topic: string, partition: number): number | undefined {
    return this.known.get(topic)?.get(partition)?.fetchOffset
  }
}

const isSame = (known: Wanted | undefined, { currentLeaderEpoch, fetchOffset, maxBytes }: Wanted): boolean =>
  known !== undefined && known.fetchOffset === fetchOffset && known.maxBytes === maxBytes &&
  known.currentLeaderEpoch === currentLeaderEpoch
