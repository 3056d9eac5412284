/** How fast a run went, and how long it stood still. Times are nanoseconds of the logs' clock, what comes out is milliseconds. */
import type { Outage } from "./Circumstances.js"
import type { Entry } from "./Log.js"

export interface Span {
  readonly from: number
  readonly to: number
}

/** Events finished per second. */
export const rate = (entries: ReadonlyArray<Entry>, { from, to }: Span): number => {
  let count = 0
  for (const { at, kind } of entries) if (kind === "F" && at >= from && at < to) count++
  return Math.round(count / ((to - from) / 1e9))
}

/** The longest time in which nobody finished anything, the edges of the span included. */
export const longestPauseMs = (entries: ReadonlyArray<Entry>, { from, to }: Span): number => {
  const finishes = entries.filter(({ at, kind }) => kind === "F" && at >= from && at < to).map(({ at }) => at)
  finishes.sort((a, b) => a - b)
  let longest = 0
  let before = from
  for (const at of finishes) {
    longest = Math.max(longest, at - before)
    before = at
  }
  return Math.round(Math.max(longest, to - before) / 1e6)
}

/**
 * For each kill, how long it took until the last of the dead one's partitions was handled again, by whomever.
 * A partition in which nothing began again is left out: nothing may have been there to handle. In time's order.
 */
export const recoveriesMs = (entries: ReadonlyArray<Entry>, outages: ReadonlyArray<Outage>): ReadonlyArray<number> => {
  const starts = entries.filter(({ kind }) => kind === "S").sort((a, b) => a.at - b.at)
  const owners = new Map<number, string>()
  const waiting: Array<{ readonly kill: Outage; readonly partitions: Set<number>; last: number }> = []
  const kills = outages.filter(({ why }) => why === "kill").sort((a, b) => a.from - b.from)
  let next = 0
  for (const { at, partition, process } of starts) {
    for (; next < kills.length && kills[next]!.from <= at; next++) {
      const kill = kills[next]!
      const partitions = new Set(
        [...owners].filter(([, owner]) => owner === kill.process).map(([partition]) => partition)
      )
      waiting.push({ kill, partitions, last: kill.from })
    }
    owners.set(partition, process)
    for (const one of waiting) {
      if (process !== one.kill.process && one.partitions.delete(partition)) one.last = at
    }
  }
  return waiting.filter(({ kill, last }) => last > kill.from).map(({ kill, last }) =>
    Math.round((last - kill.from) / 1e6)
  )
}
