/** The files for Grafana and Prometheus are made of their source, and Prometheus's own tool runs the rules on series of numbers. */
import { Prometheus } from "@effect-eventbus/brokers"
import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Dashboard from "../scripts/Dashboard.js"
import { files } from "../scripts/files.js"
import { named } from "../scripts/Queries.js"
import * as Rules from "../scripts/Rules.js"

const transports = ["kafka", "nats"]
const labels = { transport: "", topic: "orders", group: "billing" }
const instance = { client_id: "shop", instance: "a:1" }

interface Case {
  /** Series as promtool has them, by metric and labels. One value a minute. */
  readonly fires: ReadonlyArray<Series>
  readonly quiet: ReadonlyArray<Series>
  readonly at: string
  /** Where the alert is not about a subscription. */
  readonly about?: Readonly<Record<string, string>>
  /** Where the text has it. */
  readonly value?: number
}
type Series = readonly [
  metric: Parameters<ReturnType<typeof named>>[0],
  more: Readonly<Record<string, string>>,
  values: string
]

/** All messages took less than 50 ms, and after a hundred minutes all between 50 and 250. */
const buckets = (fast: string): ReadonlyArray<Series> => [
  ["latency", { le: "0.05" }, fast],
  ["latency", { le: "0.25" }, "0+60x130"],
  ["latency", { le: "+Inf" }, "0+60x130"]
]
/** The sides of a rollout, and what a former one has left. */
const both = (metric: Series[0], baseline: number, candidate: number): ReadonlyArray<Series> => [
  [metric, { side: "baseline", strategy: "actor-per-aggregate" }, `${baseline}x40`],
  [metric, { side: "candidate", strategy: "actor-pool" }, `${candidate}x40`],
  [metric, { side: "candidate", strategy: "keyed-workers" }, "0x40"]
]
const heap = (now: string): ReadonlyArray<Series> => [
  ["rolloutHeap", { when: "before" }, "100x40"],
  ["rolloutHeap", { when: "now" }, now]
]
const handled = { outcome: "handled" }

const cases: Readonly<Record<string, Case>> = {
  EventBusSlowerThanBaseline: { fires: buckets("0+60x100 6000x30"), quiet: buckets("0+60x130"), at: "115m" },
  EventBusRestarts: {
    fires: [["processed", handled, "0x30"], ["restarted", {}, "0+6x30"]],
    quiet: [["processed", handled, "0+60x30"], ["restarted", {}, "0+2x30"]],
    at: "15m"
  },
  EventBusErrors: {
    fires: [["processed", handled, "0+60x30"], ["processed", { outcome: "dropped" }, "0+1x30"]],
    quiet: [["processed", handled, "0+120x30"], ["processed", { outcome: "dropped" }, "0+1x30"]],
    at: "15m"
  },
  EventBusMemoryAboveBaseline: {
    fires: [["memory", {}, "100x100 160x30"]],
    quiet: [["memory", {}, "100x100 140x30"]],
    at: "115m",
    about: { client_id: "shop" }
  },
  EventBusStalled: { fires: [["watermarkAge", {}, "301x9"]], quiet: [["watermarkAge", {}, "299x9"]], at: "2m" },
  EventBusMessageStuck: { fires: [["oldest", {}, "301x9"]], quiet: [["oldest", {}, "299x9"]], at: "2m" },
  EventBusLag: { fires: [["lag", {}, "20000x30"]], quiet: [["lag", {}, "20000-10x30"]], at: "18m", value: 20_000 },
  EventBusDeadLetters: { fires: [["deadLetters", {}, "0x5 1x30"]], quiet: [["deadLetters", {}, "1x30"]], at: "8m" },
  EventBusHeld: { fires: [["held", {}, "1x30"]], quiet: [["held", {}, "0x30"]], at: "16m", value: 1 },
  EventBusInboxFull: { fires: [["inbox", {}, "1x30"]], quiet: [["inbox", {}, "0.9x30"]], at: "11m" },
  EventBusProblems: { fires: [["problems", {}, "1x9"]], quiet: [["problems", {}, "0x9"]], at: "3m" },
  EventBusNobodyReads: {
    fires: [["partitions", {}, "0x9"], ["partitions", { instance: "b:1" }, "0x9"]],
    quiet: [["partitions", {}, "0x9"], ["partitions", { instance: "b:1" }, "1x9"]],
    at: "6m"
  },
  EventBusDisconnected: {
    fires: [["connected", {}, "0x9"]],
    quiet: [["connected", {}, "0.5x9"]],
    at: "2m",
    about: { client_id: "shop" }
  },
  EventBusPublishFailures: {
    fires: [["publishFailures", {}, "0+1x30"]],
    quiet: [["publishFailures", {}, "1x30"]],
    at: "8m",
    about: { topic: "orders" }
  },
  EventBusCandidateSlower: {
    fires: [...both("rolloutLatency", 0.1, 0.13), ...both("rolloutMessages", 450, 50)],
    quiet: [...both("rolloutLatency", 0.1, 0.11), ...both("rolloutMessages", 450, 50)],
    at: "3m",
    about: instance
  },
  EventBusCandidateRestarts: {
    fires: [...both("rolloutRestarts", 0, 0.06), ...both("rolloutMessages", 450, 50)],
    quiet: [...both("rolloutRestarts", 0, 0.04), ...both("rolloutMessages", 450, 50)],
    at: "3m",
    about: instance
  },
  EventBusCandidateErrors: {
    fires: [...both("rolloutErrors", 0.015, 0.02), ...both("rolloutMessages", 450, 50)],
    // What fails on both sides is nobody's fault.
    quiet: [...both("rolloutErrors", 0.02, 0.02), ...both("rolloutMessages", 450, 50)],
    at: "3m",
    about: instance
  },
  EventBusCandidateMemory: {
    fires: heap("160x40"),
    // It was lower for a minute, less than half an hour ago.
    quiet: heap("160x10 140x1 160x30"),
    at: "31m",
    about: instance
  },
  EventBusRolledBack: {
    fires: [["rollouts", { outcome: "rolled-back" }, "0x5 1x30"]],
    quiet: [["rollouts", { outcome: "rolled-back" }, "1x30"], ["rollouts", { outcome: "promoted" }, "0x5 1x30"]],
    at: "8m",
    about: { client_id: "shop" }
  },
  EventBusOrderViolated: { fires: [["violations", {}, "0x5 1x30"]], quiet: [["violations", {}, "0x30"]], at: "8m" }
}

/** Runs promtool in a folder with these files. */
const promtool = (args: ReadonlyArray<string>, texts: Readonly<Record<string, string>>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const folder = mkdtempSync(join(tmpdir(), "eventbus-rules-"))
      for (const [name, text] of Object.entries(texts)) writeFileSync(join(folder, name), text)
      return folder
    }),
    (folder) => Prometheus.promtool(args, folder),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
  )

const filled = (text: string, of: Readonly<Record<string, string>>, value: number | undefined) =>
  text.replace(/\{\{ \$labels\.(\w+) \}\}/g, (_, name: string) => of[name] ?? "").replace("{{ $value }}", String(value))

const seriesOf = (transport: string, [metric, more, values]: Series) => {
  const name = named(transport)(metric, metric === "latency" ? "_bucket" : "")
  const all = Object.entries({ ...instance, ...labels, transport, ...more })
  return { series: `${name}{${all.map(([key, text]) => `${key}="${text}"`).join(",")}}`, values }
}

const testOf = (transport: string, alert: Rules.Alert, which: "fires" | "quiet") => {
  const { about, at, value, ...one } = cases[alert.alert]!
  const found = { ...(about ?? labels), transport }
  return {
    name: `${alert.alert} ${which}`,
    interval: "1m",
    input_series: one[which].map((series) => seriesOf(transport, series)),
    alert_rule_test: [{
      eval_time: at,
      alertname: alert.alert,
      exp_alerts: which === "quiet" ? [] : [{
        exp_labels: { ...found, severity: alert.severity, ...(alert.isRollback && { rollback: "true" }) },
        exp_annotations: {
          summary: filled(alert.summary, found, value),
          description: filled(alert.description, found, value)
        }
      }]
    }]
  }
}

it("the files are what `npm run dashboards` makes", () => {
  for (const [name, text] of Object.entries(files)) {
    expect(readFileSync(new URL(`../${name}`, import.meta.url), "utf8"), name).toBe(text)
  }
})

it("each panel has a place of its own, and asks for something", () => {
  const { panels } = Dashboard.make() as {
    panels: ReadonlyArray<{ id: number; gridPos: { x: number; y: number; h: number; w: number } }>
  }
  const taken = new Set<string>()
  for (const { gridPos: { h, w, x, y } } of panels) {
    for (let row = y; row < y + h; row++) {
      for (let column = x; column < x + w; column++) {
        expect(taken.has(`${column} ${row}`)).toBe(false)
        taken.add(`${column} ${row}`)
      }
    }
  }
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
  expect(Dashboard.rows.flatMap((row) => row.panels).every(({ targets }) => targets.length > 0)).toBe(true)
})

it.live.each(transports)("promtool finds nothing wrong with the rules of %s", (transport) =>
  Effect.gen(function*() {
    const output = yield* promtool(["check", "rules", "--lint=all", "--lint-fatal", "rules.yml"], {
      "rules.yml": Rules.format(transport)
    })
    expect(output).toContain("SUCCESS")
  }))

it.live.each(transports)(
  "each alert of %s fires when it should, and says what, and is quiet otherwise",
  (transport) =>
    Effect.gen(function*() {
      const { operation, rollback } = Rules.alerts(transport)
      const all = [...rollback, ...operation]
      expect(all.map(({ alert }) => alert).sort()).toEqual(Object.keys(cases).sort())
      const output = yield* promtool(["test", "rules", "test.yml"], {
        "rules.yml": Rules.format(transport),
        "test.yml": JSON.stringify({
          rule_files: ["rules.yml"],
          evaluation_interval: "1m",
          tests: all.flatMap((alert) => [testOf(transport, alert, "fires"), testOf(transport, alert, "quiet")])
        })
      })
      expect(output).toContain("SUCCESS")
    })
)

/** Figures of a candidate that is worse, and yet nothing to go by. */
const unjudged: Readonly<Record<string, ReadonlyArray<Series>>> = {
  "few messages": [
    ...both("rolloutLatency", 0.1, 0.9),
    ...both("rolloutRestarts", 0, 0.9),
    ...both("rolloutErrors", 0, 0.9),
    ...both("rolloutMessages", 450, 49)
  ],
  "no rollout": [
    ...both("rolloutLatency", 0, 0),
    ...both("rolloutRestarts", 0, 0),
    ...both("rolloutErrors", 0, 0),
    ...both("rolloutMessages", 0, 0),
    ["rolloutHeap", { when: "before" }, "0x40"],
    ["rolloutHeap", { when: "now" }, "0x40"]
  ],
  "a baseline without times, and a heap that was not seen before": [
    ...both("rolloutLatency", 0, 0.9),
    ...both("rolloutMessages", 0, 900),
    ["rolloutHeap", { when: "before" }, "0x40"],
    ["rolloutHeap", { when: "now" }, "160x40"]
  ],
  "less than a millisecond": [...both("rolloutLatency", 0.001, 0.0019), ...both("rolloutMessages", 450, 450)]
}

it.live("no alert on a candidate fires on few messages, without a rollout, and where there is nothing to compare", () =>
  Effect.gen(function*() {
    const alerts = Rules.alerts("kafka").rollback.filter(({ alert }) => alert.startsWith("EventBusCandidate"))
    expect(alerts).toHaveLength(4)
    const output = yield* promtool(["test", "rules", "test.yml"], {
      "rules.yml": Rules.format("kafka"),
      "test.yml": JSON.stringify({
        rule_files: ["rules.yml"],
        evaluation_interval: "1m",
        tests: Object.entries(unjudged).map(([name, series]) => ({
          name,
          interval: "1m",
          input_series: series.map((one) => seriesOf("kafka", one)),
          alert_rule_test: alerts.map(({ alert }) => ({ eval_time: "35m", alertname: alert, exp_alerts: [] }))
        }))
      })
    })
    expect(output).toContain("SUCCESS")
  }))
