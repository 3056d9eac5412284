/** Medians and ratios, as a table, as lines of JSON and as Markdown. */
import type { Result } from "./Bench.js"
import { goals } from "./Goals.js"
import type { Measurement } from "./Job.js"

/** A system's medians in a workload. */
export interface Row extends Measurement {
  readonly workload: string
  readonly title: string
  readonly system: string
  /** How many systems do it. */
  readonly systems: number
  /** How much came in a second was fixed, so its rate says nothing. */
  readonly isPaced: boolean
  /** Its rate by that of the workload's raw system. */
  readonly ratioToRaw: number
  /** Its rate by that of each other system: the median of the rounds' ratios. */
  readonly ratios: { readonly [system: string]: number | undefined }
}

const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length === 0
    ? NaN
    : sorted.length % 2 === 1
    ? sorted[middle]!
    : (sorted[middle - 1]! + sorted[middle]!) / 2
}

const sum = (values: ReadonlyArray<number>): number => values.reduce((total, value) => total + value, 0)

export const rows = (results: ReadonlyArray<Result>): ReadonlyArray<Row> => {
  const groups = new Map<string, Array<Result>>()
  for (const result of results) {
    const key = `${result.workload.name}/${result.system}`
    groups.set(key, [...(groups.get(key) ?? []), result])
  }
  return Array.from(groups.values(), (group) => rowOf(group, results)).sort((a, b) =>
    order(results, a.workload) - order(results, b.workload)
  )
}

const order = (results: ReadonlyArray<Result>, name: string): number =>
  results.findIndex(({ workload }) => workload.name === name)

const rowOf = (group: ReadonlyArray<Result>, all: ReadonlyArray<Result>): Row => {
  const { system, workload } = group[0]!
  const of = (field: keyof Measurement) => median(group.map(({ measurement }) => measurement[field]))
  const ratioTo = (other: string): number | undefined => {
    const ratios = group.flatMap(({ measurement, round }) => {
      const its = all.find((one) => one.workload === workload && one.system === other && one.round === round)
      return its === undefined ? [] : [measurement.rate / its.measurement.rate]
    })
    return ratios.length === 0 ? undefined : median(ratios)
  }
  return {
    workload: workload.name,
    title: workload.title,
    system,
    systems: workload.systems.length,
    isPaced: workload.kind === "latency" || workload.kind === "sustained",
    n: of("n"),
    rate: of("rate"),
    p50Ms: of("p50Ms"),
    p99Ms: of("p99Ms"),
    p999Ms: of("p999Ms"),
    rssMb: of("rssMb"),
    cpuUs: of("cpuUs"),
    kibEach: of("kibEach"),
    grownMb: of("grownMb"),
    cpuPercent: of("cpuPercent"),
    sockets: of("sockets"),
    givenUp: of("givenUp"),
    // These never hide behind a median.
    violations: sum(group.map(({ measurement }) => measurement.violations)),
    lost: sum(group.map(({ measurement }) => measurement.lost)),
    ratioToRaw: ratioTo(workload.raw) ?? NaN,
    ratios: Object.fromEntries(workload.systems.map((other) => [other, ratioTo(other)]))
  }
}

const round = (value: number, digits: number): number => Math.round(value * 10 ** digits) / 10 ** digits

export const json = (all: ReadonlyArray<Row>): string =>
  all.map((row) =>
    JSON.stringify({
      system: row.system,
      workload: row.workload,
      n: Math.round(row.n),
      rate: Math.round(row.rate),
      ratioToRaw: Number.isNaN(row.ratioToRaw) ? null : round(row.ratioToRaw, 3),
      p50Ms: round(row.p50Ms, 3),
      p99Ms: round(row.p99Ms, 3),
      rssMb: round(row.rssMb, 1),
      violations: row.violations,
      lost: row.lost,
      p999Ms: round(row.p999Ms, 3),
      cpuUs: round(row.cpuUs, 2),
      kibEach: round(row.kibEach, 2),
      grownMb: round(row.grownMb, 1),
      cpuPercent: round(row.cpuPercent, 2),
      sockets: row.sockets,
      givenUp: row.givenUp
    })
  ).join("\n")

const number = (value: number): string => Math.round(value).toLocaleString("en")

const cells = (row: Row): ReadonlyArray<string> => [
  row.workload,
  row.system,
  row.rate === 0 || row.kibEach > 0 ? "" : number(row.rate),
  Number.isNaN(row.ratioToRaw) || row.kibEach > 0 ? "" : row.ratioToRaw.toFixed(2),
  row.sockets > 0
    ? `${row.cpuPercent.toFixed(1)} % of a core`
    : row.cpuUs === 0
    ? ""
    : row.cpuUs.toFixed(2),
  row.p99Ms === 0 ? "" : `${row.p50Ms.toFixed(2)} / ${row.p99Ms.toFixed(2)} / ${row.p999Ms.toFixed(2)}`,
  row.kibEach > 0
    ? `${row.kibEach.toFixed(1)} KiB each`
    : `${number(row.rssMb)} MiB${row.sockets > 0 ? `, ${row.sockets} sockets` : ""}${
      row.givenUp > 0 ? `, ${number(row.givenUp)} given up` : ""
    }`,
  row.violations + row.lost === 0 ? "" : `${row.violations} out of order, ${row.lost} lost`
]

const head = ["workload", "system", "per second", "ratio", "CPU µs each", "p50 / p99 / p99.9 ms", "memory", "faults"]

export const table = (all: ReadonlyArray<Row>): string => {
  const lines = [head, ...all.map(cells)]
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  return lines.map((line) => line.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd()).join("\n")
}

/** Which goals hold; those that the run has figures for. */
export const verdicts = (all: ReadonlyArray<Row>) =>
  goals.flatMap((goal) => {
    const measured = goal.measured(all)
    return measured === undefined || Number.isNaN(measured)
      ? []
      : [{ workload: goal.workload, text: goal.text, measured, holds: goal.holds(measured) }]
  })

const figure = (value: number): string => value >= 1_000 ? number(value) : value.toFixed(2)

export const goalTable = (all: ReadonlyArray<Row>): string =>
  verdicts(all).map(({ holds, measured, text, workload }) =>
    `${holds ? "holds" : "fails"}  ${workload.padEnd(22)}  ${text.padEnd(32)}  ${figure(measured)}`
  ).join("\n")

export const markdown = (all: ReadonlyArray<Row>): string =>
  [
    `| ${head.slice(0, 7).join(" | ")} |`,
    `| ${head.slice(0, 7).map((_, i) => i >= 2 && i <= 4 ? "---:" : "---").join(" | ")} |`,
    ...all.map((row) => `| ${cells(row).slice(0, 7).join(" | ")} |`),
    "",
    "| goal | measured | |",
    "| --- | ---: | --- |",
    ...verdicts(all).map(({ holds, measured, text, workload }) =>
      `| ${workload}: ${text} | ${figure(measured)} | ${holds ? "holds" : "does not hold"} |`
    )
  ].join("\n")

export const faults = (all: ReadonlyArray<Row>): number => sum(all.map(({ lost, violations }) => lost + violations))
