/**
 * Up to which sequence messages of a partition may be handed over. It stands in the bucket before anything is handed over
 * up to there, so that after a crash the next owner knows what cannot have been: the server's own count is one that it
 * forgets when it is killed. It is raised well before it is reached, and the further the faster messages come.
 *
 * Where there is no room to raise it, it is withdrawn, which needs none: who reads next finds no limit, and takes all that there is then for
 * what may have been handed over.
 */
import type { IncomingMessage } from "@effect-eventbus/core/Transport"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { randomUUID } from "node:crypto"
import { isStorageFull, type NatsRequestFailed } from "../NatsErrors.js"
import type { Stream } from "../NatsStreams.js"
import type { Bucket } from "./Bucket.js"
import type { Lease, LeaseLost } from "./Lease.js"

/** By how much it is raised at least, and at most. */
const minStep = 1_000
const maxStep = 1_000_000

/**
 * Raised more often than this, in milliseconds, it is raised further. Each raise is a write to the bucket, so of many partitions each is
 * raised less often, and further: all of an instance together so many times a second, as long as none lasts longer than 10 s.
 */
const often = 1_000
const most = 10_000
const raisesPerSecond = 50

/** It is raised less far when it has lasted for so many times as long. */
const seldom = 4

const retryDelay = "250 millis"

/** How often it is tried to record a limit again after there was no room for one. */
const roomInterval = "1 second"

/** How far the limits of a subscription are raised. Sequences are the stream's, and so much the same for all of its partitions. */
export class Pace {
  /** How far the last one was raised; one that begins begins with that. */
  step = minStep

  constructor(
    /** How many partitions the instance has. */
    private readonly partitions: () => number
  ) {}

  /** For how long a limit is to last, in milliseconds. */
  get lasts(): number {
    return Math.min(most, Math.max(often, this.partitions() * 1_000 / raisesPerSecond))
  }
}

export class OfferLimit {
  private readonly signal = Effect.runSync(Queue.sliding<void>(1))
  private readonly writer = randomUUID()
  private revision = 0
  private limit = 0
  private step: number
  private raisedAt = -Infinity
  private stream = ""
  /** The highest sequence that was to be handed over. */
  private highest = 0
  /** There is no limit, for there was no room for it, and no record of one. */
  private isWithdrawn = false

  constructor(
    private readonly bucket: Bucket,
    prefix: string,
    private readonly lease: Pick<Lease, "partition" | "renewEpoch">,
    private readonly pace = new Pace(() => 1)
  ) {
    this.step = pace.step
    this.key = `=offered.${prefix}.${lease.partition}`
  }

  /** The beginning is no group's. */
  private readonly key: string

  /** Up to where others may have handed over messages of this stream; undefined where nobody has recorded it. */
  recorded(stream: Stream): Effect.Effect<number | undefined, NatsRequestFailed> {
    return Effect.map(this.bucket.get(this.key), (entry) => {
      this.revision = entry?.revision ?? 0
      return entry?.value?.stream === stream.created ? entry.value.offered : undefined
    })
  }

  /** Sets it above a sequence, for the first time or in another stream. */
  begin(stream: Stream, above: number): Effect.Effect<void, NatsRequestFailed | LeaseLost> {
    return Effect.suspend(() => {
      this.stream = stream.created
      this.highest = above
      return this.raise
    })
  }

  /** How many of these, from the first one on, may be handed over. */
  allowed(messages: ReadonlyArray<IncomingMessage>): number {
    const last = messages[messages.length - 1]!.offset
    if (last > this.highest) this.highest = last
    if (last > this.limit - this.step / 2) Queue.unsafeOffer(this.signal, undefined)
    return last <= this.limit ? messages.length : messages.findIndex(({ offset }) => offset > this.limit)
  }

  /** Raises it as long as it runs; `onRaised` when more can be handed over. */
  raising(onRaised: () => void): Effect.Effect<never> {
    // What waited when reading broke off waits still.
    if (this.highest > this.limit) Queue.unsafeOffer(this.signal, undefined)
    const next = Effect.suspend(() =>
      this.isWithdrawn ? Effect.sleep(roomInterval) : Effect.asVoid(Queue.take(this.signal))
    )
    return next.pipe(
      Effect.zipRight(
        Effect.suspend(() => this.isWithdrawn || this.highest > this.limit - this.step / 2 ? this.raise : Effect.void)
      ),
      Effect.zipRight(Effect.sync(onRaised)),
      // Where the bucket can't be written the lease ends soon.
      Effect.catchAll((failure) =>
        Effect.logDebug("The limit of what may be handed over could not be raised", failure.message).pipe(
          Effect.zipRight(Effect.sleep(retryDelay)),
          Effect.zipRight(Queue.offer(this.signal, undefined))
        )
      ),
      Effect.forever
    )
  }

  private readonly raise: Effect.Effect<void, NatsRequestFailed | LeaseLost> = Effect.suspend(() => {
    const now = performance.now()
    const since = now - this.raisedAt
    const { lasts } = this.pace
    if (since < lasts) this.step = Math.min(maxStep, this.step * 2)
    else if (since > lasts * seldom) this.step = Math.max(minStep, this.step / 2)
    this.pace.step = this.step
    const offered = this.highest + this.step
    const value = { owner: this.writer, offered, stream: this.stream }
    const { isWithdrawn } = this
    // It can be written from now on.
    if (isWithdrawn) this.limit = offered
    return this.bucket.put(this.key, value, this.revision).pipe(
      Effect.flatMap((revision) => {
        this.revision = revision
        this.limit = offered
        this.raisedAt = now
        this.isWithdrawn = false
        return isWithdrawn
          ? Effect.logInfo("The bucket has room for the limit of what may be handed over again")
          : Effect.void
      }),
      Effect.catchTag("Conflict", () => this.recall),
      Effect.catchIf(
        (failure) => failure._tag === "NatsRequestFailed" && isStorageFull(failure),
        () => this.unlimited
      )
    )
  })

  /** Nothing is recorded, which frees what that took: after a crash all that there is then is taken for what may have been handed over. */
  readonly withdraw: Effect.Effect<void, NatsRequestFailed | LeaseLost> = Effect.suspend(() =>
    (this.revision === 0 ? Effect.void : this.bucket.withdraw(this.key, this.revision)).pipe(
      Effect.zipRight(this.bucket.get(this.key)),
      Effect.flatMap((entry) => {
        this.revision = entry?.revision ?? 0
        if (entry === undefined) return Effect.void
        // An answer of ours got lost, or it is the next owner's.
        return entry.value?.owner === this.writer ? this.withdraw : Effect.asVoid(this.lease.renewEpoch)
      })
    )
  )

  private readonly unlimited: Effect.Effect<void, NatsRequestFailed | LeaseLost> = Effect.suspend(() =>
    this.withdraw.pipe(
      Effect.flatMap(() => {
        const { isWithdrawn } = this
        this.isWithdrawn = true
        this.limit = Infinity
        return isWithdrawn ? Effect.void : Effect.logWarning(
          "The bucket has no room for the limit of what may be handed over, and none is recorded now: " +
            "the next owner of this partition marks all messages that it finds then as possible duplicates"
        )
      })
    )
  )

  /** The key is not as we left it. */
  private readonly recall: Effect.Effect<void, NatsRequestFailed | LeaseLost> = Effect.suspend(() =>
    Effect.flatMap(this.bucket.get(this.key), (entry) => {
      this.revision = entry?.revision ?? 0
      const { offered, owner, stream } = entry?.value ?? {}
      if (offered !== undefined && owner === this.writer && stream === this.stream) {
        // An answer of ours got lost.
        this.limit = offered
        this.isWithdrawn = false
        return Effect.void
      }
      // As a rule it is the next owner's. Where the bucket has lost the key, or its end, the partition is still ours.
      return Effect.zipRight(this.lease.renewEpoch, this.raise)
    })
  )
}
