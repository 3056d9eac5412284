import { Condition } from "../condition.js"
import type { Flight } from "../flight.js"
import type { By } from "./letter.js"

/** Why messages of a parked aggregate wait and are not written. `gathering`, `ending`: for a moment. */
export type Blocked = "gathering" | "ending" | "full" | "unwritable"

/** What is known of a letter, in a few numbers. */
export interface Known {
  readonly offset: number
  /** Of its message. */
  readonly timestamp: number
  /** Of its newest change in the store. */
  readonly revision: number
  /** In bytes. */
  readonly size: number
  /** The owner that wrote it first. */
  readonly owner: string
}

/**
 * A parked aggregate of one partition: where its letters are, in the order of their offsets, and what waits. It has a few numbers for each letter
 * and none of their bytes.
 *
 * @internal
 */
export class Parked {
  readonly offsets: Array<number> = []
  private readonly timestamps: Array<number> = []
  private readonly revisions: Array<number> = []
  private readonly sizes: Array<number> = []
  private readonly owners: Array<string> = []
  bytes = 0
  /** The highest offset, and the newest time of a message, of all letters that it has had. */
  private highest = -1
  private newest = -1
  /** The fingerprint of the failure for which it is parked. Undefined: it was parked by hand. */
  cause: string | undefined
  /** What that failure says. */
  text: string | undefined
  /** When it was parked, and when its last letter was, in milliseconds since the epoch. */
  since = 0
  last = 0
  /** The revision of the newest letter that failed itself. */
  failedAt = 0
  /** Its messages that are in no letter and not being written. */
  waiting: Array<Flight> = []
  blocked: Blocked | undefined
  /** How many changes of its letters are being written. */
  inWriter = 0
  /** How many of its messages have failed, and wait in their slot until their letters are written. */
  persisting = 0
  /** It was parked when the partition was assigned. */
  wasFound = false
  /** Somebody releases it. */
  releasedBy: By | undefined
  /** When its schedule releases it, since a failure. Undefined: the schedule was not asked yet. */
  auto:
    | { readonly state: unknown; readonly failedAt: number; readonly dueAt: number | undefined }
    | undefined
  /** Made when somebody waits: a hundred thousand aggregates may be parked. */
  private whenQuiet: Condition | undefined
  private whenFree: Condition | undefined

  constructor(readonly key: string) {}

  get count(): number {
    return this.offsets.length
  }

  put(letter: Known): void {
    const { offset, owner, revision, size, timestamp } = letter
    this.highest = Math.max(this.highest, offset)
    this.newest = Math.max(this.newest, timestamp)
    const at = this.place(offset)
    if (this.offsets[at] === offset) {
      this.bytes += size - this.sizes[at]!
      this.revisions[at] = revision
      this.sizes[at] = size
      return
    }
    this.bytes += size
    this.offsets.splice(at, 0, offset)
    this.timestamps.splice(at, 0, timestamp)
    this.revisions.splice(at, 0, revision)
    this.sizes.splice(at, 0, size)
    this.owners.splice(at, 0, owner)
  }

  get(offset: number): Known | undefined {
    const at = this.place(offset)
    if (this.offsets[at] !== offset) return undefined
    return {
      offset,
      timestamp: this.timestamps[at]!,
      revision: this.revisions[at]!,
      size: this.sizes[at]!,
      owner: this.owners[at]!
    }
  }

  remove(offset: number): void {
    const at = this.place(offset)
    if (this.offsets[at] !== offset) return
    this.bytes -= this.sizes[at]!
    for (const list of [this.offsets, this.timestamps, this.revisions, this.sizes, this.owners]) list.splice(at, 1)
  }

  /** The first letters, at least one if there is one, and no more than this. */
  first(count: number, bytes: number): ReadonlyArray<Known> {
    const found: Array<Known> = []
    let sum = 0
    for (let i = 0; i < Math.min(count, this.offsets.length); i++) {
      sum += this.sizes[i]!
      if (i > 0 && sum > bytes) break
      found.push(this.get(this.offsets[i]!)!)
    }
    return found
  }

  /**
   * Whether a message needs no letter any more. Its letters are written in the order of its messages, and the messages before the first one were
   * finished. So one that is not above the highest has a letter, or had one, or was finished before. Offsets come again for newer
   * messages where a log was cut; these have newer times.
   */
  knows(offset: number, timestamp: number): boolean {
    return offset <= this.highest && timestamp <= this.newest
  }

  /** The store refuses its first letter: there is nothing to release, and its followers have to wait. */
  get isStuck(): boolean {
    return this.count === 0 && this.persisting > 0 && this.blocked === "unwritable"
  }

  /** None of its letters is being written. */
  get quiet(): Condition {
    return this.whenQuiet ??= new Condition(() => this.inWriter === 0)
  }

  /** Nobody releases it. */
  get free(): Condition {
    return this.whenFree ??= new Condition(() => this.releasedBy === undefined)
  }

  /** One change of its letters was written, or will not be. */
  written(): void {
    this.inWriter--
    this.whenQuiet?.changed()
  }

  /** Nobody releases it any more. */
  freed(): void {
    this.releasedBy = undefined
    this.whenFree?.changed()
  }

  /** The index of an offset, or where it would be. */
  private place(offset: number): number {
    let low = 0
    let high = this.offsets.length
    if (high === 0 || this.offsets[high - 1]! < offset) return high
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.offsets[middle]! < offset) low = middle + 1
      else high = middle
    }
    return low
  }
}
