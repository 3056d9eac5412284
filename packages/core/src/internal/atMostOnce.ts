import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { Behaviour } from "../ActorSupervisor.js"
import type { DecodeError, HandlerTimeout, UnknownEventType } from "../EventBusError.js"
import { PlainFailure } from "../Failure.js"
import type { Skip } from "../FailurePolicy.js"
import type { Counters } from "./counters.js"
import type { Handler } from "./handler.js"
import type { Work } from "./work.js"

/** @internal */
export interface Settings<E, R> {
  readonly handler: Handler<E, R>
  readonly counters: Counters
  readonly onUnknownType: Skip | undefined
  readonly report: (failure: PlainFailure<E>) => Effect.Effect<void, never, R>
}

/**
 * The behaviour of an actor whose messages are settled before they are handled: whatever
 * goes wrong is counted and reported, and the next message has its turn.
 *
 * @internal
 */
export const behaviour = <E, R>(settings: Settings<E, R>): Behaviour<Work, R> => {
  const { counters, handler } = settings

  const failed = (work: Work, cause: Cause.Cause<E | HandlerTimeout | DecodeError | UnknownEventType>) => {
    counters.failed++
    return settings.report(
      new PlainFailure<E>({ position: work.position, group: work.group, aggregateId: work.aggregateId, cause })
    )
  }

  const finished = (work: Work) => Effect.sync(() => work.lane.finish(work))

  const unreadable = (work: Work, error: DecodeError | UnknownEventType): Effect.Effect<void, never, R> => {
    if (error._tag === "DecodeError") counters.undecodable++
    else counters.unknownType++
    return error._tag === "UnknownEventType" && settings.onUnknownType !== undefined
      ? finished(work)
      : Effect.zipRight(failed(work, Cause.fail(error)), finished(work))
  }

  return {
    receive: (work) => {
      // The fiber died of this message: the next one only reports it.
      if (work.lastCause !== undefined) {
        return Effect.zipRight(failed(work, work.lastCause as Cause.Cause<never>), finished(work))
      }
      if (!work.lane.begin(work)) return Effect.void
      if (work.isTombstone) {
        counters.tombstones++
        if (!handler.handlesTombstones) return finished(work)
      }
      const error = handler.decode(work)
      if (error !== undefined) return unreadable(work, error)
      work.attempt++
      return Effect.matchCauseEffect(handler.run(work), {
        onFailure: (cause) => {
          if (work.undecodable !== undefined) return unreadable(work, work.undecodable)
          // Only a typed failure ends here; a defect ends the fiber.
          return Cause.isFailure(cause) && !Cause.isDie(cause)
            ? Effect.zipRight(failed(work, cause), finished(work))
            : Effect.failCause(Cause.stripFailures(cause))
        },
        onSuccess: () => {
          counters.handled++
          work.lane.finish(work)
          return Effect.void
        }
      })
    },
    crashed: (work, cause) => {
      counters.restarted++
      work.lastCause = cause
    },
    giveUp: (work, cause) => Effect.zipRight(failed(work, cause), finished(work)),
    interrupted: (work) => work.lane.interrupted(work)
  }
}
