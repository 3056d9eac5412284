import { Effect, TestClock } from "effect"

/** Lets some virtual time pass. */
export const pass = (millis: number) => Effect.zipRight(TestClock.adjust(millis), settleShortly)

const settleShortly = Effect.gen(function*() {
  for (let i = 0; i < 20; i++) yield* Effect.yieldNow()
  yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
  for (let i = 0; i < 20; i++) yield* Effect.yieldNow()
})

/** Runs something that waits, while virtual time passes. */
export const virtually = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(effect)
    for (let i = 0; i < 400; i++) {
      const exit = fiber.unsafePoll()
      if (exit !== null) break
      yield* pass(10)
    }
    return yield* fiber
  })
