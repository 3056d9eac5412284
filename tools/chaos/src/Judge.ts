/**
 * Judges what all processes of a run saw together.
 *
 * - **lost**: published with the broker's confirmation, and never finished.
 * - **violations**: a handler started before the message before it was finished by anybody (a skip), or an aggregate stepped
 *   back without a take-over: within one process and one epoch.
 * - **overlaps**: two handlers of one aggregate ran at once, in processes that both were alive and not suspended.
 * - **duplicates**: started again after it was finished. Legal, counted, and bounded by rule 5.
 * - **plain messages**: handled twice (never), or lost (bounded for each kill).
 */
import type { Entry } from "./Log.js"

/** A time in which a process could not run or say anything: it was killed, or suspended. */
export interface Outage {
  readonly process: string
  readonly from: bigint
  readonly to: bigint
}

export interface Verdict {
  readonly published: number
  readonly handled: number
  readonly lost: number
  readonly duplicates: number
  /** Of them: those whose delivery said that they may be. */
  readonly announced: number
  readonly violations: number
  readonly overlaps: number
  readonly plainPublished: number
  readonly plainTwice: number
  readonly plainLost: number
  /** The first of each, for people. */
  readonly examples: ReadonlyArray<string>
}

interface Aggregate {
  /** The lowest sequence that nobody has finished. */
  next: number
  readonly finished: Set<number>
  /** Who started its last handler, in which epoch, and with which sequence: from there it only goes forward. */
  owner: string
  last: number
  readonly running: Map<string, number>
}

export const judge = (entries: ReadonlyArray<Entry>, outages: ReadonlyArray<Outage>): Verdict => {
  const sorted = entries.slice().sort((a, b) => a.at < b.at ? -1 : a.at > b.at ? 1 : 0)
  const aggregates = new Map<string, Aggregate>()
  const published = new Set<string>()
  const plain = { published: new Set<string>(), handled: new Map<string, number>() }
  const counts = { duplicates: 0, announced: 0, violations: 0, overlaps: 0 }
  const examples: Array<string> = []
  const note = (what: string, entry: Entry, rest = "") => {
    if (examples.length < 20) {
      examples.push(
        `${what}: ${entry.aggregate}/${entry.sequence} in ${entry.process}, epoch ${entry.epoch} ${rest}`.trim()
      )
    }
  }
  const wasOut = (process: string, at: bigint) =>
    outages.some((outage) => outage.process === process && outage.from <= at && at <= outage.to)

  const started = (entry: Entry, aggregate: Aggregate) => {
    for (const [process, since] of aggregate.running) {
      if (wasOut(process, entry.at)) aggregate.running.delete(process)
      else {
        counts.overlaps++
        note("overlap", entry, `with ${since} in ${process}`)
      }
    }
    aggregate.running.set(entry.process, entry.sequence)
    const owner = `${entry.process}/${entry.epoch}`
    if (entry.sequence > aggregate.next) {
      counts.violations++
      note("skip", entry, `while ${aggregate.next} is not finished`)
    } else if (owner === aggregate.owner && entry.sequence < aggregate.last) {
      counts.violations++
      note("step back", entry, `after ${aggregate.last}`)
    }
    if (aggregate.finished.has(entry.sequence)) {
      counts.duplicates++
      if (entry.maybeDuplicate) counts.announced++
    }
    aggregate.owner = owner
    aggregate.last = entry.sequence
  }

  for (const entry of sorted) {
    if (entry.kind === "P" || entry.kind === "U") {
      if (entry.kind === "P") published.add(`${entry.aggregate}/${entry.sequence}`)
      continue
    }
    if (entry.kind === "Q") {
      plain.published.add(`${entry.aggregate}/${entry.sequence}`)
      continue
    }
    if (entry.kind === "O") {
      const key = `${entry.aggregate}/${entry.sequence}`
      plain.handled.set(key, (plain.handled.get(key) ?? 0) + 1)
      continue
    }
    let aggregate = aggregates.get(entry.aggregate)
    if (aggregate === undefined) {
      aggregate = { next: 0, finished: new Set(), owner: "", last: -1, running: new Map() }
      aggregates.set(entry.aggregate, aggregate)
    }
    if (entry.kind === "S") {
      started(entry, aggregate)
      continue
    }
    aggregate.running.delete(entry.process)
    if (entry.kind !== "F") continue
    aggregate.finished.add(entry.sequence)
    aggregate.next = Math.max(aggregate.next, entry.sequence + 1)
  }

  let handled = 0
  for (const aggregate of aggregates.values()) handled += aggregate.finished.size
  let lost = 0
  for (const key of published) {
    const slash = key.lastIndexOf("/")
    if (aggregates.get(key.slice(0, slash))?.finished.has(Number(key.slice(slash + 1))) !== true) {
      lost++
      if (examples.length < 20) examples.push(`lost: ${key}`)
    }
  }
  return {
    published: published.size,
    handled,
    lost,
    ...counts,
    plainPublished: plain.published.size,
    plainTwice: Array.from(plain.handled.values()).filter((times) => times > 1).length,
    plainLost: Array.from(plain.published).filter((key) => !plain.handled.has(key)).length,
    examples
  }
}
