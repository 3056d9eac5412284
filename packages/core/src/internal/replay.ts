import type * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Behaviour } from "../ActorSupervisor.js"
import { InvalidConfiguration, ReplayUnsupported } from "../EventBusError.js"
import type { DecodeError, HandlerTimeout, ReadError, UnknownEventType } from "../EventBusError.js"
import type { Options, Report } from "../Replay.js"
import { ReplayFailed } from "../Replay.js"
import type * as Transport from "../Transport.js"
import { Budget, sizeOf } from "./budget.js"
import { Condition } from "./condition.js"
import type { Handler } from "./handler.js"
import { Router } from "./router.js"
import type { Environment } from "./subscription.js"
import type { Work, WorkLane } from "./work.js"

/** How many partitions are read at once: each holds what its broker sent last. */
const partitionsAtOnce = 8

/** What handlers see as the group of a replayed message. */
const group = "replay"

/**
 * Reads what is asked for, has it handled by actors of its own, and ends when all is done or one has failed.
 *
 * @internal
 */
export const run = <E, R>(
  environment: Omit<Environment, "onClosed">,
  topic: Transport.TopicSpec,
  handler: Handler<E, R>,
  options: Options
): Effect.Effect<Report, ReplayFailed<E> | ReplayUnsupported | ReadError, R | Scope.Scope> =>
  Effect.gen(function*() {
    const { config, dispatcher, transport } = environment
    if (transport.read === undefined) {
      return yield* new ReplayUnsupported({ topic: topic.name, transport: transport.name })
    }
    const found = yield* transport.read({ topic, from: options.from ?? "earliest", to: options.to ?? "now" })
    const partitions = yield* wanted(topic.name, found, options.partitions)

    const report = { read: 0, handled: 0, skipped: 0, undecodable: 0, unknownType: 0, tombstones: 0 }
    const firstFailure = yield* Deferred.make<never, ReplayFailed<E>>()
    let failure: ReplayFailed<E> | undefined
    const messages = new Budget(config.maxUnfinished)
    const bytes = new Budget(config.maxBytes)
    const drained = new Condition(() => messages.used === 0)

    const release = (work: Work): void => {
      if (work.released) return
      work.released = true
      bytes.give(work.size)
      messages.give(1)
      drained.changed()
    }
    const lane: WorkLane = { epoch: 0, begin: () => failure === undefined, finish: release, interrupted: release }
    const router = new Router({ group, incoming: handler.incoming })

    const failed = (work: Work, cause: Cause.Cause<E | HandlerTimeout>): Effect.Effect<void> => {
      failure ??= new ReplayFailed<E>({
        position: work.position,
        aggregateId: work.aggregateId,
        report: { ...report },
        cause
      })
      release(work)
      return Effect.asVoid(Deferred.fail(firstFailure, failure))
    }

    const leftOut = (work: Work, which: "undecodable" | "unknownType" | "tombstones"): void => {
      report[which]++
      release(work)
    }

    const unreadable = (work: Work, error: DecodeError | UnknownEventType): Effect.Effect<void> => {
      leftOut(work, error._tag === "DecodeError" ? "undecodable" : "unknownType")
      return Effect.logWarning(`Left out of the replay: ${error.message}`)
    }

    const behaviour: Behaviour<Work, R> = {
      receive: (work) => {
        if (!lane.begin(work)) return Effect.sync(() => release(work))
        if (work.isTombstone) return Effect.sync(() => leftOut(work, "tombstones"))
        const error = handler.decode(work)
        if (error !== undefined) return unreadable(work, error)
        work.attempt++
        // Suspended, because a handler can throw before it returns its effect.
        return Effect.matchCauseEffect(Effect.suspend(() => handler.run(work)), {
          onFailure: (cause) =>
            work.undecodable === undefined ? failed(work, cause) : unreadable(work, work.undecodable),
          onSuccess: () => {
            report.handled++
            release(work)
            return Effect.void
          }
        })
      },
      // Nothing that a handler does ends the fiber: what does is a fault of a Schema's or of ours.
      crashed: () => {},
      giveUp: (work, cause) => failed(work, cause),
      interrupted: release
    }
    const mailboxes = yield* dispatcher.open(`${topic.name}/${group}`, behaviour)

    /** What is to be handled; nothing for a message of another aggregate. */
    const admit = (message: Transport.IncomingMessage): Work | undefined => {
      report.read++
      const work = router.route(message, lane, sizeOf(message))
      if (options.aggregateId === undefined || work.aggregateId === options.aggregateId) return work
      report.skipped++
      return undefined
    }

    const offer = (work: Work, onRoom: () => void): boolean => {
      if (!messages.take(1, onRoom)) return false
      if (!bytes.take(work.size, onRoom)) {
        messages.give(1)
        return false
      }
      if (mailboxes.offer(work.mailbox, work, onRoom)) return true
      bytes.give(work.size)
      messages.give(1)
      return false
    }

    /** Puts messages into their mailboxes, and waits wherever there is no room. */
    const takeAll = (all: ReadonlyArray<Transport.IncomingMessage>) =>
      Effect.async<void>((resume) => {
        let next = 0
        let isOver = false
        let waiting: Work | undefined
        const goOn = (): void => {
          while (!isOver && next < all.length) {
            waiting ??= admit(all[next]!)
            if (waiting !== undefined && !offer(waiting, wake)) return
            waiting = undefined
            next++
          }
          if (!isOver) resume(Effect.void)
          isOver = true
        }
        // Not at once: whoever makes room is in the middle of something, and may be this very offer.
        const wake = (): void => queueMicrotask(goOn)
        goOn()
        return Effect.sync(() => {
          isOver = true
        })
      })

    const all = Effect.forEach(
      partitions,
      (partition) => Stream.runForEachChunk(partition.messages, (chunk) => takeAll(Chunk.toReadonlyArray(chunk))),
      { concurrency: partitionsAtOnce, discard: true }
    ).pipe(
      Effect.zipRight(drained.wait),
      Effect.flatMap(() => failure === undefined ? Effect.succeed<Report>({ ...report }) : Effect.fail(failure))
    )
    return yield* Effect.raceFirst(all, Deferred.await(firstFailure))
  })

const wanted = (
  topic: string,
  found: ReadonlyArray<Transport.ReadPartition>,
  partitions: ReadonlyArray<number> | undefined
): Effect.Effect<ReadonlyArray<Transport.ReadPartition>, InvalidConfiguration> => {
  if (partitions === undefined) return Effect.succeed(found)
  const unknown = partitions.filter((number) => !found.some(({ partition }) => partition === number))
  return unknown.length > 0
    ? new InvalidConfiguration({ topic, issues: [`partitions: the topic has no ${unknown.join(", ")}`] })
    : Effect.succeed(found.filter(({ partition }) => partitions.includes(partition)))
}
