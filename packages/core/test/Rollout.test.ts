import { EventBus, Observer, Rollout, Strategy } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Logger, Schedule, Scope, Stream, TestClock } from "effect"
import type { Flight } from "../src/internal/flight.js"
import { Probe } from "../src/internal/rollout/probe.js"
import { Watched } from "../src/internal/watched.js"
import { settle } from "./Eventually.js"
import { provideBus } from "./Orders.js"

const candidate = Strategy.pool({ name: "candidate", size: 64 })

const steps: ReadonlyArray<Rollout.Step | number> = [{ share: 0.5, for: "10 minutes" }, 1]

/** What the observer is told of rollouts, and what is logged. */
const watching = () => {
  const changes: Array<Rollout.Change> = []
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ logLevel, message }) =>
    void lines.push(`${logLevel.label} ${String(message)}`)
  )
  const layer = Layer.merge(
    Observer.layer({ event: (event) => event._tag === "Rollout" ? void changes.push(event.change) : undefined }),
    Logger.replace(Logger.defaultLogger, logger)
  )
  return { changes, lines, layer }
}

const started = (options: Partial<Rollout.Options> = {}) =>
  Effect.flatMap(EventBus.EventBus, ({ dispatch }) => Rollout.start(dispatch, { candidate, steps, ...options }))

describe("a rollout", () => {
  it.scoped("does nothing more once somebody has switched the bus by hand", () => {
    const { changes, layer } = watching()
    return Effect.gen(function*() {
      const { dispatch } = yield* EventBus.EventBus
      const rollout = yield* started()
      yield* dispatch.switchTo("keyed-workers")
      yield* TestClock.adjust("10 seconds")
      expect((yield* rollout.ended).status).toBe("superseded")
      yield* TestClock.adjust("1 hour")
      expect((yield* dispatch.report).strategy.name).toBe("keyed-workers")
      expect(changes.map(({ kind }) => kind)).toEqual(["started", "superseded"])
    }).pipe(provideBus(), Effect.provide(layer))
  })

  it.scoped("rolled back by hand does not undo what somebody else has switched meanwhile", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* EventBus.EventBus
      const rollout = yield* started()
      yield* dispatch.switchTo("keyed-workers")
      expect((yield* rollout.rollback).status).toBe("superseded")
      expect((yield* dispatch.report).strategy.name).toBe("keyed-workers")
    }).pipe(provideBus()))

  it.scoped("that could not begin leaves nothing behind", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(started({ candidate: "actor-per-aggregate" }))
      expect(error).toMatchObject({ issues: ["canary: actor-per-aggregate is the present strategy already"] })
      yield* started()
    }).pipe(provideBus()))

  it.scoped("goes on without a heap that throws, says so once, and a schedule without waits does not spin", () => {
    const { changes, layer, lines } = watching()
    return Effect.gen(function*() {
      const rollout = yield* started({ advance: Schedule.forever })
      yield* TestClock.adjust("1 minute")
      expect(yield* rollout.state).toMatchObject({ status: "running", step: 0 })
      expect(changes).toHaveLength(1)
      expect(lines.filter((line) => line.startsWith("WARN Rollout.Heap threw (RangeError)"))).toHaveLength(1)
    }).pipe(
      provideBus(),
      Effect.provide(layer),
      Effect.provideService(Rollout.Heap, {
        open: Effect.succeed(() => {
          throw new RangeError("no heap")
        })
      })
    )
  })

  it.scoped("gives everything back when its scope ends, as nobody watches the candidate any more", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* EventBus.EventBus
      const scope = yield* Scope.make()
      yield* Scope.extend(started(), scope)
      expect((yield* dispatch.report).canary?.share).toBe(0.5)
      yield* Scope.close(scope, Exit.void)
      expect((yield* dispatch.report).canary).toBeUndefined()
      // Another one may begin now.
      yield* started()
    }).pipe(provideBus()))

  it.scoped("of wrong options, of a bus that has a canary, or of no bus, is a typed error", () =>
    Effect.gen(function*() {
      const { dispatch } = yield* EventBus.EventBus
      const wrong = yield* Effect.flip(started({
        steps: [0.5, { share: 0.1, for: -1 }, NaN],
        interval: "0 millis",
        failures: 0,
        minimum: 1.5,
        triggers: { p99: -1, heap: false },
        promotion: { restarts: 0 }
      }))
      expect(wrong).toMatchObject({
        _tag: "InvalidConfiguration",
        issues: expect.arrayContaining([
          "rollout: triggers.p99: expected a number above 0, got -1",
          "rollout: failures: expected a whole number of at least 1, got 0",
          "rollout: minimum: expected a whole number of at least 1, got 1.5",
          "rollout: interval: expected a finite duration of at least 1 ms, got 0 millis",
          "rollout: promotion.restarts: expected a number above 0, got 0",
          "rollout: steps[1].share: expected at least 0.5, got 0.1",
          "rollout: steps[2].share: expected a number above 0 and up to 1, or a function, got NaN"
        ])
      })
      expect((yield* dispatch.report).canary).toBeUndefined()
      yield* started()
      expect(yield* Effect.flip(started())).toMatchObject({
        issues: ["rollout: candidate is the bus's canary already"]
      })
      expect(yield* Effect.flip(Rollout.start({ ...dispatch }, { candidate, steps }))).toMatchObject({
        issues: ["rollout: this dispatch is not that of a bus (bus.dispatch)"]
      })
    }).pipe(provideBus()))
})

it("who measures a rollout keeps no message once it has ended", () => {
  const probe = new Probe(() => true, () => 0)
  const watched = new Watched({})
  expect(watched.begin(probe)).toBe(true)
  const flight = { state: "queued", subscription: "orders/group", key: "a", offset: 1, mailbox: { placement: {} } }
  watched.transition!(flight as unknown as Flight, undefined, 0)
  expect(probe.under("candidate")).toHaveLength(1)
  watched.end(probe)
  expect(probe.under("candidate")).toEqual([])
})

describe("the store of a rollout", () => {
  /** A process that lives as long as the effect, with a store that outlives it. */
  const process = <A, E>(effect: Effect.Effect<A, E, EventBus.EventBus | Scope.Scope>) =>
    Effect.scoped(effect).pipe(provideBus())

  it.effect("lets a rollout go on with its step after a restart", () =>
    Effect.gen(function*() {
      const store = yield* Rollout.memoryStore
      yield* process(Effect.gen(function*() {
        const rollout = yield* started({ store })
        yield* rollout.promote({ force: true })
      }))
      expect(yield* store.load("candidate")).toMatchObject({ status: "running", step: 1, share: 1 })
      yield* process(Effect.gen(function*() {
        const { dispatch } = yield* EventBus.EventBus
        const rollout = yield* started({ store })
        expect(yield* rollout.state).toMatchObject({ status: "running", step: 1, share: 1 })
        expect((yield* dispatch.report).canary?.share).toBe(1)
      }))
    }))

  it.effect("keeps a candidate that was rolled back from beginning again", () =>
    Effect.gen(function*() {
      const store = yield* Rollout.memoryStore
      yield* process(Effect.flatMap(started({ store }), ({ rollback }) => rollback))
      yield* process(Effect.gen(function*() {
        const { dispatch } = yield* EventBus.EventBus
        const rollout = yield* started({ store })
        expect(yield* rollout.ended).toMatchObject({ status: "rolled-back", reasons: ["by hand"] })
        expect((yield* dispatch.report).canary).toBeUndefined()
        // Whoever listens is told, and need not wait.
        const heard = Array.from(yield* Stream.runCollect(rollout.changes))
        expect(heard.map(({ after, kind }) => [kind, after.status])).toEqual([["resumed", "rolled-back"]])
        yield* started({ store, name: "once more" })
        expect((yield* dispatch.report).canary?.share).toBe(0.5)
      }))
    }))

  it.effect("gives everything to a candidate that was promoted", () =>
    Effect.gen(function*() {
      const store = yield* Rollout.memoryStore
      yield* process(Effect.gen(function*() {
        const rollout = yield* started({ store, steps: [1] })
        yield* rollout.promote({ force: true })
      }))
      yield* process(Effect.gen(function*() {
        const { dispatch } = yield* EventBus.EventBus
        expect(yield* Effect.flatMap(started({ store }), ({ ended }) => ended)).toMatchObject({ status: "promoted" })
        expect((yield* dispatch.report).strategy.name).toBe("candidate")
      }))
    }))

  it.effect("that can't be read, hangs or has something else is a typed error, and nothing is switched", () =>
    process(Effect.gen(function*() {
      const { dispatch } = yield* EventBus.EventBus
      const failing = (load: Rollout.Store["load"]) =>
        Effect.gen(function*() {
          const fiber = yield* Effect.fork(Effect.flip(started({ store: { load, save: () => Effect.void } })))
          yield* settle
          yield* TestClock.adjust("10 seconds")
          const error = yield* Fiber.join(fiber)
          expect((yield* dispatch.report).canary).toBeUndefined()
          return `${error._tag} ${error.message}`
        })
      expect(yield* failing(() => Effect.fail("no disk"))).toMatch(/^StoreFailed .*could not be loaded: .*no disk/s)
      expect(yield* failing(() => Effect.die(new Error("a bug")))).toMatch(/^StoreFailed .*a bug/s)
      expect(
        yield* failing(() => {
          throw new Error("a throw")
        })
      ).toMatch(/^StoreFailed .*a throw/s)
      expect(yield* failing(() => Effect.never)).toMatch(/^StoreFailed .*not answered within 10 seconds/s)
      const other = yield* failing(() => Effect.succeed({ status: "paused", name: { password: "secret" } }))
      expect(other).toMatch(/^StoreFailed .*no state of a rollout: \["name"\]: expected string, found an object/s)
      expect(other).not.toContain("secret")
    })))

  it.effect("that can't be written is tried again, which is said once it lasts, and the rollout goes on", () => {
    const { layer, lines } = watching()
    return Effect.gen(function*() {
      const saved: Array<string> = []
      let isBroken = true
      const store: Rollout.Store = {
        load: () => Effect.succeed(undefined),
        save: (_, { status }) =>
          isBroken ? Effect.fail(new Error("no disk")) : Effect.sync(() => void saved.push(status))
      }
      yield* process(Effect.gen(function*() {
        const rollout = yield* started({ store, advance: "by-hand" })
        yield* TestClock.adjust("1 minute")
        expect(lines.some((line) => /^WARN The state of the rollout "candidate" can't be saved/.test(line))).toBe(true)
        expect((yield* rollout.rollback).status).toBe("rolled-back")
        yield* settle
        isBroken = false
        yield* TestClock.adjust("1 minute")
        expect(saved).toEqual(["rolled-back"])
        isBroken = true
      }))
      // What could not be saved has its last chance when the scope ends.
      isBroken = false
      saved.length = 0
      const gate = yield* Deferred.make<void>()
      const slow: Rollout.Store = {
        ...store,
        save: (name, state) => Effect.zipRight(Deferred.await(gate), store.save(name, state))
      }
      const fiber = yield* Effect.fork(process(started({ store: slow, advance: "by-hand" })))
      yield* settle
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(fiber)
      expect(saved).toEqual(["running"])
    }).pipe(Effect.provide(layer))
  })
})
