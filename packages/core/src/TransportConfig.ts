/**
 * Chooses the transport of an application by its configuration: `EVENTBUS_TRANSPORT=kafka`. It also reads the settings of the bus and
 * of the chosen transport.
 *
 * @since 0.1.0
 */
import type * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as ConfigSpec from "./ConfigSpec.js"
import * as EventBusConfig from "./EventBusConfig.js"
import { InvalidConfiguration } from "./EventBusError.js"
import * as Logging from "./internal/logging.js"
import * as Provided from "./internal/provided.js"
import * as Settings from "./internal/settings.js"
import type { Transport } from "./Transport.js"

/**
 * A transport that can be chosen by configuration: its settings, and its layer made from those that are set.
 *
 * @since 0.1.0
 * @category models
 */
export interface Driver<out E = never, out R = never, in out S extends ConfigSpec.Spec = ConfigSpec.Spec> {
  readonly spec: S
  readonly layer: (values: ConfigSpec.Values<S>) => Layer.Layer<Transport, E, R>
  /**
   * Checks what the spec alone can't, such as settings that belong together, without connecting. So its issues are
   * reported together with all others. `layer` has to check the same.
   */
  readonly check?: ((values: ConfigSpec.Values<S>) => Effect.Effect<unknown, InvalidConfiguration>) | undefined
}

/**
 * How the settings are read.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options<Name extends string = string> {
  /**
   * The transport where the configuration names none. Default: none where several drivers are given, so that naming no
   * transport is an error; otherwise the only one.
   */
  readonly default?: Name | undefined
  /** Where the settings are read. The application's own settings are not touched by it. Default: the current `ConfigProvider`. */
  readonly provider?: ConfigProvider.ConfigProvider | undefined
}

/**
 * The transport that the setting `transport` names (`EVENTBUS_TRANSPORT` in the environment), made from its own settings,
 * together with the settings of the bus. It fails with everything that is wrong at once. Settings of a transport that was
 * not chosen are named in a warning.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <const Drivers extends { readonly [name: string]: AnyDriver }>(
  drivers: Drivers,
  options: Options<keyof Drivers & string> = {}
): Layer.Layer<
  Transport | EventBusConfig.EventBusConfig,
  InvalidConfiguration | Layer.Layer.Error<ReturnType<Drivers[keyof Drivers]["layer"]>>,
  Layer.Layer.Context<ReturnType<Drivers[keyof Drivers]["layer"]>>
> => {
  const read = Effect.flatMap(
    Effect.suspend(() => choose(drivers, options.default)),
    ({ driver, others, values }) =>
      Effect.as(
        others.length === 0
          ? Effect.void
          : Logging.warning(`These settings are not used, because another transport is chosen: ${others.join(", ")}`),
        { transport: pick(values, driver.spec), bus: pick(values, EventBusConfig.spec), driver }
      )
  )
  const { provider } = options
  return Layer.unwrapEffect(Effect.map(
    provider === undefined ? read : Effect.withConfigProvider(read, provider),
    ({ bus, driver, transport }) =>
      Layer.merge(driver.layer(transport), Layer.scoped(EventBusConfig.EventBusConfig, watched(bus)))
  )) as never
}

const watched = (values: EventBusConfig.Options) =>
  Effect.tap(EventBusConfig.make(values), (config) => Provided.watch(config, Object.keys(values)))

const choose = Effect.fnUntraced(function*(drivers: { readonly [name: string]: AnyDriver }, byDefault?: string) {
  const names = Object.keys(drivers)
  const otherwise = byDefault ?? (names.length === 1 ? names[0] : undefined)
  const own = {
    transport: ConfigSpec.literal(...names)({ default: otherwise, description: "What carries the messages." })
  }
  const specs: ConfigSpec.Spec = Object.assign(
    {},
    own,
    EventBusConfig.spec,
    ...names.map((name) => drivers[name]!.spec)
  )
  const { issues, values, wrong } = yield* Settings.read(specs)
  const name = (values["transport"] as string | undefined) ?? otherwise
  const driver = wrong.has("transport") || name === undefined ? undefined : drivers[name]
  const more = driver !== undefined
    ? yield* checked(driver, values, wrong)
    : wrong.has("transport")
    ? []
    : [missing(names, name)]
  if (issues.length + more.length > 0 || driver === undefined) {
    return yield* new InvalidConfiguration({ issues: [...issues, ...more] })
  }
  const others = Object.keys(values).filter((path) =>
    !(path in own) && !(path in EventBusConfig.spec) && !(path in driver.spec)
  )
  return { driver, others, values }
})

const missing = (names: ReadonlyArray<string>, name: string | undefined): string =>
  names.length === 0
    ? "no transport is given to choose from"
    : name === undefined
    ? `eventbus.transport (EVENTBUS_TRANSPORT): has to be set to one of ${names.join(", ")}`
    : `the default transport "${name}" is none of ${names.join(", ")}`

/** What the driver finds wrong, without what it misses only because its value is wrong. */
const checked = (driver: AnyDriver, values: Settings.Reading["values"], wrong: ReadonlySet<string>) =>
  driver.check === undefined
    ? Effect.succeed([])
    : Effect.map(Effect.either(driver.check(pick(values, driver.spec))), (result) =>
      Either.isRight(result)
        ? []
        : result.left.issues.filter((issue) => !Array.from(wrong).some((path) => issue.startsWith(`${path}:`))))

// A driver reads its own settings only; their types differ from driver to driver.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type AnyDriver = Driver<unknown, unknown, any>

const pick = (values: { readonly [path: string]: unknown }, spec: ConfigSpec.Spec) =>
  Object.fromEntries(Object.entries(values).filter(([path]) => path in spec))
