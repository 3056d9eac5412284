/** Counts along while a run goes on. */
import type { Entry } from "./Log.js"
import { isPatient } from "./Patients.js"

const publishedBit = 1
const handledBit = 2

export class Progress {
  /** Different events that were finished. */
  handled = 0
  /** Those of them that are of no aggregate which may fail for a time. */
  strangers = 0
  published = 0
  /** Published and not finished. */
  outstanding = 0
  /** Events finished, again ones included: it moves as long as anybody works. */
  finishes = 0
  private readonly seen = new Map<string, Array<number>>()

  add(entries: ReadonlyArray<Entry>): void {
    for (const { aggregate, kind, sequence } of entries) {
      if (kind === "P") this.mark(aggregate, sequence, publishedBit)
      else if (kind === "F") {
        this.finishes++
        this.mark(aggregate, sequence, handledBit)
      }
    }
  }

  private mark(aggregate: string, sequence: number, bit: number): void {
    let flags = this.seen.get(aggregate)
    if (flags === undefined) this.seen.set(aggregate, flags = [])
    const before = flags[sequence] ?? 0
    if ((before & bit) !== 0) return
    flags[sequence] = before | bit
    if (bit === publishedBit) {
      this.published++
      if (before === 0) this.outstanding++
    } else {
      this.handled++
      if (!isPatient(aggregate)) this.strangers++
      if (before !== 0) this.outstanding--
    }
  }
}
