import { ActorSupervisor, EnvelopeCodec, EventBusConfig, Topic } from "@effect-eventbus/core"
import { Effect, Runtime } from "effect"
import { AtLeastOnceLane } from "../src/internal/atLeastOnceLane.js"
import { AtMostOnceLane } from "../src/internal/atMostOnceLane.js"
import { Budget } from "../src/internal/budget.js"
import { Counters } from "../src/internal/counters.js"
import * as Incoming from "../src/internal/incoming.js"
import { Router } from "../src/internal/router.js"
import type { Work } from "../src/internal/work.js"
import { ScriptedAssignment } from "./ScriptedAssignment.js"

export interface Options {
  readonly mailboxCapacity?: number
  readonly maxActors?: number
  readonly maxUnfinished?: number
  readonly maxBytes?: number
  readonly maxSettledAhead?: number
  readonly nextTurn?: (run: () => void) => void
}

/** The lanes of one subscription, on real actors whose handler the test writes. */
export const setup = (make: "at-least-once" | "at-most-once", options: Options = {}) =>
  Effect.gen(function*() {
    const probe = {
      handle: (_: Work): Effect.Effect<void> => Effect.void,
      started: [] as Array<number>,
      ended: [] as Array<number>
    }
    const supervisor = yield* ActorSupervisor.make().pipe(
      Effect.provide(EventBusConfig.layer({ mailboxCapacity: options.mailboxCapacity, maxActors: options.maxActors }))
    )
    const mailboxes = yield* supervisor.open<Work, never>("test", {
      receive: (work) =>
        Effect.suspend(() => {
          if (!work.lane.begin(work)) return Effect.void
          probe.started.push(work.offset)
          return Effect.map(probe.handle(work), () => {
            probe.ended.push(work.offset)
            work.lane.finish(work)
          })
        }),
      crashed: () => {},
      giveUp: (work) => Effect.sync(() => work.lane.finish(work)),
      interrupted: (work) => work.lane.interrupted(work)
    })
    const scope = yield* Effect.scope
    const run = Runtime.runFork(yield* Effect.runtime<never>())
    const settings = {
      mailboxes,
      counters: new Counters(),
      router: new Router({ group: "g", incoming: Incoming.make(Topic.plain("orders"), EnvelopeCodec.json, {}) }),
      bytes: new Budget(options.maxBytes ?? 1_000_000),
      maxUnfinished: options.maxUnfinished ?? 1_000,
      settledAhead: new Budget(options.maxSettledAhead ?? 100),
      nextTurn: options.nextTurn,
      fork: (effect: Effect.Effect<void>) => run(effect, { scope })
    }
    const assign = (partition = 0) => {
      const assignment = new ScriptedAssignment(partition)
      assignment.lane = make === "at-least-once"
        ? new AtLeastOnceLane(assignment, settings)
        : new AtMostOnceLane(assignment, settings)
      return assignment
    }
    return { probe, settings, assign, mailboxes, supervisor }
  })
