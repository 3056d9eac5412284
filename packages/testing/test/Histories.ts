import type { History } from "@effect-eventbus/testing"
import { FastCheck as fc } from "effect"

type Entry = History.Entry

const aggregates = ["a", "b", "c"]

interface Lane {
  published: number
  /** The next sequence to start, of the current owner. */
  next: number
  running: boolean
  /** Everything below it is settled. */
  settled: number
  finished: number
}

/**
 * A system that keeps the contract: one owner at a time, in order, settled after it is finished, and a take-over (after a
 * kill, or an orderly one) begins again at what is not settled.
 */
class System {
  readonly entries: Array<Entry> = []
  private at = 0
  private owner = 1
  private readonly lanes = new Map(
    aggregates.map((name): [string, Lane] => [name, { published: 0, next: 0, running: false, settled: 0, finished: 0 }])
  )

  private add(entry: object): void {
    this.entries.push({ at: this.at++, process: `p${this.owner}`, epoch: this.owner, ...entry } as unknown as Entry)
  }

  step(aggregate: string, choice: number): void {
    const lane = this.lanes.get(aggregate)!
    switch (choice) {
      case 0:
      case 1:
        return this.add({
          kind: "published",
          process: "publisher",
          aggregate,
          sequence: lane.published++,
          outcome: "confirmed"
        })
      case 2:
        return this.settle(aggregate, lane)
      case 3:
        return this.takeOver("killed")
      case 4:
        return this.takeOver("left")
      default:
        return this.work(aggregate, lane, choice === 5 ? "failed" : "finished")
    }
  }

  drain(): ReadonlyArray<Entry> {
    for (const [aggregate, lane] of this.lanes) {
      while (lane.running || lane.next < lane.published) this.work(aggregate, lane, "finished")
      while (lane.settled < lane.finished) this.settle(aggregate, lane)
    }
    return this.entries
  }

  private work(aggregate: string, lane: Lane, outcome: "finished" | "failed"): void {
    const sequence = lane.next
    if (lane.running) {
      lane.running = false
      if (outcome === "finished") lane.finished = Math.max(lane.finished, ++lane.next)
      return this.add({ kind: "ended", aggregate, sequence, outcome })
    }
    if (sequence === lane.published) return
    lane.running = true
    this.add({ kind: "started", aggregate, sequence, maybeDuplicate: sequence < lane.finished })
  }

  private settle(aggregate: string, lane: Lane): void {
    if (lane.settled < lane.next) this.add({ kind: "settled", aggregate, sequence: lane.settled++ })
  }

  private takeOver(how: "killed" | "left"): void {
    for (const [aggregate, lane] of this.lanes) {
      if (lane.running && how === "left") {
        this.add({ kind: "ended", aggregate, sequence: lane.next, outcome: "interrupted" })
      }
      lane.running = false
      lane.next = lane.settled
    }
    if (how === "killed") this.add({ kind: "down", cause: "killed" })
    this.owner++
  }
}

/** Histories that keep the contract, in which everything is finished in the end. */
export const legal: fc.Arbitrary<ReadonlyArray<Entry>> = fc.array(
  fc.tuple(fc.constantFrom(...aggregates), fc.integer({ min: 0, max: 14 })),
  { minLength: 1, maxLength: 150 }
).map((steps) => {
  const system = new System()
  system.step("a", 0)
  for (const [aggregate, choice] of steps) system.step(aggregate, choice)
  return system.drain()
})

/** The same for a plain topic: settled, then started once; a kill loses what was settled and not started. */
export const legalPlain: fc.Arbitrary<ReadonlyArray<Entry>> = fc.array(fc.boolean(), { minLength: 1, maxLength: 60 })
  .map((kills) => {
    const entries: Array<object> = []
    kills.forEach((kill, sequence) => {
      const message = { process: `p${sequence}`, epoch: sequence, aggregate: "click", sequence }
      entries.push({ kind: "published", ...message, outcome: "confirmed" }, { kind: "settled", ...message })
      if (kill) entries.push({ kind: "down", process: message.process, cause: "killed" })
      else {
        entries.push(
          { kind: "started", ...message, maybeDuplicate: false },
          { kind: "ended", ...message, outcome: sequence % 3 === 0 ? "failed" : "finished" }
        )
      }
    })
    return entries.map((entry, at) => ({ ...entry, at }) as Entry)
  })

/** Puts entries after another one; times are given anew. */
export const insert = (history: ReadonlyArray<Entry>, after: Entry, ...added: ReadonlyArray<object>) => {
  const at = history.indexOf(after) + 1
  return retimed([...history.slice(0, at), ...added as ReadonlyArray<Entry>, ...history.slice(at)])
}

export const retimed = (history: ReadonlyArray<Entry>): ReadonlyArray<Entry> =>
  history.map((entry, at) => ({ ...entry, at }))
