/**
 * The bus's log lines. A logger is users' code: one that throws must neither end an actor, a lane or a loop of a transport, nor run a
 * message again.
 */
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as HashSet from "effect/HashSet"
import * as Logger from "effect/Logger"
import * as Runtime from "effect/Runtime"

/**
 * What a line is annotated with, so that programs need not read its text: topic, group, partition, offset, aggregateId, eventId, attempts.
 *
 * @internal
 */
export interface Notes {
  readonly [name: string]: string | number | undefined
}

const noted = (line: Effect.Effect<void>, notes: Notes | undefined): Effect.Effect<void> =>
  unbreakable(
    notes === undefined
      ? line
      : Effect.annotateLogs(
        line,
        Object.fromEntries(Object.entries(notes).filter(([, value]) => value !== undefined))
      )
  )

/** @internal */
export const debug = (text: string, notes?: Notes): Effect.Effect<void> => noted(Effect.logDebug(text), notes)

/** @internal */
export const info = (text: string, notes?: Notes): Effect.Effect<void> => noted(Effect.logInfo(text), notes)

/** @internal */
export const warning = (text: string, notes?: Notes): Effect.Effect<void> => noted(Effect.logWarning(text), notes)

/** @internal */
export const error = (text: string, notes?: Notes): Effect.Effect<void> => noted(Effect.logError(text), notes)

/**
 * Logs a line at once, from code that is no effect, with the loggers of the fiber that asks for this.
 *
 * @internal
 */
export const atOnce: Effect.Effect<(line: Effect.Effect<void>) => void> = Effect.map(
  Effect.runtime<never>(),
  (runtime) => (line) => void Runtime.runSyncExit(runtime)(line)
)

type AnyLogger = Logger.Logger<unknown, unknown>

const guarded = new WeakMap<AnyLogger, AnyLogger>()

const guard = (logger: AnyLogger): AnyLogger => {
  const found = guarded.get(logger)
  if (found !== undefined) return found
  const made = Logger.make<unknown, unknown>((options) => {
    try {
      return logger.log(options)
    } catch {
      return undefined
    }
  })
  guarded.set(logger, made)
  guarded.set(made, made)
  return made
}

/**
 * An effect in which no logger can throw, nor in the fibers that it forks.
 *
 * @internal
 */
export const unbreakable: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = Effect.locallyWith(
  FiberRef.currentLoggers,
  HashSet.map(guard)
)
