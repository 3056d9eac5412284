/**
 * Commits of a subscription: one request at a time, for all partitions that have
 * something new, at an interval or sooner when somebody waits for it. Whatever
 * fails is committed again.
 */
import { SettlementFailed } from "@effect-eventbus/core/EventBusError"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type { Settings } from "../KafkaConfig.js"
import { backoff } from "./backoff.js"
import { CommitTroubles } from "./CommitTroubles.js"
import type { KafkaFailure } from "./Failure.js"
import { failure } from "./Failure.js"
import type { CommitRequest } from "./GroupDriver.js"
import type { Lasting } from "./Lasting.js"
import type { MetadataRoom } from "./MetadataRoom.js"
import { isTooLarge } from "./MetadataRoom.js"
import { monotonic } from "./monotonic.js"
import type { Commit, Partition } from "./Partition.js"
import { Signal } from "./Signal.js"

/** Sends a commit in the name of the member as it is now; the error code of each partition is the answer. */
export type Send = (
  commits: ReadonlyArray<CommitRequest>
) => Effect.Effect<ReadonlyMap<number, number>, KafkaFailure>

export interface Committer {
  /** There is something that should not wait for the interval. */
  readonly notify: () => void
  /** There is something that can wait for the interval. */
  readonly changed: () => void
  /**
   * Succeeds when the broker has confirmed a commit that covers these offsets. If it is interrupted, or fails,
   * they are not settled, or not any more with the next commit.
   */
  readonly settle: (
    partition: Partition,
    offsets: ReadonlyArray<number>
  ) => Effect.Effect<void, SettlementFailed>
  /** Commits what these partitions have finished, as the last thing they do; the answer are those that were not confirmed. */
  readonly flush: (partitions: ReadonlyArray<Partition>, withinMs: number) => Effect.Effect<ReadonlyArray<Partition>>
  /**
   * The group has a new generation: commits of the one before that are still on their way are refused from now on. What
   * they may have undone is committed again. Said twice of one generation, it is as once.
   */
  readonly renewed: (generation: number) => void
  /** Tells those who wait for partitions that are gone. */
  readonly abandon: (partitions: ReadonlyArray<Partition>) => void
  readonly run: Effect.Effect<never>
}

interface Waiter {
  readonly partition: Partition
  readonly offsets: ReadonlyArray<number>
  readonly resume: (result: Effect.Effect<void, SettlementFailed>) => void
}

/** What is committed as the last thing is tried again so soon. */
const BACKOFF_MS = backoff(1)

export interface CommitterOptions {
  readonly send: Send
  readonly partitions: ReadonlyMap<number, Partition>
  readonly settings: Pick<Settings, "commitInterval" | "requestTimeout" | "sessionTimeout">
  readonly lasting: Lasting
  readonly room: MetadataRoom
  /** Told of what the broker has confirmed. */
  readonly onConfirmed?: ((partition: Partition, position: number) => void) | undefined
  /** A commit may still be on its way, and would undo a later one: asks for a new generation, which fences it off. */
  readonly onUncertain: Effect.Effect<void>
}

export const make = (
  { lasting, onConfirmed, onUncertain, partitions, room, send, settings }: CommitterOptions
): Effect.Effect<Committer> =>
  Effect.gen(function*() {
    const now = monotonic(yield* Effect.clock)
    const troubles = new CommitTroubles(lasting, now, settings.sessionTimeout)
    const uncertain = new Set<Partition>()
    const signal = new Signal()
    const changed = new Signal()
    const waiters = new Set<Waiter>()
    const alone = yield* Effect.makeSemaphore(1)
    let lastFailure: KafkaFailure | undefined
    let current = -1

    const confirm = (commit: Commit, included: ReadonlyArray<Waiter>): void => {
      const { partition } = commit
      const covered = included.filter(({ offsets }) => offsets.every((offset) => offset < commit.metadata.coversBelow))
      const settled = covered.filter((waiter) => waiters.delete(waiter))
      partition.confirm(commit, settled.flatMap(({ offsets }) => offsets))
      // Some of it is said, and not or not any more wanted: the next commit says it right.
      if (settled.length < included.length) partition.retract()
      onConfirmed?.(partition, commit.offset)
      for (const { resume } of settled) resume(Effect.void)
    }

    /** One request; whatever was confirmed is noted, and the first failure is the answer. */
    const commit = (of: () => ReadonlyArray<Partition>, clean: boolean): Effect.Effect<KafkaFailure | undefined> =>
      Effect.suspend(() => {
        const included = Array.from(waiters)
        const commits = of().filter((partition) => !partition.hasEnded).map((partition) => {
          // What may still be undone settles nothing.
          const own = uncertain.has(partition) ? [] : included.filter((waiter) => waiter.partition === partition)
          return { commit: partition.commit(clean, new Set(own.flatMap(({ offsets }) => offsets)), room.bytes), own }
        })
        if (commits.length === 0) return Effect.succeed(undefined)
        const sentAt = now()
        return send(
          commits.map(({ commit: { metadata, offset, partition } }) => ({
            partition: partition.id,
            offset,
            metadata: metadata.text
          }))
        ).pipe(
          Effect.either,
          Effect.map((answer) => {
            if (Either.isLeft(answer)) {
              // It may have been done all the same.
              for (const { commit, own } of commits) if (own.length > 0) commit.partition.retract()
              if (answer.left.sent && answer.left.isUnreachable) {
                for (const { commit } of commits) uncertain.add(commit.partition)
              }
              troubles.failed(commits.map(({ commit: { partition } }) => partition), answer.left, sentAt)
              return lastFailure = answer.left
            }
            let failed: KafkaFailure | undefined
            for (const { commit, own } of commits) {
              const code = answer.right.get(commit.partition.id)
              if (code === 0) {
                confirm(commit, own)
                troubles.over(commit.partition)
              } else {
                failed = failure("OffsetCommit", code ?? -1)
                troubles.failed([commit.partition], failed, sentAt)
              }
            }
            return lastFailure = failed
          }),
          Effect.tap((failed) => failed !== undefined && isTooLarge(failed.type) ? room.refused() : Effect.void),
          Effect.tap((failed) => failed?.sent === true && failed.isUnreachable ? onUncertain : Effect.void)
        )
      }).pipe(alone.withPermits(1))

    const pending = () => {
      const waiting = new Set(Array.from(waiters, ({ partition }) => partition))
      return [...partitions.values()].filter((partition) => partition.needsCommit || waiting.has(partition))
    }

    /** A subscription that rests has no timer. */
    const ticks = changed.wait.pipe(
      Effect.zipRight(Effect.sleep(settings.commitInterval)),
      Effect.zipRight(Effect.sync(signal.notify)),
      Effect.forever
    )

    const commits = Effect.gen(function*() {
      let failures = 0
      for (;;) {
        if (failures > 0) yield* Effect.sleep(backoff(failures))
        else if (waiters.size === 0) yield* signal.wait
        const before = new Set(waiters)
        const failed = yield* commit(pending, false)
        // What has changed meanwhile told nobody.
        if (pending().length > 0) changed.notify()
        if (failed === undefined) {
          failures = 0
          // Whoever waits since before is not covered: there is no room for it in the metadata until the watermark moves.
          if (Array.from(waiters).some((waiter) => before.has(waiter))) failures = 1
          continue
        }
        if (failures++ === 0) yield* Effect.logDebug("A commit failed and is tried again", failed.message)
      }
    })

    const run = Effect.zipRight(Effect.fork(ticks), commits)

    const settle: Committer["settle"] = (partition, offsets) => {
      const failed = (isRetryable: boolean) =>
        new SettlementFailed({
          topic: partition.options.topic,
          partition: partition.id,
          isRetryable,
          cause: isRetryable ? lastFailure : "the partition was taken away"
        })
      return Effect.async<void, SettlementFailed>((resume) => {
        if (partition.hasEnded) return resume(Effect.fail(failed(false)))
        const waiter: Waiter = { partition, offsets, resume }
        waiters.add(waiter)
        signal.notify()
        return Effect.sync(() => {
          waiters.delete(waiter)
        })
      }).pipe(Effect.timeoutFail({ duration: settings.requestTimeout, onTimeout: () => failed(true) }))
    }

    const flush: Committer["flush"] = Effect.fnUntraced(function*(own, withinMs) {
      const until = now() + withinMs
      for (;;) {
        // Those that have nothing new are committed as well, to say that they were left clean.
        const done = yield* commit(() => own, true).pipe(
          // Also in a finalizer: a deadline would wait there for what it gives up.
          Effect.interruptible,
          Effect.timeoutOption(Math.max(1, until - now()))
        )
        const isConfirmed = Option.isSome(done) && done.value === undefined
        if (isConfirmed || now() + BACKOFF_MS >= until) {
          return own.filter((partition) => partition.needsCommit && !partition.hasEnded)
        }
        yield* Effect.sleep(BACKOFF_MS)
      }
    })

    return {
      notify: signal.notify,
      changed: changed.notify,
      settle,
      flush,
      run,
      renewed: (generation) => {
        if (generation === current) return
        current = generation
        for (const partition of uncertain) partition.retract()
        uncertain.clear()
      },
      abandon: (gone) => {
        for (const partition of gone) troubles.over(partition)
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
