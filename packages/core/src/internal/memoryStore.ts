import * as Chunk from "effect/Chunk"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { InvalidMessage, MessageTooLarge, type PublishError, PublishFailed } from "../EventBusError.js"
import type { Store, StoreChange, StoreEntry } from "../Transport.js"

/** How many changes are read at a time. */
const batchSize = 256

/** Changes that newer ones have replaced stay until there are so many, and half of all are. */
const compactAt = 64

const maxKey = 1_024

const encoder = new TextEncoder()

interface Change {
  readonly revision: number
  readonly key: string
  /** `null`: the key was removed. */
  readonly value: Uint8Array | null
}

/**
 * What a group keeps beside a topic in memory, as a compacted topic of Kafka would: a log of changes for each partition, of which only the newest of
 * each key has to stay.
 *
 * @internal
 */
export class MemoryStore {
  private readonly partitions: ReadonlyArray<StorePartition>

  constructor(
    private readonly topic: string,
    partitions: number,
    /** How many keys a partition has room for. */
    private readonly maxKeys: number,
    /** Of a value, in bytes. */
    private readonly maxBytes: number
  ) {
    this.partitions = Array.from({ length: partitions }, () => new StorePartition())
  }

  readonly port: Store = {
    write: (partition: number, changes: ReadonlyArray<StoreChange>, _: { readonly timeout: Duration.Duration }) =>
      Effect.sync(() => {
        let failed: PublishError | undefined
        return changes.map((change) => {
          failed ??= this.refusal(partition, change)
          return failed === undefined
            ? Either.right(this.partitions[partition]!.write(change))
            : Either.left(failed)
        })
      }),
    read: (partition, { after = 0, keys } = {}) =>
      Stream.suspend(() => {
        const log = this.partitions[partition]
        if (log === undefined) return Stream.empty
        return keys === undefined ? inBatches(log.above(after)) : Stream.fromIterable(log.of(keys, after))
      })
  }

  private refusal(partition: number, { key, value }: StoreChange): PublishError | undefined {
    const { maxBytes, maxKeys, topic } = this
    const log = this.partitions[partition]
    const length = encoder.encode(key).length
    if (log === undefined) return new InvalidMessage({ topic, issue: `the store has no partition ${partition}` })
    if (length === 0 || length > maxKey) {
      return new InvalidMessage({ topic, issue: `a key of the store has 1 to ${maxKey} bytes, not ${length}` })
    }
    if (value === null) return undefined
    if (value.length > maxBytes) return new MessageTooLarge({ topic, size: value.length, limit: maxBytes })
    return log.size >= maxKeys && !log.has(key)
      ? new PublishFailed({ topic, reason: "StorageFull", outcome: "not-written" })
      : undefined
  }
}

/** What was there when the reading began is kept by the reader, also if it is compacted meanwhile. */
const inBatches = (changes: ReadonlyArray<Change>): Stream.Stream<StoreEntry> =>
  Stream.paginateChunk(0, (at) => {
    const next = at + batchSize
    return [
      Chunk.unsafeFromArray(changes.slice(at, next).map(entryOf)),
      next < changes.length ? Option.some(next) : Option.none()
    ]
  })

/** Its bytes are the reader's own. */
const entryOf = ({ key, revision, value }: Change): StoreEntry => ({
  key,
  revision,
  value: value === null ? null : new Uint8Array(value)
})

class StorePartition {
  /** In the order of their revisions. */
  private log: Array<Change> = []
  private readonly newest = new Map<string, Change>()
  private revision = 0

  get size(): number {
    return this.newest.size
  }

  has(key: string): boolean {
    return this.newest.has(key)
  }

  write({ key, value }: StoreChange): number {
    // The writer may use its buffer again.
    const change: Change = { revision: ++this.revision, key, value: value === null ? null : new Uint8Array(value) }
    this.log.push(change)
    if (value === null) this.newest.delete(key)
    else this.newest.set(key, change)
    if (this.log.length >= compactAt && this.log.length > 2 * this.newest.size) {
      this.log = this.log.filter((one) => this.newest.get(one.key) === one)
    }
    return change.revision
  }

  of(keys: ReadonlyArray<string>, after: number): ReadonlyArray<StoreEntry> {
    const found = keys.flatMap((key) => this.newest.get(key) ?? []).filter(({ revision }) => revision > after)
    return found.sort((a, b) => a.revision - b.revision).map(entryOf)
  }

  /** A copy: the log may be changed while it is read. */
  above(revision: number): ReadonlyArray<Change> {
    let low = 0
    let high = this.log.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.log[middle]!.revision > revision) high = middle
      else low = middle + 1
    }
    return this.log.slice(low)
  }
}
