import * as Effect from "effect/Effect"
import * as ConfigSpec from "../ConfigSpec.js"
import * as EventBusConfig from "../EventBusConfig.js"
import * as Strategy from "../Strategy.js"
import * as Logging from "./logging.js"
import * as Safely from "./safely.js"

const period = ConfigSpec.duration({ description: "After how long a full mailbox is reported." })

/**
 * What is wrong with the numbers of a strategy.
 *
 * @internal
 */
export const issuesOf = (
  { capacity, reportFullAfter, restart, slots }: Strategy.Service
): ReadonlyArray<string> => {
  const full = reportFullAfter === undefined ? undefined : period.expected(reportFullAfter)
  return [
    ...(capacity === undefined ? [] : issueOf("capacity", capacity)),
    ...(slots === "per-aggregate" ? [] : issueOf("slots.count", slots.count)),
    ...(typeof restart === "number" ? issueOf("restart", restart, 0) : []),
    ...(full === undefined ? [] : [`Strategy: reportFullAfter: ${full}`])
  ]
}

const issueOf = (name: string, value: number, min = 1): ReadonlyArray<string> =>
  Number.isSafeInteger(value) && value >= min
    ? []
    : [`Strategy: ${name}: expected a whole number of at least ${min}, got ${String(value)}`]

/**
 * The strategy of a bus, and which source has named it.
 *
 * @internal
 */
export interface Choice {
  readonly strategy: Strategy.Service
  /** Undefined: nobody has named one. */
  readonly source: string | undefined
  readonly issues: ReadonlyArray<string>
}

/** Where strategies come from that a configuration has named. */
const sources = new WeakMap<Strategy.Service, string>()

/**
 * The strategy, which comes from this source and not from code.
 *
 * @internal
 */
export const from = (source: string, strategy: Strategy.Service): Strategy.Service => {
  // The built-in ones are values that code names, too.
  const own = { ...strategy }
  sources.set(own, source)
  return own
}

const SETTING = "the setting eventbus.dispatch (EVENTBUS_DISPATCH)"

/**
 * The strategy that the settings and the given strategy name. Two that disagree are issues that name both.
 *
 * @internal
 */
export const choose = (config: EventBusConfig.Service, provided: Strategy.Service | undefined): Choice => {
  const { dispatch, poolSize } = config
  if (provided === undefined) {
    const strategy = named(dispatch ?? "actor-per-aggregate", poolSize)
    return {
      strategy,
      source: dispatch === undefined ? undefined : SETTING,
      issues: poolSize !== undefined && strategy.slots === "per-aggregate"
        ? [
          `poolSize: ${strategy.name} has no pool, so nothing would use it (choose actor-pool or keyed-workers by dispatch)`
        ]
        : issuesOf(strategy)
    }
  }
  const source = sources.get(provided) ?? "the Strategy that the program provides"
  const differ = (setting: string, one: unknown, other: unknown) =>
    one === undefined || one === other ? [] : [`${setting} says ${String(one)}, and ${source} says ${String(other)}`]
  return {
    strategy: provided,
    source: dispatch === undefined ? source : `${source} and ${SETTING}`,
    issues: [
      ...issuesOf(provided),
      ...differ(SETTING, dispatch, provided.name),
      ...differ(
        "the setting eventbus.poolSize (EVENTBUS_POOL_SIZE)",
        poolSize,
        provided.slots === "per-aggregate" ? "no pool" : provided.slots.count
      ),
      ...(sources.has(provided) ? numbersDiffer(config, provided, differ) : [])
    ]
  }
}

/** Numbers that a configuration has given with the strategy. In code they are more special than the settings. */
const numbersDiffer = (
  config: EventBusConfig.Service,
  { capacity, restart }: Strategy.Service,
  differ: (setting: string, one: unknown, other: unknown) => ReadonlyArray<string>
): ReadonlyArray<string> => {
  const { mailboxCapacity, restartTimes } = EventBusConfig.defaults
  return [
    ...(capacity === undefined || config.mailboxCapacity === mailboxCapacity
      ? []
      : differ("the setting eventbus.mailboxCapacity (EVENTBUS_MAILBOX_CAPACITY)", config.mailboxCapacity, capacity)),
    ...(typeof restart !== "number" || config.restartTimes === restartTimes
      ? []
      : differ("the setting eventbus.restartTimes (EVENTBUS_RESTART_TIMES)", config.restartTimes, restart))
  ]
}

/**
 * The strategy of a name, with another size where it has a pool.
 *
 * @internal
 */
export const named = (name: Strategy.Name, size?: number): Strategy.Service => {
  switch (name) {
    case "actor-per-aggregate":
      return Strategy.actorPerAggregate
    case "actor-pool":
      return size === undefined ? Strategy.actorPool : Strategy.pool({ ...Strategy.actorPool, size })
    case "keyed-workers":
      return size === undefined ? Strategy.keyedWorkers : Strategy.pool({ ...Strategy.keyedWorkers, size })
  }
}

/**
 * A strategy in words, for logs.
 *
 * @internal
 */
export const describe = ({ capacity, name, restart, slots }: Strategy.Service, defaults: EventBusConfig.Service) =>
  `${name} (${slots === "per-aggregate" ? "an actor for each active aggregate" : `${slots.count} slots`}, ` +
  `mailboxes of ${capacity ?? defaults.mailboxCapacity} messages, ${
    restart === "never" || restart === 0
      ? "no restarts"
      : typeof restart === "number"
      ? `${restart} restarts`
      : restart === undefined
      ? "restarts as the supervisor says"
      : "restarts by a schedule of its own"
  })`

/**
 * Makes strategies whose `slotOf` always answers one of their slots, the same one for a strategy that is given again. `slotOf` is a user's function,
 * and is called while a transport offers messages: a throw there would end the partition, and a number beyond `count` would make
 * more slots than the strategy has.
 *
 * @internal
 */
export const guard: Effect.Effect<(strategy: Strategy.Service) => Strategy.Service> = Effect.map(
  Logging.atOnce,
  (log) => {
    const guards = new WeakMap<Strategy.Service, Strategy.Service>()
    const warn = (text: string) => log(Logging.warning(text))
    return (strategy) => {
      const guard = guards.get(strategy) ?? guarded(strategy, warn)
      guards.set(strategy, guard)
      guards.set(guard, guard)
      return guard
    }
  }
)

const guarded = (strategy: Strategy.Service, warn: (text: string) => void): Strategy.Service => {
  const { capacity, name, reportFullAfter, restart, slots } = strategy
  if (slots === "per-aggregate") return strategy
  const { count } = slots
  let isSaid = false
  const first = (what: string): number => {
    if (isSaid) return 0
    isSaid = true
    warn(
      `The strategy "${name}" answers no slot from 0 to ${count - 1} for a key: ${what}. ` +
        "The first slot takes the messages of such keys. This is said once."
    )
    return 0
  }
  const slotOf = (key: string): number => {
    try {
      const slot = slots.slotOf(key)
      return Number.isInteger(slot) && slot >= 0 && slot < count
        ? slot
        : first(`slotOf answered ${String(slot)}`)
    } catch (thrown) {
      return first(`slotOf threw (${Safely.nameOf(thrown)})`)
    }
  }
  return { name, capacity, restart, reportFullAfter, slots: { count, slotOf } }
}
