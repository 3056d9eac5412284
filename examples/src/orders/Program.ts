/** Publishes, handles, waits until everything has ended, and reports. */
import type { Strategy } from "@effect-eventbus/core"
import { Data, Duration, Effect, Fiber } from "effect"
import * as Canary from "./Canary.js"
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
  /** The strategy that the bus is moved to while it runs. */
  readonly canary: Strategy.Name | undefined
  /** The canary's handlers take so many milliseconds longer. */
  readonly slowCanary: number | undefined
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

/** With a canary the run takes some seconds, so that there is something to compare. */
const rateWithCanary = 2_000

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
    const { canary, slowCanary } = options
    const isSlow = canary !== undefined && slowCanary !== undefined
    const subscription = yield* Fulfilment.subscribe(names, isSlow ? Canary.slowness(canary, slowCanary) : undefined)
    const rollout = canary === undefined ? undefined : yield* Canary.start(canary)
    const start = performance.now()
    const progress = yield* Effect.forkScoped(Report.progress(subscription, process.stderr))
    yield* Shop.publish(names, options, rollout && rateWithCanary)
    yield* untilDone
    const seconds = (performance.now() - start) / 1_000
    yield* Fiber.interrupt(progress)
    yield* Report.endProgress(process.stderr)
    const totals = yield* currentTotals
    const state = rollout && (yield* rollout.state)
    const summary = Report.summarize(options.transport, totals, yield* subscription.stats, seconds, state)
    yield* Effect.sync(() =>
      process.stdout.write(`${options.json ? JSON.stringify(summary) : Report.text(summary, totals)}\n`)
    )
    if (summary.lost > 0 || summary.violations > 0) return yield* new ContractBroken({ summary })
  }).pipe(Effect.scoped)
