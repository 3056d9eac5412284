import {
  EventBus,
  EventBusConfig,
  type MemoryBroker,
  MemoryTransport,
  Topic,
  type Transport
} from "@effect-eventbus/core"
import { Prometheus } from "@effect-eventbus/observability"
import { Duration, Effect, Layer, Schema } from "effect"

export class Placed extends Schema.TaggedClass<Placed>()("Placed", { n: Schema.Number }) {}

export const placed = (aggregateId: string, n: number) => ({ aggregateId, payload: new Placed({ n }) })

let topics = 0

/** Metrics live as long as the process, so each test has a topic of its own. */
export const topicOf = (partitions = 1) => Topic.envelope(`orders-${topics++}`, Placed, { partitions })

export const busWith = <E, R>(
  observer: Layer.Layer<never, E, R>,
  config: EventBusConfig.Options = {},
  memory: MemoryBroker.Options = {}
): Layer.Layer<EventBus.EventBus, E, R> =>
  EventBus.layer.pipe(
    Layer.provide(Layer.orDie(MemoryTransport.layer(memory))),
    Layer.provide(Layer.orDie(EventBusConfig.layer({ retryBase: "1 millis", ...config }))),
    Layer.provide(observer)
  ) as Layer.Layer<EventBus.EventBus, E, R>

/** Asks again until it holds, within a deadline. */
export const eventually = <E = never, R = never>(what: string, holds: () => boolean | Effect.Effect<boolean, E, R>) =>
  Effect.suspend(() => {
    const found = holds()
    return typeof found === "boolean" ? Effect.succeed(found) : found
  }).pipe(
    Effect.tap((found) => found ? Effect.void : Effect.sleep(10)),
    Effect.repeat({ until: (found) => found }),
    Effect.timeoutFail({ duration: Duration.seconds(10), onTimeout: () => new Error(`never came true: ${what}`) }),
    Effect.orDie,
    Effect.asVoid
  )

/** The values of Prometheus's text, by `name{labels}`, where the labels hold this text. */
export const values = (text: string, part: string): ReadonlyMap<string, number> =>
  new Map(
    text.split("\n").filter((line) => !line.startsWith("#") && line.includes(part)).map((line) => {
      const at = line.lastIndexOf(" ")
      return [line.slice(0, at), Number(line.slice(at + 1))] as const
    })
  )

/** The values of the metrics of a topic, by their names without the prefix, and labels beside client, topic and group. */
export const metricsOf = (topic: string, clientId = "eventbus", options?: Prometheus.FormatOptions) =>
  Effect.map(Prometheus.format(options), (text) => {
    const found: Record<string, number> = {}
    for (const [series, value] of values(text, `topic="${topic}"`)) {
      if (!series.includes(`client_id="${clientId}"`)) continue
      const short = series
        .replace("memory_eventbus_actor_pool_", "")
        .replace(/(transport|client_id|topic|group)="[^"]*",?/g, "")
        .replace(/,?\}/, "}").replace("{}", "")
      if (!short.includes("_bucket")) found[short] = value
    }
    return found
  })

/** A transport with no messages of its own: a test scripts what subscribing answers. */
export const scriptedTransport = (subscribe: Transport.Service["subscribe"]): Transport.Service => ({
  name: "scripted",
  capabilities: {
    durable: false,
    binaryHeaders: true,
    tombstones: true,
    partitions: true,
    settlement: "position",
    maxMessageBytes: 1_000_000
  },
  publish: () => Effect.succeed([]),
  subscribe
})
