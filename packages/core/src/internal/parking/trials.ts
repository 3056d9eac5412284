import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Predicate from "effect/Predicate"
import { KilledProcess, type PublishError } from "../../EventBusError.js"
import type { StoreChange } from "../../Transport.js"
import * as Logging from "../logging.js"
import * as Fingerprint from "./fingerprint.js"
import * as Letter from "./letter.js"
import type { Known, Parked } from "./parked.js"
import type { Owner } from "./settings.js"

/** A letter that so many owners had in hand alone when they ended without closing is not begun again. */
const maxTimes = 2

/** How often owners have begun with a letter and did not come back. */
interface Begun {
  readonly aggregate: string
  readonly offset: number
  readonly times: number
  /** Milliseconds since the epoch. */
  readonly first: number
  readonly last: number
}

/**
 * What an owner notes before it begins with letters that may have killed the one before it.
 *
 * @internal
 */
export interface Record {
  /** A schedule was releasing aggregates. */
  readonly isAutomatic: boolean
  readonly begun: ReadonlyArray<Begun>
}

/** The name of the record in the store. */
export const key = "trials"

/** Undefined: it is none, or one of a newer version. */
export const decode = (value: Uint8Array): Record | undefined => {
  try {
    const record = JSON.parse(new TextDecoder().decode(value)) as unknown
    return Predicate.hasProperty(record, "begun") && Array.isArray(record.begun)
      ? record as unknown as Record
      : undefined
  } catch {
    return undefined
  }
}

/**
 * Finds the letter that kills its process. A release that outlived its owner tries the first letter of each aggregate alone, and notes it before.
 *
 * @internal
 */
export class Trials {
  private readonly begun = new Map<string, Begun>()
  private readonly passed = new WeakSet<Parked>()
  /** A former owner ended while its schedule released aggregates. */
  private wasAutomatic = false
  /** How many times the schedule is releasing now. */
  private automatics = 0
  private isStored = false
  private readonly closing = Effect.unsafeMakeLatch(false)
  private readonly turn = Effect.unsafeMakeSemaphore(1)

  constructor(private readonly lane: Owner) {}

  /** What a former owner has left. */
  found(record: Record | undefined): void {
    if (record === undefined) return
    this.isStored = true
    this.wasAutomatic = record.isAutomatic
    for (const one of record.begun) this.begun.set(one.aggregate, one)
  }

  /** The lane closes: nothing is waited for any more. */
  stop(): void {
    this.closing.unsafeOpen()
  }

  /** One trial at a time. */
  alone<A>(trial: Effect.Effect<A>): Effect.Effect<A> {
    return this.turn.withPermits(1)(trial)
  }

  /** Whether an aggregate has to be tried alone before its schedule releases it. */
  isSuspect(one: Parked): boolean {
    return !this.passed.has(one) && one.wasFound && (this.wasAutomatic || this.begun.has(one.key))
  }

  /** Notes that the letter is begun now. `false`: it is given up instead. */
  begin(one: Parked, known: Known, letter: Letter.Letter, by: Letter.By): Effect.Effect<boolean> {
    return Effect.suspend(() => {
      const now = this.lane.host.subscriber.time()
      const before = this.begun.get(one.key)
      const same = before?.offset === known.offset ? before : undefined
      if (same !== undefined && same.times >= maxTimes) {
        return Effect.as(this.giveUp(one, known, letter, by, same), false)
      }
      this.begun.set(one.key, {
        aggregate: one.key,
        offset: known.offset,
        times: (same?.times ?? 0) + 1,
        first: same?.first ?? now,
        last: now
      })
      return Effect.as(this.confirmed, true)
    })
  }

  /** The process has survived the letter, or closes in order. The next note says so: at the latest that of `settled`. */
  ended(one: Parked): void {
    this.begun.delete(one.key)
    this.passed.add(one)
  }

  /** Notes what is known, if anything was noted before. What was written before it is confirmed then, too. */
  get settled(): Effect.Effect<void> {
    return Effect.suspend(() => this.isStored ? this.confirmed : Effect.void)
  }

  /** What a schedule releases: the next owner hears of it if this one does not come back. */
  automatically(work: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.automatics++
      return Effect.ensuring(
        Effect.zipRight(this.automatics === 1 ? this.confirmed : Effect.void, work),
        Effect.sync(() => {
          this.automatics--
          if (this.automatics === 0) this.lane.writer.push({ change: this.change, done: () => {} })
        })
      )
    })
  }

  private get change(): StoreChange {
    for (const { aggregate, offset } of Array.from(this.begun.values())) {
      if (this.lane.parked.get(aggregate)?.get(offset) === undefined) this.begun.delete(aggregate)
    }
    const record: Record = { isAutomatic: this.automatics > 0, begun: Array.from(this.begun.values()) }
    this.isStored = record.isAutomatic || record.begun.length > 0
    return { key, value: this.isStored ? new TextEncoder().encode(JSON.stringify(record)) : null }
  }

  private get confirmed(): Effect.Effect<void> {
    return Effect.flatMap(
      this.write(() => this.change),
      (result) =>
        result === undefined || Either.isRight(result) ? Effect.void : Logging.warning(
          `Letters of partition ${this.lane.partition} are released without a note in the store, so one that kills its process is not found: ${result.left.message}`,
          { partition: this.lane.partition }
        )
    )
  }

  /** Writes a change, and waits for it. Undefined: the lane closes. */
  private write(change: () => StoreChange): Effect.Effect<Either.Either<number, PublishError> | undefined> {
    const written = Effect.async<Either.Either<number, PublishError>>((resume) => {
      this.lane.writer.push({ change: change(), done: (result) => resume(Effect.succeed(result)) })
    })
    return Effect.raceFirst(written, Effect.as(this.closing.await, undefined))
  }

  /** The letter gets one more failure. Its aggregate stays parked. */
  private giveUp(
    one: Parked,
    known: Known,
    { failures, message }: Letter.Letter,
    by: Letter.By,
    { first, last, times }: Begun
  ): Effect.Effect<void> {
    const { host, owner, partition, settings } = this.lane
    const error = new KilledProcess({ deaths: times, first: new Date(first), last: new Date(last) })
    const at = host.subscriber.time()
    const cause = Fingerprint.idOf({ error: error._tag, frame: undefined })
    const text = Fingerprint.textOf(Cause.die(error))
    const failed = { at, error: error._tag, cause: text, attempts: 0, restarts: 0, released: by }
    const value = Letter.encode({
      message,
      parkedAt: at,
      writer: owner,
      failures: Letter.withFailure(failures, failed),
      cause
    })
    const about = { partition, offset: known.offset, aggregateId: one.key }
    one.cause = cause
    one.text = text
    one.inWriter++
    const put = this.write(() => ({ key: Letter.keyOf(one.key, known.offset, known.owner), value }))
    return Effect.gen(this, function*() {
      yield* Logging.warning(
        `The letter of offset ${known.offset} in partition ${partition} is not released, and its aggregate stays parked: ${error.message}`,
        about
      )
      settings.tell({ _tag: "Parked", aggregate: one.key, partition, cause, by: undefined })
      const result = yield* Effect.ensuring(put, Effect.sync(() => one.written()))
      if (result === undefined) return
      if (Either.isLeft(result)) {
        return yield* Logging.warning(
          `Why the letter of offset ${known.offset} in partition ${partition} is not released can't be written: ${result.left.message}`,
          about
        )
      }
      one.put({ ...known, revision: result.right, size: value.length })
      one.failedAt = Math.max(one.failedAt, result.right)
      one.last = Math.max(one.last, at)
      this.begun.delete(one.key)
    })
  }
}
