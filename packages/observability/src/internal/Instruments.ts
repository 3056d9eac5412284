import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import * as MetricLabel from "effect/MetricLabel"
import * as Pulled from "./Pulled.js"

/**
 * What a metric is, as the page for operators has it.
 *
 * @internal
 */
export interface Definition {
  /** Behind the prefix; the whole name for a metric of the semantic conventions. */
  readonly name: string
  readonly type: "counter" | "gauge" | "histogram"
  readonly description: string
  /** Beside `transport` and `client_id`. */
  readonly labels: ReadonlyArray<string>
  /** Of the semantic conventions: an exporter of OpenTelemetry takes it from the metric's tags. */
  readonly unit?: string | undefined
}

/**
 * Names and values of a metric's labels.
 *
 * @internal
 */
export type Labels = Readonly<Record<string, string>>

const ofTopic = ["topic"]
const ofGroup = ["topic", "group"]
const ofSide = ["side", "strategy"]

const counter = (name: string, description: string, labels: ReadonlyArray<string> = ofGroup): Definition => ({
  name,
  type: "counter",
  description,
  labels
})
const gauge = (name: string, description: string, labels: ReadonlyArray<string> = ofGroup): Definition => ({
  name,
  type: "gauge",
  description,
  labels
})
const histogram = (name: string, description: string, labels: ReadonlyArray<string> = ofGroup): Definition => ({
  name,
  type: "histogram",
  description,
  labels
})

/**
 * The metrics whose names begin with `{transport}_eventbus_actor_pool_`.
 *
 * @internal
 */
export const own = {
  sent: counter("messages_sent_total", "Messages that were published and confirmed", ofTopic),
  publishFailures: counter("publish_failures_total", "Messages that the transport could not publish", ofTopic),
  publishLatency: histogram("publish_latency_seconds", "From a call of publish to the broker's answer", ofTopic),
  backlog: gauge("publisher_backlog", "Messages that are being published and are not confirmed yet", ofTopic),
  backlogAge: gauge(
    "publisher_backlog_seconds",
    "For how long the oldest of them has been waiting, exact to a second",
    ofTopic
  ),
  received: counter("messages_received_total", "Messages taken from the transport"),
  processed: counter("messages_processed_total", "Messages that ended, by outcome", [...ofGroup, "outcome"]),
  latency: histogram("message_latency_seconds", "From taking a message to its end; not of unfinished and lost ones"),
  wait: histogram("message_wait_seconds", "From taking a message to the first start of its handler"),
  handling: histogram("message_handling_seconds", "One attempt of a handler"),
  restarted: counter("actor_restarted_total", "Crashes of handlers, after each of which the actor was started again"),
  retries: counter("retries_total", "Attempts after the first"),
  deadLetters: counter("dead_letters_total", "Messages that were dead-lettered"),
  duplicates: counter("duplicates_announced_total", "Messages that may have been handled before"),
  redeliveries: counter("redeliveries_total", "Messages that the broker says it delivered before (NATS)"),
  violations: counter("order_violations_total", "Handlers that started out of order, as the order checker saw it"),
  inFlight: gauge("in_flight", "Messages in hand now, by state", [...ofGroup, "state"]),
  oldest: gauge("oldest_in_flight_seconds", "The age of the oldest message in hand, exact to a second"),
  actors: gauge("actors", "Actors that live now"),
  actorsEnded: counter("actors_ended_total", "Actors that ended because they were idle or made room"),
  inbox: gauge("inbox_utilization", "How full the fullest mailbox is, from 0 to 1"),
  held: gauge("messages_held", "Messages that are held now"),
  partitions: gauge("partitions_assigned", "Partitions that the subscription owns now"),
  assigned: counter("partitions_assigned_total", "Partitions that were given to the subscription"),
  revoked: counter("partitions_revoked_total", "Partitions that were taken away from the subscription"),
  rebalances: counter("rebalances_total", "Assignments that a group's rebalance made (Kafka)"),
  takeOvers: counter(
    "take_overs_total",
    "Other instances whose leases ended, so that their partitions are taken over (NATS)"
  ),
  leasesLost: counter("lease_losses_total", "Leases of partitions that this instance lost (NATS)"),
  watermarkLag: gauge(
    "watermark_lag",
    "Offsets between the oldest unfinished message and the position, over all partitions"
  ),
  watermarkAge: gauge("watermark_age_seconds", "For how long no partition with unfinished messages has moved, at most"),
  lag: gauge("consumer_lag", "Offsets between the watermark and the end of the log, over all partitions"),
  problems: gauge("problems", "What is failing now and is tried again, as the status of the subscription names it"),
  paused: gauge("paused", "1: somebody has paused the subscription, or a part of it"),
  circuitOpen: gauge("circuit_open", "1: a circuit of the subscription is open, or its guard has stopped it"),
  pausedAggregates: gauge("aggregates_paused", "Aggregates that somebody has paused by themselves"),
  parkedAggregates: gauge("parked_aggregates", "Aggregates that are parked, of the partitions that this instance owns"),
  parkedLetters: gauge("parked_letters", "Letters of parked aggregates, of the partitions that this instance owns"),
  pausedTime: gauge(
    "paused_seconds",
    "For how long the subscription, or the aggregate that is paused for longest, has been paused by hand"
  ),
  bounds: counter("bounds_reached_total", "How often a bound was reached", [...ofGroup, "bound"]),
  boundSeconds: counter("bound_paused_seconds_total", "For how long something waited at a bound", [
    ...ofGroup,
    "bound"
  ]),
  eventLoopDelay: gauge(
    "event_loop_delay_seconds",
    "The longest delay of the event loop in the last minute, of the whole process",
    []
  ),
  memory: gauge("resident_memory_bytes", "Memory of the process, as the system counts it", []),
  connected: gauge("connected", "1: connected, 0.5: some brokers can't be reached, 0: none can", []),
  reconnects: counter("reconnects_total", "How often the connection came back", []),
  disconnects: counter("disconnects_total", "How often the connection was lost", []),
  dispatch: gauge("dispatch_info", "1: the bus has this strategy, on this side", ofSide),
  rollouts: counter("rollouts_total", "Rollouts that ended, by how", ["outcome"]),
  rolloutRunning: gauge("rollout_running", "1: a rollout runs", []),
  rolloutShare: gauge("rollout_share", "The share of the aggregates that the side has, from 0 to 1", ofSide),
  rolloutMessages: gauge("rollout_messages", "Messages whose handler was started in this step", ofSide),
  rolloutThroughput: gauge("rollout_messages_per_second", "Messages that have ended, in this step", ofSide),
  rolloutLatency: gauge("rollout_latency_p99_seconds", "The p99 from taking a message to its end", ofSide),
  rolloutWait: gauge("rollout_wait_p99_seconds", "The p99 from taking a message to the start of its handler", ofSide),
  rolloutHandling: gauge("rollout_handling_p99_seconds", "The p99 of the time in hand", ofSide),
  rolloutErrors: gauge("rollout_errors_ratio", "Messages with an error per message, in this step", ofSide),
  rolloutRestarts: gauge("rollout_restarts_ratio", "Restarts per message, in this step", ofSide),
  rolloutLost: gauge("rollout_lost", "Messages that were lost in this step", ofSide),
  rolloutHeap: gauge("rollout_heap_bytes", "The process's heap after a collection: before the step, and now", ["when"])
} as const satisfies Record<string, Definition>

/**
 * The version of OpenTelemetry's semantic conventions for messaging that metrics and spans follow. They are in development there.
 *
 * @internal
 */
export const conventionsVersion = "1.44.0"

const sendLabels = ["messaging.destination.name", "error.type"]
const consumeLabels = [
  "messaging.destination.name",
  "messaging.consumer.group.name",
  "messaging.destination.partition.id"
]

/**
 * The metrics of the semantic conventions. Each has `messaging.system`, `messaging.operation.name` and `messaging.client.id`, too.
 *
 * @internal
 */
export const conventions = {
  sent: {
    ...counter("messaging.client.sent.messages", "Messages that a producer tried to send", sendLabels),
    unit: "{message}"
  },
  consumed: {
    ...counter("messaging.client.consumed.messages", "Messages that were delivered to the application", consumeLabels),
    unit: "{message}"
  },
  operation: {
    ...histogram("messaging.client.operation.duration", "How long a send took", [
      ...sendLabels,
      "messaging.operation.type"
    ]),
    unit: "s"
  },
  process: {
    ...histogram("messaging.process.duration", "One attempt of a handler", [...consumeLabels, "error.type"]),
    unit: "s"
  }
} as const satisfies Record<string, Definition>

/** What the conventions advise, with finer ones at the begin. */
const boundaries = MetricBoundaries.fromIterable([
  0.001,
  0.0025,
  0.005,
  0.01,
  0.025,
  0.05,
  0.075,
  0.1,
  0.25,
  0.5,
  0.75,
  1,
  2.5,
  5,
  7.5,
  10,
  30,
  60,
  300
])

/**
 * A metric with its labels as a function that takes a value. Labels are part of the key: adding them at each update costs several times
 * as much. It is exposed from the beginning, because a rate needs a first value.
 *
 * @internal
 */
export const make = (definition: Definition, name: string, labels: Labels): (value: number) => void => {
  const { description, type, unit } = definition
  const tags = Object.entries(unit === undefined ? labels : { ...labels, unit }).map(([key, value]) =>
    MetricLabel.make(key, value)
  )
  switch (type) {
    case "counter":
      return Pulled.counter(
        MetricKey.taggedWithLabels(MetricKey.counter(name, { description, incremental: true }), tags)
      )
    case "histogram":
      return Pulled.histogram(MetricKey.taggedWithLabels(MetricKey.histogram(name, boundaries, description), tags))
    case "gauge": {
      const hook = Metric.globalMetricRegistry.get(
        MetricKey.taggedWithLabels(MetricKey.gauge(name, { description }), tags)
      )
      return (value) => hook.update(value)
    }
  }
}
