/**
 * How long what is handled again had been finished when its owner could no longer have that confirmed. Rule 5: a
 * second, the interval of commits. What happened to the owner is known from the run; of several things the kindest counts.
 */
import type { Circumstances, Outage } from "./Circumstances.js"
import type { Entry } from "./Log.js"

export class Ages {
  /** The oldest of all, in nanoseconds. */
  oldest = 0
  /** Those that are too old. */
  readonly late: Array<string> = []
  /** Who finished an event last. */
  private readonly finished = new Map<string, Entry>()
  /** Events that the broker may have several times: an attempt to publish them had an unknown outcome. */
  private readonly unknown = new Set<string>()
  /** When a process last said something of a partition, in each of its epochs. */
  private readonly lastWords = new Map<string, number>()
  private readonly outages = new Map<string, Array<Outage>>()

  constructor(private readonly circumstances: Circumstances) {
    for (const outage of circumstances.outages) {
      const known = this.outages.get(outage.process)
      if (known === undefined) this.outages.set(outage.process, [outage])
      else known.push(outage)
    }
  }

  /** Entries in the order of their times. */
  hear(entry: Entry): void {
    const { aggregate, at, kind, sequence } = entry
    const name = `${aggregate}/${sequence}`
    if (kind === "U") this.unknown.add(name)
    if (kind === "P" || kind === "U") return
    const before = kind === "S" ? this.finished.get(name) : undefined
    if (before !== undefined && !this.unknown.has(name)) this.again(entry, before)
    if (kind === "F") this.finished.set(name, entry)
    this.lastWords.set(tenureOf(entry), at)
  }

  private again(entry: Entry, before: Entry): void {
    const age = this.age(entry, before)
    this.oldest = Math.max(this.oldest, age)
    if (age <= this.circumstances.unconfirmed) return
    const { aggregate, process, sequence } = entry
    const ms = Math.round(age / 1e6)
    this.late.push(
      `late: ${aggregate}/${sequence} was started again in ${process}; it was finished in ${before.process}, ${ms} ms before its end`
    )
  }

  private age({ at }: Entry, before: Entry): number {
    const lastWord = this.lastWords.get(tenureOf(before)) ?? before.at
    // Whoever was fenced may have been unheard for a session.
    let age = Math.max(0, lastWord - before.at - this.circumstances.session)
    for (const { from, to, why } of this.outages.get(before.process) ?? []) {
      if (from > at || to < before.at) continue
      const since = Math.max(0, from - before.at)
      // A kill says exactly when: nothing kinder counts, but that the broker could not be reached.
      age = why === "kill" ? since : Math.min(age, since)
    }
    for (const { from, to } of this.circumstances.disturbances) {
      if (from <= at && to >= before.at) age = Math.min(age, Math.max(0, from - before.at))
    }
    return age
  }
}

/** The time that a process owns a partition: it can get it again later. */
const tenureOf = ({ epoch, partition, process }: Entry): string => `${process}/${partition}/${epoch}`
