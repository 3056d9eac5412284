import {
  EventBus,
  EventBusConfig,
  FailurePolicy,
  MemoryBroker,
  MemoryTransport,
  Observer,
  OrderChecker,
  Strategy,
  type Subscription,
  Topic
} from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Data, Effect, FastCheck, Layer, Logger, LogLevel, Schedule, Schema, TestContext } from "effect"
import { transitions } from "../src/internal/flight.js"
import { settle } from "./Eventually.js"
import { pass, virtually } from "./VirtualClock.js"

const schedules = process.env["TEST_LONG"] === "1" ? 300 : Number(process.env["SCHEDULES"] ?? 25)

const topic = Topic.envelope("needy", Schema.TaggedStruct("Planned", { n: Schema.Int }))

class Down extends Data.TaggedError("Down") {}
class Bad extends Data.TaggedError("Bad") {}

const aggregates = 3

/** How a message's handler ends while the dependency is there. */
type Ends = "ok" | "fails once" | "fails" | "dies once" | "slow"

/** What happens, at some time, while messages come. */
type Act =
  | { readonly _tag: "publish"; readonly aggregate: number; readonly ends: Ends }
  | { readonly _tag: "away" | "back" }
  | { readonly _tag: "pause" | "resume" | "giveUp" | "retryNow"; readonly aggregate: number }
  | { readonly _tag: "pauseAll" | "resumeAll" | "switch" | "reopen" | "join" | "open" | "close" | "goOn" }
  | { readonly _tag: "wait"; readonly millis: number }

const of = <A extends string>(...tags: ReadonlyArray<A>) => FastCheck.constantFrom(...tags)
const aggregate = FastCheck.nat({ max: aggregates - 1 })

const act: FastCheck.Arbitrary<Act> = FastCheck.oneof(
  {
    weight: 12,
    arbitrary: FastCheck.record({
      _tag: of("publish"),
      aggregate,
      ends: of<Ends>("ok", "ok", "fails once", "fails", "dies once", "slow")
    })
  },
  { weight: 6, arbitrary: FastCheck.record({ _tag: of("away", "away", "back") }) },
  { weight: 3, arbitrary: FastCheck.record({ _tag: of("pause", "resume", "giveUp", "retryNow"), aggregate }) },
  {
    weight: 4,
    arbitrary: FastCheck.record({
      _tag: of("pauseAll", "resumeAll", "switch", "reopen", "join", "open", "close", "goOn")
    })
  },
  {
    weight: 8,
    arbitrary: FastCheck.record({ _tag: of("wait"), millis: FastCheck.constantFrom(0, 1, 5, 20, 100, 400) })
  }
)

interface Plan {
  readonly acts: ReadonlyArray<Act>
  readonly isNamed: boolean
  readonly groups: 1 | 2
  readonly guard: "off" | "by hand" | "probes"
  readonly concurrency: number | undefined
  readonly capacity: number
  readonly maxUnfinished: number
  readonly maxActors: number
}

const plan: FastCheck.Arbitrary<Plan> = FastCheck.record({
  acts: FastCheck.array(act, { minLength: 5, maxLength: 60 }),
  isNamed: FastCheck.boolean(),
  groups: FastCheck.constantFrom(1 as const, 2 as const),
  guard: of("off", "by hand", "probes"),
  concurrency: FastCheck.option(FastCheck.integer({ min: 1, max: 2 }), { nil: undefined }),
  capacity: FastCheck.integer({ min: 1, max: 6 }),
  maxUnfinished: FastCheck.integer({ min: 2, max: 30 }),
  maxActors: FastCheck.integer({ min: 1, max: 8 })
})

/** What has happened to all, and what was wrong with it. */
class World {
  readonly faults: Array<string> = []
  readonly done = new Set<string>()
  isAway = false
  members = 1
}

/** What one bus has told of its circuits. A circuit without a name is known by its subscription. */
class BusWorld {
  readonly states = new Map<string, string>()
  private readonly probes = new Map<string, number>()

  constructor(private readonly world: World) {}

  changed({ kind, name, state }: { readonly kind: string; readonly name: string; readonly state: string }): void {
    this.states.set(`${kind} ${name}`, state)
  }

  /** Runs a handler, and answers what is wrong with its start. */
  started(names: ReadonlyArray<string>): () => void {
    const probes: Array<string> = []
    for (const name of names) {
      const state = this.states.get(name)
      if (state === "open") this.world.faults.push(`a handler began while ${name} was open`)
      if (state !== "half-open") continue
      const now = (this.probes.get(name) ?? 0) + 1
      this.probes.set(name, now)
      if (now > 1) this.world.faults.push(`${now} messages probe for ${name}`)
      probes.push(name)
    }
    return () => {
      for (const name of probes) this.probes.set(name, this.probes.get(name)! - 1)
    }
  }
}

const busOn = (broker: MemoryBroker.MemoryBroker["Type"], one: Plan, world: World, own: BusWorld) => {
  const checkers = new Map<string, ReturnType<typeof OrderChecker.make>>()
  const checkerOf = (group: string) => {
    const found = checkers.get(group) ?? OrderChecker.make()
    checkers.set(group, found)
    return found
  }
  const observer: Observer.Service = {
    transition: (flight, from) => {
      if (from !== undefined && !transitions[from].includes(flight.state)) {
        world.faults.push(`${from} -> ${flight.state}`)
      }
      if (
        flight.state === "running" &&
        !checkerOf(flight.group).start({
          aggregateId: flight.aggregateId!,
          epoch: flight.epoch,
          group: flight.group,
          offset: flight.offset,
          partition: flight.partition,
          topic: flight.topic
        })
      ) {
        world.faults.push(`${flight.aggregateId} started ${flight.offset} out of order`)
      }
      if (flight.state !== "ended") return
      if (flight.outcome === "lost") world.faults.push("lost")
      if (flight.outcome !== "unfinished") {
        world.done.add(`${flight.group} ${flight.partition * 1_000_000 + flight.offset}`)
      }
    },
    event: (event) => {
      if (event._tag === "Circuit") own.changed(event.change)
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
        closeDeadline: "50 millis",
        drainDeadline: "50 millis"
      })
    ))
  )
}

const groupsOf = (one: Plan) => Array.from({ length: one.groups }, (_, i) => `g-${i}`)

const run = (one: Plan) =>
  Effect.gen(function*() {
    const broker = yield* MemoryBroker.make({ partitions: 2 })
    const world = new World()
    const own = new BusWorld(world)
    const ends: Array<Ends> = []
    const circuit = FailurePolicy.circuit({
      name: one.isNamed ? "db" : undefined,
      probe: Schedule.spaced("30 millis")
    })
    const handlerOf = (own: BusWorld, group: string) => {
      const names = [`circuit ${one.isNamed ? "db" : `needy/${group}`}`, `guard needy/${group}`]
      return ({ n }: { readonly n: number }, delivery: { readonly attempt: number; readonly aggregateId: string }) =>
        Effect.acquireUseRelease(
          Effect.sync(() => own.started(names)),
          () =>
            Effect.suspend((): Effect.Effect<void, Down | Bad> => {
              const end = ends[n]!
              if (world.isAway) return end === "slow" ? Effect.delay(new Down(), 15) : new Down()
              if (end === "slow") return Effect.sleep(15)
              if (end === "fails") return new Bad()
              if (delivery.attempt > 2 || end === "ok") return Effect.void
              return end === "dies once" ? Effect.die("died") : new Bad()
            }),
          (finished) => Effect.sync(finished)
        )
    }
    const subscribe = (bus: EventBus.Service, own: BusWorld) =>
      Effect.forEach(groupsOf(one), (group) =>
        bus.subscribe(topic, handlerOf(own, group), {
          group,
          onExhausted: FailurePolicy.deadLetter("needy-dead"),
          onError: FailurePolicy.byTag({ Down: circuit }),
          concurrency: one.concurrency,
          guard: one.guard === "off"
            ? "off"
            : { from: 2, probe: one.guard === "probes" ? Schedule.spaced("30 millis") : undefined }
        }))
    const pool = Strategy.pool({ name: "pool", size: 2, capacity: one.capacity })
    yield* Effect.scoped(Effect.gen(function*() {
      const bus = yield* EventBus.EventBus
      let subscriptions: ReadonlyArray<Subscription.Subscription<unknown>> = yield* subscribe(bus, own)
      const each = (f: (control: Subscription.Subscription<unknown>["control"]) => Effect.Effect<unknown, unknown>) =>
        Effect.forEach(subscriptions, ({ control }) => f(control), { discard: true })
      let isPooled = false
      for (const act of one.acts) {
        switch (act._tag) {
          case "publish": {
            const n = ends.push(act.ends) - 1
            yield* bus.publish(topic, { aggregateId: `a-${act.aggregate}`, payload: { _tag: "Planned", n } })
            break
          }
          case "away":
            world.isAway = true
            break
          case "back":
            world.isAway = false
            break
          case "pause":
            yield* each(({ pauseAggregate }) => pauseAggregate(`a-${act.aggregate}`))
            break
          case "resume":
            yield* each(({ resumeAggregate }) => resumeAggregate(`a-${act.aggregate}`))
            break
          case "retryNow":
            yield* each(({ retryNow }) => retryNow(`a-${act.aggregate}`))
            break
          case "giveUp":
            yield* each(({ giveUp }) => giveUp(`a-${act.aggregate}`, { policy: FailurePolicy.drop }))
            break
          case "pauseAll":
            yield* each(({ pause }) => pause())
            break
          case "resumeAll":
            yield* each(({ resume }) => resume)
            break
          case "goOn":
            yield* each(({ goOn }) => goOn)
            break
          case "open":
            yield* bus.circuits.open("db")
            break
          case "close":
            yield* bus.circuits.close("db")
            break
          case "switch":
            isPooled = !isPooled
            yield* bus.dispatch.switchTo(isPooled ? pool : Strategy.actorPerAggregate)
            break
          case "reopen":
            yield* virtually(Effect.forEach(subscriptions, ({ close }) => close, { concurrency: "unbounded" }))
            subscriptions = yield* subscribe(bus, own)
            break
          case "join": {
            const others = new BusWorld(world)
            yield* virtually(
              Effect.scoped(Effect.gen(function*() {
                const other = yield* EventBus.EventBus
                yield* subscribe(other, others)
                yield* Effect.sleep(60)
              })).pipe(Effect.provide(Layer.fresh(busOn(broker, one, world, others))))
            )
            break
          }
          case "wait":
            yield* pass(act.millis)
        }
      }
      world.isAway = false
      yield* bus.circuits.close("db")
      yield* each(({ resume }) => resume)
      for (let i = 0; i < aggregates; i++) yield* each(({ resumeAggregate }) => resumeAggregate(`a-${i}`))
      // One that has none to probe with waits for the next message.
      for (let i = 0; i < aggregates; i++) {
        const n = ends.push("ok") - 1
        yield* bus.publish(topic, { aggregateId: `a-${i}`, payload: { _tag: "Planned", n } })
      }
      for (let i = 0; i < 400 && world.done.size < ends.length * one.groups; i++) {
        yield* each(({ goOn }) => goOn)
        yield* pass(20)
      }
      expect([world.done.size, world.faults]).toEqual([ends.length * one.groups, []])
      yield* each(({ goOn }) => goOn)
      expect((yield* bus.circuits.list).filter(({ state }) => state !== "closed")).toEqual([])
      yield* virtually(Effect.forEach(subscriptions, ({ close }) => close))
    })).pipe(Effect.provide(busOn(broker, one, world, own)))
  })

describe("circuits and guards", () => {
  it(
    "lose nothing, keep the order, let one message probe and nothing else begin, and close once the dependency is back",
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
        { numRuns: schedules, endOnFailure: process.env["SHRINK"] === undefined }
      ),
    schedules * 500
  )
})
