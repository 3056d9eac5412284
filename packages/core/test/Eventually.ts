import { Effect } from "effect"

/** Lets other fibers run until a condition holds. It needs no clock, so it works under the TestClock. */
export const eventually = (what: string, holds: () => boolean): Effect.Effect<void> =>
  Effect.gen(function*() {
    for (let i = 0; i < 2_000; i++) {
      if (holds()) return
      yield* Effect.yieldNow()
    }
    // Real time for what does not run on Effect's scheduler.
    for (let i = 0; i < 4_000; i++) {
      if (holds()) return
      yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 5)))
    }
    return yield* Effect.dieMessage(`never came true: ${what}`)
  })

/** Lets everything run that can run now. */
export const settle: Effect.Effect<void> = Effect.gen(function*() {
  for (let i = 0; i < 50; i++) yield* Effect.yieldNow()
  yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
  for (let i = 0; i < 50; i++) yield* Effect.yieldNow()
})
