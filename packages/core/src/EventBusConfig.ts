/**
 * The settings of the bus: bounds, deadlines and schedules. The defaults are those
 * of the delivery contract.
 *
 * @since 0.1.0
 */
import "./internal/commonJs.js"

import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { parse as parseYaml } from "yaml"
import * as ConfigSpec from "./ConfigSpec.js"
import { InvalidConfiguration } from "./EventBusError.js"

/**
 * The settings, all with defaults.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** The group of subscriptions that name none. Default: `"group"`. */
  readonly group?: string | undefined
  /** How long a publish may take, until it fails with its outcome. Default: 10 seconds. */
  readonly publishTimeout?: Duration.DurationInput | undefined
  /** How long closing works off what was taken. Default: 25 seconds. */
  readonly closeDeadline?: Duration.DurationInput | undefined
  /** How long handlers may go on when a partition is taken away. Default: 10 seconds. */
  readonly drainDeadline?: Duration.DurationInput | undefined
  /** Messages in one actor's mailbox, the one in hand included. Default: 1,000. */
  readonly mailboxCapacity?: number | undefined
  /** Unfinished messages per partition. Default: 1,000. */
  readonly maxUnfinished?: number | undefined
  /** How far finished messages may run ahead of the oldest unfinished one of their partition, in offsets. Default: 10,000. */
  readonly maxAboveWatermark?: number | undefined
  /** Bytes of unfinished messages per subscription. Default: 67,108,864 (64 MiB). */
  readonly maxBytes?: number | undefined
  /** Live actors per bus. Default: 10,000. */
  readonly maxActors?: number | undefined
  /** How long an actor without messages lives. Default: 5 minutes. */
  readonly actorIdleTimeout?: Duration.DurationInput | undefined
  /** At-most-once messages per subscription that are settled and not yet handled: what a kill can lose. Default: 100. */
  readonly maxSettledAhead?: number | undefined
  /** Retries of a typed failure before it is given up. Default: 8. */
  readonly retryTimes?: number | undefined
  /** The first wait between retries; each next one is twice as long, with jitter. Default: 100 millis. */
  readonly retryBase?: Duration.DurationInput | undefined
  /** The longest wait between retries. Default: 30 seconds. */
  readonly retryCap?: Duration.DurationInput | undefined
  /** Restarts of an actor for one message whose handler dies. Default: 3. */
  readonly restartTimes?: number | undefined
  /** The first wait before a restart; each next one is twice as long, with jitter. Default: 100 millis. */
  readonly restartBase?: Duration.DurationInput | undefined
  /** How often a held message is tried again. Default: 30 seconds. */
  readonly holdInterval?: Duration.DurationInput | undefined
}

/**
 * All settings with their values; `Options` says what each means.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly group: string
  readonly publishTimeout: Duration.Duration
  readonly closeDeadline: Duration.Duration
  readonly drainDeadline: Duration.Duration
  readonly mailboxCapacity: number
  readonly maxUnfinished: number
  readonly maxAboveWatermark: number
  readonly maxBytes: number
  readonly maxActors: number
  readonly actorIdleTimeout: Duration.Duration
  readonly maxSettledAhead: number
  readonly retryTimes: number
  readonly retryBase: Duration.Duration
  readonly retryCap: Duration.Duration
  readonly restartTimes: number
  readonly restartBase: Duration.Duration
  readonly holdInterval: Duration.Duration
}

/**
 * The keys of the settings, as a `ConfigProvider` has them below `eventbus`.
 *
 * @since 0.1.0
 * @category configuration
 */
export const spec = {
  group: ConfigSpec.string({ default: "group", description: "The group of subscriptions that name none." }),
  publishTimeout: ConfigSpec.duration({ default: "10 seconds", description: "How long a publish may take." }),
  closeDeadline: ConfigSpec.duration({
    default: "25 seconds",
    description: "How long closing works off what was taken."
  }),
  drainDeadline: ConfigSpec.duration({
    default: "10 seconds",
    description: "How long handlers may go on when a partition is taken away."
  }),
  mailboxCapacity: ConfigSpec.integer({ default: "1000", description: "Messages in one actor's mailbox." }),
  maxUnfinished: ConfigSpec.integer({ default: "1000", description: "Unfinished messages per partition." }),
  maxAboveWatermark: ConfigSpec.integer({
    default: "10000",
    description: "How far finished messages may run ahead of the oldest unfinished one of their partition, in offsets."
  }),
  maxBytes: ConfigSpec.integer({
    default: "67108864",
    description: "Bytes of unfinished messages per subscription."
  }),
  maxActors: ConfigSpec.integer({ default: "10000", description: "Live actors per bus." }),
  actorIdleTimeout: ConfigSpec.duration({
    default: "5 minutes",
    description: "How long an actor without messages lives."
  }),
  maxSettledAhead: ConfigSpec.integer({
    default: "100",
    description: "At-most-once messages per subscription that are settled and not yet handled: what a kill can lose."
  }),
  retryTimes: ConfigSpec.integer({ min: 0, default: "8", description: "Retries of a typed failure." }),
  retryBase: ConfigSpec.duration({
    default: "100 millis",
    description: "The first wait between retries; each next one is twice as long, with jitter."
  }),
  retryCap: ConfigSpec.duration({ default: "30 seconds", description: "The longest wait between retries." }),
  restartTimes: ConfigSpec.integer({
    min: 0,
    default: "3",
    description: "Restarts of an actor for one message whose handler dies."
  }),
  restartBase: ConfigSpec.duration({
    default: "100 millis",
    description: "The first wait before a restart; each next one is twice as long, with jitter."
  }),
  holdInterval: ConfigSpec.duration({
    default: "30 seconds",
    description: "How often a held message is tried again."
  })
}

/**
 * The defaults.
 *
 * @since 0.1.0
 * @category configuration
 */
export const defaults: Service = {
  group: "group",
  publishTimeout: Duration.seconds(10),
  closeDeadline: Duration.seconds(25),
  drainDeadline: Duration.seconds(10),
  mailboxCapacity: 1_000,
  maxUnfinished: 1_000,
  maxAboveWatermark: 10_000,
  maxBytes: 64 * 1024 * 1024,
  maxActors: 10_000,
  actorIdleTimeout: Duration.minutes(5),
  maxSettledAhead: 100,
  retryTimes: 8,
  retryBase: Duration.millis(100),
  retryCap: Duration.seconds(30),
  restartTimes: 3,
  restartBase: Duration.millis(100),
  holdInterval: Duration.seconds(30)
}

/**
 * The settings of the bus, with the defaults where no layer provides others.
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
  Effect.suspend(() => {
    const issues = Array.from(ConfigSpec.problems(spec, "", options).values())
    if (issues.length > 0) return Effect.fail(new InvalidConfiguration({ issues }))
    const values: Record<string, unknown> = { ...defaults }
    for (const [name, value] of Object.entries(options)) {
      if (value === undefined) continue
      values[name] = Duration.isDuration(defaults[name as keyof Service])
        ? Duration.decodeUnknown(value).pipe(Option.getOrThrow)
        : value
    }
    return Effect.succeed(values as unknown as Service)
  })

/**
 * The defaults with some settings changed, as a layer to provide to `EventBus.layer`. It fails with every setting that is wrong.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<EventBusConfig, InvalidConfiguration> =>
  Layer.effect(EventBusConfig, make(options))

/**
 * The settings of the bus alone, from the current `ConfigProvider`. `Transport.layerConfig` reads them
 * together with the transport's; use this one where the transport is provided in code.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig: Layer.Layer<EventBusConfig, InvalidConfiguration> = Layer.effect(
  EventBusConfig,
  Effect.flatMap(ConfigSpec.load(spec), make)
)

/**
 * A `ConfigProvider` over the text of a YAML (or JSON) document. Its settings are below the key `eventbus`.
 * A key without a value is not set.
 *
 * @since 0.1.0
 * @category configuration
 */
export const providerFromYaml = (
  text: string
): Effect.Effect<ConfigProvider.ConfigProvider, InvalidConfiguration> =>
  Effect.try(() => parseYaml(text) as unknown).pipe(
    Effect.mapError(({ error }) => error instanceof Error ? error.message : String(error)),
    Effect.filterOrFail(
      (document) => document === null || (typeof document === "object" && !Array.isArray(document)),
      () => "expected a mapping with the key eventbus"
    ),
    Effect.mapBoth({
      // The first line only, and no cause: below it, the parser quotes the document, which may hold secrets.
      onFailure: (issue) =>
        new InvalidConfiguration({ issues: [`the document can't be read: ${issue.split("\n")[0]}`] }),
      onSuccess: (document) => ConfigProvider.fromJson(document ?? {})
    })
  )
