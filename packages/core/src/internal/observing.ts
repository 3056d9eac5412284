import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import * as Observer from "../Observer.js"
import * as Logging from "./logging.js"
import * as Safely from "./safely.js"

/** An observer has one warning, whoever asks it. */
const guarded = new WeakMap<Observer.Service, Observer.Service>()

/**
 * The observer that is provided. It runs in the middle of the work: what it throws is ignored after one warning.
 *
 * @internal
 */
export const observer: Effect.Effect<Observer.Service> = Effect.gen(function*() {
  const provided = yield* Observer.Observer
  if (provided === Observer.none) return provided
  const found = guarded.get(provided)
  if (found !== undefined) return found
  const runtime = yield* Effect.runtime<never>()
  const guard = guardOf((thrown) =>
    Runtime.runSyncExit(runtime)(
      Logging.warning(
        `The observer threw (${Safely.nameOf(thrown)}). What it throws is ignored, and this is said once.`
      )
    )
  )
  const made: Observer.Service = { transition: guard(provided.transition), event: guard(provided.event) }
  guarded.set(provided, made)
  return made
})

const guardOf = (say: (thrown: unknown) => void) => {
  let isSaid = false
  return <Args extends ReadonlyArray<unknown>>(tell: ((...args: Args) => void) | undefined) =>
    tell === undefined ? undefined : (...args: Args): void => {
      try {
        tell(...args)
      } catch (thrown) {
        if (isSaid) return
        isSaid = true
        say(thrown)
      }
    }
}
