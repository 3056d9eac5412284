/** Publishes, handles, waits until everything has ended, and reports. */
import { Data, Duration, Effect, Fiber } from "effect"
import * as Fulfilment from "./Fulfilment.js"
import { currentTotals, isDone } from "./Ledger.js"
import { topics } from "./Orders.js"
import * as Report from "./Report.js"
import * as Shop from "./Shop.js"

export interface Options {
  readonly transport: string
  readonly events: number
  readonly aggregates: number
  readonly json: boolean
}

export class NoProgress
  extends Data.TaggedError("NoProgress")<{ readonly handled: number; readonly published: number }>
{
  override get message() {
    return `Nothing has moved for a minute: ${this.handled} of ${this.published} events are handled`
  }
}

export class ContractBroken extends Data.TaggedError("ContractBroken")<{ readonly summary: Report.Summary }> {
  override get message() {
    return `${this.summary.lost} events were lost, and ${this.summary.violations} handled out of order`
  }
}

const patience = Duration.toMillis("1 minute")

const untilDone = Effect.gen(function*() {
  let moved = performance.now()
  let before = -1
  while (true) {
    const totals = yield* currentTotals
    if (isDone(totals)) return
    const ended = totals.handled + totals.deadLettered + totals.letters
    if (ended !== before) moved = performance.now()
    if (performance.now() - moved > patience) return yield* new NoProgress(totals)
    before = ended
    yield* Effect.sleep("10 millis")
  }
})

export const program = (options: Options) =>
  Effect.gen(function*() {
    const names = topics(`${Date.now().toString(36)}-${process.pid}`)
    const subscription = yield* Fulfilment.subscribe(names)
    const start = performance.now()
    const progress = yield* Effect.forkScoped(Report.progress(subscription, process.stderr))
    yield* Shop.publish(names, options)
    yield* untilDone
    const seconds = (performance.now() - start) / 1_000
    yield* Fiber.interrupt(progress)
    yield* Report.endProgress(process.stderr)
    const totals = yield* currentTotals
    const summary = Report.summarize(options.transport, totals, yield* subscription.stats, seconds)
    yield* Effect.sync(() =>
      process.stdout.write(`${options.json ? JSON.stringify(summary) : Report.text(summary, totals)}\n`)
    )
    if (summary.lost > 0 || summary.violations > 0) return yield* new ContractBroken({ summary })
  }).pipe(Effect.scoped)
