import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { Behaviour } from "../ActorSupervisor.js"
import type { DecodeError, HandlerTimeout } from "../EventBusError.js"
import { PlainFailure } from "../Failure.js"
import type { Counters } from "./counters.js"
import type { Handler } from "./handler.js"
import type { Work } from "./work.js"

/** @internal */
export interface Settings<E, R> {
  readonly handler: Handler<E, R>
  readonly counters: Counters
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

  const failed = (work: Work, cause: Cause.Cause<E | HandlerTimeout | DecodeError>) => {
    counters.failed++
    return settings.report(
      new PlainFailure<E>({ position: work.position, group: work.group, aggregateId: work.aggregateId, cause })
    )
  }

  const finished = (work: Work) => Effect.sync(() => work.lane.finish(work))

  return {
    receive: (work) => {
      // The fiber died of this message: the next one only reports it.
      if (work.lastCause !== undefined) {
        return Effect.zipRight(failed(work, work.lastCause as Cause.Cause<never>), finished(work))
      }
      if (!work.lane.begin(work)) return Effect.void
      const error = handler.decode(work)
      if (error !== undefined) {
        counters.undecodable++
        return Effect.zipRight(failed(work, Cause.fail(error)), finished(work))
      }
      work.attempt++
      return Effect.matchCauseEffect(handler.run(work), {
        onFailure: (cause) =>
          // Only a typed failure ends here; a defect ends the fiber.
          Cause.isFailure(cause) && !Cause.isDie(cause)
            ? Effect.zipRight(failed(work, cause), finished(work))
            : Effect.failCause(Cause.stripFailures(cause)),
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
