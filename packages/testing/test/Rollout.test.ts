import { EventBus, Rollout, Strategy } from "@effect-eventbus/core"
import * as VirtualTime from "@effect-eventbus/testing/VirtualTime"
import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect, type Layer, Logger, Schedule, type Scope, Stream } from "effect"
import { provideBus, traffic, watching } from "./RolloutTraffic.js"

// So many slots that hardly two aggregates share one: in a smaller pool they wait for each other, which the p99 shows.
const candidate = Strategy.pool({ name: "candidate", size: 4_096 })

const steps: ReadonlyArray<Rollout.Step | number> = [{ share: 0.5, for: "10 minutes" }, 1]

const started = (options: Partial<Rollout.Options> = {}) =>
  Effect.flatMap(EventBus.EventBus, ({ dispatch }) => Rollout.start(dispatch, { candidate, steps, ...options }))

/** Publishes one event for each aggregate in each second. */
const pass = (seconds: number, publish: Effect.Effect<unknown, unknown>) =>
  Effect.repeatN(Effect.zipRight(publish, Effect.sleep("1 second")), seconds - 1)

const virtually = <E>(
  effect: Effect.Effect<void, E, EventBus.EventBus | Scope.Scope>,
  layer: Layer.Layer<never> = Logger.remove(Logger.defaultLogger),
  heap: () => number | undefined = () => undefined
) =>
  VirtualTime.run(
    Effect.scoped(effect).pipe(
      provideBus(),
      Effect.provide(layer),
      Effect.provideService(Rollout.Heap, { open: Effect.succeed(heap) })
    )
  )

const quick = () => Effect.sleep("10 millis")

describe("a rollout with the defaults, in virtual time,", () => {
  it.live("rolls a slow candidate back in under a minute, and says the state before and after", () => {
    const { changes, layer } = watching()
    return virtually(
      Effect.gen(function*() {
        let isSlow = false
        let last = 0
        const now = Clock.currentTimeMillis
        const { publish, totals } = yield* traffic("candidate", (side) =>
          Effect.gen(function*() {
            if (side === "candidate") last = yield* now
            yield* Effect.sleep(side === "candidate" && isSlow ? "15 millis" : "10 millis")
          }))
        const rollout = yield* started()
        yield* pass(35, publish)
        expect((yield* rollout.state).status).toBe("running")
        isSlow = true
        const faultAt = yield* now
        yield* pass(60, publish)
        expect(yield* rollout.state).toMatchObject({ status: "rolled-back", share: 0, baseline: "actor-per-aggregate" })
        expect(changes.map(({ kind }) => kind)).toEqual(["started", "rolled-back"])
        expect(changes[1]).toMatchObject({
          before: { status: "running", share: 0.5 },
          failures: [{ trigger: "p99" }],
          figures: { baseline: { strategy: "actor-per-aggregate" }, candidate: { strategy: "candidate" } }
        })
        expect(totals.violations).toBe(0)
        console.log(
          `slowness of 50 %, defaults: the last message began on the candidate ${
            (last - faultAt) / 1_000
          } s after the fault`
        )
        expect(last - faultAt).toBeLessThan(60_000)
      }),
      layer
    )
  })

  it.live("rolls a leak back after 30 minutes above its limit, and not before; a moment below it begins anew", () => {
    const { changes, layer } = watching()
    let used = 100
    return virtually(
      Effect.gen(function*() {
        const rollout = yield* started({ steps: [{ share: 0.5, for: "1 day" }], advance: "by-hand" })
        used = 151
        yield* Effect.sleep("29 minutes")
        used = 149
        yield* Effect.sleep("1 minute")
        used = 151
        yield* Effect.sleep("29 minutes")
        expect((yield* rollout.state).status).toBe("running")
        yield* Effect.sleep("70 seconds")
        expect(changes).toHaveLength(2)
        expect(changes[1]!.failures).toEqual([{ trigger: "heap", candidate: 151, baseline: 100, limit: 150 }])
      }),
      layer,
      () => used
    )
  })

  it.live("goes on to the next step when the figures allow it and its time is over, and completes", () => {
    const { changes, layer, lines } = watching()
    return virtually(
      Effect.gen(function*() {
        const { bus, isDone, publish, totals } = yield* traffic("candidate", quick)
        const rollout = yield* started({
          steps: [{ share: 0.1, for: "1 minute" }, { share: 0.5, for: "1 minute" }, { share: 1, for: "1 minute" }]
        })
        const figures = Effect.map(
          rollout.figures,
          ({ baseline, candidate }) => [baseline.messages, candidate.messages]
        )
        yield* pass(50, publish)
        const [theirs, mine] = yield* figures
        expect(theirs! + mine!).toBe(50 * 40)
        expect(mine).toBeGreaterThan(0)
        expect((yield* rollout.figures).candidate).toMatchObject({ restarts: 0, errors: 0, lost: 0 })
        expect((yield* rollout.figures).candidate.p99).toBeGreaterThan(9)
        expect((yield* rollout.figures).candidate.p99).toBeLessThan(11)
        yield* pass(200, publish)
        expect(changes).toHaveLength(4)
        expect(changes.map(({ after, kind }) => [kind, after.share])).toEqual([
          ["started", 0.1],
          ["promoted", 0.5],
          ["promoted", 1],
          ["completed", 1]
        ])
        expect((yield* bus.dispatch.report).strategy.name).toBe("candidate")
        expect((yield* bus.dispatch.report).canary).toBeUndefined()
        expect(isDone()).toBe(true)
        expect(totals.violations).toBe(0)
        expect((yield* rollout.ended).status).toBe("promoted")
        const heard = yield* Stream.runCollect(rollout.changes)
        expect(Array.from(heard, ({ kind }) => kind)).toEqual(["started", "promoted", "promoted", "completed"])
        expect(lines.filter((line) => line.startsWith("INFO Rollout"))).toHaveLength(4)
      }),
      layer
    )
  })

  it.live("compares a candidate that has all aggregates with what the baseline did in the step before", () => {
    const { changes, layer } = watching()
    return virtually(
      Effect.gen(function*() {
        let isSlow = false
        const { publish } = yield* traffic(
          "candidate",
          (side) => Effect.suspend(() => Effect.sleep(side === "candidate" && isSlow ? "20 millis" : "10 millis"))
        )
        const rollout = yield* started({ steps: [{ share: 0.5, for: "1 minute" }, { share: 1, for: "1 hour" }] })
        yield* pass(100, publish)
        expect(yield* rollout.state).toMatchObject({ status: "running", share: 1 })
        expect((yield* rollout.figures).baseline.messages).toBeGreaterThan(100)
        isSlow = true
        yield* pass(60, publish)
        expect(changes.at(-1)).toMatchObject({ kind: "rolled-back", failures: [{ trigger: "p99" }] })
      }),
      layer
    )
  })
})

describe("a rollout", () => {
  it.live("by hand goes on only if the figures allow it, or by force", () =>
    virtually(Effect.gen(function*() {
      const { publish } = yield* traffic("candidate", quick)
      const rollout = yield* started({ advance: "by-hand" })
      const refused = yield* Effect.flip(rollout.promote())
      expect(refused.reasons).toEqual(["the candidate has had 0 messages, and 50 are needed"])
      yield* pass(20, publish)
      expect(yield* rollout.promote()).toMatchObject({ step: 1, share: 1 })
      expect(yield* rollout.promote({ force: true })).toMatchObject({ status: "promoted" })
      expect((yield* Effect.flip(rollout.promote({ force: true }))).reasons).toEqual(["it is promoted"])
      expect((yield* rollout.rollback).status).toBe("promoted")
    })))

  it.live("by a schedule goes on when that recurs", () =>
    virtually(Effect.gen(function*() {
      const { publish } = yield* traffic("candidate", quick)
      const rollout = yield* started({ advance: Schedule.spaced("1 hour") })
      yield* pass(20, publish)
      yield* Effect.sleep("58 minutes")
      expect((yield* rollout.state).step).toBe(0)
      yield* Effect.sleep("3 minutes")
      expect((yield* rollout.state).step).toBe(1)
    })))
})
