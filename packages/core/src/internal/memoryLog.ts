import * as Effect from "effect/Effect"
import * as Headers from "../Headers.js"
import { partition as partitionOf } from "../Partitioner.js"
import type { OutgoingMessage, Receipt } from "../Transport.js"
import { Blocks, type StoredMessage } from "./storedMessage.js"

/** What happened on the broker, for tests. */
export interface JournalEntry {
  readonly type: "published" | "assigned" | "delivered" | "finished" | "settled" | "revoked"
  readonly topic: string
  readonly partition: number
  /** For `assigned` and `revoked` the position. */
  readonly offset: number
  /** Undefined for `published`. */
  readonly group: string | undefined
  readonly epoch: number | undefined
}

/**
 * A ring of the newest entries.
 *
 * @internal
 */
export class Journal {
  private ring: Array<JournalEntry> = []
  private next = 0

  constructor(private readonly capacity: number) {}

  add(
    type: JournalEntry["type"],
    topic: string,
    partition: number,
    offset: number,
    group: string | undefined,
    epoch: number | undefined
  ): void {
    if (this.capacity === 0) return
    this.ring[this.next] = { type, topic, partition, offset, group, epoch }
    this.next = (this.next + 1) % this.capacity
  }

  entries(): ReadonlyArray<JournalEntry> {
    return this.ring.length < this.capacity
      ? this.ring.slice()
      : [...this.ring.slice(this.next), ...this.ring.slice(0, this.next)]
  }
}

/**
 * A group of a topic, as far as its log knows it.
 *
 * @internal
 */
export interface Reader {
  readonly watermark: (partition: number) => number
  readonly pump: (partition: number) => void
}

/** @internal */
export class MemoryTopic<Group extends Reader = Reader> {
  readonly partitions: ReadonlyArray<MemoryPartition>
  readonly groups = new Map<string, Group>()
  /** Somebody reads it outside of any group. */
  isRead = false
  /** How often a look found that nobody listens. */
  looks = 0
  private nextPartition = 0
  private readonly turn = Effect.unsafeMakeSemaphore(1)
  /** How many publishers wait for room. */
  private waiting = 0
  private readonly room = Effect.unsafeMakeLatch(false)

  constructor(
    readonly name: string,
    partitions: number,
    readonly maxMessages: number,
    private readonly journal: Journal,
    /** Milliseconds since the epoch. */
    readonly now: () => number
  ) {
    this.partitions = Array.from({ length: partitions }, () => new MemoryPartition())
  }

  group(name: string, make: () => Group): Group {
    let group = this.groups.get(name)
    if (group === undefined) this.groups.set(name, group = make())
    return group
  }

  /** The partition for a key. Without a key the partitions take turns. */
  partitionFor(key: Uint8Array | null): number {
    if (key !== null) return partitionOf("murmur2", key, this.partitions.length)
    this.nextPartition = (this.nextPartition + 1) % this.partitions.length
    return this.nextPartition
  }

  /** Whether one more message fits, after deleting messages that may be deleted. */
  hasRoom(index: number): boolean {
    const partition = this.partitions[index]!
    if (partition.size < this.maxMessages) return true
    let settled = Number.POSITIVE_INFINITY
    for (const group of this.groups.values()) settled = Math.min(settled, group.watermark(index))
    partition.trim(settled)
    return partition.size < this.maxMessages
  }

  get isFull(): boolean {
    return this.waiting > 0
  }

  /** Messages were published, and nobody has subscribed or read until now. */
  get isUnheard(): boolean {
    return this.groups.size === 0 && !this.isRead && this.partitions.some(({ end }) => end > 0)
  }

  /** Tries `attempt` whenever there may be room, until it succeeds. Publishers that wait take turns. */
  inTurn(attempt: () => boolean): Effect.Effect<void> {
    const once: Effect.Effect<void> = Effect.suspend(() => {
      if (attempt()) return Effect.void
      this.room.unsafeClose()
      return Effect.zipRight(this.room.await, once)
    })
    return Effect.suspend(() => {
      this.waiting++
      return Effect.ensuring(this.turn.withPermits(1)(once), Effect.sync(() => this.waiting--))
    })
  }

  /** A group has settled something: there may be room. */
  settled(index: number): void {
    if (this.waiting > 0 && this.hasRoom(index)) this.room.unsafeOpen()
  }

  append(index: number, key: Uint8Array | null, message: OutgoingMessage): Receipt {
    const offset = this.partitions[index]!.append(key, message, message.timestamp ?? this.now())
    this.journal.add("published", this.name, index, offset, undefined, undefined)
    return { topic: this.name, partition: index, offset }
  }

  /** Lets the groups read the messages that were appended. */
  published(index: number): void {
    for (const group of this.groups.values()) group.pump(index)
  }
}

/** @internal */
export class MemoryPartition {
  private messages: Array<StoredMessage> = []
  private readonly blocks = new Blocks()
  /** The offset of the first message that is kept. */
  start = 0

  get end(): number {
    return this.start + this.messages.length
  }

  get size(): number {
    return this.messages.length
  }

  append(key: Uint8Array | null, { headers, value }: OutgoingMessage, timestamp: number): number {
    const offset = this.end
    // All is copied, because the publisher may use its buffers and its headers again.
    this.messages.push(this.blocks.write(offset, key, value, copyOf(headers), timestamp))
    return offset
  }

  /** Up to `count` messages from an offset on. An offset that is not kept any more means the first message that is. */
  read(offset: number, count: number): ReadonlyArray<StoredMessage> {
    const from = Math.max(0, offset - this.start)
    return this.messages.slice(from, from + count)
  }

  /** Deletes some of the oldest messages below an offset: up to an eighth of all at once, because moving the rest is expensive. */
  trim(below: number): void {
    const count = Math.min(below - this.start, Math.max(1, this.messages.length >> 3))
    if (count <= 0) return
    this.messages.splice(0, count)
    this.start += count
  }
}

/** Frozen, because every group's handlers get the same headers. */
const copyOf = (headers: Headers.Headers): Headers.Headers => {
  if (headers === Headers.empty || isUnchangeable(headers)) return headers
  const entries = Object.entries(headers)
  return entries.length === 0
    ? Headers.empty
    : Object.freeze(Object.fromEntries(entries.map(([name, value]) => [name, copyOfValue(value)])))
}

/** Headers that can't change any more, as they were found to be. */
const unchangeable = new WeakSet<Headers.Headers>()

/** Such as the context of a trace, which all messages of a batch share. A frozen object may still have a getter. */
const isUnchangeable = (headers: Headers.Headers): boolean => {
  if (!Object.isFrozen(headers)) return false
  if (unchangeable.has(headers)) return true
  if (Object.getPrototypeOf(headers) !== Object.prototype) return false
  const all = Object.values(Object.getOwnPropertyDescriptors(headers))
  if (!all.every(({ enumerable, value }) => enumerable === true && typeof value === "string")) return false
  unchangeable.add(headers)
  return true
}

const copyOfValue = (value: unknown): Headers.Headers[string] =>
  (value instanceof Uint8Array
    // Not `slice`: that of a Buffer is a view of the same bytes.
    ? new Uint8Array(value)
    : Array.isArray(value)
    ? value.map(copyOfValue)
    : value) as Headers.Headers[string]
