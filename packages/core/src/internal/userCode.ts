import * as Effect from "effect/Effect"
import * as Safely from "./safely.js"

/**
 * Calls code of a user's that answers an effect: a handler, `onFailure`. It is called at once, so suspend where that is too early. A throw
 * becomes a defect of the effect, and so does an answer that is no effect. Effect's run loop looks at what is thrown, and stops for good
 * where that throws in its turn, as a revoked Proxy does: such a value becomes an `Error` before anybody looks at it.
 *
 * @internal
 */
export const call = <A, E, R>(f: () => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
  try {
    const effect = f()
    return Effect.isEffect(effect)
      ? effect
      : Effect.die(new TypeError(`an Effect was expected, and ${kindOf(effect)} was returned`))
  } catch (thrown) {
    return Effect.die(wrapped(thrown))
  }
}

/**
 * Calls code of a user's that answers at once: a decision, a predicate. What it throws is thrown again, fit to be looked at.
 *
 * @internal
 */
export const sync = <A>(f: () => A): A => {
  try {
    return f()
  } catch (thrown) {
    throw wrapped(thrown)
  }
}

/**
 * What was thrown, or an `Error` in its place where looking at it throws.
 *
 * @internal
 */
export const wrapped = (thrown: unknown): unknown => {
  if (typeof thrown !== "object" && typeof thrown !== "function" || thrown === null) return thrown
  try {
    // What loggers and Effect itself look at.
    const { _tag, cause, message, name, stack } = thrown as { readonly [name: string]: unknown }
    void [_tag, cause, message, name, stack, thrown instanceof Error, Effect.EffectTypeId in thrown]
    return thrown
  } catch {
    return new Error("a value was thrown that can't be looked at, such as a revoked Proxy")
  }
}

const kindOf = (value: unknown): string =>
  value === null || value === undefined ? String(value) : `a value of type ${typeof value} (${Safely.nameOf(value)})`
