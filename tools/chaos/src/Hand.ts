/** Somebody who parks and releases by hand while a run goes on. What is left is released when the season is over. */
import type { Control, Parking } from "@effect-eventbus/core"
import * as Effect from "effect/Effect"
import * as EffectRandom from "effect/Random"
import * as Log from "./Log.js"
import type { Season } from "./Patients.js"

const by: Parking.By = { who: "chaos", why: "a run" }

const pick = <A>(from: ReadonlyArray<A>) => Effect.map(EffectRandom.nextIntBetween(0, from.length), (i) => from[i]!)

/** One of the things that can be done by hand. */
const once = (control: Control.Control, season: Season) =>
  Effect.gen(function*() {
    const { aggregates } = yield* control.parked({ limit: 1_000 })
    const causes = yield* control.causes
    if (Log.now() >= season.to) return aggregates.length === 0 ? undefined : yield* control.release("all", by)
    const luck = yield* EffectRandom.next
    if (luck < 0.2) return yield* control.release("all", { ...by, rate: 500 })
    if (luck < 0.4 && causes.length > 0) return yield* control.release({ cause: (yield* pick(causes)).cause }, by)
    if (aggregates.length === 0) return
    const { aggregate } = yield* pick(aggregates)
    if (luck < 0.6) return yield* control.release({ where: ({ partition }) => partition % 2 === 0 }, by)
    // Parked already, or normal by then: then it is parked by its next message.
    return luck < 0.7 ? yield* control.park(aggregate, by) : yield* control.release({ aggregate }, by)
  })

/** Goes on until it is interrupted, and writes down how many letters there are. */
export const work = (control: Control.Control, season: Season, write: Log.Write) =>
  Effect.gen(function*() {
    yield* Effect.sleep(yield* EffectRandom.nextRange(300, 900))
    yield* Effect.catchAll(once(control, season), (error) => Effect.logWarning(`by hand: ${error.message}`))
    const { aggregates } = yield* control.parked({ limit: 1_000 })
    write("L", "-", aggregates.reduce((sum, { letters }) => sum + letters, 0))
  }).pipe(Effect.forever)
