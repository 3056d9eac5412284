/**
 * Which instance of a group reads which partition.
 *
 * Each instance has a key in the bucket and renews it; each partition has a key that names its owner and changes with the
 * owner only. An instance whose key did not change for the lease's duration, while somebody looked at it, is gone: an
 * instance that notices this deletes exactly that revision of the key, which fails if the key was renewed in the meantime. The partitions of
 * instances without a key are free; a partition is taken by replacing the revision that one has seen, and the new
 * revision is the epoch. Nobody compares wall clocks.
 */
import type { Problem } from "@effect-eventbus/core/Transport"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { isWorthWaiting, type NatsRequestFailed } from "../NatsErrors.js"
import * as Balance from "./Balance.js"
import type { Bucket } from "./Bucket.js"
import { asideKey, GroupView, type Member, memberKey, partitionKey } from "./GroupView.js"
import { Lasting } from "./Lasting.js"
import * as Lease from "./Lease.js"
import { Membership } from "./Membership.js"

/** A hint can come before what it tells of is written. */
const hintDelay = Duration.millis(30)

/** The wait before a look that failed is tried again, in milliseconds. */
const retryDelay = 250

const concurrency = 16

/** How many partitions are being given back at once: of hundreds each closes a lane, and renewals have to go between. */
const mostWanted = 64

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
  /** The partition is not ours any more, or may be another's soon: the code that reads it has to stop at once. Synchronous. */
  readonly onLost: (lease: Lease.Lease) => void
  /** Another instance did not renew its lease, and this one is the first to say so. Synchronous. */
  readonly onTakenOver?: (() => void) | undefined
}

export class Leases {
  private readonly membership: Membership
  private readonly view: GroupView
  private readonly held = new Map<number, Lease.Held>()
  /** How many of them are being given back. */
  private wanted = 0
  private readonly unseen = new Lasting(
    "The leases can't be looked at, or partitions not be taken: those that are free stay unread",
    "The leases can be looked at again"
  )
  private readonly unread = new Lasting(
    "This instance was told to step down, and there is no other one: the partitions stay unread",
    "There is an instance for the partitions again",
    0
  )
  /** This process wants the instance to step down. */
  private isAside = false
  /** In milliseconds since the epoch. */
  private asideSince = 0
  private readonly ended = Deferred.unsafeMake<never, unknown>(FiberId.none)

  constructor(private readonly options: Options, private readonly signal: Queue.Queue<void>) {
    this.view = new GroupView(
      options,
      () => this.membership.id,
      () => this.membership.hearsHints,
      (partition) => this.seen(partition),
      Effect.suspend(() => this.asided)
    )
    this.membership = new Membership(
      options,
      this.view,
      () => this.loseAll(),
      () => Queue.unsafeOffer(this.signal, undefined)
    )
  }

  /**
   * Announces this instance in a bucket that is there, and keeps it announced in the scope's fibers. What waiting can mend does not make it
   * fail: the instance stands by, and nothing is taken before it is announced and has looked.
   */
  readonly join: Effect.Effect<void, NatsRequestFailed, Scope.Scope> = Effect.gen(
    this,
    function*() {
      const { bucket, prefix } = this.options
      yield* bucket.hints(prefix, (key) => {
        if (key === this.membership.key) return this.membership.heard()
        this.view.heard(key)
        Queue.unsafeOffer(this.signal, undefined)
      })
      yield* Effect.addFinalizer(() => Effect.sync(() => this.membership.over()))
      yield* this.membership.join
      yield* Effect.catchIf(this.view.look, isWorthWaiting, (failure) => this.notSeen(failure))
      yield* this.forkLoop(this.membership.renewing)
    }
  )

  /** Fails when a defect has ended what keeps the leases: all is lost, and others take it over. */
  get broken(): Effect.Effect<never, unknown> {
    return Deferred.await(this.ended)
  }

  /** Can be ended even if the fiber that subscribes can't be interrupted, which a forked fiber inherits. */
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

  /** Why nothing can be taken now, if so. */
  get problem(): Problem | undefined {
    return this.membership.isAside
      ? {
        message: "This instance was told to step down: it takes no partitions",
        since: this.asideSince,
        kind: "paused"
      }
      : this.membership.problem ?? this.unseen.problem(!this.view.isKnown || this.size === 0)
  }

  /** Takes what is free, and goes on doing so in the scope's fibers. When it fails something can have been taken. */
  readonly take: Effect.Effect<void, NatsRequestFailed, Scope.Scope> = Effect.suspend(() =>
    (this.view.isKnown ? this.balance : Effect.void).pipe(
      Effect.catchIf(isWorthWaiting, (failure) => this.notSeen(failure)),
      Effect.zipRight(this.forkLoop(this.looking))
    )
  )

  /** It is tried again soon. */
  private notSeen(failure: NatsRequestFailed): Effect.Effect<void> {
    this.view.failed()
    Queue.unsafeOffer(this.signal, undefined)
    return this.unseen.now(failure)
  }

  /** Takes nothing more; what is held is kept alive until it is given back. */
  readonly leave: Effect.Effect<void> = Effect.suspend(() => {
    this.membership.isLeaving = true
    return Effect.ignoreLogged(this.membership.renew())
  })

  /** Gives back what is held, in order, and takes nothing until it is told otherwise. */
  stepAside(isAside: boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.isAside = isAside
      return this.asided
    })
  }

  /** How many partitions are held. */
  get size(): number {
    return this.held.size
  }

  /** Steps down, or takes partitions again, by the word of this process, or of a key that somebody has put into the bucket. */
  private readonly asided: Effect.Effect<void> = Effect.suspend(() => {
    const { membership } = this
    const was = membership.isAside
    membership.isAside = this.isAside || this.view.isAside
    if (membership.isAside === was) return Effect.void
    this.asideSince = performance.timeOrigin + performance.now()
    const told = was
      ? "This instance takes partitions again"
      : "This instance was told to step down: it gives back its partitions"
    return Effect.logInfo(told).pipe(
      Effect.annotateLogs("instance", membership.id),
      Effect.zipRight(membership.hasJoined ? Effect.ignoreLogged(membership.renew()) : Effect.void),
      Effect.zipRight(Queue.offer(this.signal, undefined)),
      Effect.zipRight(was ? this.unread.over : Effect.void)
    )
  })

  /** When all was given back: others need not wait for the lease's end. */
  readonly forget: Effect.Effect<void> = Effect.suspend(() => {
    const { membership, options: { bucket, prefix }, view } = this
    const aside = view.isAside ? Effect.ignoreLogged(bucket.purge(asideKey(prefix, membership.id))) : Effect.void
    return Effect.zipRight(membership.forget, aside)
  })

  /** Whether any instance has announced itself and not left. */
  readonly hasMembers: Effect.Effect<boolean, NatsRequestFailed> = Effect.suspend(() =>
    Effect.map(this.options.bucket.keys(`${this.options.prefix}.member`), ({ keys }) => keys.length > 0)
  )

  private partitionKey(partition: number): string {
    return partitionKey(this.options.prefix, partition)
  }

  /**
   * Whether a partition of ours is still ours. Another revision that names us is one whose answer is still on its way. One of others
   * can also be lower, where the server has lost what it had written.
   */
  private seen(partition: number): void {
    const held = this.held.get(partition)
    const { owner, revision } = this.view.owners[partition]!
    if (held !== undefined && owner !== this.membership.id && revision !== held.revision) this.lose(held)
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
      Effect.timeoutOption(Math.max(10, this.nextLook - performance.now())),
      Effect.flatMap((hinted) =>
        Option.isSome(hinted) && performance.now() < this.nextLook ? this.view.refresh : this.view.look
      ),
      Effect.zipRight(this.balance),
      Effect.zipRight(this.unseen.over),
      Effect.catchAll((failure) => Effect.zipRight(this.notSeen(failure), Effect.sleep(retryDelay)))
    )
  ).pipe(Effect.forever)

  private get nextLook(): number {
    const { membership, options, view } = this
    let next = view.nextLook
    for (const [id, member] of view.members) {
      if (id === membership.id) continue
      const isDoubted = membership.doubts(id, member.revision)
      next = Math.min(next, isDoubted ? membership.diesAt(id, member) : member.since + options.duration / 2)
    }
    return next
  }

  /** Ends the leases of the dead, and takes and gives what is to be taken and given. */
  private readonly balance: Effect.Effect<void, NatsRequestFailed> = Effect.suspend(() => {
    const { membership, view } = this
    const now = performance.now()
    const isValid = now < membership.validUntil
    const dead = Array.from(view.members).filter(([id, member]) =>
      isValid && id !== membership.id && now >= membership.diesAt(id, member)
    )
    const isToDoubt = view.doubtful(now).some(([id, revision]) => !membership.doubts(id, revision))
    return (isToDoubt ? membership.renew() : Effect.void).pipe(
      Effect.zipRight(Effect.forEach(dead, ([id, member]) => this.evict(id, member), { discard: true })),
      Effect.zipRight(
        Effect.suspend(() =>
          membership.isLeaving || !isValid || now < view.takesFrom
            ? Effect.void
            : membership.isAside
            ? this.giveAll
            : this.share(now)
        )
      ),
      Effect.zipRight(this.disown)
    )
  })

  private share(now: number): Effect.Effect<void, NatsRequestFailed> {
    const { membership: { id: me }, view: { members, owners } } = this
    const isOwner = (id: string | undefined) => id !== undefined && (id === me || members.has(id))
    const { acquire, release } = Balance.decide({
      me,
      members: [
        me,
        ...Array.from(members).filter(([id, { isLeaving }]) => id !== me && !isLeaving).map(([id]) => id)
      ],
      owners: owners.map(({ owner }, partition) =>
        owner === me && !this.held.has(partition) || !isOwner(owner) ? undefined : owner
      )
    })
    for (const partition of release) this.release(partition)
    const free = acquire.filter((partition) => now >= (owners[partition]?.takenFrom ?? -Infinity))
    return Effect.forEach(free, (partition) => this.acquire(partition), { concurrency, discard: true })
  }

  private release(partition: number): void {
    const held = this.held.get(partition)
    if (held === undefined || held.isWanted || held.isLost || this.membership.isFull) return
    // When one was given back there is another look.
    if (this.wanted >= mostWanted) return
    this.wanted++
    held.isWanted = true
    this.options.onWanted(held.lease)
  }

  private readonly giveAll: Effect.Effect<void> = Effect.suspend(() => {
    const { membership, view } = this
    for (const partition of this.held.keys()) this.release(partition)
    const isAlone = !Array.from(view.members).some(([id, { isLeaving }]) => id !== membership.id && !isLeaving)
    return isAlone ? this.unread.now(this.options.prefix) : this.unread.over
  })

  /**
   * Others take for ours what names us, and wait for it. Where nobody here works on it, because giving it back got lost or
   * the lease had ended, it is given back now.
   */
  private readonly disown: Effect.Effect<void, NatsRequestFailed> = Effect.suspend(() => {
    const names = this.view.owners.flatMap(({ owner }, partition) =>
      owner === this.membership.id && !this.held.has(partition) ? [partition] : []
    )
    return Effect.forEach(names, (partition) => {
      const key = this.partitionKey(partition)
      return this.options.bucket.put(key, {}, this.view.owners[partition]!.revision).pipe(
        Effect.tap((revision) => this.view.wrote(partition, { revision, owner: undefined, offered: undefined })),
        Effect.catchTag("Conflict", () => this.view.read(key))
      )
    }, { concurrency, discard: true })
  })

  private evict(id: string, member: Member): Effect.Effect<void, NatsRequestFailed> {
    return this.options.bucket.remove(memberKey(this.options.prefix, id), member.revision).pipe(
      Effect.zipRight(Effect.logWarning("An instance did not renew its lease: its partitions are taken over")),
      Effect.tap(() => {
        this.options.onTakenOver?.()
        return Effect.sync(() => this.view.members.delete(id))
      }),
      Effect.zipLeft(Effect.ignoreLogged(this.options.bucket.purge(asideKey(this.options.prefix, id)))),
      // It has renewed at the last moment, or another instance was quicker.
      Effect.catchTag("Conflict", () => this.view.read(memberKey(this.options.prefix, id))),
      Effect.annotateLogs("instance", id)
    )
  }

  private acquire(partition: number): Effect.Effect<void, NatsRequestFailed> {
    const { bucket } = this.options
    const { offered, owner, revision } = this.view.owners[partition]!
    if (this.held.has(partition) || this.membership.isLeaving || this.membership.isAside) return Effect.void
    const key = this.partitionKey(partition)
    return Effect.gen(this, function*() {
      if (owner !== undefined && owner !== this.membership.id) {
        // It may have joined since members were looked at.
        yield* this.view.read(memberKey(this.options.prefix, owner))
        if (this.view.members.has(owner)) return
      }
      const epoch = yield* bucket.put(key, { owner: this.membership.id }, revision)
      this.view.wrote(partition, { revision: epoch, owner: this.membership.id, offered: undefined })
      const held: Lease.Held = {
        lease: this.lease(partition, offered),
        revision: epoch,
        isLost: false,
        isWanted: false
      }
      this.held.set(partition, held)
      this.options.onTaken(held.lease)
    }).pipe(Effect.catchTag("Conflict", () => this.view.read(key)), Effect.uninterruptible)
  }

  private lease(partition: number, offeredBefore: number | undefined): Lease.Lease {
    return Lease.make(partition, offeredBefore, {
      held: () => this.held.get(partition),
      validUntil: () => this.membership.validUntil,
      lose: (held) => this.lose(held),
      write: (value, revision) =>
        this.options.bucket.put(this.partitionKey(partition), value, revision).pipe(
          Effect.tap((revision) => this.view.wrote(partition, { revision, owner: value.owner, offered: value.offered }))
        ),
      instance: () => this.membership.id,
      forget: () => {
        if (this.held.get(partition)?.isWanted === true) this.wanted--
        this.held.delete(partition)
        Queue.unsafeOffer(this.signal, undefined)
      }
    })
  }
}

export const make = (options: Options): Effect.Effect<Leases> =>
  Effect.map(Queue.sliding<void>(1), (signal) => new Leases(options, signal))
