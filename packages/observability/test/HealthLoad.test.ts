/** No false alarms: a bus that is busy, and moves, is always ready, whatever the load is. */
import { EventBus, FailurePolicy, RateLimit, Topic } from "@effect-eventbus/core"
import { Health } from "@effect-eventbus/observability"
import { expect, it } from "@effect/vitest"
import { Effect, FastCheck, Layer, Logger, Schedule } from "effect"
import { busWith, Placed, placed } from "./Fixture.js"
import { VirtualClock } from "./VirtualClock.js"

const minutes = 60

/** The load of one hour: how many messages of how many aggregates each minute has, and how the handlers are. */
const loads = FastCheck.record({
  seed: FastCheck.integer({ min: 1, max: 2 ** 31 - 1 }),
  partitions: FastCheck.integer({ min: 1, max: 4 }),
  aggregates: FastCheck.integer({ min: 1, max: 40 }),
  concurrency: FastCheck.option(FastCheck.integer({ min: 1, max: 4 }), { nil: undefined }),
  rate: FastCheck.option(FastCheck.integer({ min: 1, max: 5 }), { nil: undefined }),
  maxUnfinished: FastCheck.integer({ min: 5, max: 200 }),
  longest: FastCheck.integer({ min: 1, max: 20_000 }),
  failing: FastCheck.double({ min: 0, max: 0.2, noNaN: true }),
  pauses: FastCheck.boolean(),
  bursts: FastCheck.array(FastCheck.integer({ min: 0, max: 60 }), { minLength: minutes, maxLength: minutes })
})

const random = (seed: number) => () => {
  seed = (Math.imul(seed, 48_271) >>> 0) % 2_147_483_647
  return seed / 2_147_483_647
}

let topics = 0

it.live.prop("a busy but moving bus never turns not-ready in an hour of random load", [loads], ([load]) => {
  const orders = Topic.envelope(`load-${topics++}`, Placed, { partitions: load.partitions })
  const health = Health.layer({ watchdog: false, interval: "10 seconds", stalledAfter: "2 minutes" })
  const next = random(load.seed)
  const clock = new VirtualClock()
  return Effect.gen(function*() {
    const bus = yield* EventBus.EventBus
    const { check } = yield* Health.Health
    const subscription = yield* bus.subscribe(
      orders,
      (_, { attempt }) =>
        Effect.suspend(() =>
          Effect.sleep(1 + next() * load.longest).pipe(
            Effect.zipRight(attempt === 1 && next() < load.failing ? Effect.fail("busy") : Effect.void)
          )
        ),
      {
        onExhausted: FailurePolicy.drop,
        retry: Schedule.exponential("1 second"),
        concurrency: load.concurrency,
        rate: yield* RateLimit.make(load.rate === undefined ? "unlimited" : { perSecond: load.rate })
      }
    )
    for (const [minute, burst] of load.bursts.entries()) {
      // Some minutes have nothing to do.
      const count = load.pauses && minute % 7 > 3 ? 0 : burst
      yield* bus.publishAll(
        orders,
        Array.from({ length: count }, (_, n) => placed(`order-${Math.floor(next() * load.aggregates)}`, n))
      )
      for (let i = 0; i < 4; i++) {
        yield* clock.adjust("15 seconds")
        const { findings, isReady } = yield* check
        if (!isReady) expect.fail(`after ${minute} min: ${findings.map(({ message }) => message).join("; ")}`)
      }
    }
    const { handled, received } = yield* subscription.stats
    expect(handled > 0 || received === 0).toBe(true)
    // What is left need not be worked off.
    yield* Effect.fork(subscription.close)
    yield* clock.adjust("1 minute")
  }).pipe(
    Effect.scoped,
    Effect.provide(Layer.provideMerge(
      busWith(health, { maxUnfinished: load.maxUnfinished, closeDeadline: "1 second" }),
      health
    )),
    Effect.provide(Logger.remove(Logger.defaultLogger)),
    Effect.withClock(clock)
  )
}, { fastCheck: { numRuns: 4 }, timeout: 120_000 })
