/** Words that the rules and the dashboard have in common: PromQL on the metrics of one transport. */
import { own } from "../src/internal/Instruments.js"

/** The name of a metric as Prometheus has it. Only metrics that there are can be named. */
export const named = (prefix: string) => (metric: keyof typeof own, ending = ""): string =>
  `${prefix}_eventbus_actor_pool_${own[metric].name}${ending}`

/** What is not handled in the end. */
export const errors = `outcome=~"dead-lettered|dropped|failed"`
