import * as Effect from "effect/Effect"
import * as Safely from "./safely.js"

/**
 * Calls a user's function that answers an effect: a handler or `onFailure`. Its arguments come here, because a closure for each message
 * would cost. The function is called at once, so suspend this call if
 * that is too early. A throw becomes a defect of the effect, and so does an answer that is no effect. Effect's run loop looks at the
 * thrown value, and stops for good if that look throws, as it does with a revoked Proxy. Such a value becomes an `Error` first.
 *
 * @internal
 */
export const call = <A, B, X, E, R>(
  f: (a: A, b: B) => Effect.Effect<X, E, R>,
  a: A,
  b: B
): Effect.Effect<X, E, R> => {
  try {
    const effect = f(a, b)
    return Effect.isEffect(effect)
      ? effect
      : Effect.die(new TypeError(`an Effect was expected, and ${kindOf(effect)} was returned`))
  } catch (thrown) {
    return Effect.die(wrapped(thrown))
  }
}

/**
 * Calls a user's function that answers at once: a decision or a predicate. A thrown value is thrown again, in a form that is safe to look at.
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
 * The thrown value, or an `Error` in its place if looking at the value throws.
 *
 * @internal
 */
export const wrapped = (thrown: unknown): unknown => {
  if (typeof thrown !== "object" && typeof thrown !== "function" || thrown === null) return thrown
  try {
    // The members that loggers and Effect itself look at.
    const { _tag, cause, message, name, stack } = thrown as { readonly [name: string]: unknown }
    void [_tag, cause, message, name, stack, thrown instanceof Error, Effect.EffectTypeId in thrown]
    return thrown
  } catch {
    return new Error("a value was thrown that can't be looked at, such as a revoked Proxy")
  }
}

const kindOf = (value: unknown): string =>
  value === null || value === undefined ? String(value) : `a value of type ${typeof value} (${Safely.nameOf(value)})`
