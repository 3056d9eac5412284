/**
 * Commits of a subscription: one request at a time, for all partitions that have
 * something new, at an interval or sooner when somebody waits for it. Whatever
 * fails is committed again.
 */
import { SettlementFailed } from "@effect-eventbus/core/EventBusError"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type { Settings } from "../KafkaConfig.js"
import type { KafkaFailure } from "./Client.js"
import { failure } from "./Client.js"
import type { Commit, Partition } from "./Partition.js"
import { Signal } from "./Signal.js"

export interface CommitRequest {
  readonly partition: number
  readonly offset: number
  readonly metadata: string
}

/** Sends a commit in the name of the member as it is now; the error code of each partition is the answer. */
export type Send = (
  commits: ReadonlyArray<CommitRequest>
) => Effect.Effect<ReadonlyMap<number, number>, KafkaFailure>

export interface Committer {
  /** There is something that should not wait for the interval. */
  readonly notify: () => void
  /** Succeeds when the broker has confirmed a commit of this version that covers offsets up to `last`. */
  readonly settle: (partition: Partition, version: number, last: number) => Effect.Effect<void, SettlementFailed>
  /** Commits what these partitions have finished, as the last thing they do; the answer are those that were not confirmed. */
  readonly flush: (partitions: ReadonlyArray<Partition>, withinMs: number) => Effect.Effect<ReadonlyArray<Partition>>
  /** Tells those who wait for partitions that are gone. */
  readonly abandon: (partitions: ReadonlyArray<Partition>) => void
  readonly run: Effect.Effect<never>
}

interface Waiter {
  readonly partition: Partition
  readonly version: number
  readonly last: number
  readonly resume: (result: Effect.Effect<void, SettlementFailed>) => void
}

const BACKOFF_MS = 100
const MAX_BACKOFF_MS = 1_000

export const make = (
  send: Send,
  partitions: ReadonlyMap<number, Partition>,
  settings: Settings
): Effect.Effect<Committer> =>
  Effect.gen(function*() {
    const signal = new Signal()
    const waiters = new Set<Waiter>()
    const alone = yield* Effect.makeSemaphore(1)
    let lastFailure: KafkaFailure | undefined

    const confirm = (commit: Commit): void => {
      const { partition } = commit
      partition.confirm(commit)
      for (const waiter of waiters) {
        if (waiter.partition !== partition || waiter.version > commit.version) continue
        if (waiter.last >= commit.metadata.coversBelow) continue
        waiters.delete(waiter)
        waiter.resume(Effect.void)
      }
    }

    /** One request; whatever was confirmed is noted, and the first failure is the answer. */
    const commit = (of: () => ReadonlyArray<Partition>, clean: boolean): Effect.Effect<KafkaFailure | undefined> =>
      Effect.suspend(() => {
        const commits = of().filter((partition) => !partition.hasEnded).map((partition) => partition.commit(clean))
        if (commits.length === 0) return Effect.succeed(undefined)
        return send(
          commits.map(({ metadata, offset, partition }) => ({
            partition: partition.id,
            offset,
            metadata: metadata.text
          }))
        ).pipe(
          Effect.either,
          Effect.map((answer) => {
            if (Either.isLeft(answer)) return lastFailure = answer.left
            let failed: KafkaFailure | undefined
            for (const commit of commits) {
              const code = answer.right.get(commit.partition.id)
              if (code === 0) confirm(commit)
              else failed = failure("OffsetCommit", code ?? -1)
            }
            return lastFailure = failed
          })
        )
      }).pipe(alone.withPermits(1))

    const pending = () => [...partitions.values()].filter((partition) => partition.needsCommit)

    const run = Effect.gen(function*() {
      let backoff = 0
      for (;;) {
        if (backoff > 0) yield* Effect.sleep(backoff)
        else if (waiters.size === 0) yield* Effect.raceFirst(signal.wait, Effect.sleep(settings.commitInterval))
        const failed = yield* commit(pending, false)
        if (failed === undefined) {
          backoff = 0
          // Whoever still waits is not covered: there is no room for it in the metadata until the watermark moves.
          if (waiters.size > 0 && pending().length === 0) backoff = BACKOFF_MS
          continue
        }
        if (backoff === 0) yield* Effect.logDebug("A commit failed and is tried again", failed)
        backoff = Math.min(MAX_BACKOFF_MS, Math.max(BACKOFF_MS, backoff * 2))
      }
    })

    const settle: Committer["settle"] = (partition, version, last) => {
      const failed = (isRetryable: boolean) =>
        new SettlementFailed({
          topic: partition.options.topic,
          partition: partition.id,
          isRetryable,
          cause: isRetryable ? lastFailure : "the partition was taken away"
        })
      return Effect.async<void, SettlementFailed>((resume) => {
        if (partition.hasEnded) return resume(Effect.fail(failed(false)))
        const waiter: Waiter = { partition, version, last, resume }
        waiters.add(waiter)
        signal.notify()
        return Effect.sync(() => {
          waiters.delete(waiter)
        })
      }).pipe(Effect.timeoutFail({ duration: settings.requestTimeout, onTimeout: () => failed(true) }))
    }

    const flush: Committer["flush"] = Effect.fnUntraced(function*(own, withinMs) {
      const until = (yield* Clock.currentTimeMillis) + withinMs
      for (;;) {
        // Those that have nothing new are committed as well, to say that they were left clean.
        const done = yield* commit(() => own, true).pipe(
          Effect.timeoutOption(Math.max(1, until - (yield* Clock.currentTimeMillis)))
        )
        const isConfirmed = Option.isSome(done) && done.value === undefined
        if (isConfirmed || (yield* Clock.currentTimeMillis) + BACKOFF_MS >= until) {
          return own.filter((partition) => partition.needsCommit && !partition.hasEnded)
        }
        yield* Effect.sleep(BACKOFF_MS)
      }
    })

    return {
      notify: signal.notify,
      settle,
      flush,
      run,
      abandon: (gone) => {
        for (const waiter of waiters) {
          if (!gone.includes(waiter.partition)) continue
          waiters.delete(waiter)
          waiter.resume(Effect.fail(
            new SettlementFailed({
              topic: waiter.partition.options.topic,
              partition: waiter.partition.id,
              isRetryable: false,
              cause: "the partition was taken away"
            })
          ))
        }
      }
    }
  })
