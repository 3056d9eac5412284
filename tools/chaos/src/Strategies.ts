/** The strategies that a run can be asked for by name. */
import { Strategy } from "@effect-eventbus/core"

/** `actor-per-aggregate`, `actor-pool`, `keyed-workers`, or `pool:8` for eight slots. Undefined: there is no such strategy. */
export const named = (name: string): Strategy.Service | undefined => {
  const found = [Strategy.actorPerAggregate, Strategy.actorPool, Strategy.keyedWorkers].find((one) => one.name === name)
  if (found !== undefined) return found
  const size = Number(/^pool:([1-9]\d{0,4})$/.exec(name)?.[1])
  return size > 0 ? Strategy.pool({ name: "pool", size }) : undefined
}
