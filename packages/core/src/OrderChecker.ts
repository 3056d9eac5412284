/**
 * Watches the order of aggregates in production: it is told of each handler's start, and counts those that came before one
 * that had started already. It takes constant time for each message and bounded memory, for any number of aggregates.
 *
 * Per aggregate it remembers the topic's partition, epoch and highest offset that was started. 256 shards, chosen by
 * the FNV-1a hash of the aggregate id, keep `aggregatesPerShard` aggregates each; a full one forgets the aggregate that
 * has started nothing for the longest. What is forgotten is not checked at its next message: the checker may miss
 * a violation, and never reports one that is none. It sees steps back, not skips (offsets have gaps), and
 * one process only: for proofs take the oracles of `@effect-eventbus/testing`.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as Metric from "effect/Metric"
import type { EnvelopeDelivery } from "./Delivery.js"
import * as Logging from "./internal/logging.js"
import type * as Observer from "./Observer.js"
import { fnv1a } from "./Partitioner.js"

const shards = 256
const encoder = new TextEncoder()

/**
 * Messages whose start was checked.
 *
 * @since 0.1.0
 * @category metrics
 */
export const checked = Metric.counter("eventbus_order_checked_total", {
  description: "Messages whose order was checked",
  incremental: true
})

/**
 * Messages that were started after a later one of the same aggregate, within one epoch.
 *
 * @since 0.1.0
 * @category metrics
 */
export const violations = Metric.counter("eventbus_order_violations_total", {
  description: "Messages that were started after a later one of their aggregate",
  incremental: true
})

/**
 * Remembers the last start of each aggregate and judges the next one.
 *
 * @since 0.1.0
 * @category models
 */
export interface OrderChecker {
  /** A handler starts. `false`: a later message of the aggregate has started before, in the same epoch. Retries are in order. */
  readonly start: (delivery: Started) => boolean
  /** How many aggregates are remembered. */
  readonly size: () => number
}

/**
 * What it needs of a delivery.
 *
 * @since 0.1.0
 * @category models
 */
export type Started = Pick<EnvelopeDelivery, "topic" | "group" | "partition" | "epoch" | "offset" | "aggregateId">

/**
 * How much is remembered.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** Aggregates remembered by each of the 256 shards. Default: 64, which is 16,384 in all and about 4 MiB. */
  readonly aggregatesPerShard?: number | undefined
}

interface Seen {
  partition: number
  epoch: number
  offset: number
}

/**
 * A checker without metrics.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options = {}): OrderChecker => {
  const capacity = Math.max(1, options.aggregatesPerShard ?? 64)
  const seen = Array.from({ length: shards }, () => new Map<string, Seen>())
  return {
    start: ({ aggregateId, epoch, group, offset, partition, topic }) => {
      const shard = seen[fnv1a(encoder.encode(aggregateId)) % shards]!
      const key = `${topic} ${group} ${aggregateId}`
      const before = shard.get(key)
      if (before === undefined) {
        if (shard.size >= capacity) shard.delete(shard.keys().next().value!)
        shard.set(key, { partition, epoch, offset })
        return true
      }
      // A map keeps its keys in the order in which they were added: the first is the oldest.
      shard.delete(key)
      shard.set(key, before)
      const isOrdered = before.partition !== partition || before.epoch !== epoch || before.offset <= offset
      if (isOrdered) {
        before.partition = partition
        before.epoch = epoch
        before.offset = offset
      }
      return isOrdered
    },
    size: () => seen.reduce((sum, shard) => sum + shard.size, 0)
  }
}

/**
 * A handler of envelopes that is checked, with the metrics `checked` and `violations`, and a log line for each violation.
 *
 * @since 0.1.0
 * @category handlers
 */
export const observe = (checker: OrderChecker) =>
<A, E, R>(
  handler: (event: A, delivery: EnvelopeDelivery) => Effect.Effect<unknown, E, R>
): (event: A, delivery: EnvelopeDelivery) => Effect.Effect<unknown, E, R> =>
(event, delivery) =>
  // `Metric.increment` is an effect of several steps, which took more time than the check and the count together.
  Effect.withFiberRuntime((fiber) => {
    const labels = fiber.getFiberRef(FiberRef.currentMetricLabels)
    checked.unsafeUpdate(1, labels)
    if (checker.start(delivery)) return handler(event, delivery)
    violations.unsafeUpdate(1, labels)
    const { aggregateId, offset, partition, topic } = delivery
    return Effect.zipRight(
      Logging.error(`${topic}[${partition}]@${offset} of ${aggregateId} started out of order`, {
        topic,
        partition,
        offset,
        aggregateId
      }),
      handler(event, delivery)
    )
  })

/**
 * A checker as an observer of the bus: it sees each start of each handler of an aggregate, without a change to the handlers, and counts in
 * the metrics `checked` and `violations`. Provide it with `Observer.layer`.
 *
 * @since 0.1.0
 * @category observers
 */
export const observer = (checker: OrderChecker): Observer.Service => ({
  transition: (flight) => {
    const { aggregateId } = flight
    if (flight.state !== "running" || aggregateId === undefined) return
    checked.unsafeUpdate(1, [])
    if (!checker.start({ ...positionOf(flight), aggregateId })) violations.unsafeUpdate(1, [])
  }
})

const positionOf = ({ epoch, group, offset, partition, topic }: Observer.FlightView) => ({
  epoch,
  group,
  offset,
  partition,
  topic
})
