import {
  EventBus,
  EventBusConfig,
  FailurePolicy,
  MemoryTransport,
  Observer,
  type Rollout,
  Topic
} from "@effect-eventbus/core"
import { Effect, HashMap, Layer, Logger, Option, Schema } from "effect"

const Numbers = Topic.envelope("numbers", Schema.Number, { partitions: 4, eventType: () => "Number" })

export const provideBus = (config: EventBusConfig.Options = {}) =>
  Effect.provide(
    EventBus.layer.pipe(Layer.provide(MemoryTransport.layer()), Layer.provide(EventBusConfig.layer(config)))
  )

/** An observer's events of rollouts, the messages that were handled out of order, and what is logged. */
export const watching = () => {
  const changes: Array<Rollout.Change> = []
  const analysed: Array<Extract<Observer.Event, { readonly _tag: "RolloutAnalysed" }>> = []
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ logLevel, message }) =>
    void lines.push(`${logLevel.label} ${String(message)}`)
  )
  const layer = Layer.mergeAll(
    Observer.layer({
      event: (event) => {
        if (event._tag === "Rollout") changes.push(event.change)
        if (event._tag === "RolloutAnalysed") analysed.push(event)
      }
    }),
    Logger.replace(Logger.defaultLogger, logger)
  )
  return { changes, analysed, lines, layer }
}

/**
 * A subscription whose handler knows on which side it runs: the candidate's slots are called after `candidate`. Each aggregate's events are
 * numbered, so that their order can be judged.
 */
export const traffic = <E>(
  candidate: string,
  act: (side: "baseline" | "candidate", n: number, attempt: number) => Effect.Effect<unknown, E>,
  aggregates = 40
) =>
  Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const handled = new Map<string, number>()
    const totals = { published: 0, baseline: 0, candidate: 0, violations: 0 }
    yield* bus.subscribe(Numbers, (n, { aggregateId, attempt }) =>
      Effect.gen(function*() {
        const slot = Option.getOrThrow(HashMap.get(yield* Effect.logAnnotations, "eventbus.actor"))
        const side = String(slot).startsWith(candidate) ? "candidate" : "baseline"
        totals[side]++
        if (n !== (handled.get(aggregateId!) ?? 0)) totals.violations++
        yield* act(side, n, attempt)
        handled.set(aggregateId!, n + 1)
      }), { onExhausted: FailurePolicy.drop })
    let round = 0
    /** One event for each aggregate. */
    const publish = Effect.suspend(() => {
      const n = round++
      totals.published += aggregates
      return bus.publishAll(
        Numbers,
        Array.from({ length: aggregates }, (_, i) => ({ aggregateId: `order-${i}`, payload: n }))
      )
    })
    const isDone = () => Array.from(handled.values()).reduce((sum, count) => sum + count, 0) === totals.published
    return { bus, totals, publish, isDone }
  })
