import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import type { Service } from "../Strategy.js"
import * as Logging from "./logging.js"
import * as Safely from "./safely.js"

/**
 * What is wrong with the numbers of a strategy.
 *
 * @internal
 */
export const issuesOf = ({ capacity, slots }: Service): ReadonlyArray<string> => [
  ...(capacity === undefined ? [] : issueOf("capacity", capacity)),
  ...(slots === "per-aggregate" ? [] : issueOf("slots.count", slots.count))
]

const issueOf = (name: string, value: number): ReadonlyArray<string> =>
  Number.isSafeInteger(value) && value > 0
    ? []
    : [`Strategy: ${name}: expected a whole number of at least 1, got ${String(value)}`]

/**
 * A strategy whose `slotOf` always answers one of its slots. It is a user's function, and is called while a transport offers
 * messages: a throw there would end the partition, and a number beyond `count` would make more slots than the strategy has.
 *
 * @internal
 */
export const guarded = (strategy: Service): Effect.Effect<Service> =>
  Effect.map(Effect.runtime<never>(), (runtime) => {
    const { slots } = strategy
    if (slots === "per-aggregate") return strategy
    let isSaid = false
    const first = (what: string): number => {
      if (isSaid) return 0
      isSaid = true
      Runtime.runSyncExit(runtime)(
        Logging.warning(
          `The strategy "${strategy.name}" answers no slot from 0 to ${slots.count - 1} for a key: ${what}. ` +
            "The first slot takes the messages of such keys. This is said once."
        )
      )
      return 0
    }
    const slotOf = (key: string): number => {
      try {
        const slot = slots.slotOf(key)
        return Number.isInteger(slot) && slot >= 0 && slot < slots.count
          ? slot
          : first(`slotOf answered ${String(slot)}`)
      } catch (thrown) {
        return first(`slotOf threw (${Safely.nameOf(thrown)})`)
      }
    }
    const { capacity, name, restart } = strategy
    return { name, capacity, restart, slots: { count: slots.count, slotOf } }
  })
