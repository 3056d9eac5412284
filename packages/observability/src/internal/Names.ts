import * as Effect from "effect/Effect"
import { globalValue } from "effect/GlobalValue"
import type * as Scope from "effect/Scope"

/**
 * A text as a part of a name that Prometheus allows: other characters than letters, digits and `_` are replaced by `_`.
 *
 * @internal
 */
export const sanitized = (text: string): string => text.replace(/[^a-zA-Z0-9_]/g, "_")

/** The client ids in use in this process, in the form that names have. It is one for all copies of this module. */
const taken = globalValue("@effect-eventbus/observability/clientIds", () => new Set<string>())

/**
 * A client id that nobody else in this process has as long as the scope lives: the one that is wanted, or with a number behind it.
 * Ids that are equal in the form that names have count as one.
 *
 * @internal
 */
export const claim = (wanted: string): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      let id = wanted
      for (let i = 2; taken.has(sanitized(id)); i++) id = `${wanted}-${i}`
      taken.add(sanitized(id))
      return id
    }),
    (id) => Effect.sync(() => taken.delete(sanitized(id)))
  )
