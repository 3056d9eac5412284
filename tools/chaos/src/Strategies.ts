/** The strategies that a run can be asked for by name. */
import { Partitioner, Strategy } from "@effect-eventbus/core"

const encoder = new TextEncoder()

const pool = (count: number): Strategy.Service => ({
  name: "pool",
  slots: { count, slotOf: (key) => Partitioner.fnv1a(encoder.encode(key)) % count }
})

/** `actor-per-aggregate`, or `pool:8` for eight slots. Undefined: there is no such strategy. */
export const named = (name: string): Strategy.Service | undefined => {
  if (name === Strategy.actorPerAggregate.name) return Strategy.actorPerAggregate
  const count = Number(/^pool:([1-9]\d{0,4})$/.exec(name)?.[1])
  return count > 0 ? pool(count) : undefined
}
