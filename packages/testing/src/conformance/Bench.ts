/**
 * The tests of the suite use these: buses on the transport under test, and topics that no other test has.
 *
 * @since 0.1.0
 */
import { EventBus, EventBusConfig, FailurePolicy, Strategy, Topic, type Transport } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { it } from "vitest"

/**
 * The transport under test.
 *
 * @since 0.1.0
 * @category models
 */
export interface Subject {
  readonly name: string
  /** Each bus builds it anew, as a process that starts would. Published messages outlive it. */
  readonly layer: Layer.Layer<Transport.Transport, unknown>
  /** The same transport with the setting that topics have to exist. The tests of the error for an unknown topic use it. */
  readonly strict: Layer.Layer<Transport.Transport, unknown>
  /** Whether the broker keeps its messages in the memory of this process. */
  readonly inProcess?: boolean | undefined
  /** Which slot handles an aggregate's messages. Default: each aggregate has an actor of its own. */
  readonly strategy?: Strategy.Service | undefined
}

/**
 * The subject with layers whose buses have its strategy.
 *
 * @since 0.1.0
 * @category combinators
 */
export const withStrategy = (subject: Subject): Subject => {
  const { layer, strategy, strict } = subject
  if (strategy === undefined) return subject
  // A bus takes the strategy that is provided below it.
  return {
    ...subject,
    layer: Layer.merge(layer, Strategy.layer(strategy)),
    strict: Layer.merge(strict, Strategy.layer(strategy))
  }
}

/**
 * The event that the tests publish. It has its number within the aggregate, and tells the handler what to do.
 *
 * @since 0.1.0
 * @category models
 */
export class Step extends Schema.TaggedClass<Step>()("Step", {
  sequence: Schema.Int,
  /** How often the handler fails before it succeeds. */
  fails: Schema.optionalWith(Schema.Int, { default: () => 0 }),
  /** How often the handler dies before it fails or succeeds. */
  dies: Schema.optionalWith(Schema.Int, { default: () => 0 }),
  /** How long the handler takes, in ms. */
  takes: Schema.optionalWith(Schema.Int, { default: () => 0 }),
  filler: Schema.optional(Schema.String)
}) {}

/**
 * Retries are quick, so that tests don't wait. All other settings are the defaults.
 *
 * @since 0.1.0
 * @category models
 */
export const quick: EventBusConfig.Options = {
  retryBase: "1 millis",
  retryCap: "20 millis",
  restartBase: "1 millis",
  holdInterval: "20 millis"
}

/**
 * Whether the suite may take minutes: `TEST_LONG=1`.
 *
 * @since 0.1.0
 * @category models
 */
export const isLong = process.env.TEST_LONG === "1"

let topics = 0

/**
 * @since 0.1.0
 * @category models
 */
export const newTopic = (prefix: string, partitions?: number) => Topic.envelope(newName(prefix), Step, { partitions })

/**
 * @since 0.1.0
 * @category models
 */
export const newName = (prefix: string): string => `${prefix}-${process.pid}-${Date.now().toString(36)}-${topics++}`

/**
 * Runs a program on a bus with a new connection, and closes the bus at the end. To the broker it looks like a process of its own.
 *
 * @since 0.1.0
 * @category running
 */
export const inBus = <A, E>(
  layer: Layer.Layer<Transport.Transport, unknown>,
  program: Effect.Effect<A, E, EventBus.EventBus | Transport.Transport | Scope.Scope>,
  options: EventBusConfig.Options = {}
): Effect.Effect<A, unknown> => {
  const transport = Layer.fresh(layer)
  const bus = EventBus.layer.pipe(
    Layer.provideMerge(transport),
    Layer.provide(EventBusConfig.layer({ ...quick, ...options }))
  )
  return Effect.scoped(program).pipe(Effect.provide(bus))
}

/**
 * What the bus logs about failures that the test provokes is not shown, unless `TEST_LOG` is set.
 *
 * @since 0.1.0
 * @category running
 */
export const quietly = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  process.env.TEST_LOG === undefined ? Logger.withMinimumLogLevel(effect, LogLevel.None) : effect

/**
 * A test in real time. It hides what the bus logs about the failures that it provokes, unless `TEST_LOG` is set.
 *
 * @since 0.1.0
 * @category running
 */
export const test = (name: string, program: () => Effect.Effect<void, unknown>, timeout = 60_000): void => {
  it(name, () => Effect.runPromise(quietly(Effect.suspend(program))), timeout)
}

/**
 * @since 0.1.0
 * @category models
 */
export const orDrop = { onExhausted: FailurePolicy.drop }
