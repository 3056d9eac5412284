import { EventBus, FailurePolicy, Observer, Rollout, Strategy, Topic, Transport } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Layer, Logger, LogLevel, Schedule, TestClock } from "effect"
import { settle } from "./Eventually.js"
import { Orders, placed, provideBus } from "./Orders.js"
import { message, ScriptedAssignment } from "./ScriptedAssignment.js"
import { scriptedTransport } from "./scriptedTransport.js"

const quiet = Logger.withMinimumLogLevel(LogLevel.None)
const pass = (millis: number) => Effect.zipRight(TestClock.adjust(millis), settle)
const topic = Topic.plain("topic")

const circuit = FailurePolicy.circuit({ name: "db", probe: Schedule.spaced("1 second") })

const provideScripted = (assignments: ReadonlyArray<ScriptedAssignment>) =>
  Effect.provide(
    EventBus.layer.pipe(Layer.provide(Layer.succeed(
      Transport.Transport,
      scriptedTransport((_, consumer) =>
        Effect.sync(() => {
          for (const assignment of assignments) assignment.lane = consumer.assigned(assignment)
          return { stop: Effect.void }
        })
      )
    )))
  )

const revoked = { deadline: Duration.millis(100), finishQueued: false }

describe("a circuit whose probe's partition is taken away", () => {
  it.scoped("probes with a message of another one, and takes none that may not begin", () => {
    const all = [new ScriptedAssignment(0), new ScriptedAssignment(1), new ScriptedAssignment(2)] as const
    const [first, second, third] = all
    const calls: Array<string> = []
    let acts: "fails" | "hangs" | "succeeds" = "fails"
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      yield* bus.subscribe(topic, (_, { key }) =>
        Effect.suspend(() => {
          calls.push(new TextDecoder().decode(key))
          return acts === "hangs" ? Effect.never : acts === "fails" ? Effect.fail("down") : Effect.void
        }), {
        semantics: "at-least-once",
        onExhausted: FailurePolicy.drop,
        onError: () => circuit
      })
      first.append(message("a"), message("a"))
      yield* settle
      expect(calls).toEqual(["a"])
      acts = "hangs"
      yield* pass(1_000)
      expect(calls).toEqual(["a", "a"])
      // Nothing is fetched while a message probes.
      second.append(message("b", { partition: 1 }))
      third.append(message("c", { partition: 2 }))
      yield* settle
      expect([second.waiting, third.waiting]).toEqual([1, 1])
      second.owned = false
      const closing = yield* Effect.fork(first.close(revoked))
      yield* pass(100)
      yield* pass(0)
      expect(yield* closing).toEqual({ unfinished: 2, lost: 0 })
      // There is none to probe with: the next one that comes probes. That of `b` may not begin.
      acts = "succeeds"
      yield* pass(250)
      yield* pass(250)
      yield* pass(250)
      expect(calls).toEqual(["a", "a", "c"])
      expect(yield* bus.circuits.list).toMatchObject([{ state: "closed" }])
      expect(all.flatMap(({ violations }) => violations)).toEqual([])
      expect([first.finished.length, third.finished.length]).toEqual([0, 1])
    }).pipe(provideScripted(all), quiet)
  })

  it.scoped("closes with the bus at once, also while a probe hangs, within the deadline", () => {
    const first = new ScriptedAssignment(0)
    let calls = 0
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const { close } = yield* bus.subscribe(
        topic,
        () => Effect.suspend(() => ++calls === 1 ? Effect.fail("down") : Effect.never),
        {
          semantics: "at-least-once",
          onExhausted: FailurePolicy.drop,
          onError: () => circuit
        }
      )
      first.append(message("a"), message("b"))
      yield* pass(1_000)
      expect(calls).toBe(2)
      const closing = yield* Effect.fork(close)
      yield* pass(25_000)
      yield* pass(0)
      expect(yield* closing).toEqual({ unfinished: 2, lost: 0 })
      expect(yield* bus.circuits.list).toEqual([])
    }).pipe(provideScripted([first]), quiet)
  })
})

describe("a rollout", () => {
  it.scoped("does not count what an open circuit keeps as errors of either side", () => {
    const errors: Array<number> = []
    const observer = Observer.layer({
      event: (event) => {
        if (event._tag !== "RolloutAnalysed") return
        errors.push(event.figures.baseline.errors + event.figures.candidate.errors)
      }
    })
    return Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      const rollout = yield* Rollout.start(bus.dispatch, {
        candidate: Strategy.pool({ name: "candidate", size: 8 }),
        steps: [{ share: 0.5, for: "1 hour" }, 1],
        interval: "10 seconds"
      })
      let calls = 0
      yield* bus.subscribe(
        Orders,
        () =>
          Effect.suspend(() => {
            calls++
            return Effect.fail("down")
          }),
        { onExhausted: FailurePolicy.drop, onError: () => circuit }
      )
      yield* bus.publishAll(Orders, Array.from({ length: 40 }, (_, n) => placed(`order-${n}`, n)))
      for (let i = 0; i < 12; i++) yield* pass(10_000)
      expect(calls).toBeGreaterThan(10)
      expect(errors.length).toBeGreaterThan(5)
      expect(new Set(errors)).toEqual(new Set([0]))
      expect(yield* rollout.state).toMatchObject({ status: "running" })
    }).pipe(provideBus(), Effect.provide(observer), quiet)
  })
})
