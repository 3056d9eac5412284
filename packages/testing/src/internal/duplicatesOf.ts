import type { Started } from "../History.js"
import { type Aggregate, ownerOf } from "./historyIndex.js"

/**
 * The first start of each message in each owner, after a process had finished the message.
 *
 * @internal
 */
export const duplicatesOf = ({ entries }: Aggregate): ReadonlyArray<Started> => {
  const finished = new Set<number>()
  const found: Array<Started> = []
  let last: string | undefined
  for (const entry of entries) {
    if (entry.kind === "ended" && entry.outcome === "finished") {
      finished.add(entry.sequence)
      last = undefined
    }
    if (entry.kind !== "started" || !finished.has(entry.sequence)) continue
    const id = `${entry.sequence} ${ownerOf(entry)}`
    // A retry of a duplicate is no other one.
    if (id === last) continue
    last = id
    found.push(entry)
  }
  return found
}
