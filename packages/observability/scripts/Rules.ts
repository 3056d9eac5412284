/** The source of Prometheus's rules: `prometheus/*.rules.yml` are made of it. */
import { errors, named } from "./Queries.js"

/** How far rules look back. A test looks back less far, because it has no hour. */
export interface Windows {
  /** Over which rates are taken. */
  readonly rate: string
  /** Over which counts are looked at, of what must not happen at all. */
  readonly events: string
  /** How long the baseline is, and how long ago it ended. */
  readonly baseline: readonly [over: string, offset: string]
}

export const windows: Windows = { rate: "5m", events: "15m", baseline: ["1h", "30m"] }

export interface Recording {
  readonly record: string
  readonly expr: string
}

export interface Alert {
  readonly alert: string
  /** What is looked at. It has a value also where nothing is wrong. */
  readonly value: string
  /** What `value` is compared with. */
  readonly condition: string
  readonly for: string
  readonly severity: "critical" | "warning"
  readonly isRollback?: true
  readonly summary: string
  readonly description: string
}

const group = "transport, topic, group"
const ofGroup = "Subscription {{ $labels.topic }} of group {{ $labels.group }}"

export const recordings = (transport: string, { rate }: Windows = windows): ReadonlyArray<Recording> => {
  const name = named(transport)
  return [
    {
      record: "eventbus:messages_processed:rate",
      expr: `sum by (${group}) (rate(${name("processed")}[${rate}]))`
    },
    {
      record: "eventbus:message_latency_seconds:p99",
      // Without messages it is no number, which would spoil the average of the baseline: `> 0` drops that.
      expr: `histogram_quantile(0.99, sum by (${group}, le) (rate(${name("latency", "_bucket")}[${rate}]))) > 0`
    },
    {
      record: "eventbus:resident_memory_bytes:avg",
      expr: `avg by (transport, client_id) (avg_over_time(${name("memory")}[${rate}]))`
    }
  ]
}

/** The rollback triggers: each compares with how it was before, or with all messages. */
const rollback = (transport: string, { baseline: [over, offset], rate }: Windows): ReadonlyArray<Alert> => {
  const name = named(transport)
  const own = `{transport="${transport}"}`
  const processed = `eventbus:messages_processed:rate${own}`
  const p99 = `eventbus:message_latency_seconds:p99${own}`
  const memory = `eventbus:resident_memory_bytes:avg${own}`
  // A handler that crashes for every message ends none: what is divided by must not be 0 then.
  const share = (rate: string) => `sum by (${group}) (${rate}) / clamp_min(${processed}, 1e-6)`
  return [
    {
      alert: "EventBusSlowerThanBaseline",
      // Times are exact to about 10 ms, so that less than 25 ms says nothing.
      value: `${p99} / avg_over_time(${p99}[${over}] offset ${offset})`,
      condition: `> 1.2 and ${p99} > 0.025`,
      for: "5m",
      severity: "critical",
      isRollback: true,
      summary: `${ofGroup}: the 99th percentile of the latency is 20 % above what it was`,
      description:
        "Compare message_wait_seconds and message_handling_seconds. If a release came before it, take it back."
    },
    {
      alert: "EventBusRestarts",
      value: share(`rate(${name("restarted")}[${rate}])`),
      condition: "> 0.05",
      for: "5m",
      severity: "critical",
      isRollback: true,
      summary: `${ofGroup}: handlers crash for more than 5 % of the messages`,
      description: "A handler throws or dies: a bug. The log has the defect. If a release came before it, take it back."
    },
    {
      alert: "EventBusErrors",
      value: share(`rate(${name("processed")}{${errors}}[${rate}])`),
      condition: "> 0.01",
      for: "5m",
      severity: "critical",
      isRollback: true,
      summary: `${ofGroup}: more than 1 % of the messages are given up`,
      description:
        "They are dead-lettered, dropped, or failed at-most-once. The header X-Dead-Letter-Error names the failure."
    },
    {
      alert: "EventBusMemoryAboveBaseline",
      value: `${memory} / avg_over_time(${memory}[${over}] offset ${offset})`,
      condition: "> 1.5",
      for: "5m",
      severity: "critical",
      isRollback: true,
      summary: "Processes of {{ $labels.client_id }} have 50 % more memory than before",
      description: "Look at in_flight and actors: what the bus keeps has bounds. What handlers keep has none."
    }
  ]
}

const operation = (transport: string, { events, rate }: Windows): ReadonlyArray<Alert> => {
  const name = named(transport)
  return [
    {
      alert: "EventBusStalled",
      value: `max by (${group}) (${name("watermarkAge")})`,
      condition: "> 300",
      for: "1m",
      severity: "critical",
      summary: `${ofGroup}: a partition has not moved for five minutes`,
      description: "Its oldest message does not end: a handler hangs, a message is held or retried, or commits fail."
    },
    {
      alert: "EventBusMessageStuck",
      value: `max by (${group}) (${name("oldest")})`,
      condition: "> 300",
      for: "1m",
      severity: "warning",
      summary: `${ofGroup}: a message has been in hand for five minutes`,
      description: "in_flight says in which state. Messages of other aggregates go on."
    },
    {
      alert: "EventBusLag",
      value: `sum by (${group}) (${name("lag")})`,
      // It is no alarm as long as the lag shrinks.
      condition: `> 10000 and sum by (${group}) (delta(${name("lag")}[${rate}])) >= 0`,
      for: "10m",
      severity: "warning",
      summary: `${ofGroup}: {{ $value }} messages are to do, and they don't get fewer`,
      description: "More instances, quicker handlers, or a bound that is too small: look at bound_paused_seconds_total."
    },
    {
      alert: "EventBusDeadLetters",
      value: `sum by (${group}) (increase(${name("deadLetters")}[${events}]))`,
      condition: "> 0",
      for: "0m",
      severity: "warning",
      summary: `${ofGroup}: messages were dead-lettered`,
      description: "The header X-Dead-Letter-Error names the failure. Redrive them when it is mended."
    },
    {
      alert: "EventBusHeld",
      value: `sum by (${group}) (${name("held")})`,
      condition: "> 0",
      for: "15m",
      severity: "warning",
      summary: `${ofGroup}: {{ $value }} messages are held`,
      description: "Their aggregates wait until what fails is mended."
    },
    {
      alert: "EventBusInboxFull",
      value: `max by (${group}) (${name("inbox")})`,
      condition: "> 0.95",
      for: "10m",
      severity: "warning",
      summary: `${ofGroup}: a mailbox is full`,
      description: "One aggregate gets more messages than its handler can do. Its partition waits for it."
    },
    {
      alert: "EventBusProblems",
      value: `max by (${group}) (${name("problems")})`,
      condition: "> 0",
      for: "2m",
      severity: "warning",
      summary: `${ofGroup}: something fails and is tried again`,
      description: "Commits, leases, fetches or a right. The subscription's status and the log name it."
    },
    {
      alert: "EventBusNobodyReads",
      value: `sum by (${group}) (${name("partitions")})`,
      condition: "== 0",
      for: "5m",
      severity: "critical",
      summary: `${ofGroup}: no instance owns a partition`,
      description: "Instances run, and none of them reads. Look at the log, at connected and at problems."
    },
    {
      alert: "EventBusDisconnected",
      value: `min by (transport, client_id) (${name("connected")})`,
      condition: "== 0",
      for: "1m",
      severity: "critical",
      summary: "{{ $labels.client_id }} can't reach any broker",
      description: "The network, the brokers, or a password."
    },
    {
      alert: "EventBusPublishFailures",
      value: `sum by (transport, topic) (rate(${name("publishFailures")}[${rate}]))`,
      condition: "> 0",
      for: "2m",
      severity: "critical",
      summary: "Messages to {{ $labels.topic }} can't be published",
      description: "The publishers' errors and the transport's log say why."
    },
    {
      alert: "EventBusOrderViolated",
      value: `sum by (${group}) (increase(${name("violations")}[${events}]))`,
      condition: "> 0",
      for: "0m",
      severity: "critical",
      summary: `${ofGroup}: a handler started out of order`,
      description: "Only with the option checkOrder. Please report it."
    }
  ]
}

export const alerts = (transport: string, given: Windows = windows) => ({
  rollback: rollback(transport, given),
  operation: operation(transport, given)
})

/** The text of a file of rules. A string of JSON is one of YAML. */
export const format = (transport: string, given: Windows = windows): string => {
  const { operation, rollback } = alerts(transport, given)
  return [
    "# Made by packages/observability/scripts/generate.ts. docs/observability.md says what the metrics mean.",
    "groups:",
    `  - name: eventbus-${transport}-baseline`,
    "    rules:",
    ...recordings(transport, given).flatMap(({ expr, record }) => [
      `      - record: ${record}`,
      `        expr: ${JSON.stringify(expr)}`
    ]),
    `  - name: eventbus-${transport}-rollback`,
    "    rules:",
    ...rollback.flatMap(alertLines),
    `  - name: eventbus-${transport}`,
    "    rules:",
    ...operation.flatMap(alertLines),
    ""
  ].join("\n")
}

const alertLines = (one: Alert): ReadonlyArray<string> => [
  `      - alert: ${one.alert}`,
  `        expr: ${JSON.stringify(`${one.value} ${one.condition}`)}`,
  `        for: ${one.for}`,
  "        labels:",
  `          severity: ${one.severity}`,
  ...(one.isRollback === undefined ? [] : ["          rollback: \"true\""]),
  "        annotations:",
  `          summary: ${JSON.stringify(one.summary)}`,
  `          description: ${JSON.stringify(one.description)}`
]
