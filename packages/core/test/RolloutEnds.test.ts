/** A rollout whose scope ends in the middle of something, and what can be asked of it afterwards. */
import { EventBus, Rollout, Strategy } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Scope, TestClock } from "effect"
import { settle } from "./Eventually.js"
import { provideBus } from "./Orders.js"

const candidate = Strategy.pool({ name: "candidate", size: 64 })

const started = (options: Partial<Rollout.Options> = {}) =>
  Effect.flatMap(
    EventBus.EventBus,
    ({ dispatch }) => Rollout.start(dispatch, { candidate, steps: [{ share: 0.5, for: "10 minutes" }, 1], ...options })
  )

const begun = (options?: Partial<Rollout.Options>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const rollout = yield* Scope.extend(started(options), scope)
    return { rollout, close: Scope.close(scope, Exit.void) }
  })

const microtasks = (count: number) =>
  Effect.promise(async () => {
    for (let i = 0; i < count; i++) await Promise.resolve()
  })

describe("a rollout whose scope has ended", () => {
  it.effect("lets nobody wait for its end", () =>
    Effect.gen(function*() {
      const { close, rollout } = yield* begun()
      const fiber = yield* Effect.fork(rollout.ended)
      yield* settle
      yield* close
      const exit = yield* Fiber.await(fiber).pipe(
        Effect.timeoutOption("1 second"),
        Effect.zipLeft(TestClock.adjust("1 second"), { concurrent: true })
      )
      expect(exit._tag).toBe("Some")
    }).pipe(provideBus()))

  it.effect("promotes nothing, which is said, and has nothing to roll back", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* EventBus.EventBus
      const { close, rollout } = yield* begun()
      yield* close
      const exit = yield* Effect.exit(rollout.promote({ force: true }))
      expect(Exit.isFailure(exit) && Cause.isFailure(exit.cause)).toBe(true)
      expect(yield* Effect.exit(rollout.rollback)).toMatchObject({ _tag: "Success", value: { status: "running" } })
      expect((yield* dispatch.report).canary).toBeUndefined()
      expect((yield* dispatch.report).strategy.name).toBe("actor-per-aggregate")
    }).pipe(provideBus()))

  for (const steps of [[0.5, 1], [0.5]]) {
    it.effect(`leaves nothing to the candidate when that was in the middle of a promotion (steps ${steps.join()})`, () =>
      Effect.gen(function*() {
        const { dispatch } = yield* EventBus.EventBus
        for (let after = 0; after < 12; after++) {
          const { close, rollout } = yield* begun({ steps, name: `after-${after}` })
          const promoting = yield* Effect.fork(Effect.exit(rollout.promote({ force: true })))
          yield* microtasks(after)
          yield* close
          yield* Fiber.join(promoting)
          const { canary, strategy } = yield* dispatch.report
          const { status } = yield* rollout.state
          expect([after, status, canary?.share, strategy.name]).toEqual([
            after,
            status,
            undefined,
            status === "promoted" ? "candidate" : "actor-per-aggregate"
          ])
          yield* dispatch.switchTo("actor-per-aggregate")
        }
      }).pipe(provideBus()))
  }
})

it.scoped("a heap that is no number is not judged", () =>
  Effect.gen(function*() {
    const rollout = yield* started({ triggers: { heapFor: "1 minute" } })
    yield* TestClock.adjust("5 minutes")
    expect(yield* rollout.state).toMatchObject({ status: "running", reasons: [] })
  }).pipe(provideBus(), Effect.provideService(Rollout.Heap, { open: Effect.succeed(() => NaN) })))
