import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { describeCause } from "../describeCause.js"
import { Lasting } from "../lasting.js"
import * as Logging from "../logging.js"
import * as ParseIssue from "../parseIssue.js"
import { StoreFailed } from "./errors.js"
import type * as Options from "./options.js"
import type * as Rollout from "./state.js"

/** How long a store may take for a call. */
const patience = "10 seconds"

const again = Schedule.exponential("100 millis", 2).pipe(Schedule.union(Schedule.spaced("10 seconds")))

const Stored = Schema.Struct({
  name: Schema.String,
  status: Schema.Literal("running", "promoted", "rolled-back", "superseded"),
  baseline: Schema.String,
  candidate: Schema.String,
  step: Schema.NonNegativeInt,
  share: Schema.NullOr(Schema.Number),
  startedAt: Schema.Number,
  since: Schema.Number,
  reasons: Schema.Array(Schema.String)
})

/** A store is users' code: what it throws is a failure, too. */
const guarded = <A>(name: string, operation: "load" | "save", call: () => Effect.Effect<A, unknown>) =>
  // Also where the scope ends: a timeout waits for what can't be interrupted.
  Effect.interruptible(Effect.disconnect(Effect.suspend(call))).pipe(
    Effect.timeoutFail({ duration: patience, onTimeout: () => new Error(`it has not answered within ${patience}`) }),
    Effect.interruptible,
    Effect.catchAllCause((cause) =>
      Cause.isInterruptedOnly(cause)
        ? Effect.interrupt
        : new StoreFailed({ name, operation, cause: describeCause(cause) })
    )
  )

/** @internal */
export const load = (
  store: Options.Store,
  name: string
): Effect.Effect<Rollout.State | undefined, StoreFailed> =>
  Effect.flatMap(
    guarded(name, "load", () => store.load(name)),
    (found) =>
      found === undefined || found === null ? Effect.succeed(undefined) : Effect.mapError(
        Schema.decodeUnknown(Stored)(found),
        (error) =>
          new StoreFailed({
            name,
            operation: "load",
            cause: `it is no state of a rollout: ${ParseIssue.format(error.issue)}`
          })
      )
  )

/**
 * Saves the states of a rollout one after the other. One that can't be saved is tried again, until the next one replaces it.
 *
 * @internal
 */
export const saver = (
  store: Options.Store,
  name: string
): Effect.Effect<(state: Rollout.State) => void, never, Scope.Scope> =>
  Effect.gen(function*() {
    let next: Rollout.State | undefined
    const isAny = yield* Effect.makeLatch(false)
    const lasting = new Lasting(
      `The state of the rollout "${name}" can't be saved, so a restart of the process would go on from an older one`
    )
    const save = Effect.suspend(() => {
      const state = next
      return state === undefined ? Effect.void : Effect.tap(
        guarded(name, "save", () => store.save(name, state)),
        () => Effect.sync(() => next === state ? next = undefined : undefined)
      )
    })
    const loop = Effect.zipRight(
      isAny.await,
      Effect.zipRight(
        isAny.close,
        // What came meanwhile is saved instead of what has failed.
        Effect.ignore(lasting.retry(Effect.repeat(save, { while: () => next !== undefined }), { schedule: again }))
      )
    )
    // It is released after the loop has ended: what is not saved yet has one more chance.
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => next === undefined ? Effect.void : save).pipe(
        Effect.catchAll((error) => Logging.warning(error.message))
      )
    )
    yield* Effect.forkScoped(Effect.interruptible(Effect.forever(loop)))
    return (state) => {
      next = state
      isAny.unsafeOpen()
    }
  })
