/** Books what was published and what happened to it, and judges it: nothing may be lost, and no order may be overtaken. */
import { Context, Effect, Layer } from "effect"

interface Order {
  /** The number of the event that has to be handled next. */
  next: number
  running: boolean
}

export class Ledger extends Context.Tag("examples/Ledger")<Ledger, {
  readonly published: (count: number) => void
  /** A handler starts. It is checked here: when it ends it is too late to see. */
  readonly started: (orderId: string, number: number, publishedAt: number, attempt: number) => void
  readonly paused: (orderId: string) => void
  readonly handled: (orderId: string, number: number) => void
  readonly deadLettered: (orderId: string) => void
  readonly letterArrived: () => void
  readonly totals: () => Totals
}>() {
  static readonly layer = Layer.sync(Ledger, () => {
    const orders = new Map<string, Order>()
    const handled = new Set<string>()
    const latencies: Array<number> = []
    const totals = { published: 0, deadLettered: 0, letters: 0, violations: 0 }
    const order = (id: string): Order => {
      let found = orders.get(id)
      if (found === undefined) orders.set(id, found = { next: 0, running: false })
      return found
    }
    const done = (id: string) => {
      const finished = order(id)
      finished.next++
      finished.running = false
    }
    return Ledger.of({
      published: (count) => void (totals.published += count),
      started: (id, number, publishedAt, attempt) => {
        const current = order(id)
        if (current.running || number !== current.next) totals.violations++
        current.running = true
        if (attempt === 1) latencies.push(performance.now() - publishedAt)
      },
      paused: (id) => void (order(id).running = false),
      handled: (id, number) => {
        handled.add(`${id}/${number}`)
        done(id)
      },
      deadLettered: (id) => {
        totals.deadLettered++
        done(id)
      },
      letterArrived: () => void totals.letters++,
      totals: () => ({ ...totals, handled: handled.size, aggregates: orders.size, latencies })
    })
  })
}

export interface Totals {
  readonly published: number
  readonly handled: number
  readonly deadLettered: number
  /** Dead letters that were read back from their topic. */
  readonly letters: number
  readonly aggregates: number
  readonly violations: number
  /** From publishing to the first start of the handler, in ms. */
  readonly latencies: ReadonlyArray<number>
}

/** All that was published has ended: handled, or given up for good. */
export const isDone = (totals: Totals): boolean =>
  totals.published > 0 && totals.handled + totals.deadLettered >= totals.published &&
  totals.letters >= totals.deadLettered

export const currentTotals = Effect.map(Ledger, (ledger) => ledger.totals())
