import {
  EventBus,
  EventBusConfig,
  FailurePolicy,
  MemoryBroker,
  MemoryTransport,
  Observer,
  OrderChecker,
  Strategy,
  Topic
} from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Effect, FastCheck, Layer, Logger, LogLevel, Schema, TestContext } from "effect"
import { transitions } from "../src/internal/flight.js"
import { settle } from "./Eventually.js"
import { pass, virtually } from "./VirtualClock.js"

const schedules = process.env["TEST_LONG"] === "1" ? 400 : Number(process.env["SCHEDULES"] ?? 25)

const topic = Topic.envelope("controlled", Schema.TaggedStruct("Planned", { n: Schema.Int }))

const aggregates = 3

/** What somebody does, at some time, while messages come. */
type Act =
  | { readonly _tag: "publish"; readonly aggregate: number; readonly ends: "ok" | "fail" | "die" | "slow" }
  | { readonly _tag: "pause" | "resume" | "retryNow" | "giveUp" | "pauseUntil"; readonly aggregate: number }
  | { readonly _tag: "pauseAll" | "resumeAll" | "switch" | "reopen" | "join" }
  | { readonly _tag: "wait"; readonly millis: number }

const aggregate = FastCheck.nat({ max: aggregates - 1 })

const act: FastCheck.Arbitrary<Act> = FastCheck.oneof(
  {
    weight: 12,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("publish" as const),
      aggregate,
      ends: FastCheck.constantFrom("ok" as const, "fail" as const, "fail" as const, "die" as const, "slow" as const)
    })
  },
  {
    weight: 10,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constantFrom(
        "pause" as const,
        "resume" as const,
        "retryNow" as const,
        "giveUp" as const,
        "pauseUntil" as const
      ),
      aggregate
    })
  },
  {
    weight: 3,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constantFrom(
        "pauseAll" as const,
        "resumeAll" as const,
        "switch" as const,
        "reopen" as const,
        "join" as const
      )
    })
  },
  {
    weight: 5,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("wait" as const),
      millis: FastCheck.constantFrom(0, 1, 5, 20, 100)
    })
  }
)

interface Plan {
  readonly acts: ReadonlyArray<Act>
  readonly policy: "hold" | "drop" | "deadLetter"
  readonly concurrency: number | undefined
  readonly capacity: number
  readonly maxUnfinished: number
  readonly maxActors: number
}

const plan: FastCheck.Arbitrary<Plan> = FastCheck.record({
  acts: FastCheck.array(act, { minLength: 5, maxLength: 60 }),
  policy: FastCheck.constantFrom("hold" as const, "drop" as const, "deadLetter" as const),
  concurrency: FastCheck.option(FastCheck.integer({ min: 1, max: 2 }), { nil: undefined }),
  capacity: FastCheck.integer({ min: 1, max: 6 }),
  maxUnfinished: FastCheck.integer({ min: 2, max: 30 }),
  maxActors: FastCheck.integer({ min: 1, max: 8 })
})

const policies = {
  hold: FailurePolicy.hold({ undecodable: FailurePolicy.drop }),
  drop: FailurePolicy.drop,
  deadLetter: FailurePolicy.deadLetter("controlled-dead")
}

/** What has happened, and what was wrong with it. */
class World {
  readonly faults: Array<string> = []
  readonly ends: Array<string> = []
  readonly done = new Set<number>()
  readonly running = new Map<string, number>()
  /** By aggregate: paused in the one process that has it. */
  readonly paused = new Set<string>()
  isPaused = false
  /** There is one bus, so what is paused is paused everywhere. */
  members = 1

  started(key: string, attempt: number): void {
    if (this.members === 1 && (this.isPaused || this.paused.has(key))) {
      this.faults.push(`${key} began while it was paused`)
    }
    const now = (this.running.get(key) ?? 0) + 1
    this.running.set(key, now)
    // A member that goes may still run what its successor has begun.
    if (now > 1 && this.members === 1) this.faults.push(`${key} overlaps, at attempt ${attempt}`)
  }

  ended(key: string): void {
    this.running.set(key, this.running.get(key)! - 1)
  }
}

const busOn = (broker: MemoryBroker.MemoryBroker["Type"], one: Plan, world: World) => {
  const checker = OrderChecker.make()
  const states = new Map<Observer.FlightView, Observer.State>()
  const observer: Observer.Service = {
    transition: (flight, from) => {
      if (states.get(flight) !== from) world.faults.push(`told of ${from}, but it was ${states.get(flight)}`)
      states.set(flight, flight.state)
      if (from !== undefined && !transitions[from].includes(flight.state)) {
        world.faults.push(`${from} -> ${flight.state}`)
      }
      if (
        flight.state === "running" &&
        !checker.start({ ...flight, aggregateId: flight.aggregateId!, ...positionOf(flight) })
      ) {
        world.faults.push(`${flight.aggregateId} started ${flight.offset} out of order`)
      }
      if (flight.state === "ended" && flight.outcome !== "unfinished") {
        world.done.add(flight.partition * 1_000_000 + flight.offset)
        if (flight.outcome === "lost") world.faults.push("lost")
      }
    }
  }
  return EventBus.layer.pipe(
    Layer.provide(MemoryTransport.layerBroker),
    Layer.provide(Layer.mergeAll(
      Observer.layer(observer),
      Layer.succeed(MemoryBroker.MemoryBroker, broker),
      EventBusConfig.layer({
        mailboxCapacity: one.capacity,
        maxUnfinished: one.maxUnfinished,
        maxActors: one.maxActors,
        retryTimes: 3,
        retryBase: "10 millis",
        restartBase: "10 millis",
        holdInterval: "10 millis",
        closeDeadline: "50 millis",
        drainDeadline: "50 millis"
      })
    ))
  )
}

const positionOf = ({ epoch, group, offset, partition, topic }: Observer.FlightView) => ({
  epoch,
  group,
  offset,
  partition,
  topic
})

const run = (one: Plan) =>
  Effect.gen(function*() {
    const broker = yield* MemoryBroker.make({ partitions: 2 })
    const world = new World()
    const layer = busOn(broker, one, world)
    const ends: Array<string> = []
    const handler = (
      { n }: { readonly n: number },
      delivery: { readonly attempt: number; readonly aggregateId: string }
    ) =>
      Effect.acquireUseRelease(
        Effect.sync(() => world.started(delivery.aggregateId, delivery.attempt)),
        () =>
          Effect.suspend((): Effect.Effect<void, "failed"> => {
            const end = ends[n]!
            if (end === "slow") return Effect.sleep(15)
            if (delivery.attempt > 2 || end === "ok") return Effect.void
            return end === "die" ? Effect.die("died") : Effect.fail("failed")
          }),
        () => Effect.sync(() => world.ended(delivery.aggregateId))
      )
    const subscribe = (bus: EventBus.Service) =>
      bus.subscribe(topic, handler, { onExhausted: policies[one.policy], concurrency: one.concurrency })
    const pool = Strategy.pool({ name: "pool", size: 2, capacity: one.capacity })
    yield* Effect.scoped(Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      let subscription = yield* subscribe(bus)
      let isPooled = false
      for (const act of one.acts) {
        const { control } = subscription
        switch (act._tag) {
          case "publish": {
            const n = ends.push(act.ends) - 1
            yield* bus.publish(topic, {
              aggregateId: `a-${act.aggregate}`,
              payload: { _tag: "Planned", n }
            })
            break
          }
          case "pause":
            yield* control.pauseAggregate(`a-${act.aggregate}`, { survivesRebalance: true })
            world.paused.add(`a-${act.aggregate}`)
            break
          case "pauseUntil":
            world.paused.delete(`a-${act.aggregate}`)
            yield* control.pauseAggregate(`a-${act.aggregate}`, { until: "30 millis" })
            break
          case "resume":
            world.paused.delete(`a-${act.aggregate}`)
            yield* control.resumeAggregate(`a-${act.aggregate}`)
            break
          case "retryNow":
            yield* control.retryNow(`a-${act.aggregate}`)
            break
          case "giveUp":
            yield* control.giveUp(`a-${act.aggregate}`, { policy: FailurePolicy.drop })
            break
          case "pauseAll":
            yield* control.pause()
            world.isPaused = true
            break
          case "resumeAll":
            world.isPaused = false
            yield* control.resume
            break
          case "switch":
            isPooled = !isPooled
            yield* bus.dispatch.switchTo(isPooled ? pool : Strategy.actorPerAggregate)
            break
          case "reopen":
            world.isPaused = false
            world.paused.clear()
            yield* virtually(subscription.close)
            subscription = yield* subscribe(bus)
            break
          case "join":
            world.members = 2
            yield* virtually(
              Effect.scoped(Effect.gen(function*() {
                const other = yield* EventBus.EventBus
                yield* subscribe(other)
                yield* Effect.sleep(20)
              })).pipe(Effect.provide(Layer.fresh(layer)))
            )
            world.members = 1
            break
          case "wait":
            yield* pass(act.millis)
        }
      }
      yield* pass(50)
      const listed = yield* subscription.control.list()
      for (const { aggregate, pause } of listed.aggregates) {
        if (world.paused.has(aggregate) && pause === undefined) world.faults.push(`${aggregate} is not shown as paused`)
      }
      world.isPaused = false
      world.paused.clear()
      yield* subscription.control.resume
      for (let i = 0; i < aggregates; i++) yield* subscription.control.resumeAggregate(`a-${i}`)
      for (let i = 0; i < 400 && world.done.size < ends.length; i++) yield* pass(20)
      expect([world.done.size, world.faults]).toEqual([ends.length, []])
      const left = yield* subscription.control.list()
      expect(left.aggregates).toEqual([])
      yield* virtually(subscription.close)
    })).pipe(Effect.provide(layer))
  })

describe("control by hand", () => {
  it(
    "keeps the order, loses nothing and begins nothing that is paused, whatever is paused, resumed, retried or given up",
    () =>
      FastCheck.assert(
        FastCheck.asyncProperty(plan, (one) =>
          Effect.runPromise(
            run(one).pipe(
              Effect.tap(settle),
              Effect.provide(TestContext.TestContext),
              Logger.withMinimumLogLevel(LogLevel.None)
            )
          )),
        { numRuns: schedules, endOnFailure: true }
      ),
    schedules * 500
  )
})
