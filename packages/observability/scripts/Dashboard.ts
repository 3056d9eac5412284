/** The source of Grafana's dashboard: `grafana/eventbus.json` is made of it. */
import { errors, named } from "./Queries.js"

export interface Target {
  readonly expr: string
  readonly legend: string
  /** Only on this transport there are such metrics. */
  readonly only?: "kafka" | "nats"
}

export interface Panel {
  readonly title: string
  readonly description: string
  readonly unit: string
  readonly targets: ReadonlyArray<Target>
}

export interface Row {
  readonly title: string
  readonly panels: ReadonlyArray<Panel>
}

const ofGroup = `{topic=~"$topic", group=~"$group"}`
const ofTopic = `{topic=~"$topic"}`
const by = "topic, group"
const legend = "{{topic}} {{group}}"

const name = named("${transport}")

const rate = (metric: Parameters<typeof name>[0], labels = ofGroup, ending = "") =>
  `rate(${name(metric, ending)}${labels}[$__rate_interval])`

const quantile = (q: number, metric: Parameters<typeof name>[0]): Target => ({
  expr: `histogram_quantile(${q}, sum by (${by}, le) (${rate(metric, ofGroup, "_bucket")}))`,
  legend: `p${q * 100} ${legend}`
})

const gauge = (how: "sum" | "max", metric: Parameters<typeof name>[0], what = legend): Target => ({
  expr: `${how} by (${by}) (${name(metric)}${ofGroup})`,
  legend: what
})

const rates = (metric: Parameters<typeof name>[0], what = legend): Target => ({
  expr: `sum by (${by}) (${rate(metric)})`,
  legend: what
})

/** Of both sides while a rollout runs; before and after it there is nothing to see. */
const sides = (how: "sum" | "max", metric: Parameters<typeof name>[0], what = ""): Target => ({
  expr: `${how} by (client_id, side, strategy) (${running(name(metric))})`,
  legend: `${what}{{side}} {{strategy}} {{client_id}}`
})

const running = (metric: string): string =>
  `${metric} and on (transport, client_id, instance) ${name("rolloutRunning")} == 1`

const heap = (when: "before" | "now"): Target => ({
  expr: `max by (client_id, instance) (${running(`${name("rolloutHeap")}{when="${when}"}`)})`,
  legend: `${when} {{client_id}} {{instance}}`
})

export const rows: ReadonlyArray<Row> = [
  {
    title: "Messages",
    panels: [
      {
        title: "Published",
        description: "Messages that the broker has confirmed, and those that could not be published.",
        unit: "ops",
        targets: [
          { expr: `sum by (topic) (${rate("sent", ofTopic)})`, legend: "{{topic}}" },
          { expr: `sum by (topic) (${rate("publishFailures", ofTopic)})`, legend: "failed {{topic}}" }
        ]
      },
      {
        title: "Processed",
        description: "Messages that ended, by outcome.",
        unit: "ops",
        targets: [{ expr: `sum by (${by}, outcome) (${rate("processed")})`, legend: `{{outcome}} ${legend}` }]
      },
      {
        title: "Latency",
        description: "From taking a message to its end, retries included.",
        unit: "s",
        targets: [quantile(0.5, "latency"), quantile(0.99, "latency")]
      },
      {
        title: "Wait in the mailbox",
        description: "From taking a message to the first start of its handler.",
        unit: "s",
        targets: [quantile(0.5, "wait"), quantile(0.99, "wait")]
      },
      {
        title: "Handling",
        description: "One attempt of a handler.",
        unit: "s",
        targets: [quantile(0.5, "handling"), quantile(0.99, "handling")]
      },
      {
        title: "Latency of publishing",
        description: "From a call of publish to the broker's answer.",
        unit: "s",
        targets: [{
          expr: `histogram_quantile(0.99, sum by (topic, le) (${rate("publishLatency", ofTopic, "_bucket")}))`,
          legend: "p99 {{topic}}"
        }]
      }
    ]
  },
  {
    title: "Lag and stalls",
    panels: [
      {
        title: "Consumer lag",
        description: "Messages between the watermark and the end of the log.",
        unit: "short",
        targets: [gauge("sum", "lag")]
      },
      {
        title: "Watermark lag",
        description:
          "Offsets between the oldest unfinished message and the position. It grows behind one slow message.",
        unit: "short",
        targets: [gauge("sum", "watermarkLag")]
      },
      {
        title: "Stalls",
        description: "For how long a partition has not moved, and the age of the oldest message in hand.",
        unit: "s",
        targets: [gauge("max", "watermarkAge", `watermark ${legend}`), gauge("max", "oldest", `in hand ${legend}`)]
      },
      {
        title: "Publisher backlog",
        description: "Messages that are being published and are not confirmed, and the age of the oldest.",
        unit: "short",
        targets: [
          { expr: `sum by (topic) (${name("backlog")}${ofTopic})`, legend: "{{topic}}" },
          { expr: `max by (topic) (${name("backlogAge")}${ofTopic})`, legend: "seconds {{topic}}" }
        ]
      }
    ]
  },
  {
    title: "Failures",
    panels: [
      {
        title: "Restarts",
        description: "Handlers that died of a defect.",
        unit: "ops",
        targets: [rates("restarted")]
      },
      {
        title: "Retries",
        description: "Attempts after the first.",
        unit: "ops",
        targets: [rates("retries")]
      },
      {
        title: "Dead letters",
        description: "Messages that were dead-lettered.",
        unit: "ops",
        targets: [rates("deadLetters")]
      },
      {
        title: "Share of errors",
        description: "Of all messages that ended, those that were given up. A rollback trigger at 1 %.",
        unit: "percentunit",
        targets: [{
          expr: `sum by (${by}) (${rate("processed", `{topic=~"$topic", group=~"$group", ${errors}}`)}) / ` +
            `clamp_min(sum by (${by}) (${rate("processed")}), 1e-6)`,
          legend
        }]
      },
      {
        title: "Held, and problems",
        description: "Messages that are held, and what fails and is tried again, such as commits and leases.",
        unit: "short",
        targets: [gauge("sum", "held", `held ${legend}`), gauge("max", "problems", `problems ${legend}`)]
      },
      {
        title: "Duplicates announced",
        description: "Messages that may have been handled before.",
        unit: "ops",
        targets: [rates("duplicates"), rates("redeliveries", `redelivered ${legend}`)]
      }
    ]
  },
  {
    title: "Actors and bounds",
    panels: [
      {
        title: "Inbox utilization",
        description: "How full the fullest mailbox is.",
        unit: "percentunit",
        targets: [gauge("max", "inbox")]
      },
      {
        title: "In flight",
        description: "Messages in hand, by state.",
        unit: "short",
        targets: [{
          expr: `sum by (${by}, state) (${name("inFlight")}${ofGroup})`,
          legend: `{{state}} ${legend}`
        }]
      },
      {
        title: "Strategies, and what is paused",
        description: "Instances with each strategy, and subscriptions that somebody has paused.",
        unit: "short",
        targets: [
          {
            expr: `sum by (side, strategy, client_id) (${name("dispatch")} == 1)`,
            legend: "{{side}} {{strategy}} {{client_id}}"
          },
          gauge("max", "paused", `paused ${legend}`)
        ]
      },
      {
        title: "Parked",
        description: "Aggregates that are parked, and their letters.",
        unit: "short",
        targets: [
          gauge("sum", "parkedAggregates", `aggregates ${legend}`),
          gauge("sum", "parkedLetters", `letters ${legend}`)
        ]
      },
      {
        title: "Actors",
        description: "Actors that live now.",
        unit: "short",
        targets: [gauge("sum", "actors"), rates("actorsEnded", `ended per second ${legend}`)]
      },
      {
        title: "Paused at bounds",
        description: "The share of time in which something waited, by bound. Those of the whole bus have no topic.",
        unit: "percentunit",
        targets: [{
          expr: `sum by (${by}, bound) (${rate("boundSeconds", "")})`,
          legend: `{{bound}} ${legend}`
        }]
      },
      {
        title: "Memory",
        description: "Of the process, as the system counts it.",
        unit: "bytes",
        targets: [{ expr: `max by (client_id, instance) (${name("memory")})`, legend: "{{client_id}} {{instance}}" }]
      }
    ]
  },
  {
    title: "Canary against baseline",
    panels: [
      {
        title: "Rate of both sides",
        description:
          "Messages that end, in this step of the rollout. Empty where no rollout runs, as all panels of this row.",
        unit: "ops",
        targets: [sides("sum", "rolloutThroughput")]
      },
      {
        title: "p99 of both sides",
        description: "From taking a message to its end, of messages that were handled at the first attempt.",
        unit: "s",
        targets: [
          sides("max", "rolloutLatency"),
          sides("max", "rolloutWait", "waiting "),
          sides("max", "rolloutHandling", "handling ")
        ]
      },
      {
        title: "Errors of both sides",
        description:
          "Messages of which an attempt has failed, or that were given up, per message. A rollback trigger at 1 %.",
        unit: "percentunit",
        targets: [sides("max", "rolloutErrors")]
      },
      {
        title: "Restarts of both sides",
        description: "Per message. A rollback trigger at 5 %.",
        unit: "percentunit",
        targets: [sides("max", "rolloutRestarts")]
      },
      {
        title: "Share, and how rollouts ended",
        description:
          "The share of the aggregates that the candidate has, and how many rollouts have ended lately, by how.",
        unit: "short",
        targets: [
          sides("max", "rolloutShare"),
          {
            expr: `sum by (client_id, outcome) (increase(${name("rollouts")}[$__rate_interval]))`,
            legend: "{{outcome}} {{client_id}}"
          }
        ]
      },
      {
        title: "Heap before the step, and now",
        description: "Of the process, after full collections. A rollback trigger at 50 % more.",
        unit: "bytes",
        targets: [heap("before"), heap("now")]
      }
    ]
  },
  {
    title: "Connection and group",
    panels: [
      {
        title: "Connected",
        description: "1: connected, 0.5: some brokers can't be reached, 0: none can.",
        unit: "short",
        targets: [{
          expr: `min by (client_id, instance) (${name("connected")})`,
          legend: "{{client_id}} {{instance}}"
        }]
      },
      {
        title: "Reconnects",
        description: "How often the connection was lost and came back.",
        unit: "ops",
        targets: [
          { expr: `sum by (client_id) (${rate("reconnects", "")})`, legend: "{{client_id}}" },
          { expr: `sum by (client_id) (${rate("disconnects", "")})`, legend: "lost {{client_id}}" }
        ]
      },
      {
        title: "Partitions",
        description: "Owned by each instance.",
        unit: "short",
        targets: [{
          expr: `sum by (${by}, instance) (${name("partitions")}${ofGroup})`,
          legend: `{{instance}} ${legend}`
        }]
      },
      {
        title: "Rebalances, take-overs and leases lost",
        description: "Members that came and went, were killed, or did not renew in time.",
        unit: "ops",
        targets: [
          { ...rates("rebalances", `rebalances ${legend}`), only: "kafka" },
          { ...rates("takeOvers", `take-overs ${legend}`), only: "nats" },
          { ...rates("leasesLost", `leases lost ${legend}`), only: "nats" }
        ]
      }
    ]
  }
]

const variable = (name: string, query: string) => ({
  name,
  label: name,
  type: "query",
  datasource: { type: "prometheus", uid: "${datasource}" },
  query: { query, refId: name },
  refresh: 2,
  includeAll: true,
  multi: true,
  allValue: ".*",
  current: { text: "All", value: "$__all" }
})

const width = 8
const height = 8

export const make = (): object => {
  let id = 1
  let y = 0
  const panels = rows.flatMap((row) => {
    const title = { id: id++, type: "row", title: row.title, gridPos: { h: 1, w: 24, x: 0, y: y++ }, panels: [] }
    const top = y
    y += Math.ceil(row.panels.length / 3) * height
    return [
      title,
      ...row.panels.map((panel, i) => ({
        id: id++,
        type: "timeseries",
        title: panel.title,
        description: panel.description,
        datasource: { type: "prometheus", uid: "${datasource}" },
        gridPos: { h: height, w: width, x: (i % 3) * width, y: top + Math.floor(i / 3) * height },
        fieldConfig: { defaults: { unit: panel.unit, min: 0 }, overrides: [] },
        options: { legend: { displayMode: "list", placement: "bottom" }, tooltip: { mode: "multi", sort: "desc" } },
        targets: panel.targets.map(({ expr, legend }, at) => ({
          refId: String.fromCharCode(65 + at),
          expr,
          legendFormat: legend
        }))
      }))
    ]
  })
  return {
    uid: "effect-eventbus",
    title: "effect-eventbus",
    tags: ["effect-eventbus"],
    schemaVersion: 39,
    editable: true,
    refresh: "30s",
    time: { from: "now-1h", to: "now" },
    templating: {
      list: [
        { name: "datasource", label: "datasource", type: "datasource", query: "prometheus" },
        {
          name: "transport",
          label: "transport",
          type: "custom",
          query: "kafka,nats,memory",
          current: { text: "kafka", value: "kafka" },
          options: ["kafka", "nats", "memory"].map((value) => ({ text: value, value, selected: value === "kafka" }))
        },
        // Those that are published to and those that are read.
        variable(
          "topic",
          `label_values({__name__=~"\${transport}_eventbus_actor_pool_messages_(sent|received)_total"}, topic)`
        ),
        variable("group", `label_values(${name("received")}, group)`)
      ]
    },
    panels
  }
}

export const format = (): string => `${JSON.stringify(make(), null, 2)}\n`
