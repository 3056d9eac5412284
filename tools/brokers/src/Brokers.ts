/**
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { BrokerError } from "./BrokerError.js"
import * as Kafka from "./Kafka.js"
import * as Nats from "./Nats.js"

/**
 * @since 0.1.0
 * @category models
 */
export type Name = "kafka" | "nats"

/**
 * The addresses of what was asked for (empty for what wasn't), held until `close`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Brokers {
  readonly kafka: Array<string>
  readonly nats: Array<string>
  readonly close: () => Promise<void>
}

/**
 * Brings up one shared broker of each name, together.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  names: ReadonlyArray<Name>
): Effect.Effect<Omit<Brokers, "close">, BrokerError, Scope.Scope> =>
  Effect.all({
    kafka: names.includes("kafka") ? Effect.map(Kafka.make(), ({ bootstrap }) => [...bootstrap]) : Effect.succeed([]),
    nats: names.includes("nats") ? Effect.map(Nats.make(), ({ servers }) => [...servers]) : Effect.succeed([])
  }, { concurrency: "unbounded" })

/**
 * {@link make} for code that isn't Effect, such as a test runner's set-up. Rejects with the `BrokerError`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const acquire = async (names: ReadonlyArray<Name> = ["kafka", "nats"]): Promise<Brokers> => {
  const scope = await Effect.runPromise(Scope.make())
  const close = () => Effect.runPromise(Scope.close(scope, Exit.void))
  const exit = await Effect.runPromiseExit(Effect.map(Scope.extend(make(names), scope), (made) => ({ ...made, close })))
  if (Exit.isSuccess(exit)) return exit.value
  await close()
  return Effect.runPromise(exit)
}
