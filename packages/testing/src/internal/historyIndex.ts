import type { Entry, History } from "../History.js"

/** Entries about a message. @internal */
export type MessageEntry = Exclude<Entry, { readonly kind: "down" | "up" }>

/** @internal */
export interface Aggregate {
  /** In the order of their times. */
  readonly entries: Array<MessageEntry>
  /** Whose publishing was confirmed. */
  readonly published: Set<number>
  /** How often each was published, with whatever outcome. */
  readonly copies: Map<number, number>
  readonly started: Set<number>
  readonly finished: Set<number>
}

/** A time in which a process could neither run nor say anything. */
interface Outage {
  readonly from: number
  to: number
}

/** @internal */
export interface Index {
  readonly sorted: History
  readonly aggregates: ReadonlyMap<string, Aggregate>
  readonly hasPublished: boolean
  readonly hasSettled: boolean
  readonly kills: number
  /** Whether the process was out at this time, or came back at most `grace` ms before. */
  readonly isOut: (process: string, at: number, grace: number) => boolean
  /** Whether it was out at any time between the two. */
  readonly wasOutSince: (process: string, from: number, to: number) => boolean
}

const known = new WeakMap<History, Index>()

/** A history sorted by time and by aggregate; made once for all oracles that look at the same one. @internal */
export const index = (history: History): Index => {
  const found = known.get(history)
  if (found !== undefined && found.sorted.length === history.length) return found
  const made = make(history)
  known.set(history, made)
  return made
}

const make = (history: History): Index => {
  // Sorting is stable: entries of one time stay as they stand.
  const sorted = history.slice().sort((a, b) => a.at - b.at)
  const aggregates = new Map<string, Aggregate>()
  const outages = new Map<string, Array<Outage>>()
  let kills = 0
  let hasSettled = false
  let hasPublished = false
  for (const entry of sorted) {
    if (entry.kind === "down") {
      if (entry.cause === "killed") kills++
      let list = outages.get(entry.process)
      if (list === undefined) outages.set(entry.process, list = [])
      list.push({ from: entry.at, to: Number.POSITIVE_INFINITY })
      continue
    }
    if (entry.kind === "up") {
      const last = outages.get(entry.process)?.at(-1)
      if (last !== undefined) last.to = Math.min(last.to, entry.at)
      continue
    }
    let aggregate = aggregates.get(entry.aggregate)
    if (aggregate === undefined) {
      aggregate = { entries: [], published: new Set(), copies: new Map(), started: new Set(), finished: new Set() }
      aggregates.set(entry.aggregate, aggregate)
    }
    aggregate.entries.push(entry)
    if (entry.kind === "published") {
      hasPublished = true
      aggregate.copies.set(entry.sequence, (aggregate.copies.get(entry.sequence) ?? 0) + 1)
      if (entry.outcome === "confirmed") aggregate.published.add(entry.sequence)
    } else if (entry.kind === "started") aggregate.started.add(entry.sequence)
    else if (entry.kind === "ended" && entry.outcome === "finished") aggregate.finished.add(entry.sequence)
    else if (entry.kind === "settled") hasSettled = true
  }
  const some = (process: string, test: (outage: Outage) => boolean) => outages.get(process)?.some(test) ?? false
  return {
    sorted,
    aggregates,
    hasPublished,
    hasSettled,
    kills,
    isOut: (process, at, grace) => some(process, ({ from, to }) => from <= at && at <= to + grace),
    wasOutSince: (process, from, to) => some(process, (outage) => outage.from <= to && outage.to >= from)
  }
}

/**
 * Who ran a handler: a process, for as long as one assignment lasts.
 *
 * @internal
 */
export const ownerOf = ({ epoch, process }: { readonly process: string; readonly epoch: number }): string =>
  `${process} epoch ${epoch}`
