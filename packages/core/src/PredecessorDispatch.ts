/**
 * Reads how the Go predecessor's services choose their way of dispatching, for services that come from there: `KAFKA_USE_ACTOR_POOL` and
 * the like. Nothing of it is read unless this layer is provided to the bus.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as ConfigSpec from "./ConfigSpec.js"
import { InvalidConfiguration } from "./EventBusError.js"
import * as Logging from "./internal/logging.js"
import type { Key } from "./internal/setting.js"
import * as Strategies from "./internal/strategies.js"
import * as Strategy from "./Strategy.js"

/**
 * Which settings are read.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** Whose settings are read. Default: both, which then must not disagree, because a bus has one strategy. */
  readonly of?: "kafka" | "nats" | undefined
}

interface Setting<A> {
  /** The key below `kafka.actor_pool`, and the end of the variable's name. */
  readonly key: string
  readonly variable: string
  readonly type: Key<A, never, unknown>
}

const positive = ConfigSpec.integer({ description: "" })

const enabled: Setting<boolean> = {
  key: "enabled",
  variable: "USE_ACTOR_POOL",
  type: ConfigSpec.boolean({ description: "" })
}
const size: Setting<number> = { key: "pool_size", variable: "ACTOR_POOL_SIZE", type: positive }
const inbox: Setting<number> = { key: "inbox_size", variable: "ACTOR_INBOX_SIZE", type: positive }
const restarts: Setting<number> = {
  key: "max_restarts",
  variable: "ACTOR_MAX_RESTARTS",
  type: ConfigSpec.integer({ min: 0, description: "" })
}

/** A value, and every source that has it. */
interface Found<A> {
  readonly value: A
  readonly sources: ReadonlyArray<string>
}

/**
 * The strategy that the predecessor's settings name, from the current `ConfigProvider`. Provide it to `EventBus.layer`.
 *
 * - `KAFKA_USE_ACTOR_POOL` or `kafka.actor_pool.enabled`: `true` is `actor-pool`, `false` is `keyed-workers`.
 * - `KAFKA_ACTOR_POOL_SIZE`, `KAFKA_ACTOR_INBOX_SIZE`, `KAFKA_ACTOR_MAX_RESTARTS`, or `pool_size`, `inbox_size` and `max_restarts` below
 *   `kafka.actor_pool`: the numbers of the actor pool.
 * - The same with `NATS_…` and `nats.…`.
 *
 * If none is set, the bus has its strategy as without this layer. Two that disagree are an error that names both, also where one of
 * them is the bus's own setting `dispatch`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<never, InvalidConfiguration> =>
  Layer.unwrapEffect(Effect.gen(function*() {
    const brokers = options.of === undefined ? ["kafka", "nats"] : [options.of]
    const issues: Array<string> = []
    const read = <A>(setting: Setting<A>) => Effect.map(find(setting, brokers, issues), (all) => agreed(all, issues))
    const isPool = yield* read(enabled)
    const numbers = {
      size: yield* read(size),
      capacity: yield* read(inbox),
      restart: yield* read(restarts)
    }
    const given = Object.values(numbers).flatMap((found) => found?.sources ?? [])
    if (isPool === undefined && given.length > 0 && issues.length === 0) {
      const names = brokers.map((broker) => `${broker.toUpperCase()}_${enabled.variable}`).join(" or ")
      issues.push(`${given.join(", ")}: set, but ${names} does not say whether there is an actor pool`)
    }
    if (issues.length > 0) return yield* new InvalidConfiguration({ issues })
    if (isPool === undefined) {
      yield* Logging.info("Dispatch: no setting of the predecessor is there, so none is used")
      return Layer.empty
    }
    const source = [...isPool.sources, ...(isPool.value ? given : [])].join(", ")
    if (!isPool.value && given.length > 0) {
      yield* Logging.info(`Dispatch: keyed-workers have no use for ${given.join(", ")}, which are the actor pool's`)
    }
    return Strategy.layer(Strategies.from(
      source,
      isPool.value
        ? Strategy.pool({
          ...Strategy.actorPool,
          size: numbers.size?.value,
          capacity: numbers.capacity?.value,
          restart: numbers.restart?.value
        })
        : Strategy.keyedWorkers
    ))
  }))

/** A setting wherever it is set, with what is wrong about it. */
const find = <A>(
  { key, type, variable }: Setting<A>,
  brokers: ReadonlyArray<string>,
  issues: Array<string>
): Effect.Effect<ReadonlyArray<readonly [source: string, value: A]>> =>
  Effect.map(
    Effect.forEach(brokers, (broker) =>
      Effect.all([
        textOf(`${broker.toUpperCase()}_${variable}`, Config.string(`${broker.toUpperCase()}_${variable}`), issues),
        textOf(
          `${broker}.actor_pool.${key}`,
          Config.string(key).pipe(Config.nested("actor_pool"), Config.nested(broker)),
          issues
        )
      ])),
    (texts) =>
      texts.flat().flatMap(([source, text]) => {
        if (text === undefined) return []
        const value = type.decode([text.trim()])
        if (Either.isRight(value)) return [[source, value.right] as const]
        issues.push(`${source}: ${value.left}`)
        return []
      })
  )

const textOf = (source: string, config: Config.Config<string>, issues: Array<string>) =>
  Effect.match(Config.option(config), {
    onFailure: (error: ConfigError.ConfigError) => {
      issues.push(`${source}: ${String(error)}`)
      return [source, undefined] as const
    },
    onSuccess: (text) => [source, Option.getOrUndefined(text)] as const
  })

const agreed = <A>(
  all: ReadonlyArray<readonly [source: string, value: A]>,
  issues: Array<string>
): Found<A> | undefined => {
  const first = all[0]
  if (first === undefined) return undefined
  for (const [source, value] of all) {
    if (value !== first[1]) {
      issues.push(`${first[0]} is ${String(first[1])}, and ${source} is ${String(value)}: they disagree`)
    }
  }
  return { value: first[1], sources: all.map(([source]) => source) }
}
