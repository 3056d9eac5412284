/**
 * Which instance of a group reads which partition.
 *
 * Each instance has a key in the bucket and renews it; each partition has a key that names its owner and changes with the
 * owner only. An instance whose key did not change for the lease's duration, while somebody looked at it, is gone: whoever
 * notices deletes exactly that revision of its key, which fails if it was renewed in the meantime. The partitions of
 * instances without a key are free; a partition is taken by replacing the revision that one has seen, and the new
 * revision is the epoch. Nobody compares wall clocks.
 *
 * A bucket without room takes no renewal, and nothing else either. So that an instance can go on then, whoever is about to take another
 * one for dead writes that into its own key first, and waits half of a lease's duration: as long as nobody doubts an instance whose
 * renewal finds no room, it has half a duration from the moment at which it looked.
 */
import type { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import type { Problem } from "@effect-eventbus/core/Transport"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { hostname } from "node:os"
import { isStorageFull, type NatsRequestFailed } from "../NatsErrors.js"
import * as Balance from "./Balance.js"
import type { Bucket, Entry } from "./Bucket.js"
import { Lasting } from "./Lasting.js"
import * as Lease from "./Lease.js"

/** A hint can come before what it tells of is written. */
const hintDelay = Duration.millis(30)

/** The wait before a renewal or a look that failed is tried again, in milliseconds. */
const retryDelay = 250

const concurrency = 16

/** After so many looks for what has changed all keys are read, in case that something was missed. */
const looksBetweenAll = 20

export interface Options {
  readonly bucket: Bucket
  /** The same one, with so short a wait for answers that a renewal which got lost is repeated before the lease ends. */
  readonly renewals: Bucket
  /** The beginning of this group's keys for one topic. */
  readonly prefix: string
  readonly partitions: number
  /** In milliseconds. */
  readonly duration: number
  readonly renewEvery: number
  /** By how much an instance gives up before others may take over. */
  readonly margin: number
  /** A partition is ours; called once before it is given away, lost or left. Synchronous. */
  readonly onTaken: (lease: Lease.Lease) => void
  /** The partition is wanted by others: ends with `Lease.giveBack`. Synchronous. */
  readonly onWanted: (lease: Lease.Lease) => void
  /** The partition is not ours any more, or may be another's soon: whoever works on it has to stop at once. Synchronous. */
  readonly onLost: (lease: Lease.Lease) => void
}

interface Member {
  revision: number
  /** Since when, by our clock, it has this revision. */
  since: number
  isLeaving: boolean
}

interface Owner {
  readonly revision: number
  readonly owner: string | undefined
  readonly offered: number | undefined
  /** Before this nobody takes it: its key has vanished, and who has it may not know yet. */
  readonly takenFrom?: number
}

export class Leases {
  private id = randomUUID()
  /** The revision of our own key; 0 before it is written. */
  private revision = 0
  /** When the last renewal that succeeded was sent. */
  private renewedAt = -Infinity
  /** Until when it is proven, without a renewal, that nobody takes over. */
  private provenUntil = -Infinity
  /** The last renewal found no room: what is given back could be nobody's until there is some. */
  private isFull = false
  private isLeaving = false
  /** Takes nothing for a while, by the word of this process, or of a key that somebody has put into the bucket. */
  private isAside = false
  private isAsideByKey = false
  private asideSince = 0
  /** In milliseconds since the epoch. */
  private readonly joinedAt = performance.timeOrigin + performance.now()
  /** Whether the last renewal was heard of: then so are the changes of others. */
  private hearsHints = false
  private heardOwn = false
  /** Something failed since all keys were looked at. */
  private hasFailed = false
  private fenceTimer: NodeJS.Timeout | undefined
  private isOver = false
  private readonly oneRenewal = Effect.unsafeMakeSemaphore(1)
  /** Whom our key says to be doubted, and since when. */
  private doubted: ReadonlyMap<string, { readonly revision: number; readonly since: number }> = new Map()
  private readonly unrenewed = new Lasting(
    "The leases can't be renewed: this instance soon has to give up its partitions, or has done so",
    "The leases are renewed again"
  )
  private readonly withoutRoom = new Lasting(
    "The bucket of the leases takes no renewals, for there is no room: partitions stay where they are as long as this can be proven, " +
      "and no instance can join or take over. Make room, or raise the limit",
    "The bucket of the leases has room again"
  )
  private readonly unseen = new Lasting(
    "The leases can't be looked at, or partitions not be taken: those that are free stay unread",
    "The leases can be looked at again"
  )
  private readonly unread = new Lasting(
    "This instance was told to step down, and there is no other one: the partitions stay unread",
    "There is an instance for the partitions again",
    0
  )
  private readonly unfit = new Lasting(
    "Somebody has changed the bucket of the leases on the server: two instances can have the same partition",
    "The bucket of the leases is as it has to be again",
    0
  )
  private readonly members = new Map<string, Member>()
  private readonly owners: Array<Owner>
  private readonly held = new Map<number, Lease.Held>()
  private readonly dirty = new Set<string>()
  private lookedAt = -Infinity
  /** All changes of partitions' keys up to this revision are known. */
  private seenUpTo = 0
  private looksUntilAll = 0
  /** When the bucket that we know was made. */
  private created: string | undefined
  /** Before this nothing is taken: the bucket has forgotten who has what, and they don't know yet. */
  private takesFrom = -Infinity

  private readonly ended = Deferred.unsafeMake<never, unknown>(FiberId.none)

  constructor(private readonly options: Options, private readonly signal: Queue.Queue<void>) {
    this.owners = Array.from({ length: options.partitions }, () => ({
      revision: 0,
      owner: undefined,
      offered: 0
    }))
  }

  /** Announces this instance, and keeps it announced in the scope's fibers. */
  readonly join: Effect.Effect<void, NatsRequestFailed | InvalidConfiguration, Scope.Scope> = Effect.gen(
    this,
    function*() {
      const { bucket, prefix } = this.options
      yield* bucket.ensure
      yield* bucket.hints(prefix, (key) => {
        if (key === this.memberKey(this.id)) {
          this.heardOwn = true
          return
        }
        this.dirty.add(key)
        Queue.unsafeOffer(this.signal, undefined)
      })
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          this.isOver = true
          clearTimeout(this.fenceTimer)
        })
      )
      yield* this.renew(bucket).pipe(Effect.catchIf(isStorageFull, (failure) => this.standBy(failure)))
      yield* this.look
      yield* this.forkLoop(this.renewing)
    }
  )

  /** Fails when a defect has ended what keeps the leases: all is lost, and others take it over. */
  get broken(): Effect.Effect<never, unknown> {
    return Deferred.await(this.ended)
  }

  /** Can be ended also where whoever subscribes can't be interrupted, which a fork takes over. */
  private forkLoop(loop: Effect.Effect<never>): Effect.Effect<unknown, never, Scope.Scope> {
    return Effect.raceFirst(loop, this.broken).pipe(
      Effect.catchAllCause((cause) =>
        Cause.isInterruptedOnly(cause) ? Effect.interrupt : Effect.flatMap(
          Deferred.fail(this.ended, Cause.squash(cause)),
          (isNews) => isNews ? Effect.sync(() => this.loseAll()) : Effect.void
        )
      ),
      Effect.interruptible,
      Effect.forkScoped
    )
  }

  /** There is no room for our key: others have what they have, and we take nothing before there is some. */
  private standBy(failure: NatsRequestFailed): Effect.Effect<void> {
    this.isFull = true
    return Effect.logWarning(
      "The bucket of the leases has no room for another instance: this one stands by until there is some"
    ).pipe(Effect.annotateLogs("detail", failure.message))
  }

  /** Why nothing can be taken now, if so. */
  get problem(): Problem | undefined {
    if (this.standsAside) {
      return { message: "This instance was told to step down: it takes no partitions", since: this.asideSince }
    }
    return this.isFull && this.revision === 0
      ? {
        message: "the bucket of the leases has no room for another instance: it stands by until there is some",
        since: this.joinedAt
      }
      : undefined
  }

  /** Takes what is free, and goes on doing so in the scope's fibers. When it fails something can have been taken. */
  readonly take: Effect.Effect<void, NatsRequestFailed, Scope.Scope> = Effect.suspend(() =>
    Effect.zipRight(this.balance, this.forkLoop(this.looking))
  )

  /** Takes nothing more; what is held is kept alive until it is given back. */
  readonly leave: Effect.Effect<void> = Effect.suspend(() => {
    this.isLeaving = true
    return Effect.ignoreLogged(this.renew())
  })

  /** Gives back what is held, in order, and takes nothing until it is told otherwise. */
  stepAside(isAside: boolean): Effect.Effect<void> {
    return this.asided(() => {
      this.isAside = isAside
    })
  }

  /** How many partitions are held. */
  get size(): number {
    return this.held.size
  }

  private get standsAside(): boolean {
    return this.isAside || this.isAsideByKey
  }

  private asided(change: () => void): Effect.Effect<void> {
    return Effect.suspend(() => {
      const before = this.standsAside
      change()
      if (this.standsAside === before) return Effect.void
      this.asideSince = performance.timeOrigin + performance.now()
      const told = before
        ? "This instance takes partitions again"
        : "This instance was told to step down: it gives back its partitions"
      return Effect.logInfo(told).pipe(
        Effect.annotateLogs("instance", this.id),
        Effect.zipRight(this.renewedAt === -Infinity ? Effect.void : Effect.ignoreLogged(this.renew())),
        Effect.zipRight(Queue.offer(this.signal, undefined)),
        Effect.zipRight(before ? this.unread.over : Effect.void)
      )
    })
  }

  /** When all was given back: others need not wait for the lease's end. */
  readonly forget: Effect.Effect<void> = Effect.suspend(() =>
    // Its revision may be one whose answer nobody waited for.
    this.options.bucket.get(this.memberKey(this.id)).pipe(
      Effect.flatMap((entry) =>
        entry === undefined ? Effect.void : this.options.bucket.remove(this.memberKey(this.id), entry.revision)
      ),
      Effect.zipRight(this.isAsideByKey ? this.options.bucket.purge(this.asideKey(this.id)) : Effect.void),
      Effect.ignore
    )
  )

  /** Whether any instance has announced itself and not left. */
  readonly hasMembers: Effect.Effect<boolean, NatsRequestFailed> = Effect.suspend(() =>
    Effect.map(this.options.bucket.keys(`${this.options.prefix}.member`), ({ keys }) => keys.length > 0)
  )

  private memberKey(id: string): string {
    return `${this.options.prefix}.member.${id}`
  }

  /** Whoever puts it there wants the instance to step down, until it is deleted. */
  private asideKey(id: string): string {
    return `${this.options.prefix}.aside.${id}`
  }

  private partitionKey(partition: number): string {
    return `${this.options.prefix}.partition.${partition}`
  }

  /** Until when, by our clock, nobody else can have taken over. */
  private get validUntil(): number {
    return Math.max(this.renewedAt + this.options.duration - this.options.margin, this.provenUntil)
  }

  private renew(bucket = this.options.renewals): Effect.Effect<void, NatsRequestFailed> {
    return this.oneRenewal.withPermits(1)(this.renewWith(bucket))
  }

  private renewWith(bucket: Bucket): Effect.Effect<void, NatsRequestFailed> {
    return Effect.suspend(() => {
      const sentAt = performance.now()
      this.hearsHints = this.heardOwn
      this.heardOwn = false
      const doubts = this.doubtful(sentAt)
      const value = {
        host: hostname(),
        pid: process.pid,
        ...(this.isLeaving || this.standsAside ? { leaving: true } : {}),
        ...(doubts.length === 0 ? {} : { doubts: Object.fromEntries(doubts) })
      }
      return bucket.put(this.memberKey(this.id), value, this.revision).pipe(
        Effect.map((revision) => {
          this.revision = revision
          this.renewedAt = sentAt
          this.isFull = false
          const now = performance.now()
          this.doubted = new Map(doubts.map(([id, revision]) => {
            const before = this.doubted.get(id)
            return [id, before?.revision === revision ? before : { revision, since: now }]
          }))
          this.armFence()
        }),
        Effect.catchTag("Conflict", () => this.recall)
      )
    })
  }

  /** The instances that have not renewed for half of a lease's duration, with their revisions. */
  private doubtful(now: number): ReadonlyArray<readonly [id: string, revision: number]> {
    return Array.from(this.members).flatMap(([id, { revision, since }]) =>
      id !== this.id && now - since >= this.options.duration / 2 ? [[id, revision] as const] : []
    )
  }

  /** When an instance is dead, if it does not renew until then; before it is doubted that is not known. */
  private diesAt(id: string, { revision, since }: Member): number {
    const doubt = this.doubted.get(id)
    return doubt?.revision === revision
      ? Math.max(since + this.options.duration, doubt.since + this.options.duration / 2)
      : Infinity
  }

  /**
   * There is no room for a renewal. Who wants to take us for dead has to say so half a duration before, and has not: we have at least so
   * long from now on. That it could not write for want of room either is not relied on: there may be room for it, and none for us.
   */
  private readonly prove: Effect.Effect<void, NatsRequestFailed> = Effect.suspend(() => {
    const { duration, margin, prefix, renewals } = this.options
    const lookedAt = performance.now()
    return Effect.gen(this, function*() {
      const mine = yield* renewals.get(this.memberKey(this.id))
      // Whoever has not joined yet has nothing to prove.
      if (mine?.value === undefined) return yield* this.revision === 0 ? Effect.void : this.recall
      this.revision = mine.revision
      const { keys } = yield* renewals.keys(`${prefix}.member`)
      const entries = yield* Effect.forEach(keys, (key) => renewals.get(key), { concurrency })
      if (entries.some((entry) => entry?.value?.doubts?.[this.id] === mine.revision)) return
      this.provenUntil = lookedAt + duration / 2 - margin
      this.armFence()
    })
  })

  /** Our key is not as we left it: an answer got lost, or others have taken us for dead. */
  private readonly recall: Effect.Effect<void, NatsRequestFailed> = Effect.suspend(() => {
    return Effect.flatMap(this.options.renewals.get(this.memberKey(this.id)), (entry) => {
      if (entry?.value !== undefined) {
        this.revision = entry.revision
        return this.renewWith(this.options.renewals)
      }
      return Effect.logWarning("Others have taken this instance for dead; it joins again").pipe(
        Effect.zipRight(Effect.suspend(() => {
          this.loseAll()
          this.id = randomUUID()
          this.revision = 0
          this.renewedAt = -Infinity
          this.provenUntil = -Infinity
          this.doubted = new Map()
          // Before anything is taken, all is looked at.
          this.lookedAt = -Infinity
          return this.renewWith(this.options.renewals)
        }))
      )
    })
  })

  private readonly renewing: Effect.Effect<never> = Effect.suspend(() =>
    Effect.delay(
      this.renew().pipe(
        Effect.zipRight(this.unrenewed.over),
        Effect.zipRight(this.withoutRoom.over),
        Effect.catchAll((failure) => this.notRenewed(failure))
      ),
      Math.max(0, this.alignedAfter(this.renewedAt) - performance.now())
    )
  ).pipe(Effect.forever)

  private notRenewed(failure: NatsRequestFailed): Effect.Effect<void> {
    this.hasFailed = true
    const { duration, renewals } = this.options
    if (isStorageFull(failure)) {
      this.isFull = true
      return this.withoutRoom.now(failure.message).pipe(
        Effect.zipRight(
          Effect.catchAll(this.prove, (failure) => Effect.logDebug("The leases can't be proven", failure.message))
        ),
        Effect.zipRight(Effect.sleep(Math.min(retryDelay, duration / 12)))
      )
    }
    // Where the bucket is gone nobody may answer, for our own subscription to its changes counts as a responder.
    const isGone = failure.reason === "NoResponders" || failure.reason === "Timeout"
    return this.unrenewed.now(failure.message).pipe(
      Effect.zipRight(isGone ? Effect.ignoreLogged(renewals.ensure) : Effect.void),
      Effect.zipRight(failure.reason === "Timeout" ? Effect.void : Effect.sleep(retryDelay))
    )
  }

  /**
   * When to renew, or to look, again, at the latest after `renewEvery`: at the same time as all other subscriptions of the process, so
   * that their requests are written together. Waking up for each, and a packet for each, is most of what idle ones cost.
   */
  private alignedAfter(last: number, periods = 1): number {
    const { renewEvery } = this.options
    // What was done a moment early is not done again at once.
    return Math.max((Math.floor(last / renewEvery) + periods) * renewEvery, last + renewEvery / 2)
  }

  /** After how many periods all keys are looked at again. Who hears of changes looks only for what nobody tells of. */
  private get lookPeriods(): number {
    return this.hearsHints ? 3 : 1
  }

  private armFence(): void {
    if (this.fenceTimer !== undefined || this.isOver) return
    this.fenceTimer = setTimeout(() => this.fence(), Math.max(1, Math.ceil(this.validUntil - performance.now())))
  }

  /** Our own lease has ended, if it was not renewed meanwhile. */
  private fence(): void {
    this.fenceTimer = undefined
    if (performance.now() < this.validUntil) return this.armFence()
    this.loseAll()
  }

  private loseAll(): void {
    for (const held of this.held.values()) this.lose(held)
  }

  private lose(held: Lease.Held): void {
    if (held.isLost) return
    held.isLost = true
    this.options.onLost(held.lease)
  }

  private readonly looking: Effect.Effect<never> = Effect.suspend(() =>
    Queue.take(this.signal).pipe(
      Effect.zipRight(Effect.sleep(hintDelay)),
      Effect.timeoutOption(Math.max(10, this.nextLook() - performance.now())),
      Effect.flatMap((hinted) =>
        Option.isSome(hinted) && performance.now() < this.nextLook() ? this.refresh : this.look
      ),
      Effect.zipRight(this.balance),
      Effect.zipRight(this.unseen.over),
      Effect.catchAll((failure) => {
        this.hasFailed = true
        return Effect.zipRight(this.unseen.now(failure.message), Effect.sleep(retryDelay))
      })
    )
  ).pipe(Effect.forever)

  private nextLook(): number {
    let next = this.alignedAfter(this.lookedAt, this.lookPeriods)
    for (const [id, member] of this.members) {
      if (id === this.id) continue
      const isDoubted = this.doubted.get(id)?.revision === member.revision
      next = Math.min(next, isDoubted ? this.diesAt(id, member) : member.since + this.options.duration / 2)
    }
    return next
  }

  /** Finds out how all keys are. Partitions first: who is named there has had a key of its own before. */
  private readonly look: Effect.Effect<void, NatsRequestFailed> = Effect.suspend(() => {
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
      const beginning = `${prefix}.member.`
      const members = keys.filter((key) => key.startsWith(beginning))
      const there = new Set(keys)
      for (const id of this.members.keys()) if (!there.has(beginning + id)) this.members.delete(id)
      // A key can be removed without leaving anything behind.
      const gone = this.owners.flatMap(({ revision }, partition) => {
        const key = this.partitionKey(partition)
        return revision > 0 && !there.has(key) ? [key] : []
      })
      const aside = this.asideKey(this.id)
      const read = [...members, ...gone, ...this.isAsideByKey || there.has(aside) ? [aside] : []]
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
        Array.from({ length: partitions }, (_, partition) => this.partitionKey(partition)),
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
  private readonly refresh: Effect.Effect<void, NatsRequestFailed> = Effect.suspend(() => {
    const keys = Array.from(this.dirty)
    this.dirty.clear()
    return Effect.forEach(keys, (key) => this.read(key), { concurrency, discard: true })
  })

  private read(key: string): Effect.Effect<void, NatsRequestFailed> {
    const { bucket, prefix } = this.options
    const [kind, name = ""] = key.slice(prefix.length + 1).split(".")
    if (kind === "member" && name === this.id || kind === "aside" && name !== this.id) return Effect.void
    return Effect.flatMap(bucket.get(key), (entry) => {
      if (kind === "aside") {
        return this.asided(() => {
          this.isAsideByKey = entry?.value !== undefined
        })
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
    const held = this.held.get(partition)
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
      if (held !== undefined) this.lose(held)
      return
    }
    const { offered, owner } = entry.value
    this.owners[partition] = { revision: entry.revision, owner, offered }
    // Another revision of our own is one whose answer is still on its way. One of others can also be lower, where the
    // server has lost what it had written.
    if (held !== undefined && owner !== this.id && entry.revision !== held.revision) this.lose(held)
  }

  /** Ends the leases of the dead, and takes and gives what is to be taken and given. */
  private readonly balance: Effect.Effect<void, NatsRequestFailed> = Effect.suspend(() => {
    const now = performance.now()
    const dead = now >= this.validUntil
      ? []
      : Array.from(this.members).filter(([id, member]) => id !== this.id && now >= this.diesAt(id, member))
    const isToDoubt = this.doubtful(now).some(([id, revision]) => this.doubted.get(id)?.revision !== revision)
    return (isToDoubt ? this.renew() : Effect.void).pipe(
      Effect.zipRight(Effect.forEach(dead, ([id, member]) => this.evict(id, member), { discard: true })),
      Effect.zipRight(Effect.suspend(() => {
        if (this.isLeaving || now >= this.validUntil || now < this.takesFrom) return Effect.void
        if (this.standsAside) return this.giveAll
        const isOwner = (id: string | undefined) => id !== undefined && (id === this.id || this.members.has(id))
        const { acquire, release } = Balance.decide({
          me: this.id,
          members: [
            this.id,
            ...Array.from(this.members).filter(([id, { isLeaving }]) => id !== this.id && !isLeaving).map(([id]) => id)
          ],
          owners: this.owners.map(({ owner }, partition) =>
            owner === this.id && !this.held.has(partition) || !isOwner(owner) ? undefined : owner
          )
        })
        for (const partition of release) this.release(partition)
        const free = acquire.filter((partition) => now >= (this.owners[partition]?.takenFrom ?? -Infinity))
        return Effect.forEach(free, (partition) => this.acquire(partition), { concurrency, discard: true })
      })),
      Effect.zipRight(this.disown)
    )
  })

  private release(partition: number): void {
    const held = this.held.get(partition)
    if (held === undefined || held.isWanted || held.isLost || this.isFull) return
    held.isWanted = true
    this.options.onWanted(held.lease)
  }

  private readonly giveAll: Effect.Effect<void> = Effect.suspend(() => {
    for (const partition of this.held.keys()) this.release(partition)
    const isAlone = !Array.from(this.members).some(([id, { isLeaving }]) => id !== this.id && !isLeaving)
    return isAlone ? this.unread.now(this.options.prefix) : this.unread.over
  })

  /**
   * Others take for ours what names us, and wait for it. Where nobody here works on it, because giving it back got lost or
   * the lease had ended, it is given back now.
   */
  private readonly disown: Effect.Effect<void, NatsRequestFailed> = Effect.suspend(() => {
    const names = this.owners.flatMap(({ owner }, partition) =>
      owner === this.id && !this.held.has(partition) ? [partition] : []
    )
    return Effect.forEach(names, (partition) => {
      const key = this.partitionKey(partition)
      return this.options.bucket.put(key, {}, this.owners[partition]!.revision).pipe(
        Effect.tap((revision) => {
          this.owners[partition] = { revision, owner: undefined, offered: undefined }
        }),
        Effect.catchTag("Conflict", () => this.read(key))
      )
    }, { concurrency, discard: true })
  })

  private evict(id: string, member: Member): Effect.Effect<void, NatsRequestFailed> {
    return this.options.bucket.remove(this.memberKey(id), member.revision).pipe(
      Effect.zipRight(Effect.logWarning("An instance did not renew its lease: its partitions are taken over")),
      Effect.tap(() => this.members.delete(id)),
      Effect.zipLeft(Effect.ignore(this.options.bucket.purge(this.asideKey(id)))),
      // It has renewed at the last moment, or another instance was quicker.
      Effect.catchTag("Conflict", () => this.read(this.memberKey(id))),
      Effect.annotateLogs("instance", id)
    )
  }

  private acquire(partition: number): Effect.Effect<void, NatsRequestFailed> {
    const { bucket } = this.options
    const { offered, owner, revision } = this.owners[partition]!
    if (this.held.has(partition) || this.isLeaving || this.standsAside) return Effect.void
    const key = this.partitionKey(partition)
    return Effect.gen(this, function*() {
      if (owner !== undefined && owner !== this.id) {
        // It may have joined since members were looked at.
        yield* this.read(this.memberKey(owner))
        if (this.members.has(owner)) return
      }
      const epoch = yield* bucket.put(key, { owner: this.id }, revision)
      this.owners[partition] = { revision: epoch, owner: this.id, offered: undefined }
      const held: Lease.Held = {
        lease: this.lease(partition, offered),
        revision: epoch,
        isLost: false,
        isWanted: false
      }
      this.held.set(partition, held)
      this.options.onTaken(held.lease)
    }).pipe(Effect.catchTag("Conflict", () => this.read(key)), Effect.uninterruptible)
  }

  private lease(partition: number, offeredBefore: number | undefined): Lease.Lease {
    return Lease.make(partition, offeredBefore, {
      held: () => this.held.get(partition),
      validUntil: () => this.validUntil,
      lose: (held) => this.lose(held),
      write: (value, revision) =>
        this.options.bucket.put(this.partitionKey(partition), value, revision).pipe(
          Effect.tap((revision) => {
            this.owners[partition] = { revision, owner: value.owner, offered: value.offered }
          })
        ),
      instance: () => this.id,
      forget: () => {
        this.held.delete(partition)
        Queue.unsafeOffer(this.signal, undefined)
      }
    })
  }
}

export const make = (options: Options): Effect.Effect<Leases> =>
  Effect.map(Queue.sliding<void>(1), (signal) => new Leases(options, signal))
