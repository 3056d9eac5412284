/**
 * The NATS JetStream transport.
 *
 * @since 0.1.0
 */
import { BrokerUnreachable, InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import * as Transport from "@effect-eventbus/core/Transport"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Api from "./internal/Api.js"
import * as Connection from "./internal/Connection.js"
import * as NatsConfig from "./NatsConfig.js"
import * as NatsConsumer from "./NatsConsumer.js"
import * as NatsPublisher from "./NatsPublisher.js"
import * as NatsStreams from "./NatsStreams.js"

/**
 * What JetStream can do for the bus. Bytes in headers travel as encoded words of RFC 2047, a tombstone by a marker
 * header. The server's limit counts the headers, so something is left for them.
 *
 * @since 0.1.0
 * @category models
 */
export const capabilities: Transport.Capabilities = {
  durable: true,
  binaryHeaders: true,
  tombstones: true,
  partitions: true,
  settlement: "message",
  maxMessageBytes: 1_048_576 - 16_384
}

/**
 * Connects, and disconnects with the scope, after what was written is out.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: NatsConfig.Options = {}
): Effect.Effect<Transport.Service, BrokerUnreachable | InvalidConfiguration, Scope.Scope> =>
  Effect.gen(function*() {
    const settings = yield* NatsConfig.resolve(options)
    const connection = yield* Connection.make(settings)
    const api = Api.make(connection, settings)
    yield* checkJetStream(api, settings)
    const streams = yield* NatsStreams.make(api, settings)
    const publish = yield* NatsPublisher.make(connection, streams, settings)
    return {
      name: "nats",
      capabilities,
      publish,
      subscribe: NatsConsumer.make(connection, api, streams, settings)
    }
  }).pipe(Effect.annotateLogs("transport", "nats"))

/**
 * The transport as a Layer.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  options: NatsConfig.Options = {}
): Layer.Layer<Transport.Transport, BrokerUnreachable | InvalidConfiguration> =>
  Layer.scoped(Transport.Transport, make(options))

/**
 * The transport for `Transport.layerConfig`, which chooses it by `EVENTBUS_TRANSPORT=nats`.
 *
 * @since 0.1.0
 * @category layers
 */
export const driver: Transport.Driver<BrokerUnreachable | InvalidConfiguration, never, typeof NatsConfig.spec> = {
  spec: NatsConfig.spec,
  layer: (values) => layer(NatsConfig.fromValues(values))
}

/** A server that has just started may not have its JetStream yet. */
const checkJetStream = (
  api: Api.Api,
  settings: NatsConfig.Settings
): Effect.Effect<void, BrokerUnreachable | InvalidConfiguration> =>
  api.accountInfo.pipe(
    Effect.retry({ times: settings.connectAttempts - 1, schedule: Schedule.exponential("200 millis") }),
    Effect.mapError((cause) =>
      Api.isWithoutJetStream(cause)
        ? new InvalidConfiguration({ issues: [`JetStream is not enabled at ${settings.servers.join(", ")}`], cause })
        : new BrokerUnreachable({ transport: "nats", addresses: settings.servers, cause })
    ),
    Effect.asVoid
  )
