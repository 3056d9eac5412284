/** The order in which the messages of one aggregate were started. */
import type { Started } from "../History.js"
import type { Finding, Options } from "../Oracles.js"
import { finding, name } from "./finding.js"
import { type Aggregate, ownerOf } from "./historyIndex.js"

/** @internal */
export const orderOf = (
  aggregate: Aggregate,
  wasOutSince: (process: string, from: number, to: number) => boolean,
  options: Options,
  findings: Array<Finding>
): void => {
  const { copies, entries, published, started } = aggregate
  /** One past the highest sequence number that a process has finished. */
  let next = 0
  let owner: { readonly id: string; readonly last: number; finished: number } | undefined
  const lastStart = new Map<string, number>()
  const settled = new Set<number>()

  /** Messages that may never have been written leave no gap. */
  const isGap = (to: number): boolean => {
    for (let sequence = next; sequence < to; sequence++) {
      if (published.has(sequence) || !copies.has(sequence) || started.has(sequence)) return true
    }
    return false
  }

  const violation = (entry: Started): readonly [Finding["kind"], string] | undefined => {
    const { process, sequence } = entry
    const id = ownerOf(entry)
    const lastHere = lastStart.get(id)
    lastStart.set(id, entry.at)
    const before = owner
    if (before !== undefined && before.id !== id && lastHere !== undefined) {
      // A suspended process may run for a moment before it learns that it was taken over from.
      return wasOutSince(process, lastHere, entry.at) ? undefined : ["stale", `though ${before.id} had taken over`]
    }
    owner = { id, last: sequence, finished: before?.id === id ? before.finished : -1 }
    if (sequence > next && isGap(sequence)) return ["skip", `while ${entry.aggregate}/${next} was not finished`]
    if ((copies.get(sequence) ?? 1) > 1 || (options.repeats === true && entry.maybeDuplicate)) return
    if (settled.has(sequence)) return ["settled-again", "though it was settled"]
    if (before?.id === id && sequence < before.last) return ["step-back", `after ${before.last}, within one epoch`]
    if (sequence <= owner.finished) return ["step-back", "after it was finished, within one epoch"]
    return
  }

  for (const entry of entries) {
    if (entry.kind === "settled") settled.add(entry.sequence)
    else if (entry.kind === "started") {
      const found = violation(entry)
      if (found === undefined) continue
      const where = `${name(entry)} was started in ${ownerOf(entry)}`
      findings.push(finding("order", found[0], entry, `${where} ${found[1]}`, entries, entry))
    } else if (entry.kind === "ended" && entry.outcome === "finished") {
      next = Math.max(next, entry.sequence + 1)
      if (owner !== undefined && owner.id === ownerOf(entry)) owner.finished = Math.max(owner.finished, entry.sequence)
    }
  }
}
