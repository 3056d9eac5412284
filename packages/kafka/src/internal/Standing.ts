/**
 * How a subscription begins to stand: it waits as long as anybody answers, says every
 * 10 s what it waits for, and gives up where nobody has answered for too long. That
 * others of the group died is no reason to fail: they are waited for, or their
 * session is.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { KafkaFailure } from "./Failure.js"
import type { Membership } from "./Membership.js"
import { monotonic } from "./monotonic.js"

/** Nobody has answered for too long. */
export class NoProgress {
  readonly _tag = "NoProgress"
  constructor(readonly cause: KafkaFailure | undefined) {}
}

export const SAID_EVERY_MS = 10_000
const TICK_MS = 250

export const stands = (
  membership: Membership,
  withinMs: number
): Effect.Effect<void, KafkaFailure | NoProgress> =>
  Effect.raceFirst(
    Deferred.await(membership.standing),
    Effect.zipRight(
      Effect.fork(Effect.forever(Effect.delay(sayWhy(membership), SAID_EVERY_MS))),
      patience(membership, withinMs)
    )
  )

const patience = (membership: Membership, withinMs: number): Effect.Effect<never, NoProgress> =>
  Effect.flatMap(Effect.clock, (clock) => {
    const now = monotonic(clock)
    return Effect.forever(Effect.suspend(() =>
      now() - membership.progressAt() >= withinMs
        ? Effect.fail(new NoProgress(membership.lastFailure()))
        : Effect.sleep(Math.min(TICK_MS, withinMs))
    ))
  })

const sayWhy = (membership: Membership): Effect.Effect<void> =>
  Effect.gen(function*() {
    const group = yield* Effect.either(membership.describe)
    const failure = membership.lastFailure()
    yield* Effect.logWarning(`The subscription has not begun yet: ${whyOf(membership)}`).pipe(
      Effect.annotateLogs({
        ...(Either.isLeft(group)
          ? { group: `can't be asked: ${group.left.message}` }
          : {
            group: group.right.state,
            members: group.right.members.map(({ clientHost, clientId, memberId }) =>
              `${memberId === "" ? clientId : memberId}${clientHost}`
            ).join(",")
          }),
        ...(failure === undefined ? {} : { lastFailure: failure.message })
      })
    )
  })

const whyOf = (membership: Membership): string => {
  switch (membership.phase()) {
    case "Joining":
      return "the group waits for members that have not joined again yet; one that died is waited for until its session is over"
    case "Syncing":
      return "the leader of the group shares the partitions out; if it died, it is waited for until its session is over"
    case "Member":
      return "it has its share of the partitions, and finds out where to begin in each"
    default:
      return "the group's coordinator does not let it in yet"
  }
}
