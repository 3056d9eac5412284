/**
 * Whether the brokers can be reached. The transport connects again by itself; this
 * is for health checks, dashboards and logs.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"

/**
 * `Connected` where no broker is known to be away, `Degraded` where some are, `Disconnected` where none
 * was reached when it was last tried. A connection that breaks and is made again at once is no change.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConnectionState {
  readonly _tag: "Connected" | "Degraded" | "Disconnected"
  /** The brokers that could not be reached, as `host:port`. */
  readonly unreachable: ReadonlyArray<string>
}

/**
 * The state of the connections to the brokers, now and as it changes.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly state: Effect.Effect<ConnectionState>
  /** The state as it is, and then each change. */
  readonly changes: Stream.Stream<ConnectionState>
}

/**
 * Comes with `KafkaTransport.layer`.
 *
 * @since 0.1.0
 * @category tags
 */
export class KafkaConnection
  extends Context.Tag("@effect-eventbus/kafka/KafkaConnection")<KafkaConnection, Service>()
{}
