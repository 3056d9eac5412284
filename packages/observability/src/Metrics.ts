/**
 * The metrics of a bus and its transport, on Effect's `Metric`: the application chooses who exports them. `Prometheus` of this package
 * writes them as text, `@effect/opentelemetry` sends them by OTLP. `docs/observability.md` says what each of them means.
 *
 * @since 0.1.0
 */
import * as ConfigSpec from "@effect-eventbus/core/ConfigSpec"
import type { InvalidConfiguration } from "@effect-eventbus/core/EventBusError"
import * as Observer from "@effect-eventbus/core/Observer"
import * as OrderChecker from "@effect-eventbus/core/OrderChecker"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { globalValue } from "effect/GlobalValue"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { BusMetrics } from "./internal/BusMetrics.js"
import { ConnectionMetrics } from "./internal/ConnectionMetrics.js"
import type { Client } from "./internal/GroupMetrics.js"
import * as Instruments from "./internal/Instruments.js"
import * as LoopDelay from "./internal/LoopDelay.js"
import * as Names from "./internal/Names.js"
import { valuesOf } from "./internal/options.js"

/**
 * The version of OpenTelemetry's semantic conventions that the metrics `messaging.*` follow.
 *
 * @since 0.1.0
 * @category models
 */
export const conventionsVersion: string = Instruments.conventionsVersion

/**
 * What can be set for metrics.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /**
   * Tells the buses of one process apart: the label `client_id`. A second one with the same id gets a number behind it. Default:
   * `"eventbus"`.
   */
  readonly clientId?: string | undefined
  /**
   * Whether the client id is a part of the metrics' names instead of a label: `kafka_eventbus_<client_id>_actor_pool_…`. Characters that
   * Prometheus does not allow are replaced by `_`. Default: false.
   */
  readonly clientIdInName?: boolean | undefined
  /** Whether there are also the metrics of OpenTelemetry's semantic conventions, `messaging.*`. Default: true. */
  readonly conventions?: boolean | undefined
  /**
   * How often gauges that can't follow events are set (ages, lags, mailboxes). `Prometheus` does it at each scrape besides. Counters and
   * histograms are exact whenever somebody reads them. Default: 10 seconds.
   */
  readonly interval?: Duration.DurationInput | undefined
  /**
   * Whether the order of the handlers' starts is checked, and violations are counted. It remembers the position of each aggregate that was
   * seen lately. Default: false.
   */
  readonly checkOrder?: boolean | undefined
}

const spec = {
  clientId: ConfigSpec.string({ default: "eventbus", description: "Tells the buses of one process apart." }),
  clientIdInName: ConfigSpec.boolean({ default: false, description: "Whether it is a part of the names." }),
  conventions: ConfigSpec.boolean({ default: true, description: "Whether there are the metrics `messaging.*`." }),
  interval: ConfigSpec.duration({ default: "10 seconds", description: "How often gauges are set." }),
  checkOrder: ConfigSpec.boolean({ default: false, description: "Whether the order of starts is checked." })
}

/** The buses of this process that are measured. It is one for all copies of this module. */
const running = globalValue("@effect-eventbus/observability/running", () => new Set<Effect.Effect<void>>())

/**
 * Sets all gauges of this process to what is so now. Whoever reads `Metric.snapshot` runs it before; `Prometheus` does so.
 *
 * @since 0.1.0
 * @category accessors
 */
export const sample: Effect.Effect<void> = Effect.suspend(() =>
  Effect.forEach(Array.from(running), (one) => one, { concurrency: "unbounded", discard: true })
)

/**
 * An observer that measures the buses and transports above it. Wrong options fail, all at once.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options = {}): Effect.Effect<Observer.Service, InvalidConfiguration, Scope.Scope> =>
  Effect.gen(function*() {
    const { checkOrder, clientId, clientIdInName, conventions, interval } = yield* valuesOf("metrics", spec, options)
    const clock = yield* Effect.clock
    const base = yield* Names.claim(clientId)
    const now = () => clock.unsafeCurrentTimeMillis()
    const clientOf = (transport: string, id: string) => client(transport, id, clientIdInName, conventions)
    const connections = new Map<string, ConnectionMetrics>()
    /** The transports of the buses that use the layer's own client id. */
    const open = new Set<string>()

    const idFor = (transport: string) =>
      open.has(transport)
        ? Names.claim(base)
        : Effect.as(
          Effect.acquireRelease(
            Effect.sync(() => open.add(transport)),
            () => Effect.sync(() => open.delete(transport))
          ),
          base
        )

    return {
      event: (event) => {
        if (!("transport" in event)) return
        const { transport } = event
        let connection = connections.get(transport)
        if (connection === undefined) {
          connection = new ConnectionMetrics(clientOf(transport, base))
          connections.set(transport, connection)
        }
        connection.tell(event)
      },
      forBus: (bus) =>
        Effect.gen(function*() {
          const id = yield* idFor(bus.transport)
          const checker = checkOrder ? OrderChecker.make() : undefined
          const metrics = new BusMetrics(clientOf(bus.transport, id), bus, checker, now, yield* LoopDelay.measured)
          yield* Effect.acquireRelease(
            Effect.sync(() => running.add(metrics.sample)),
            () => Effect.zipRight(Effect.sync(() => running.delete(metrics.sample)), metrics.end)
          )
          yield* Effect.forkScoped(Effect.interruptible(Effect.repeat(metrics.sample, Schedule.spaced(interval))))
          return metrics
        })
    }
  })

/**
 * Measures the bus and the transport that it is provided to: `EventBus.layer.pipe(Layer.provide(transport), Layer.provide(Metrics.layer()))`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<Observer.Observer, InvalidConfiguration> =>
  Layer.unwrapScoped(Effect.map(make(options), Observer.layer))

const client = (transport: string, id: string, isInName: boolean, conventions: boolean): Client => {
  const prefix = `${Names.sanitized(transport)}_eventbus_${isInName ? `${Names.sanitized(id)}_` : ""}actor_pool_`
  const labels = isInName ? { transport } : { transport, client_id: id }
  const common = { "messaging.system": transport, "messaging.client.id": id }
  return {
    transport,
    own: (definition, more) => Instruments.make(definition, prefix + definition.name, { ...labels, ...more }),
    convention: conventions
      ? (definition, more) => Instruments.make(definition, definition.name, { ...common, ...more })
      : undefined
  }
}
