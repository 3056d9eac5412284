import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
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
