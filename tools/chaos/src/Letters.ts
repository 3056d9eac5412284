/** What was parked in a run, and how the strangers of the parked aggregates fared meanwhile. */
import type { Span } from "./Figures.js"
import type { Entry } from "./Log.js"
import { isPatient } from "./Patients.js"

export interface Letters {
  /** Different messages that became letters. */
  readonly parked: number
  /** How often one of them became one again, because it failed when it was released, or because it came again after a crash. */
  readonly again: number
  /** Those of them that were handled. */
  readonly released: number
  /** Those that are in the store at the end. */
  readonly left: number
  /** What the others did: finished per second, and the time from being published until being finished, in ms. */
  readonly strangersRate: number
  readonly strangersP50: number
  readonly strangersP99: number
}

export const count = (entries: ReadonlyArray<Entry>, { from, to }: Span): Omit<Letters, "left"> => {
  const parked = new Set<string>()
  const released = new Set<string>()
  const published = new Map<string, number>()
  const finished = new Set<string>()
  const waits: Array<number> = []
  let again = 0
  for (const { aggregate, at, kind, offset, sequence } of entries.slice().sort((a, b) => a.at - b.at)) {
    if (kind === "K" || kind === "F") {
      const letter = `${aggregate}/${offset}`
      if (kind === "F" && parked.has(letter)) released.add(letter)
      else if (kind === "K" && parked.has(letter)) again++
      else if (kind === "K") parked.add(letter)
    }
    if (isPatient(aggregate) || (kind !== "P" && kind !== "F")) continue
    const event = `${aggregate}/${sequence}`
    if (kind === "P") published.set(event, at)
    else if (!finished.has(event)) {
      finished.add(event)
      if (at >= from && at < to) waits.push(Math.max(0, at - (published.get(event) ?? at)) / 1e6)
    }
  }
  waits.sort((a, b) => a - b)
  const quantile = (share: number) => Math.round(waits[Math.floor(waits.length * share)] ?? 0)
  return {
    parked: parked.size,
    again,
    released: released.size,
    strangersRate: Math.round(waits.length / ((to - from) / 1e9)),
    strangersP50: quantile(0.5),
    strangersP99: quantile(0.99)
  }
}

/** How many letters the instances have, as each of them said last. */
export const left = (entries: ReadonlyArray<Entry>, instances: ReadonlyArray<{ readonly name: string }>): number => {
  const said = new Map<string, number>()
  for (const { kind, process, sequence } of entries) if (kind === "L") said.set(process, sequence)
  return instances.reduce((sum, { name }) => sum + (said.get(name) ?? 0), 0)
}
