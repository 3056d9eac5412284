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
export const json = (result: Result, { patients, seed, strategy }: Options, well?: Result | undefined): string =>
  `${
    JSON.stringify({
      ...Object.fromEntries(fields.map((field) => [field, result[field]])),
      ...(patients === 0 ? {} : { letters: result.letters, well: well?.letters }),
      strategy,
      seed
    })
  }\n`

type Row = readonly [string, unknown, string?]

/** What was parked, and the strangers beside those of a run in which nobody was. */
const lettersRows = (
  { letters: { again, left, parked, released, strangersP50, strangersP99, strangersRate } }: Result,
  well: Result | undefined
): ReadonlyArray<Row> => {
  const beside = well === undefined || well.letters.strangersRate === 0
    ? ""
    : `; in a run without poison ${well.letters.strangersRate}/s, ${well.letters.strangersP50} and ${well.letters.strangersP99} ms: ${
      (100 * strangersRate / well.letters.strangersRate).toFixed(1)
    } % of it`
  return [
    ["parked", parked, `${released} released and handled, ${again} parked again, ${left} left`],
    ["strangers", `${strangersRate}/s`, `half within ${strangersP50} ms, 99 % within ${strangersP99} ms${beside}`]
  ]
}

export const table = (
  result: Result,
  { patients, seed, strategy }: Options,
  tookMs: number,
  well?: Result | undefined
): string => {
  const share = result.calmRate === 0
    ? ""
    : ` (${Math.round(100 * result.chaosRate / result.calmRate)} % of the calm rate)`
  const rows: ReadonlyArray<Row> = [
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
    ...(patients === 0 ? [] : lettersRows(result, well)),
    ["seed", seed],
    ["took", Duration.format(Duration.millis(Math.round(tookMs)))]
  ]
  return rows.map(([name, value, note = ""]) => `  ${name.padEnd(17)}${String(value).padEnd(10)} ${note}`.trimEnd())
    .join("\n") + "\n"
}
