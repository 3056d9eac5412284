import type { Control, Dispatch, Recovery } from "@effect-eventbus/core"
import * as Oracles from "@effect-eventbus/testing/Oracles"
import * as VirtualTime from "@effect-eventbus/testing/VirtualTime"
import { Duration, Effect, FastCheck as fc, Logger, LogLevel } from "effect"
import * as World from "./World.js"

/** What happens next. An index names one of the processes that live then; where there is none, nothing happens. */
export type Command =
  | {
    readonly _tag: "publish"
    readonly aggregate: number
    readonly count: number
    readonly dies: number
    readonly fails: number
    readonly takes: number
  }
  | { readonly _tag: "click"; readonly count: number }
  | { readonly _tag: "wait"; readonly ms: number }
  | { readonly _tag: "start" }
  | {
    readonly _tag: "switch"
    readonly process: number
    readonly strategy: number
    readonly waiting: "finish" | "move"
    /** In tenths: it becomes the candidate of a canary. Undefined: all aggregates move to it. */
    readonly share: number | undefined
  }
  | { readonly _tag: "recover"; readonly process: number; readonly mode: Recovery.Mode }
  | {
    readonly _tag: "control"
    readonly process: number
    readonly does: "park" | "release" | "release all" | "discard" | "discard one"
    readonly aggregate: number
  }
  | { readonly _tag: Moved; readonly process: number }

type Moved = "crash" | "close" | "rebalance" | "pause" | "resume" | "subscribe" | "leave"

export interface Schedule extends Omit<World.Settings, "bug"> {
  readonly commands: ReadonlyArray<Command>
}

const rarely = (max: number) =>
  fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: 1, max }) })

const publish = fc.record({
  _tag: fc.constant("publish" as const),
  aggregate: fc.nat(5),
  count: fc.integer({ min: 1, max: 8 }),
  dies: rarely(5),
  fails: rarely(5),
  takes: rarely(60)
})

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 8, arbitrary: publish },
  { weight: 2, arbitrary: fc.record({ _tag: fc.constant("click" as const), count: fc.integer({ min: 1, max: 8 }) }) },
  { weight: 6, arbitrary: fc.record({ _tag: fc.constant("wait" as const), ms: fc.nat(80) }) },
  { weight: 2, arbitrary: fc.constant({ _tag: "start" as const }) },
  {
    weight: 7,
    arbitrary: fc.record({
      _tag: fc.constantFrom<Moved>("crash", "close", "rebalance", "pause", "resume", "subscribe", "leave"),
      process: fc.nat(3)
    })
  }
)

const switching: fc.Arbitrary<Command> = fc.oneof(
  { weight: 5, arbitrary: command },
  {
    weight: 2,
    arbitrary: fc.record({
      _tag: fc.constant("switch" as const),
      process: fc.nat(1),
      strategy: fc.nat(World.strategies.length - 1),
      waiting: fc.constantFrom("finish" as const, "move" as const),
      share: fc.option(fc.integer({ min: 0, max: 10 }), { nil: undefined })
    })
  }
)

const recovering: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: switching },
  {
    weight: 3,
    arbitrary: fc.record({
      _tag: fc.constant("recover" as const),
      process: fc.nat(1),
      mode: fc.constantFrom<Recovery.Mode>(true, false, "auto")
    })
  }
)

const parking: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: switching },
  {
    weight: 3,
    arbitrary: fc.record({
      _tag: fc.constant("control" as const),
      process: fc.nat(1),
      does: fc.constantFrom<"park" | "release" | "release all" | "discard" | "discard one">(
        "park",
        "release",
        "release",
        "release all",
        "discard",
        "discard one"
      ),
      aggregate: fc.nat(5)
    })
  },
  // Many fail, and are parked.
  {
    weight: 3,
    arbitrary: publish.map((one): Command => ({ ...one, fails: 4 + one.fails, takes: Math.min(one.takes, 5) }))
  }
)

const rate = (value: number) => fc.constantFrom(0, value)

const ofLength = (minLength: number, maxLength: number, one = command): fc.Arbitrary<Schedule> =>
  fc.record({
    seed: fc.nat(),
    partitions: fc.integer({ min: 1, max: 3 }),
    bound: fc.integer({ min: 2, max: 8 }),
    holds: fc.boolean(),
    faults: fc.record({
      failPublish: rate(0.1),
      loseReceipt: rate(0.1),
      reorder: rate(0.3),
      dropAck: rate(0.05),
      loseSettlement: rate(0.1),
      delayPublish: fc.constantFrom(undefined, { rate: 0.2, max: 10 }),
      delayDelivery: fc.constantFrom(undefined, { rate: 0.2, max: 30 })
    }),
    commands: fc.array(one, { minLength, maxLength, size: "max" })
  })

/** Of 10 to 25 commands. */
export const long = ofLength(10, 25)

/** Nine of ten have up to 8 commands, which are quick to run; one of ten is long. */
export const schedule: fc.Arbitrary<Schedule> = fc.oneof(
  { weight: 9, arbitrary: ofLength(2, 8) },
  { weight: 1, arbitrary: long }
)

/** Processes that begin with any strategy, and switch. */
export const switched: fc.Arbitrary<Schedule> = fc.tuple(
  fc.oneof({ weight: 4, arbitrary: ofLength(3, 12, switching) }, { weight: 1, arbitrary: ofLength(12, 30, switching) }),
  fc.nat(World.strategies.length - 1)
).map(([schedule, strategy]) => ({ ...schedule, strategy }))

/** The same, with subscriptions that go into recovery and back, by themselves and by hand. */
export const recovered: fc.Arbitrary<Schedule> = fc.tuple(
  fc.oneof(
    { weight: 4, arbitrary: ofLength(3, 12, recovering) },
    { weight: 1, arbitrary: ofLength(12, 30, recovering) }
  ),
  fc.nat(World.strategies.length - 1)
).map(([schedule, strategy]) => ({ ...schedule, strategy, recovers: true }))

/** The same, with aggregates that are parked, released and discarded. */
export const parked: fc.Arbitrary<Schedule> = fc.tuple(
  fc.oneof(
    { weight: 4, arbitrary: ofLength(3, 12, parking) },
    { weight: 1, arbitrary: ofLength(12, 30, parking) }
  ),
  fc.nat(World.strategies.length - 1)
).map(([schedule, strategy]) => ({ ...schedule, strategy, parks: true }))

const step = (world: World.World, command: Command): Effect.Effect<void, unknown> => {
  switch (command._tag) {
    case "publish": {
      const { aggregate, count, dies, fails, takes } = command
      return world.publish(
        `order-${aggregate}`,
        Array.from({ length: count }, (_, i) => i === 0 ? { dies, fails, takes } : { dies: 0, fails: 0, takes })
      )
    }
    case "click":
      return world.click(command.count)
    case "wait":
      return Effect.sleep(command.ms)
    case "start":
      return world.processes.length < 4 ? world.start : Effect.void
    default: {
      const process = world.processes[command.process]
      if (process === undefined) return Effect.void
      switch (command._tag) {
        case "switch":
          return change(process.bus.dispatch, command)
        case "control":
          return process.control === undefined ? Effect.void : byHand(process.control, command)
        case "recover":
          return process.recover?.(command.mode) ?? Effect.void
        case "crash":
          return world.crash(process)
        case "close":
          return world.close(process)
        case "rebalance":
          return process.faults.cut(command.process * 20)
        case "pause":
          return Effect.sync(() => process.pause.gate.unsafeClose())
        case "resume":
          return Effect.sync(() => process.pause.gate.unsafeOpen())
        case "subscribe":
          return world.subscribe(process)
        case "leave":
          return world.unsubscribe(process)
      }
    }
  }
}

const change = (dispatch: Dispatch.Service, { share, strategy, waiting }: Extract<Command, { _tag: "switch" }>) => {
  const to = World.strategies[strategy]!
  return share === undefined
    ? dispatch.switchTo(to, { waiting })
    // The present strategy can't be its own candidate.
    : Effect.catchTag(dispatch.canary(to, share / 10, { waiting }), "InvalidConfiguration", () => Effect.void)
}

const by = { who: "the model", why: "its schedule says so" }

const byHand = (
  control: Control.Control,
  { aggregate, does }: Extract<Command, { _tag: "control" }>
): Effect.Effect<void> =>
  Effect.gen(function*() {
    yield* Effect.sleep(10 * aggregate)
    if (does === "park") return yield* control.park(`order-${aggregate}`, by)
    if (does === "release all") return yield* control.release("all", { ...by, rate: 100 })
    const { aggregates } = yield* control.parked()
    const one = aggregates[aggregate % aggregates.length]
    if (one === undefined) return
    const target = { aggregate: one.aggregate }
    if (does === "release") return yield* control.release(target, by)
    if (does === "discard") return yield* control.discard(target, by)
    return yield* control.discard(target, { ...by, offset: one.firstOffset })
    // A command may find its store away.
  }).pipe(Effect.timeout("100 millis"), Effect.ignore)

/** How long nothing may move, once everybody is there and nobody is paused. */
const patience = Duration.toMillis("30 seconds")

/** In the end somebody is there, nobody is paused, and what was published has to be handled. */
const drain = (world: World.World) =>
  Effect.gen(function*() {
    if (world.processes.length === 0) yield* world.start
    for (const process of world.processes) {
      process.pause.gate.unsafeOpen()
      yield* world.subscribe(process)
    }
    const isDone = Effect.map(world.isBehind("clicks"), (behind) => !behind && world.outstanding === 0)
    for (let waited = 0; !(yield* isDone) && waited < patience; waited += 100) {
      yield* Effect.sleep(100)
      if (world.settings.parks === true) {
        for (const { control } of world.processes) {
          if (control !== undefined) yield* Effect.ignore(Effect.timeout(control.release("all", by), "50 millis"))
        }
      }
      // An acknowledgement that was lost holds the watermark, until the next take-over.
      if (waited % 1_000 === 900 && (world.settings.faults.dropAck ?? 0) > 0) {
        for (const process of world.processes) yield* process.faults.cut(0)
      }
    }
    // Nothing is left of what was parked.
    for (const { control, name } of world.processes) {
      for (let waited = 0; waited < 5_000; waited += 100) {
        if ((yield* control!.parked()).aggregates.length === 0) break
        yield* Effect.sleep(100)
      }
      const { aggregates } = yield* control!.parked()
      if (aggregates.length > 0) return yield* Effect.fail(`${name} has parked ${JSON.stringify(aggregates[0])}`)
    }
    // What has nothing to do has moved.
    for (const { bus, name } of world.processes) {
      const { remaining } = yield* bus.dispatch.moved("10 seconds")
      if (remaining > 0) return yield* Effect.fail(`${remaining} aggregates of ${name} have not moved`)
    }
    while (world.processes.length > 0) yield* world.close(world.processes[0]!)
  })

export interface Outcome {
  readonly findings: ReadonlyArray<Oracles.Finding>
  /** What was written down, to compare runs by. */
  readonly log: string
  readonly duplicates: number
  readonly finished: number
  readonly parks: number
  readonly discards: number
}

/** Runs a schedule in virtual time and has it judged. */
export const run = (schedule: Schedule, bug?: World.Settings["bug"]): Effect.Effect<Outcome, unknown> =>
  VirtualTime.run(
    Effect.scoped(Effect.gen(function*() {
      const world = yield* World.make({ ...schedule, bug })
      yield* world.start
      for (const command of schedule.commands) yield* step(world, command)
      yield* drain(world)
      const orders = Oracles.judge(world.seenOrders.entries, {
        maxDuplicates: schedule.bound * 4 * schedule.partitions
      })
      const clicks = Oracles.judge(world.seenClicks.entries, {
        semantics: "at-most-once",
        maxLostPerKill: schedule.bound,
        // A settlement whose answer was lost, when closing ends the wait for another one: nobody can know.
        reportedLost: world.reportedLost + world.lostSettlements * schedule.bound
      })
      return {
        findings: [...orders.findings, ...clicks.findings],
        log: JSON.stringify([world.seenOrders.entries, world.seenClicks.entries]),
        duplicates: orders.duplicates,
        finished: orders.finished,
        parks: world.parks,
        discards: world.discards
      }
    })).pipe(Logger.withMinimumLogLevel(LogLevel.None)),
    { seed: schedule.seed, yieldRate: 0.01, horizon: "3 minutes" }
  )
