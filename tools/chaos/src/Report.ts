/** What a run prints. */
import * as Duration from "effect/Duration"
import type { Result } from "./Chaos.js"
import type { Options } from "./Options.js"

/** The fields that programs rely on come first. */
const fields = [
  "transport",
  "seconds",
  "instances",
  "kills",
  "published",
  "handled",
  "lost",
  "duplicates",
  "violations",
  "overlaps",
  "longestPauseMs",
  "calmRate",
  "chaosRate",
  "recoverMs",
  "excess",
  "cuts",
  "brokerRestarts",
  "plainLost",
  "plainTwice",
  "stalls",
  "slowStops"
] as const satisfies ReadonlyArray<keyof Result>

/** One line. */
export const json = (result: Result, { seed, strategy }: Options): string =>
  `${JSON.stringify({ ...Object.fromEntries(fields.map((field) => [field, result[field]])), strategy, seed })}\n`

export const table = (result: Result, { seed, strategy }: Options, tookMs: number): string => {
  const share = result.calmRate === 0
    ? ""
    : ` (${Math.round(100 * result.chaosRate / result.calmRate)} % of the calm rate)`
  const rows: ReadonlyArray<readonly [string, unknown, string?]> = [
    ["transport", result.transport],
    ["strategy", strategy],
    ["instances", result.instances, `${result.kills} killed or stopped, ${result.suspensions} suspended`],
    [
      "faults",
      result.cuts + result.brokerRestarts,
      `${result.cuts} of the network, ${result.brokerRestarts} broker restarts`
    ],
    ["published", result.published],
    ["handled", result.handled],
    ["lost", result.lost],
    [
      "duplicates",
      result.duplicates,
      `${result.announced} announced, ${result.excess} beyond rule 5, oldest ${result.oldestDuplicateMs} ms`
    ],
    ["violations", result.violations, "of the order"],
    ["overlaps", result.overlaps],
    ["plain", result.plainPublished, `${result.plainLost} lost by kills, ${result.plainTwice} handled twice`],
    ["slow stops", result.slowStops, "instances that did not end within 20 s after SIGTERM"],
    ["stalls", result.stalls, "of 0.5 s and more, for want of CPU time"],
    ["longest pause", `${result.longestPauseMs} ms`],
    ["time to recover", `${result.recoverMs} ms`, "from a kill until all its partitions go on, at most"],
    ["calm rate", `${result.calmRate}/s`],
    ["chaos rate", `${result.chaosRate}/s`, share.trim()],
    ["seed", seed],
    ["took", Duration.format(Duration.millis(Math.round(tookMs)))]
  ]
  return rows.map(([name, value, note = ""]) => `  ${name.padEnd(17)}${String(value).padEnd(10)} ${note}`.trimEnd())
    .join("\n") + "\n"
}
