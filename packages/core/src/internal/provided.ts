import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import { InvalidConfiguration } from "../EventBusError.js"
import * as Logging from "./logging.js"

/*
 * `EventBusConfig`, `EnvelopeCodec`, `Strategy` and `Observer` are references with a default. So a program compiles that provides them
 * beside the bus, which then does not see them. Such a setting must not be dropped in silence:
 * - subscribing, pre-subscribing or replaying with one in the caller's context is an error;
 * - the first publish with one logs a warning;
 * - `EventBusConfig.layer` warns when no bus has taken its settings for a while.
 */

/** What some bus was built with. Two buses in one program may each find the other's settings in their context. */
const used = new WeakSet<object>()

/**
 * Says that something is built with these settings.
 *
 * @internal
 */
export const use = (...values: ReadonlyArray<object>): void => values.forEach((value) => used.add(value))

/** How long building a bus may take: connecting to a broker is a part of it. */
const PATIENCE = "30 seconds"

/**
 * Warns if settings are used by no bus: after a while, or when they go.
 *
 * @internal
 */
export const watch = (
  config: object,
  names: ReadonlyArray<string>
): Effect.Effect<void, never, Scope.Scope> => {
  let isSaid = false
  const warn = Effect.suspend(() => {
    if (isSaid || used.has(config)) return Effect.void
    isSaid = true
    return Logging.warning(`These settings are used by no bus: ${names.join(", ")}. ${advice.config}`)
  })
  return names.length === 0 ? Effect.void : Effect.zipRight(
    // A program that failed to start has no bus, and another error.
    Effect.addFinalizer((exit) => Exit.isSuccess(exit) ? warn : Effect.void),
    Effect.asVoid(Effect.forkScoped(Effect.delay(warn, PATIENCE)))
  )
}

const howTo = (it: string, layer: string) =>
  `Provide ${it} to the bus, not beside it: EventBus.layer.pipe(Layer.provide(${layer}))`

const advice = {
  config: howTo("them", "EventBusConfig.layer({ ... })"),
  codec: howTo("it", "Layer.succeed(EnvelopeCodec, codec)"),
  strategy: howTo("it", "Strategy.layer(strategy)"),
  observer: howTo("it", "Observer.layer(observer)")
}

const issueOf = {
  config: `EventBusConfig: these settings are not those of the bus, which would ignore them. ${advice.config}`,
  codec: `EnvelopeCodec: this codec is not that of the bus, which would ignore it. ${advice.codec}`,
  strategy: `Strategy: this strategy is not that of the bus, which would ignore it. ${advice.strategy}`,
  observer: `Observer: this observer is not that of the bus, which would tell it nothing. ${advice.observer}`
}

/**
 * What a bus was built with, to be compared with what its callers have.
 *
 * @internal
 */
export interface Provided {
  /** Fails if the caller's context has one that no bus was built with. */
  readonly check: (topic: string) => Effect.Effect<void, InvalidConfiguration>
  /** The same as a warning, for the first call only: `isChecked` is true after it. */
  readonly warn: Effect.Effect<void>
  isChecked: boolean
}

/**
 * Remembers what a bus is built with. The tags are given, so that this module needs no others.
 *
 * @internal
 */
export const make = (
  built: {
    readonly [Name in keyof typeof issueOf]: { readonly tag: { readonly key: string }; readonly value: object }
  }
): Provided => {
  const names = Object.keys(issueOf) as ReadonlyArray<keyof typeof issueOf>
  for (const name of names) use(built[name].value)
  const issues = Effect.contextWith((context: Context.Context<never>) =>
    names.flatMap((name) => {
      const { tag, value } = built[name]
      const other = entry(context, tag)
      return other === undefined || used.has(other) || name === "config" && isSame(other, value) ? [] : [issueOf[name]]
    })
  )
  const provided: Provided = {
    check: (topic) =>
      Effect.flatMap(
        issues,
        (issues) => issues.length === 0 ? Effect.void : new InvalidConfiguration({ topic, issues })
      ),
    warn: Effect.flatMap(issues, (issues) => {
      provided.isChecked = true
      return issues.length === 0 ? Effect.void : Logging.warning(issues.join("\n"))
    }),
    isChecked: false
  }
  return provided
}

/** A reference's value in a context. A reference that was not provided has its default, which is not in the context. */
const entry = (context: Context.Context<never>, tag: { readonly key: string }) =>
  context.unsafeMap.get(tag.key) as object | undefined

const isSame = (one: object, other: object): boolean =>
  Object.entries(one).every(([name, value]) => Equal.equals(value, (other as Record<string, unknown>)[name]))
