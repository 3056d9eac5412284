/**
 * Publishes each aggregate's events in order, the next only when the one before it is confirmed, and keeps at it
 * while brokers go away. Never further ahead of the consumers than asked for.
 */
import { EventBus } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Log from "./Log.js"
import { isPatient, names } from "./Patients.js"
import * as Random from "./Random.js"
import { Step, type Topics } from "./Topics.js"

export interface Settings {
  readonly topics: Topics
  readonly write: Log.Write
  readonly aggregates: number
  /** How many of them fail for a time. They are published whatever is handled. */
  readonly patients: number
  /** How many events are published in a second. Undefined: as many as can be. */
  readonly rate?: number | undefined
  /** How many events are published and not yet handled at most. */
  readonly ahead: number
  readonly control: Control
}

/** What the coordinator tells the publisher. */
export interface Control {
  handled: number
  stopped: boolean
}

/** Publishes until it is told to stop. */
export const publish = ({ aggregates, ahead, control, patients, rate, topics, write }: Settings) =>
  Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    let published = 0
    let clicks = 0

    const mayGoOn = () => control.stopped || published - control.handled < ahead
    const room = Effect.suspend(() => mayGoOn() ? Effect.void : Effect.repeat(Effect.void, untilRoom))
    const untilRoom = Schedule.spaced("5 millis").pipe(Schedule.untilInput(mayGoOn))

    const click = Effect.suspend(() => {
      const number = clicks++
      return bus.publish(topics.clicks, { body: `${number}` }).pipe(
        Effect.tap(() => Effect.sync(() => write("Q", "click", number))),
        // At most once begins here: what may not have been written is not published again.
        Effect.catchAll((error) => Effect.logWarning(error.message))
      )
    })

    /** An outcome that is unknown is published again with the same event id, as a user would; the next event waits for it. */
    const one = (aggregate: string) =>
      Effect.gen(function*() {
        const counts = !isPatient(aggregate)
        const everyMs = rate === undefined ? 0 : aggregates / rate * 1_000
        let due = performance.now() + Random.at(aggregates, aggregate) * everyMs
        let sequence = 0
        while (!control.stopped) {
          const waits = due - performance.now()
          // What is late is not caught up with at once.
          if (waits > 1) yield* Effect.sleep(waits)
          due = Math.max(due, performance.now() - 1_000) + everyMs
          if (counts) yield* room
          if (control.stopped) return
          if (counts) published++
          const eventId = `${aggregate}/${sequence}`
          yield* bus.publish(topics.orders, { aggregateId: aggregate, eventId, payload: new Step({ sequence }) }).pipe(
            Effect.tapError((error) =>
              Effect.sync(() => {
                if (error._tag === "PublishFailed" && error.outcome === "unknown") write("U", aggregate, sequence)
              })
            ),
            Effect.retry(Schedule.spaced("100 millis"))
          )
          write("P", aggregate, sequence)
          sequence++
          if (sequence % 10 === 0) yield* click
        }
      })

    yield* Effect.forEach(names(aggregates, patients), one, {
      concurrency: "unbounded",
      discard: true
    })
  })
