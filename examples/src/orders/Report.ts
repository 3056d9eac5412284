/** What the run looks like while it goes on, and what it came to. */
import type { Rollout, Subscription } from "@effect-eventbus/core"
import { Effect, Schedule, Struct } from "effect"
import { currentTotals, type Totals } from "./Ledger.js"

export interface Summary {
  readonly transport: string
  readonly published: number
  readonly handled: number
  readonly aggregates: number
  readonly retried: number
  readonly restarted: number
  readonly deadLettered: number
  readonly lost: number
  readonly violations: number
  readonly seconds: number
  /** How the rollout of the canary stands, where there is one. */
  readonly canary?: Pick<Rollout.State, "candidate" | "status" | "share" | "reasons">
}

export const summarize = (
  transport: string,
  totals: Totals,
  stats: Subscription.Stats,
  seconds: number,
  rollout: Rollout.State | undefined
): Summary => ({
  transport,
  published: totals.published,
  handled: totals.handled,
  aggregates: totals.aggregates,
  retried: stats.retried,
  restarted: stats.restarted,
  deadLettered: totals.deadLettered,
  lost: totals.published - totals.handled - totals.deadLettered,
  violations: totals.violations,
  seconds: Math.round(seconds * 1_000) / 1_000,
  ...(rollout === undefined ? {} : { canary: Struct.pick(rollout, "candidate", "status", "share", "reasons") })
})

const canaryRows = ({ canary }: Summary): ReadonlyArray<readonly [string, string]> =>
  canary === undefined
    ? []
    : [["canary", `${canary.candidate}: ${[canary.status, ...canary.reasons].join("; ")}`]]

const percentile = (sorted: ReadonlyArray<number>, share: number): string =>
  sorted.length === 0 ? "-" : `${sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!.toFixed(1)} ms`

export const text = (summary: Summary, totals: Totals): string => {
  const latencies = totals.latencies.slice().sort((a, b) => a - b)
  const rows: ReadonlyArray<readonly [string, string | number]> = [
    ["transport", summary.transport],
    ["published", summary.published],
    ["handled", `${summary.handled} (${summary.aggregates} orders)`],
    ["retried", summary.retried],
    ["actors restarted", summary.restarted],
    ["dead-lettered", summary.deadLettered],
    ["lost", summary.lost],
    ["order violations", summary.violations],
    ["rate", `${Math.round(summary.handled / summary.seconds)} events/s in ${summary.seconds.toFixed(1)} s`],
    ["latency", `p50 ${percentile(latencies, 0.5)}, p99 ${percentile(latencies, 0.99)} from publishing to the handler`],
    ...canaryRows(summary)
  ]
  return rows.map(([name, value]) => `  ${name.padEnd(18)}${value}`).join("\n")
}

const line = (totals: Totals, stats: Subscription.Stats): string =>
  `published ${totals.published}  handled ${totals.handled}  retried ${stats.retried}  restarted ${stats.restarted}  ` +
  `dead-lettered ${totals.deadLettered}  live actors ${stats.actors}`

/** Redraws one line on a terminal; elsewhere writes a line each second. Never ends. */
export const progress = (subscription: Subscription.Subscription<unknown>, out: NodeJS.WriteStream) =>
  Effect.gen(function*() {
    const now = line(yield* currentTotals, yield* subscription.stats)
    out.write(out.isTTY ? `\r\u001b[2K${now}` : `${now}\n`)
  }).pipe(Effect.repeat(Schedule.spaced(out.isTTY ? "100 millis" : "1 second")))

export const endProgress = (out: NodeJS.WriteStream) =>
  Effect.sync(() => {
    if (out.isTTY) out.write("\r\u001b[2K")
  })
