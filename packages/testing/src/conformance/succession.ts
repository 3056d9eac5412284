/**
 * The laws of a group that begins where another one has stopped. They are skipped where a transport can't.
 *
 * @since 0.1.0
 */
import { EventBus, Transport } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { expect, it } from "vitest"
import { eventually } from "../Eventually.js"
import { inBus, newName, newTopic, orDrop, quietly, Step, type Subject } from "./Bench.js"

/**
 * @since 0.1.0
 * @category rules
 */
export const succession = (subject: Subject): void => {
  it(
    "a group begins where another one has stopped, and only when that one has",
    (context) =>
      Effect.runPromise(quietly(inBus(
        subject.layer,
        Effect.gen(function*() {
          const { capabilities } = yield* Transport.Transport
          if (capabilities.startAfterGroup !== true) return context.skip()
          const bus = yield* EventBus.EventBus
          const topic = newTopic("succession")
          const names = { old: newName("old"), next: newName("next") }
          const publish = (from: number, to: number) =>
            bus.publishAll(
              topic,
              Array.from({ length: to - from }, (_, i) => ({
                aggregateId: `order-${(from + i) % 5}`,
                payload: new Step({ sequence: from + i })
              }))
            )
          const handled = { old: [] as Array<number>, next: [] as Array<number> }
          const subscribe = (group: "old" | "next", startFrom: Transport.StartFrom) =>
            bus.subscribe(topic, ({ sequence }) => Effect.sync(() => handled[group].push(sequence)), {
              ...orDrop,
              group: names[group],
              startFrom
            })
          const refusal = Effect.map(
            Effect.either(subscribe("next", { group: names.old })),
            (result) => Either.match(result, { onLeft: (error) => ({ ...error }), onRight: () => undefined })
          )
          yield* publish(0, 20)
          expect(yield* refusal).toMatchObject({ _tag: "TakeOverRefused", reason: "Unknown" })
          const former = yield* subscribe("old", "earliest")
          yield* eventually("the old group has handled all", () => handled.old.length === 20)
          expect(yield* refusal).toMatchObject({ _tag: "TakeOverRefused", reason: "Alive" })
          yield* former.close
          yield* publish(20, 40)
          const next = yield* subscribe("next", { group: names.old })
          yield* eventually("the new group has handled the rest", () => handled.next.length >= 20)
          yield* next.close
          // It goes on from its own position.
          yield* publish(40, 45)
          yield* subscribe("next", { group: names.old })
          yield* eventually("the new group has gone on", () => handled.next.length >= 25)
          expect([...handled.next].sort((a, b) => a - b)).toEqual(Array.from({ length: 25 }, (_, i) => 20 + i))
          expect(handled.old).toHaveLength(20)
        })
      ))),
    60_000
  )
}
