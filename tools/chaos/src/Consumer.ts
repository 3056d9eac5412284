/** What one instance does: handles for some milliseconds, fails now and then, and writes down what it sees. */
import { type Delivery, FailurePolicy } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Log from "./Log.js"
import * as Random from "./Random.js"
import * as Strategies from "./Strategies.js"
import type { Step, Topics } from "./Topics.js"

export interface Settings {
  readonly topics: Topics
  readonly write: Log.Write
  readonly seed: number
  readonly minWorkMs: number
  readonly maxWorkMs: number
  /** Of each start of a handler; a tenth of the failures are defects. */
  readonly failureRate: number
  /** Whether the strategy of the bus is switched, on average so often. */
  readonly switchEverySeconds?: number | undefined
}

/** The two subscriptions. How long a handler takes and whether it fails is decided by the seed, the event and the attempt. */
export const layer = (
  { failureRate, maxWorkMs, minWorkMs, seed, switchEverySeconds, topics, write }: Settings
) => {
  const handle = ({ sequence }: Step, delivery: Delivery.EnvelopeDelivery) => {
    const { aggregateId, attempt } = delivery
    const chance = (of: string) => Random.at(seed, of, aggregateId, sequence, attempt)
    return Effect.suspend(() => {
      write("S", aggregateId, sequence, delivery)
      const work = minWorkMs + chance("work") * (maxWorkMs - minWorkMs)
      return Effect.zipRight(
        // Timers have whole milliseconds.
        work < 0.5 ? Effect.void : Effect.sleep(work),
        Effect.suspend((): Effect.Effect<void, "failed"> => {
          const luck = chance("luck")
          if (luck < failureRate) {
            write("T", aggregateId, sequence, delivery)
            return luck < failureRate / 10 ? Effect.die("died") : Effect.fail("failed")
          }
          write("F", aggregateId, sequence, delivery)
          return Effect.void
        })
      )
    }).pipe(Effect.onInterrupt(() => Effect.sync(() => write("I", aggregateId, sequence, delivery))))
  }

  return Layer.mergeAll(
    switchEverySeconds === undefined
      ? Layer.empty
      : Layer.scopedDiscard(Effect.forkScoped(Effect.interruptible(Strategies.switching(switchEverySeconds)))),
    topics.orders.toLayer(handle, { onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop }) }),
    topics.clicks.toLayer((body, delivery) =>
      Effect.sync(() => write("O", "click", Number(new TextDecoder().decode(body)), delivery))
    )
  )
}
