/**
 * Which messages of a partition are settled before they are handled, in the bucket. A server answers an acknowledgement from memory
 * and writes it a little later, so that one which is killed has forgotten the last ones; what it has acknowledged to have written
 * to the bucket it has written. It stands there before a handler starts. The next owner reads it, and passes over what it names.
 *
 * Each owner writes it before it reads any message: from then on whatever the owner before it, which may not know yet, still wants to
 * record is refused.
 */
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import type { NatsRequestFailed } from "../NatsErrors.js"
import type { Bucket, Conflict } from "./Bucket.js"
import type { Lease, LeaseLost } from "./Lease.js"
import type { SequenceSet } from "./SequenceSet.js"

/** More ranges are not recorded; the lowest are left to the server, which has long written their acknowledgements. */
const maxRanges = 1_000

/**
 * What it is about, by when they were made: sequences mean nothing in another stream, and who deletes a consumer wants to read from its
 * beginning.
 */
export interface Subject {
  readonly stream: string
  readonly consumer: string
}

export interface Settled {
  readonly finished: SequenceSet
  /** No message of these was stored later, in milliseconds since the epoch by the server's clock. */
  latest: number
}

export const keyOf = (prefix: string, partition: number): string => `=settled.${prefix}.${partition}`

export class SettledRecord {
  private readonly writer = randomUUID()
  private readonly key: string
  private revision = 0
  private subject: Subject = { stream: "", consumer: "" }

  constructor(
    private readonly bucket: Bucket,
    prefix: string,
    private readonly lease: Pick<Lease, "partition" | "renewEpoch">
  ) {
    this.key = keyOf(prefix, lease.partition)
  }

  /** Whether it was begun about this one. */
  isOf(subject: Subject): boolean {
    return isSame(this.subject, subject)
  }

  /** From now on it is about this consumer. What owners before have recorded of it is added to what is known. */
  begin(subject: Subject, known: Settled): Effect.Effect<void, NatsRequestFailed | LeaseLost> {
    return Effect.suspend(() => {
      this.subject = subject
      return this.read(known)
    }).pipe(
      Effect.zipRight(Effect.suspend(() => this.put(known))),
      // Somebody was quicker, as a rule the owner before, whose word counts.
      Effect.catchTag("Conflict", () => this.begin(subject, known))
    )
  }

  /** Succeeds when it is written. */
  write(settled: Settled): Effect.Effect<void, NatsRequestFailed | LeaseLost> {
    return Effect.suspend(() => this.put(settled)).pipe(
      Effect.catchTag("Conflict", () => Effect.zipRight(this.recall(settled), this.write(settled)))
    )
  }

  private put({ finished, latest }: Settled): Effect.Effect<void, NatsRequestFailed | Conflict> {
    const value = { owner: this.writer, ...this.subject, latest, settled: finished.bounds(maxRanges) }
    return Effect.map(this.bucket.put(this.key, value, this.revision), (revision) => {
      this.revision = revision
    })
  }

  /** Adds what others have recorded, and answers whether the key is as somebody else left it. */
  private read(known: Settled): Effect.Effect<boolean, NatsRequestFailed> {
    return Effect.map(this.bucket.get(this.key), (entry) => {
      this.revision = entry?.revision ?? 0
      const { consumer = "", latest = 0, owner, settled = [], stream = "" } = entry?.value ?? {}
      if (owner === this.writer) return false
      if (!isSame(this.subject, { stream, consumer })) return true
      known.finished.addBounds(settled)
      known.latest = Math.max(known.latest, latest)
      return true
    })
  }

  /**
   * The key is not as we left it: an answer of ours got lost. Else it is the next owner's, as a rule; where the bucket has lost the
   * key, or its end, the partition is still ours.
   */
  private recall(settled: Settled): Effect.Effect<void, NatsRequestFailed | LeaseLost> {
    return Effect.flatMap(
      this.read(settled),
      (isOthers) => isOthers ? Effect.asVoid(this.lease.renewEpoch) : Effect.void
    )
  }
}

/** A server of 2.9 says another time after its restart, which is a little later. */
const tolerance = 1_000

export const isSame = (one: Subject, other: Subject): boolean =>
  one.stream === other.stream &&
  (one.consumer === other.consumer || Math.abs(Date.parse(one.consumer) - Date.parse(other.consumer)) < tolerance)
