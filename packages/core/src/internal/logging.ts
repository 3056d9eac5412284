/** The bus's log lines. A logger is users' code: one that throws must neither end an actor nor a lane, nor run a message again. */
import * as Effect from "effect/Effect"

/** @internal */
export const debug = (text: string): Effect.Effect<void> => unbroken(Effect.logDebug(text))

/** @internal */
export const info = (text: string): Effect.Effect<void> => unbroken(Effect.logInfo(text))

/** @internal */
export const warning = (text: string): Effect.Effect<void> => unbroken(Effect.logWarning(text))

/** @internal */
export const error = (text: string): Effect.Effect<void> => unbroken(Effect.logError(text))

const unbroken = (logging: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.catchAllDefect(logging, () => Effect.void)
