import { EnvelopeCodec, EventBusConfig, Observer, Strategy, Supervisor, Topic } from "@effect-eventbus/core"
import { Effect, Runtime } from "effect"
import { Counters } from "../src/internal/counters.js"
import type { Flight, Subscriber } from "../src/internal/flight.js"
import * as Incoming from "../src/internal/incoming.js"
import { Intake } from "../src/internal/intake.js"
import { Lasting } from "../src/internal/lasting.js"
import { Mailboxes } from "../src/internal/mailboxes.js"
import { Quota } from "../src/internal/quota.js"
import { SettleFirst } from "../src/internal/settleFirst.js"
import { SettleTurns } from "../src/internal/settleTurns.js"
import { defaults } from "./Defaults.js"
import { ScriptedAssignment } from "./ScriptedAssignment.js"

export interface Options {
  readonly mailboxCapacity?: number
  readonly maxActors?: number
  readonly maxUnfinished?: number
  readonly maxBytes?: number
  readonly maxSettledAhead?: number
  readonly nextTurn?: (run: () => void) => void
  readonly observer?: Observer.Service
}

/** The lanes of one subscription, on real slots whose handler the test writes. */
export const setup = (make: "at-least-once" | "at-most-once", options: Options = {}) =>
  Effect.gen(function*() {
    const probe = {
      handle: (_: Flight): Effect.Effect<void> => Effect.void,
      started: [] as Array<number>,
      ended: [] as Array<number>
    }
    const supervisor = yield* Supervisor.make().pipe(
      Effect.provide(EventBusConfig.layer({ mailboxCapacity: options.mailboxCapacity, maxActors: options.maxActors }))
    )
    const subscriber: Subscriber = {
      name: "topic/g",
      group: "g",
      semantics: make,
      behaviour: {
        receive: (flight) =>
          Effect.suspend(() => {
            if (!flight.begin()) return Effect.void
            probe.started.push(flight.offset)
            return Effect.map(probe.handle(flight), () => {
              probe.ended.push(flight.offset)
              flight.end("handled")
            })
          }),
        giveUp: (flight) => Effect.sync(() => flight.end("dropped"))
      },
      home: yield* supervisor.home<never>("topic/g"),
      counters: new Counters(),
      observer: options.observer ?? Observer.none,
      time: () => supervisor.turns.time()
    }
    const book = new Mailboxes(supervisor, Strategy.actorPerAggregate, defaults(options.mailboxCapacity))
    const mailboxes = book.open(subscriber)
    yield* Effect.addFinalizer(() => mailboxes.shutdown)
    const scope = yield* Effect.scope
    const run = Runtime.runFork(yield* Effect.runtime<never>())
    const withheld: Array<() => void> = []
    const lasting = new Lasting("It can't be settled", "commit")
    const settledAhead = new Quota(options.maxSettledAhead ?? 100)
    const turns = new SettleTurns()
    const fork = (effect: Effect.Effect<void>) => run(effect, { scope })
    const settings = {
      subscriber,
      mailboxes,
      incoming: Incoming.make(Topic.plain("topic"), EnvelopeCodec.json, {}),
      bytes: new Quota(options.maxBytes ?? 1_000_000),
      concurrency: undefined,
      rate: undefined,
      maxUnfinished: options.maxUnfinished ?? 1_000,
      nextTurn: options.nextTurn,
      isTurnAwaited: () => supervisor.turns.isAwaited,
      settleFirst: make === "at-least-once"
        ? undefined
        : (intake: Intake, assignment: ScriptedAssignment | object) =>
          new SettleFirst(intake, assignment as ScriptedAssignment, {
            mailboxes,
            settledAhead,
            turns,
            withheld,
            lasting,
            fork
          })
    }
    const assign = (partition = 0) => {
      const assignment = new ScriptedAssignment(partition)
      assignment.lane = new Intake(assignment, settings)
      return assignment
    }
    return { probe, settings: { ...settings, settledAhead, turns }, assign, mailboxes, supervisor }
  })
