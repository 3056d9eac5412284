/**
 * The settings of the bus: bounds, deadlines and schedules. The defaults are those
 * of the delivery contract.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as ConfigSpec from "./ConfigSpec.js"
import type { InvalidConfiguration } from "./EventBusError.js"
import * as Provided from "./internal/provided.js"

/**
 * The settings, in the one place where each of them stands: with its type, default, unit and meaning. As keys of the
 * configuration they are below `eventbus`.
 *
 * @since 0.1.0
 * @category configuration
 */
export const spec = {
  /** The group of subscriptions that name none. Default: `group`. */
  group: ConfigSpec.string({ default: "group", description: "The group of subscriptions that name none." }),
  /** How long a publish may take, until it fails with its outcome. Default: `10 seconds`. */
  publishTimeout: ConfigSpec.duration({
    default: "10 seconds",
    description: "How long a publish may take, until it fails with its outcome."
  }),
  /** Whether the later messages of an aggregate are refused after one that could not be published, until the application says to go on. Default: `false`. */
  stopAfterFailedPublish: ConfigSpec.boolean({
    default: false,
    description:
      "Whether the later messages of an aggregate are refused after one that could not be published, until the application says to go on."
  }),
  /** How long closing works off what was taken. Default: `25 seconds`. */
  closeDeadline: ConfigSpec.duration({
    zero: true,
    default: "25 seconds",
    description: "How long closing works off what was taken."
  }),
  /** How long handlers may go on when a partition is taken away. Default: `10 seconds`. */
  drainDeadline: ConfigSpec.duration({
    zero: true,
    default: "10 seconds",
    description: "How long handlers may go on when a partition is taken away."
  }),
  /** Which slot an aggregate's messages go to. Default: ``. */
  dispatch: ConfigSpec.literal("actor-per-aggregate", "actor-pool", "keyed-workers")({
    default: undefined,
    description: "Which slot an aggregate's messages go to."
  }),
  /** How many slots `actor-pool` or `keyed-workers` has: 256 unless this says otherwise. Default: ``. */
  poolSize: ConfigSpec.integer({
    unit: "slots",
    default: undefined,
    description: "How many slots `actor-pool` or `keyed-workers` has: 256 unless this says otherwise."
  }),
  /** Messages in one actor's mailbox, the one in hand included. Default: `1000`. */
  mailboxCapacity: ConfigSpec.integer({
    unit: "messages",
    default: 1_000,
    description: "Messages in one actor's mailbox, the one in hand included."
  }),
  /** Unfinished messages per partition. Default: `1000`. */
  maxUnfinished: ConfigSpec.integer({
    unit: "messages",
    default: 1_000,
    description: "Unfinished messages per partition."
  }),
  /** How far finished messages may run ahead of the oldest unfinished one of their partition. Default: `10000`. */
  maxAboveWatermark: ConfigSpec.integer({
    unit: "offsets",
    default: 10_000,
    description: "How far finished messages may run ahead of the oldest unfinished one of their partition."
  }),
  /** Bytes of unfinished messages per subscription. Default: `67108864`. */
  maxBytes: ConfigSpec.integer({
    unit: "bytes",
    default: 64 * 1024 * 1024,
    description: "Bytes of unfinished messages per subscription."
  }),
  /** Live actors per bus. Default: `10000`. */
  maxActors: ConfigSpec.integer({ unit: "actors", default: 10_000, description: "Live actors per bus." }),
  /** How long an actor without messages lives. Default: `5 minutes`. */
  actorIdleTimeout: ConfigSpec.duration({
    infinite: true,
    default: "5 minutes",
    description: "How long an actor without messages lives."
  }),
  /** At-most-once messages per subscription that are settled and not yet handled: what a kill can lose. Default: `100`. */
  maxSettledAhead: ConfigSpec.integer({
    unit: "messages",
    default: 100,
    description: "At-most-once messages per subscription that are settled and not yet handled: what a kill can lose."
  }),
  /** Retries of a typed failure before it is given up. Default: `8`. */
  retryTimes: ConfigSpec.integer({
    min: 0,
    unit: "retries",
    default: 8,
    description: "Retries of a typed failure before it is given up."
  }),
  /** The first wait between retries; each next one is twice as long, with jitter. Default: `100 millis`. */
  retryBase: ConfigSpec.duration({
    zero: true,
    default: "100 millis",
    description: "The first wait between retries; each next one is twice as long, with jitter."
  }),
  /** The longest wait between retries. Default: `30 seconds`. */
  retryCap: ConfigSpec.duration({
    zero: true,
    infinite: true,
    default: "30 seconds",
    description: "The longest wait between retries."
  }),
  /** Restarts of an actor for one message whose handler dies. Default: `3`. */
  restartTimes: ConfigSpec.integer({
    min: 0,
    unit: "restarts",
    default: 3,
    description: "Restarts of an actor for one message whose handler dies."
  }),
  /** The first wait before a restart; each next one is twice as long, with jitter. Default: `100 millis`. */
  restartBase: ConfigSpec.duration({
    zero: true,
    default: "100 millis",
    description: "The first wait before a restart; each next one is twice as long, with jitter."
  }),
  /** Whether a subscription is stopped when too many of its messages would be given up. Default: `true`. */
  guard: ConfigSpec.boolean({
    default: true,
    description: "Whether a subscription is stopped when too many of its messages would be given up."
  }),
  /** So many messages have to be given up for that: in a row, or within `guardWindow`. Default: `200`. */
  guardFrom: ConfigSpec.integer({
    unit: "messages",
    default: 200,
    description: "So many messages have to be given up for that: in a row, or within `guardWindow`."
  }),
  /** And within `guardWindow` they have to be this part of all that have ended. Default: `50`. */
  guardPercent: ConfigSpec.integer({
    max: 100,
    unit: "percent",
    default: 50,
    description: "And within `guardWindow` they have to be this part of all that have ended."
  }),
  /** Of so long the guard knows what was given up, when it was not in a row. Default: `5 minutes`. */
  guardWindow: ConfigSpec.duration({
    default: "5 minutes",
    description: "Of so long the guard knows what was given up, when it was not in a row."
  }),
  /** How often a held message is tried again. Default: `30 seconds`. */
  holdInterval: ConfigSpec.duration({
    default: "30 seconds",
    description: "How often a held message is tried again."
  })
}

/**
 * The settings that can be given in code, all with defaults; `spec` says what each means.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends ConfigSpec.Options<typeof spec> {}

/**
 * All settings with their values; `spec` says what each means.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service extends ConfigSpec.Service<typeof spec> {}

/**
 * The defaults.
 *
 * @since 0.1.0
 * @category configuration
 */
export const defaults: Service = ConfigSpec.defaults(spec)

/**
 * The settings of the bus, with the defaults where no layer provides others. They belong to `EventBus.layer`: a bus that is
 * already there doesn't see those that are provided beside it.
 *
 * @since 0.1.0
 * @category tags
 */
export class EventBusConfig extends Context.Reference<EventBusConfig>()("@effect-eventbus/core/EventBusConfig", {
  defaultValue: (): Service => defaults
}) {}

/**
 * The defaults with some settings changed.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options): Effect.Effect<Service, InvalidConfiguration> =>
  ConfigSpec.make(spec, "", options)

/**
 * The defaults with some settings changed, as a layer to provide to `EventBus.layer`. It fails with every setting that is wrong,
 * and warns if no bus was built with it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<EventBusConfig, InvalidConfiguration> =>
  Layer.scoped(EventBusConfig, watched(options))

/**
 * The settings of the bus alone, from the current `ConfigProvider`. `TransportConfig.layer` reads them
 * together with the transport's; use this one where the transport is provided in code.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<EventBusConfig, InvalidConfiguration> = Layer.scoped(
  EventBusConfig,
  Effect.flatMap(ConfigSpec.load(spec), watched)
)

function watched(options: Options): Effect.Effect<Service, InvalidConfiguration, Scope.Scope> {
  return Effect.tap(make(options), (config) => Provided.watch(config, Object.keys(options)))
}
