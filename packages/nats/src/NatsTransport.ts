/**
 * The NATS JetStream transport.
 *
 * @since 0.1.0
 */
import { BrokerUnreachable, InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import * as Observer from "@effect-eventbus/core/Observer"
import * as Transport from "@effect-eventbus/core/Transport"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Api from "./internal/Api.js"
import { Aside } from "./internal/Aside.js"
import * as Connection from "./internal/Connection.js"
import * as NatsConsumer from "./internal/NatsConsumer.js"
import { accountWarnings } from "./internal/NatsPreflight.js"
import * as NatsPublisher from "./internal/NatsPublisher.js"
import * as NatsReader from "./internal/NatsReader.js"
import * as NatsStore from "./internal/NatsStore.js"
import * as NatsStreams from "./internal/NatsStreams.js"
import * as Placement from "./internal/Placement.js"
import * as NatsConfig from "./NatsConfig.js"
import * as NatsConfigSpec from "./NatsConfigSpec.js"
import { type ConnectionState, NatsConnection } from "./NatsConnection.js"
import { NatsInstance } from "./NatsInstance.js"
import * as Subject from "./Subject.js"

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
  startAt: true,
  startAfterGroup: true,
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
  Effect.map(open(options), ({ transport }) => transport)

/**
 * The transport as a Layer, whether a server can be reached, and this process as an instance that can step down.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  options: NatsConfig.Options = {}
): Layer.Layer<Transport.Transport | NatsConnection | NatsInstance, BrokerUnreachable | InvalidConfiguration> =>
  Layer.scopedContext(Effect.gen(function*() {
    const changes = yield* SubscriptionRef.make<ConnectionState>({ _tag: "Connected", server: "" })
    const { aside, connection, transport } = yield* open({
      ...options,
      onConnectionState: (next) =>
        Effect.zipRight(SubscriptionRef.set(changes, next), options.onConnectionState?.(next) ?? Effect.void)
    })
    yield* SubscriptionRef.set(changes, connection.state())
    return Context.make(Transport.Transport, transport).pipe(
      Context.add(NatsConnection, { state: Effect.sync(connection.state), changes: changes.changes }),
      Context.add(NatsInstance, aside)
    )
  }))

/**
 * The transport for `TransportConfig.layer`, which chooses it by `EVENTBUS_TRANSPORT=nats`.
 *
 * @since 0.1.0
 * @category layers
 */
export const driver: {
  readonly spec: typeof NatsConfigSpec.spec
  readonly layer: (
    values: NatsConfigSpec.Values
  ) => Layer.Layer<Transport.Transport | NatsConnection | NatsInstance, BrokerUnreachable | InvalidConfiguration>
  readonly check: (values: NatsConfigSpec.Values) => Effect.Effect<unknown, InvalidConfiguration>
} = {
  spec: NatsConfigSpec.spec,
  check: (values) => NatsConfig.resolve(NatsConfigSpec.fromValues(values)),
  layer: (values) => layer(NatsConfigSpec.fromValues(values))
}

const open = (options: NatsConfig.Options) =>
  Effect.gen(function*() {
    const settings = yield* NatsConfig.resolve(options)
    const connection = yield* Connection.make(settings)
    const api = Api.make(connection, settings)
    yield* checkJetStream(api, settings)
    yield* checkClient(connection)
    yield* checkVersion(connection, api, settings)
    const streams = yield* NatsStreams.make(connection, api, settings)
    const aside = new Aside()
    const publish = yield* NatsPublisher.make(connection, streams, settings)
    const transport: Transport.Service = {
      name: "nats",
      capabilities,
      publish,
      subscribe: NatsConsumer.make(connection, api, streams, settings, yield* Observer.provided, aside),
      read: NatsReader.make(connection, api, streams, settings),
      store: NatsStore.make(connection, api, streams, settings),
      covers: (topic, other) =>
        Either.match(Placement.of(settings, other), {
          onLeft: () => false,
          onRight: ({ subject }) => Subject.isPattern(topic.name) && Subject.covers(topic.name, subject)
        })
    }
    return { aside, connection, transport }
  }).pipe(Effect.annotateLogs("transport", "nats"), Transport.logSafely)

/** Headers are read from fields that the client does not export: with a client that has others they would vanish in silence. */
const checkClient = ({ replies }: Connection.Connection): Effect.Effect<void, InvalidConfiguration> =>
  replies.isReadable === false
    ? new InvalidConfiguration({
      issues: [
        "the installed package nats has messages of another form, so that headers can't be read: install nats 2.29"
      ]
    })
    : Effect.void

/** What an older server does not know it ignores, and says nothing. */
const checkVersion = (
  { client }: Connection.Connection,
  api: Api.Api,
  { messageTtl, options: { consumerMetadata, streamMetadata } }: NatsConfig.Settings
): Effect.Effect<void, InvalidConfiguration> => {
  const needs = [
    ["streamMetadata", streamMetadata !== undefined, 10],
    ["consumerMetadata", consumerMetadata !== undefined, 10],
    ["messageTtl", messageTtl, 11]
  ] as const
  const issues = needs.flatMap(([name, isSet, minor]) =>
    isSet && !api.isAtLeast(2, minor)
      ? [`nats.${name} needs nats-server 2.${minor}, and ${client.server()} is of ${client.info()?.version}`]
      : []
  )
  return issues.length === 0 ? Effect.void : new InvalidConfiguration({ issues })
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
    Effect.flatMap((info) => {
      const warnings = settings.preflight === "off" ? [] : accountWarnings(info)
      return warnings.length === 0
        ? Effect.void
        : Effect.annotateLogs(Effect.logWarning("The account's storage is nearly full"), "reasons", warnings.join("; "))
    })
  )
