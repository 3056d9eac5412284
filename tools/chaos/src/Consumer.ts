/** What one instance does: handles for some milliseconds, fails now and then, and writes down what it sees. */
import { type Delivery, EventBus, FailurePolicy, type Observer } from "@effect-eventbus/core"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Hand from "./Hand.js"
import type * as Log from "./Log.js"
import * as Patients from "./Patients.js"
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
  /** When patients fail, and are parked. Undefined: the policy is `hold`, and nobody fails for long. */
  readonly season?: Patients.Season | undefined
}

class Ill extends Data.TaggedError("Ill") {}
class Weak extends Data.TaggedError("Weak") {}

/** Writes down which messages become letters. */
export const observer = (topics: Topics, write: Log.Write): Observer.Service => ({
  transition: ({ aggregateId, epoch, maybeDuplicate, offset, outcome, partition, state, topic }) => {
    if (state !== "ended" || outcome !== "parked" || topic !== topics.orders.name) return
    write("K", aggregateId!, offset, { partition, offset, epoch, maybeDuplicate })
  }
})

/** What fails is parked soon, and released soon. */
const parking = {
  retry: Schedule.intersect(Schedule.spaced("20 millis"), Schedule.recurs(2)),
  onExhausted: FailurePolicy.park({
    undecodable: FailurePolicy.drop,
    release: Schedule.jittered(Schedule.spaced("3 seconds"))
  })
}

/** The two subscriptions. How long a handler takes and whether it fails is decided by the seed, the event and the attempt. */
export const layer = (
  { failureRate, maxWorkMs, minWorkMs, season, seed, switchEverySeconds, topics, write }: Settings
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
        Effect.suspend((): Effect.Effect<void, "failed" | Ill | Weak> => {
          const illness = season && Patients.illness(seed, aggregateId, season)
          if (illness !== undefined) {
            write("T", aggregateId, sequence, delivery)
            return illness === 0 ? new Ill() : illness === 1 ? new Weak() : Effect.die(new Error("crashed"))
          }
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
    season === undefined
      ? topics.orders.toLayer(handle, { onExhausted: FailurePolicy.hold({ undecodable: FailurePolicy.drop }) })
      : Layer.scopedDiscard(Effect.gen(function*() {
        const bus = yield* EventBus.EventBus
        const { control } = yield* bus.subscribe(topics.orders, handle, parking)
        yield* Effect.forkScoped(Effect.interruptible(Hand.work(control, season, write)))
      })),
    topics.clicks.toLayer((body, delivery) =>
      Effect.sync(() => write("O", "click", Number(new TextDecoder().decode(body)), delivery))
    )
  )
}
