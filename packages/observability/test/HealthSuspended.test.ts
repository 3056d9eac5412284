/** A process that does not run for a while, as its machine sleeps or its container is frozen, is no stalled bus. */
import { EventBus, FailurePolicy } from "@effect-eventbus/core"
import { Health } from "@effect-eventbus/observability"
import { expect, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Layer, Logger } from "effect"
import { busWith, eventually, placed, topicOf } from "./Fixture.js"

/** A clock whose time of day jumps, and no timer ends for that. */
const jumping = () => {
  const live = Clock.make()
  let jumped = 0
  const unsafeCurrentTimeMillis = () => live.unsafeCurrentTimeMillis() + jumped
  const clock: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis,
    unsafeCurrentTimeNanos: () => live.unsafeCurrentTimeNanos(),
    currentTimeMillis: Effect.sync(unsafeCurrentTimeMillis),
    currentTimeNanos: live.currentTimeNanos,
    sleep: (duration) => live.sleep(duration)
  }
  return { clock, jump: (millis: number) => void (jumped += millis) }
}

it.live("a process that was suspended has only lost time, and a handler that hangs is told all the same", () => {
  const orders = topicOf()
  const { clock, jump } = jumping()
  const health = Health.layer({ watchdog: false, interval: "100 millis", stalledAfter: "3 seconds" })
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const { check } = yield* Health.Health
    const reasons = Effect.map(check, ({ findings }) => findings.map(({ reason }) => reason))
    const gate = yield* Deferred.make<void>()
    yield* bus.subscribe(orders, () => Deferred.await(gate), { onExhausted: FailurePolicy.drop })
    yield* bus.publish(orders, placed("order-1", 1))
    yield* Effect.sleep("200 millis")
    for (const millis of [20_000, 36_000_000]) {
      jump(millis)
      expect(yield* reasons).toEqual([])
    }
    yield* eventually("it is told", () => Effect.map(reasons, (all) => all.includes("Stalled")))
    yield* Deferred.succeed(gate, undefined)
    yield* eventually("all is well", () => Effect.map(reasons, (all) => all.length === 0))
  }).pipe(
    Effect.provide(Layer.provideMerge(busWith(health), health)),
    Effect.withClock(clock),
    Effect.scoped,
    Effect.provide(Logger.remove(Logger.defaultLogger))
  )
}, 30_000)
