import type * as MetricPair from "effect/MetricPair"
import * as MetricState from "effect/MetricState"
import * as Option from "effect/Option"

/**
 * Units of metrics as names end in Prometheus.
 *
 * @internal
 */
const units: Readonly<Record<string, string>> = {
  s: "seconds",
  seconds: "seconds",
  ms: "milliseconds",
  milliseconds: "milliseconds",
  us: "microseconds",
  microseconds: "microseconds",
  ns: "nanoseconds",
  nanoseconds: "nanoseconds",
  By: "bytes",
  bytes: "bytes"
}

const unitTags: ReadonlyArray<string> = ["unit", "time_unit"]

type Type = "counter" | "gauge" | "histogram" | "summary"

interface Family {
  readonly type: Type
  readonly help: string | undefined
  /** The lines of each series, by its labels. */
  readonly series: Map<string, ReadonlyArray<string>>
}

/**
 * Metrics in Prometheus's text format. Nothing is written twice, because Prometheus refuses the whole text then: of metrics that have the
 * same name in the text, those of the first one's type are written, and of series with the same labels the first.
 *
 * @internal
 */
export const format = (
  pairs: ReadonlyArray<MetricPair.MetricPair.Untyped>,
  { prefix = "", startsWith = "" }: { readonly prefix?: string | undefined; readonly startsWith?: string | undefined }
): string => {
  const families = new Map<string, Family>()
  for (const { metricKey: { description, keyType, name, tags }, metricState } of pairs) {
    if (!name.startsWith(startsWith)) continue
    const isIncremental = (keyType as { readonly incremental?: boolean }).incremental
    const type = typeOf(metricState, isIncremental)
    if (type === undefined) continue
    const unit = tags.find(({ key }) => unitTags.includes(key))?.value
    const named = nameOf(prefix + name, type, unit)
    let family = families.get(named)
    if (family === undefined) {
      family = { type, help: Option.getOrUndefined(description), series: new Map() }
      families.set(named, family)
    }
    if (family.type !== type) continue
    const labels = labelsOf(tags)
    const written = labels.map(([key, value]) => `${key}="${value}"`).join(",")
    if (!family.series.has(written)) family.series.set(written, linesOf(named, written, metricState))
  }
  const lines: Array<string> = []
  for (const [name, { help, series, type }] of families) {
    if (help !== undefined) lines.push(`# HELP ${name} ${help.replace(/\\/g, "\\\\").replace(/\n/g, "\\n")}`)
    lines.push(`# TYPE ${name} ${type}`)
    for (const some of series.values()) for (const line of some) lines.push(line)
  }
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`
}

const typeOf = (state: unknown, isIncremental: boolean | undefined): Type | undefined =>
  MetricState.isCounterState(state)
    // One that may fall is no counter to Prometheus.
    ? isIncremental === true ? "counter" : "gauge"
    : MetricState.isFrequencyState(state)
    ? "counter"
    : MetricState.isGaugeState(state)
    ? "gauge"
    : MetricState.isHistogramState(state)
    ? "histogram"
    : MetricState.isSummaryState(state)
    ? "summary"
    : undefined

const nameOf = (name: string, type: Type, unit: string | undefined): string => {
  const isTotal = type === "counter"
  let found = name.replace(/[^a-zA-Z0-9_:]/g, "_")
  if (/^[0-9]/.test(found)) found = `_${found}`
  if (isTotal) found = found.replace(/_total$/, "")
  const suffix = unit === undefined ? undefined : units[unit]
  if (suffix !== undefined && !found.endsWith(`_${suffix}`)) found = `${found}_${suffix}`
  return isTotal ? `${found}_total` : found
}

/** Names that become the same get their values joined, as OpenTelemetry has it. */
const labelsOf = (
  tags: ReadonlyArray<{ readonly key: string; readonly value: string }>
): ReadonlyArray<readonly [string, string]> => {
  const labels = new Map<string, string>()
  for (const { key, value } of tags) {
    if (unitTags.includes(key)) continue
    let name = key.replace(/[^a-zA-Z0-9_]/g, "_")
    // What begins with two is Prometheus's own.
    if (/^[0-9]/.test(name)) name = `_${name}`
    else if (name.startsWith("__")) name = `key${name}`
    const before = labels.get(name)
    labels.set(name, escaped(before === undefined ? String(value) : `${before};${String(value)}`))
  }
  return Array.from(labels)
}

const escaped = (value: string): string => value.replace(/\\/g, "\\\\").replace(/\n/g, "\\n").replace(/"/g, "\\\"")

const number = (value: number | bigint): string =>
  value === Number.POSITIVE_INFINITY ? "+Inf" : value === Number.NEGATIVE_INFINITY ? "-Inf" : String(value)

const linesOf = (name: string, labels: string, state: unknown): ReadonlyArray<string> => {
  const line = (suffix: string, more: string, value: number | bigint) => {
    const all = labels === "" ? more : more === "" ? labels : `${labels},${more}`
    return `${name}${suffix}${all === "" ? "" : `{${all}}`} ${number(value)}`
  }
  if (MetricState.isCounterState(state)) return [line("", "", state.count)]
  if (MetricState.isGaugeState(state)) return [line("", "", state.value)]
  if (MetricState.isFrequencyState(state)) {
    return Array.from(state.occurrences, ([key, count]) => line("", `key="${escaped(key)}"`, count))
  }
  if (MetricState.isHistogramState(state)) {
    const finite = state.buckets.filter(([le]) => Number.isFinite(le))
    return [
      ...finite.map(([le, count]) => line("_bucket", `le="${number(le)}"`, count)),
      line("_bucket", "le=\"+Inf\"", state.count),
      line("_sum", "", state.sum),
      line("_count", "", state.count)
    ]
  }
  if (MetricState.isSummaryState(state)) {
    const known = state.quantiles.flatMap(([quantile, value]) =>
      Option.isSome(value) ? [line("", `quantile="${number(quantile)}"`, value.value)] : []
    )
    return [...known, line("_sum", "", state.sum), line("_count", "", state.count)]
  }
  return []
}
