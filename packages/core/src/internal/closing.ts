import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { awaitFromAnywhere } from "./home.js"

/**
 * An effect that closes something once, however often it is run; each run waits until that is done. `onBegin` is called at the first.
 *
 * @internal
 */
export const once = <A>(work: Effect.Effect<A>, onBegin: () => void = () => {}): Effect.Effect<A> => {
  const done = Effect.runSync(Deferred.make<A>())
  let isBegun = false
  const begin = Effect.suspend(() => {
    if (isBegun) return Effect.void
    isBegun = true
    onBegin()
    // In a fiber of its own: the fiber that closes may be interrupted, and may be a handler that closing waits for.
    return Effect.forkDaemon(Effect.uninterruptible(Effect.intoDeferred(work, done)))
  })
  return Effect.uninterruptibleMask((restore) =>
    Effect.zipRight(begin, restore(awaitFromAnywhere(Deferred.await(done))))
  )
}

/** How long closing waits for what it has interrupted. */
const patience = "2 seconds"

/**
 * Waits for what was interrupted to end, but not for ever: what can't be interrupted goes on, and then `orElse` follows.
 *
 * @internal
 */
export const patiently = (
  ended: Effect.Effect<void>,
  orElse: () => Effect.Effect<void>,
  atMost: Duration.DurationInput = patience
): Effect.Effect<void> =>
  Effect.flatMap(
    Effect.timeoutOption(Effect.interruptible(Effect.disconnect(Effect.uninterruptible(ended))), atMost),
    (done) => Option.isSome(done) ? Effect.void : orElse()
  )

/**
 * The first of several names, for a log line.
 *
 * @internal
 */
export const some = (names: ReadonlyArray<string>): string =>
  names.length > 5 ? `${names.slice(0, 5).join(", ")} and ${names.length - 5} more` : names.join(", ")
