/**
 * Kafka as a transport of the bus.
 *
 * @since 0.1.0
 */
import type * as ConfigSpec from "@effect-eventbus/core/ConfigSpec"
import type { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import { BrokerUnreachable } from "@effect-eventbus/core/EventBusError"
import * as Observer from "@effect-eventbus/core/Observer"
import * as Transport from "@effect-eventbus/core/Transport"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Client from "./internal/Client.js"
import { Closing } from "./internal/Closing.js"
import * as Drivers from "./internal/drivers.js"
import { monotonic } from "./internal/monotonic.js"
import { RESERVED_BYTES } from "./internal/outgoing.js"
import * as Security from "./internal/Security.js"
import * as KafkaConfig from "./KafkaConfig.js"
import * as KafkaConfigSpec from "./KafkaConfigSpec.js"
import type { ConnectionState } from "./KafkaConnection.js"
import { KafkaConnection } from "./KafkaConnection.js"
import * as KafkaConsumer from "./KafkaConsumer.js"
import { toInvalidConfiguration } from "./KafkaErrors.js"
import * as KafkaProducer from "./KafkaProducer.js"
import * as KafkaReader from "./KafkaReader.js"
import * as KafkaStore from "./KafkaStore.js"
import * as KafkaTopics from "./KafkaTopics.js"

/** States that wait for a slow callback; the last ones count. */
const STATES = 16

/**
 * The transport, for as long as the scope lasts. It fails when no broker answers, or the settings are wrong.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: KafkaConfig.Options
): Effect.Effect<Transport.Service, BrokerUnreachable | InvalidConfiguration, Scope.Scope> =>
  Transport.logSafely(Effect.gen(function*() {
    const settings = yield* KafkaConfig.resolve(options)
    const observed = yield* Observer.connection("kafka")
    const told = yield* reporter(options.onConnectionState)
    let isTold = false
    const client = yield* Client.make({
      driver: yield* Drivers.load(settings.driver),
      brokers: settings.brokers,
      onState: (state) => {
        isTold = true
        observed(state._tag)
        told?.(state)
      },
      clientId: settings.clientId,
      connectionTimeoutMs: settings.connectionTimeout,
      requestTimeoutMs: settings.requestTimeout,
      ...yield* Security.make(settings)
    })
    yield* client.connect("any", "control").pipe(
      Effect.retry({ times: 2, while: (error) => error.isUnreachable, schedule: Schedule.spaced("200 millis") }),
      Effect.mapError((cause) =>
        toInvalidConfiguration(cause) ??
          new BrokerUnreachable({ transport: "kafka", addresses: settings.brokers, cause })
      )
    )
    if (!isTold) observed("Connected")
    const topics = yield* KafkaTopics.make(client, settings)
    const closing = new Closing(monotonic(yield* Effect.clock), settings.closeTimeout)
    const producer = yield* KafkaProducer.make(client, topics, settings, closing)
    const consumer = yield* KafkaConsumer.make(client, topics, settings, closing)
    const reader = KafkaReader.make(client, topics, settings)
    return {
      name: "kafka",
      capabilities: {
        durable: true,
        binaryHeaders: true,
        tombstones: true,
        partitions: true,
        settlement: "position",
        startAt: true,
        startAfterGroup: true,
        maxMessageBytes: settings.maxMessageBytes - RESERVED_BYTES
      },
      publish: producer.publish,
      subscribe: consumer.subscribe,
      read: reader.read,
      store: KafkaStore.make(client, topics, producer, reader, settings).open
    }
  }))

/**
 * The transport, and whether its brokers can be reached.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  options: KafkaConfig.Options
): Layer.Layer<Transport.Transport | KafkaConnection, BrokerUnreachable | InvalidConfiguration> =>
  Layer.scopedContext(Effect.gen(function*() {
    const state = yield* SubscriptionRef.make<ConnectionState>({ _tag: "Connected", unreachable: [] })
    const transport = yield* make({
      ...options,
      onConnectionState: (next) =>
        Effect.zipRight(SubscriptionRef.set(state, next), options.onConnectionState?.(next) ?? Effect.void)
    })
    return Context.make(Transport.Transport, transport).pipe(
      Context.add(KafkaConnection, { state: SubscriptionRef.get(state), changes: state.changes })
    )
  }))

/**
 * Kafka as one of the choices of `TransportConfig.layer`.
 *
 * @since 0.1.0
 * @category configuration
 */
export const driver: {
  readonly name: "kafka"
  readonly spec: typeof KafkaConfigSpec.spec
  readonly layer: (
    values: ConfigSpec.Values<typeof KafkaConfigSpec.spec>
  ) => Layer.Layer<Transport.Transport | KafkaConnection, BrokerUnreachable | InvalidConfiguration>
  readonly check: (
    values: ConfigSpec.Values<typeof KafkaConfigSpec.spec>
  ) => Effect.Effect<unknown, InvalidConfiguration>
} = {
  name: "kafka",
  spec: KafkaConfigSpec.spec,
  check: (values) => Effect.flatMap(KafkaConfigSpec.fromValues(values), KafkaConfig.resolve),
  layer: (values) => Layer.unwrapEffect(Effect.map(KafkaConfigSpec.fromValues(values), layer))
}

/** States are told one after the other. The code that finds a state out does not wait for that. */
const reporter = (told: KafkaConfig.Options["onConnectionState"]) =>
  Effect.gen(function*() {
    if (told === undefined) return undefined
    const states = yield* Effect.acquireRelease(Queue.sliding<ConnectionState>(STATES), Queue.shutdown)
    yield* Queue.take(states).pipe(
      Effect.flatMap(told),
      Effect.catchAllCause((cause) =>
        Cause.isInterruptedOnly(cause)
          ? Effect.failCause(cause)
          : Effect.logWarning(`onConnectionState failed: ${Transport.causeInWords(cause)}`)
      ),
      Effect.forever,
      Effect.forkScoped
    )
    return (state: ConnectionState) => void states.unsafeOffer(state)
  })
