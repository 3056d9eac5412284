/**
 * Whether a server can be reached. The transport connects again by itself; this
 * is for health checks, dashboards and logs.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"

/**
 * `Connected`; `LameDuck` where the server has announced its end, and the connection will move to another one; `Disconnected` while
 * the transport reconnects; `Closed` after its end.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConnectionState {
  readonly _tag: "Connected" | "LameDuck" | "Disconnected" | "Closed"
  /** The server that is connected, or was last, as `host:port`. */
  readonly server: string
}

/**
 * The state of the connection to the server, now and as it changes.
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
 * Comes with `NatsTransport.layer`.
 *
 * @since 0.1.0
 * @category tags
 */
export class NatsConnection extends Context.Tag("@effect-eventbus/nats/NatsConnection")<NatsConnection, Service>() {}
