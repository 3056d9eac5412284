/**
 * That this instance is there: its key in the bucket, which is renewed, and until when, by its own clock, nobody can have taken it for
 * dead.
 *
 * A bucket without room takes no renewal, and nothing else either. So that an instance can go on then, whoever is about to take another
 * one for dead writes that into its own key first, and waits half of a lease's duration: as long as nobody doubts an instance whose
 * renewal finds no room, it has half a duration from the moment at which it looked.
 */
import type { Problem } from "@effect-eventbus/core/Transport"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import { hostname } from "node:os"
import { isStorageFull, isWorthWaiting, type NatsRequestFailed } from "../NatsErrors.js"
import type { Bucket } from "./Bucket.js"
import { alignedAfter, type GroupView, type Member, memberKey } from "./GroupView.js"
import { Lasting } from "./Lasting.js"

/** The wait before a renewal that failed is tried again, in milliseconds. */
const retryDelay = 250

const concurrency = 16

export interface Options {
  readonly bucket: Bucket
  /** The same one, with so short a wait for answers that a renewal which got lost is repeated before the lease ends. */
  readonly renewals: Bucket
  readonly prefix: string
  /** In milliseconds. */
  readonly duration: number
  readonly renewEvery: number
  /** By how much an instance gives up before others may take over. */
  readonly margin: number
}

export class Membership {
  id = randomUUID()
  /** The last renewal found no room: what is given back could be nobody's until there is some. */
  isFull = false
  /** The instance takes nothing more. */
  isLeaving = false
  /** It takes nothing for a while. */
  isAside = false
  /** Whether the last renewal was heard of: then so are the changes of others. */
  hearsHints = false
  private heardOwn = false
  /** The revision of our own key; 0 before it is written. */
  private revision = 0
  /** When the last renewal that succeeded was sent. */
  private renewedAt = -Infinity
  /** Until when it is proven, without a renewal, that nobody takes over. */
  private provenUntil = -Infinity
  /** In milliseconds since the epoch. */
  private readonly joinedAt = performance.timeOrigin + performance.now()
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

  constructor(
    private readonly options: Options,
    private readonly view: Pick<GroupView, "doubtful" | "failed" | "forget">,
    /** The lease has ended, or may have: what is held may be others'. */
    private readonly onEnded: () => void,
    /** The instance is announced: it may take what is free. */
    private readonly onJoined: () => void = () => {}
  ) {}

  get key(): string {
    return memberKey(this.options.prefix, this.id)
  }

  get hasJoined(): boolean {
    return this.renewedAt !== -Infinity
  }

  /** Our own key was heard of. */
  heard(): void {
    this.heardOwn = true
  }

  /**
   * Writes our key for the first time. Where that does not work for a while, for want of room or of an answer, others have what they have,
   * and we take nothing before a renewal has written it.
   */
  readonly join: Effect.Effect<void, NatsRequestFailed> = Effect.suspend(() =>
    this.renew(this.options.bucket).pipe(
      Effect.catchIf(isStorageFull, (failure) => {
        this.isFull = true
        return Effect.logWarning(
          "The bucket of the leases has no room for another instance: this one stands by until there is some"
        ).pipe(Effect.annotateLogs("detail", failure.message))
      }),
      Effect.catchIf(isWorthWaiting, (failure) => this.unrenewed.now(failure))
    )
  )

  /** Its time is not looked after any more. */
  over(): void {
    this.isOver = true
    clearTimeout(this.fenceTimer)
  }

  /** When all was given back: others need not wait for the lease's end. */
  readonly forget: Effect.Effect<void> = Effect.suspend(() =>
    // Its revision may be one whose answer nobody waited for.
    this.options.bucket.get(this.key).pipe(
      Effect.flatMap((entry) =>
        entry === undefined ? Effect.void : this.options.bucket.remove(this.key, entry.revision)
      ),
      Effect.ignoreLogged
    )
  )

  /** Why nothing can be taken now, if so. */
  get problem(): Problem | undefined {
    return this.isFull && this.revision === 0
      ? {
        message: "the bucket of the leases has no room for another instance: it stands by until there is some",
        since: this.joinedAt,
        kind: "lease"
      }
      : this.unrenewed.problem(!this.hasJoined)
  }

  /** Until when, by our clock, nobody else can have taken over. */
  get validUntil(): number {
    return Math.max(this.renewedAt + this.options.duration - this.options.margin, this.provenUntil)
  }

  /** Whether our key says already, of this revision, that the instance is doubted. */
  doubts(id: string, revision: number): boolean {
    return this.doubted.get(id)?.revision === revision
  }

  renew(bucket = this.options.renewals): Effect.Effect<void, NatsRequestFailed> {
    return this.oneRenewal.withPermits(1)(this.renewWith(bucket))
  }

  private renewWith(bucket: Bucket): Effect.Effect<void, NatsRequestFailed> {
    return Effect.suspend(() => {
      const sentAt = performance.now()
      this.hearsHints = this.heardOwn
      this.heardOwn = false
      const doubts = this.view.doubtful(sentAt)
      const value = {
        host: hostname(),
        pid: process.pid,
        ...(this.isLeaving || this.isAside ? { leaving: true } : {}),
        ...(doubts.length === 0 ? {} : { doubts: Object.fromEntries(doubts) })
      }
      const { id } = this
      const renewed = (revision: number) => this.renewed(id, sentAt, revision, doubts)
      return bucket.put(this.key, value, this.revision, renewed).pipe(
        Effect.map(renewed),
        Effect.catchTag("Conflict", () => this.recall)
      )
    })
  }

  /** The server has written a renewal that was sent then. It can say so late, after others were tried: it counts all the same. */
  private renewed(
    id: string,
    sentAt: number,
    revision: number,
    doubts: ReadonlyArray<readonly [id: string, revision: number]>
  ): void {
    if (id !== this.id || sentAt < this.renewedAt) return
    this.revision = Math.max(this.revision, revision)
    if (!this.hasJoined) this.onJoined()
    this.renewedAt = sentAt
    this.isFull = false
    const now = performance.now()
    this.doubted = new Map(doubts.map(([id, revision]) => {
      const before = this.doubted.get(id)
      return [id, before?.revision === revision ? before : { revision, since: now }]
    }))
    this.armFence()
  }

  /** When an instance is dead, if it does not renew until then; before it is doubted that is not known. */
  diesAt(id: string, { revision, since }: Member): number {
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
      const mine = yield* renewals.get(this.key)
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
    return Effect.flatMap(this.options.renewals.get(this.key), (entry) => {
      if (entry?.value !== undefined) {
        this.revision = entry.revision
        return this.renewWith(this.options.renewals)
      }
      return Effect.logWarning("Others have taken this instance for dead; it joins again").pipe(
        Effect.zipRight(Effect.suspend(() => {
          this.onEnded()
          this.id = randomUUID()
          this.revision = 0
          this.renewedAt = -Infinity
          this.provenUntil = -Infinity
          this.doubted = new Map()
          // Before anything is taken, all is looked at.
          this.view.forget()
          return this.renewWith(this.options.renewals)
        }))
      )
    })
  })

  readonly renewing: Effect.Effect<never> = Effect.suspend(() =>
    Effect.delay(
      this.renew().pipe(
        Effect.zipRight(this.unrenewed.over),
        Effect.zipRight(this.withoutRoom.over),
        Effect.catchAll((failure) => this.notRenewed(failure))
      ),
      Math.max(0, alignedAfter(this.options.renewEvery, this.renewedAt) - performance.now())
    )
  ).pipe(Effect.forever)

  private notRenewed(failure: NatsRequestFailed): Effect.Effect<void> {
    this.view.failed()
    const { duration, renewEvery, renewals } = this.options
    // The answers come later than they are waited for, and count all the same.
    const isSlow = failure.reason === "Timeout" && performance.now() - this.renewedAt < 1.5 * renewEvery
    if (isSlow) return this.unrenewed.over
    if (isStorageFull(failure)) {
      this.isFull = true
      return this.withoutRoom.now(failure).pipe(
        Effect.zipRight(
          Effect.catchAll(this.prove, (failure) => Effect.logDebug("The leases can't be proven", failure.message))
        ),
        Effect.zipRight(Effect.sleep(Math.min(retryDelay, duration / 12)))
      )
    }
    // Where the bucket is gone nobody may answer, for our own subscription to its changes counts as a responder.
    const isGone = failure.reason === "NoResponders" || failure.reason === "Timeout"
    return this.unrenewed.now(failure).pipe(
      Effect.zipRight(isGone ? Effect.ignoreLogged(renewals.ensure) : Effect.void),
      Effect.zipRight(failure.reason === "Timeout" ? Effect.void : Effect.sleep(retryDelay))
    )
  }

  private armFence(): void {
    if (this.fenceTimer !== undefined || this.isOver) return
    this.fenceTimer = setTimeout(() => this.fence(), Math.max(1, Math.ceil(this.validUntil - performance.now())))
  }

  /** Our own lease has ended, if it was not renewed meanwhile. */
  private fence(): void {
    this.fenceTimer = undefined
    if (performance.now() < this.validUntil) return this.armFence()
    this.onEnded()
  }
}
