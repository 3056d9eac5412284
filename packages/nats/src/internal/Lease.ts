/**
 * A partition that this instance has, as the code that reads the partition sees it.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { isStorageFull, type NatsRequestFailed } from "../NatsErrors.js"
import type { Conflict, Value } from "./Bucket.js"

/** The partition is not ours any more. */
export class LeaseLost extends Data.TaggedError("LeaseLost")<{ readonly partition: number }> {
  override get message() {
    return `The lease of partition ${this.partition} is lost`
  }
}

/** A partition that this instance has. */
export interface Lease {
  readonly partition: number
  /** Whether it certainly still is ours, by our own clock. */
  readonly isValid: () => boolean
  readonly epoch: () => number
  /** Up to which sequence others may have offered messages; undefined where nobody knows. */
  readonly offeredBefore: number | undefined
  /** A higher epoch for the same lease. */
  readonly renewEpoch: Effect.Effect<number, NatsRequestFailed | LeaseLost>
  /** Nobody here works on it any more: somebody else may take it, who is told up to which sequence messages were offered. Where there is no room for that, `makeRoom` may help. */
  readonly giveBack: (offered: number | undefined, makeRoom?: Effect.Effect<unknown, unknown>) => Effect.Effect<void>
}

/** What is known of a lease while it is held. */
export interface Held {
  readonly lease: Lease
  revision: number
  isLost: boolean
  isWanted: boolean
}

/** What a lease needs of those that it is one of. */
export interface Holder {
  /** Undefined where the partition is not held any more. */
  readonly held: () => Held | undefined
  /** Until when, by our clock, nobody else can have taken over. */
  readonly validUntil: () => number
  readonly lose: (held: Held) => void
  /** Replaces this revision of the partition's key. */
  readonly write: (value: Value, revision: number) => Effect.Effect<number, NatsRequestFailed | Conflict>
  /** The name of this instance in the keys. */
  readonly instance: () => string
  readonly forget: () => void
}

export const make = (partition: number, offeredBefore: number | undefined, holder: Holder): Lease => {
  const write = (value: Value) => Effect.suspend(() => holder.write(value, holder.held()?.revision ?? 0))
  return {
    partition,
    epoch: () => holder.held()?.revision ?? 0,
    offeredBefore,
    isValid: () => {
      const mine = holder.held()
      if (mine === undefined || mine.isLost) return false
      if (performance.now() < holder.validUntil()) return true
      holder.lose(mine)
      return false
    },
    renewEpoch: Effect.suspend(() => {
      const mine = holder.held()
      if (mine === undefined || mine.isLost) return new LeaseLost({ partition })
      return write({ owner: holder.instance() }).pipe(
        Effect.tap((revision) => {
          mine.revision = revision
        }),
        Effect.catchTag("Conflict", () => {
          holder.lose(mine)
          return new LeaseLost({ partition })
        })
      )
    }),
    giveBack: (offered, makeRoom = Effect.void) =>
      Effect.suspend(() => {
        const mine = holder.held()
        if (mine === undefined) return Effect.void
        // A lease that has ended is not ours to give; where it was kept after all, it is taken again like a free one.
        const told = write({ offered }).pipe(
          Effect.catchIf(
            (failure) => failure._tag === "NatsRequestFailed" && isStorageFull(failure),
            () => Effect.zipRight(Effect.ignoreLogged(makeRoom), write({ offered }))
          )
        )
        return (mine.isLost ? Effect.void : Effect.ignoreLogged(told)).pipe(
          Effect.ensuring(Effect.sync(holder.forget))
        )
      })
  }
}
