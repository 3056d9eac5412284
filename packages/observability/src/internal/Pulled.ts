/**
 * Counters and histograms that are plain fields until somebody reads them: Effect's registry asks a metric's hook for its state, and the hook
 * adds what the fields have. So a message costs a few additions, and every reader sees exact values, whichever exporter it is.
 */
import { globalValue } from "effect/GlobalValue"
import * as Metric from "effect/Metric"
import type * as MetricHook from "effect/MetricHook"
import type * as MetricKey from "effect/MetricKey"
import * as MetricState from "effect/MetricState"

type Update = (value: number) => void

/**
 * Effect has one hook for each key as long as the process lives, and its fields stay with it: a bus that is built again goes on counting. It is one
 * for all copies of this module.
 */
const updates = globalValue("@effect-eventbus/observability/pulled", () => new WeakMap<object, Update>())

const once = <Hook extends object>(hook: Hook, make: (hook: Hook) => Update): Update => {
  let update = updates.get(hook)
  if (update === undefined) updates.set(hook, update = make(hook))
  return update
}

/**
 * A counter that never falls.
 *
 * @internal
 */
export const counter = (key: MetricKey.MetricKey.Counter<number>): Update =>
  once(Metric.globalMetricRegistry.get(key) as MetricHook.MetricHook.Counter<number>, (hook) => {
    const get = hook.get.bind(hook)
    let count = 0
    hook.get = () => MetricState.counter(get().count + count)
    return (value) => {
      if (value > 0) count += value
    }
  })

/**
 * A histogram with the boundaries of its key.
 *
 * @internal
 */
export const histogram = (key: MetricKey.MetricKey.Histogram): Update =>
  once(Metric.globalMetricRegistry.get(key) as MetricHook.MetricHook.Histogram, (hook) => {
    const get = hook.get.bind(hook)
    const boundaries = Float64Array.from(key.keyType.boundaries.values)
    const last = boundaries.length
    const counts = new Float64Array(last + 1)
    let sum = 0
    let min = Number.MAX_VALUE
    let max = Number.MIN_VALUE
    hook.get = () => {
      const other = get()
      let cumulated = 0
      const buckets = other.buckets.map(([boundary, count], i) =>
        [boundary, count + (cumulated += counts[i]!)] as const
      )
      return MetricState.histogram({
        buckets,
        count: other.count + cumulated + counts[last]!,
        min: Math.min(other.min, min),
        max: Math.max(other.max, max),
        sum: other.sum + sum
      })
    }
    return (value) => {
      // Most values are in the first ones.
      let i = 0
      while (i < last && !(value <= boundaries[i]!)) i++
      counts[i]!++
      sum += value
      if (value < min) min = value
      if (value > max) max = value
    }
  })
