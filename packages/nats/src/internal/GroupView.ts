/**
 * What an instance knows of its group by the keys in the bucket: who is there and since when each key is unchanged, and who has which
 * partition. It only looks; what follows from that is for `Leases` and `Membership`.
 */
import * as Effect from "effect/Effect"
import type { NatsRequestFailed } from "../NatsErrors.js"
import type { Bucket, Entry } from "./Bucket.js"
import { Lasting } from "./Lasting.js"

const concurrency = 16

/** After so many looks for what has changed all keys are read, in case that something was missed. */
const looksBetweenAll = 20

export const memberKey = (prefix: string, id: string): string => `${prefix}.member.${id}`

export const partitionKey = (prefix: string, partition: number): string => `${prefix}.partition.${partition}`

/** Whoever puts it there wants the instance to step down, until it is deleted. */
export const asideKey = (prefix: string, id: string): string => `${prefix}.aside.${id}`

export interface Options {
  readonly bucket: Bucket
  /** The beginning of this group's keys for one topic. */
  readonly prefix: string
  readonly partitions: number
  /** In milliseconds. */
  readonly duration: number
  readonly renewEvery: number
}

/** Another instance. */
export interface Member {
  revision: number
  /** Since when, by our clock, it has this revision. */
  since: number
  isLeaving: boolean
}

export interface Owner {
  readonly revision: number
  readonly owner: string | undefined
  readonly offered: number | undefined
  /** Before this nobody takes it: its key has vanished, and who has it may not know yet. */
  readonly takenFrom?: number
}

/**
 * When to renew, or to look, again, at the latest after `renewEvery`: at the same time as all other subscriptions of the process, so
 * that their requests are written together. Waking up for each, and a packet for each, is most of what idle ones cost.
 */
export const alignedAfter = (renewEvery: number, last: number, periods = 1): number =>
  // What was done a moment early is not done again at once.
  Math.max((Math.floor(last / renewEvery) + periods) * renewEvery, last + renewEvery / 2)

export class GroupView {
  readonly members = new Map<string, Member>()
  readonly owners: Array<Owner>
  /** Before this nothing is taken: the bucket has forgotten who has what, and they don't know yet. */
  takesFrom = -Infinity
  private readonly dirty = new Set<string>()
  private lookedAt = -Infinity
  /** All changes of partitions' keys up to this revision are known. */
  private seenUpTo = 0
  private looksUntilAll = 0
  /** Somebody's key wants this instance to step down. */
  isAside = false
  /** When the bucket that we know was made. */
  private created: string | undefined
  /** Something failed since all keys were looked at. */
  private hasFailed = false
  private readonly unfit = new Lasting(
    "Somebody has changed the bucket of the leases on the server: two instances can have the same partition",
    "The bucket of the leases is as it has to be again",
    0
  )

  constructor(
    private readonly options: Options,
    /** This instance, which does not look at itself. */
    private readonly me: () => string,
    /** Whether changes are heard of. */
    private readonly hearsHints: () => boolean,
    /** Who has the partition was looked at. */
    private readonly onSeen: (partition: number) => void,
    /** Whether this instance is to step down was looked at. */
    private readonly onAside: Effect.Effect<void>
  ) {
    this.owners = Array.from({ length: options.partitions }, () => ({
      revision: 0,
      owner: undefined,
      offered: 0
    }))
  }

  /** A key may have changed. */
  heard(key: string): void {
    this.dirty.add(key)
  }

  /** Nobody is known to have been unchanged over a time in which something failed. */
  failed(): void {
    this.hasFailed = true
  }

  /** All is looked at before anything is taken. */
  forget(): void {
    this.lookedAt = -Infinity
  }

  /** The partition's key was written by us. */
  wrote(partition: number, owner: Owner): void {
    this.owners[partition] = owner
  }

  /** The instances that have not renewed for half of a lease's duration, with their revisions. */
  doubtful(now: number): ReadonlyArray<readonly [id: string, revision: number]> {
    return Array.from(this.members).flatMap(([id, { revision, since }]) =>
      id !== this.me() && now - since >= this.options.duration / 2 ? [[id, revision] as const] : []
    )
  }

  /** After how many periods all keys are looked at again. Who hears of changes looks only for what nobody tells of. */
  private get lookPeriods(): number {
    return this.hearsHints() ? 3 : 1
  }

  /** Whether all keys were looked at: before that nobody knows what is free. */
  get isKnown(): boolean {
    return this.lookedAt !== -Infinity
  }

  /** When to look again at all keys. */
  get nextLook(): number {
    return alignedAfter(this.options.renewEvery, this.lookedAt, this.lookPeriods)
  }

  /** Finds out how all keys are. Partitions first: who is named there has had a key of its own before. */
  readonly look: Effect.Effect<void, NatsRequestFailed> = Effect.suspend(() => {
    const { bucket, duration, prefix, renewEvery } = this.options
    const now = performance.now()
    // Who was not looked at may have been alive.
    const wasAway = this.hasFailed || now - this.lookedAt > this.lookPeriods * renewEvery + duration / 2
    return Effect.gen(this, function*() {
      this.dirty.clear()
      yield* wasAway || --this.looksUntilAll < 0 ? this.readAll : this.readChanges
      const { created, issues, keys, last } = yield* bucket.keys(prefix)
      yield* issues.length === 0 ? this.unfit.over : this.unfit.now(issues.join("; "))
      if (this.created !== undefined && created !== this.created) {
        yield* Effect.logWarning("The bucket of the leases was made anew: nothing is taken while others may not know")
        this.takesFrom = performance.now() + duration
      }
      // What it has lost has revisions that others get now.
      if (created !== this.created || last < this.seenUpTo) this.looksUntilAll = 0
      this.created = created
      const beginning = memberKey(prefix, "")
      const members = keys.filter((key) => key.startsWith(beginning))
      const there = new Set(keys)
      for (const id of this.members.keys()) if (!there.has(beginning + id)) this.members.delete(id)
      // A key can be removed without leaving anything behind.
      const gone = this.owners.flatMap(({ revision }, partition) => {
        const key = partitionKey(prefix, partition)
        return revision > 0 && !there.has(key) ? [key] : []
      })
      const aside = asideKey(prefix, this.me())
      const read = [...members, ...gone, ...this.isAside || there.has(aside) ? [aside] : []]
      yield* Effect.forEach(read, (key) => this.read(key), { concurrency, discard: true })
      if (wasAway) { for (const member of this.members.values()) member.since = Math.max(member.since, now) }
      this.lookedAt = now
      this.hasFailed = false
    })
  })

  private readonly readAll: Effect.Effect<void, NatsRequestFailed> = Effect.suspend(() => {
    const { bucket, partitions, prefix } = this.options
    return Effect.gen(this, function*() {
      const { last } = yield* bucket.keys(`${prefix}.member`)
      yield* Effect.forEach(
        Array.from({ length: partitions }, (_, partition) => partitionKey(prefix, partition)),
        (key) => this.read(key),
        { concurrency, discard: true }
      )
      this.seenUpTo = last
      this.looksUntilAll = looksBetweenAll
    })
  })

  /**
   * Of the partitions only those that have changed since the last time: mostly none. The requests go through ascending revisions, and a
   * key that changes meanwhile gets a higher one, so none is passed over.
   */
  private readonly readChanges: Effect.Effect<void, NatsRequestFailed> = Effect.suspend(() => {
    const { bucket, prefix } = this.options
    return Effect.flatMap(bucket.changes(`${prefix}.partition`, this.seenUpTo, concurrency), (changes) => {
      if (changes === undefined) return this.readAll
      for (const { key, ...entry } of changes) {
        this.seePartition(Number(key.slice(`${prefix}.partition.`.length)), entry)
        this.seenUpTo = entry.revision
      }
      return Effect.void
    })
  })

  /** Reads the keys that have changed for all one hears. */
  readonly refresh: Effect.Effect<void, NatsRequestFailed> = Effect.suspend(() => {
    const keys = Array.from(this.dirty)
    this.dirty.clear()
    return Effect.forEach(keys, (key) => this.read(key), { concurrency, discard: true })
  })

  read(key: string): Effect.Effect<void, NatsRequestFailed> {
    const { bucket, prefix } = this.options
    const [kind, name = ""] = key.slice(prefix.length + 1).split(".")
    const isOwn = name === this.me()
    if (kind === "member" && isOwn || kind === "aside" && !isOwn) return Effect.void
    return Effect.flatMap(bucket.get(key), (entry) => {
      if (kind === "aside") {
        this.isAside = entry?.value !== undefined
        return this.onAside
      }
      if (kind === "member") this.seeMember(name, entry)
      else if (kind === "partition") this.seePartition(Number(name), entry)
      // Whoever deleted it did not get further.
      return kind === "member" && entry !== undefined && entry.value === undefined ? bucket.purge(key) : Effect.void
    })
  }

  private seeMember(id: string, entry: Entry | undefined): void {
    if (entry?.value === undefined) {
      this.members.delete(id)
      return
    }
    const known = this.members.get(id)
    const since = known?.revision === entry.revision ? known.since : performance.now()
    this.members.set(id, { revision: entry.revision, since, isLeaving: entry.value.leaving === true })
  }

  private seePartition(partition: number, entry: Entry | undefined): void {
    if (!(partition < this.owners.length)) return
    const before = this.owners[partition]!
    if (entry?.value === undefined) {
      // The key is never deleted by us. Whoever has the partition gives it up as soon as it notices.
      const hasVanished = before.revision > 0
      this.owners[partition] = {
        revision: entry?.revision ?? 0,
        owner: undefined,
        offered: hasVanished ? undefined : before.offered,
        takenFrom: hasVanished && before.revision !== entry?.revision
          ? performance.now() + 1.5 * this.options.duration
          : before.takenFrom ?? -Infinity
      }
    } else {
      const { offered, owner } = entry.value
      this.owners[partition] = { revision: entry.revision, owner, offered }
    }
    this.onSeen(partition)
  }
}
