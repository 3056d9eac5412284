import { EnvelopeCodec, Topic } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { Effect, type Fiber, FiberId, Scheduler } from "effect"
import type { AddressBook } from "../src/internal/addressBook.js"
import * as Attempt from "../src/internal/attempt.js"
import type { Flight } from "../src/internal/flight.js"
import * as Incoming from "../src/internal/incoming.js"
import type { Intake } from "../src/internal/intake.js"
import { Lasting } from "../src/internal/lasting.js"
import { Quota } from "../src/internal/quota.js"
import { SettleFirst } from "../src/internal/settleFirst.js"
import { SettleTurns } from "../src/internal/settleTurns.js"
import { message, ScriptedAssignment } from "./ScriptedAssignment.js"

/** Fibers yield after a few steps, each time after other ones, so that an interruption can arrive between any two of them. */
class Nervous extends Scheduler.ControlledScheduler {
  constructor(public every: number) {
    super()
  }
  override shouldYield(fiber: Fiber.RuntimeFiber<unknown, unknown>): number | false {
    return fiber.currentOpCount > this.every ? 0 : false
  }
}

/** After so many of them at most, and after how many times that. */
const phases = Array.from({ length: 20 }, (_, i) => i + 9).flatMap((every) =>
  Array.from({ length: 30 }, (_, steps) => ({ every, steps }))
)

/** Interrupts a fiber after so many turns of its scheduler, and waits for its end. */
const interruptAfter = (steps: number, scheduler: Nervous, fork: () => ReturnType<typeof Effect.runFork>): void => {
  const fiber = fork()
  for (let i = 0; i < steps; i++) scheduler.step()
  fiber.unsafeInterruptAsFork(FiberId.none)
  for (let i = 0; i < 100; i++) scheduler.step()
  // Where it yields so often that it comes to nothing else.
  scheduler.every = 2_048
  for (let i = 0; i < 1_000 && fiber.unsafePoll() === null; i++) scheduler.step()
  expect(fiber.unsafePoll()).not.toBeNull()
}

describe("an interruption between any two steps leaves nothing taken", () => {
  it("of the permits of an attempt", () => {
    const incoming = Incoming.make(Topic.plain("topic"), EnvelopeCodec.json, {})
    const handler = Attempt.make(incoming, () => Effect.void, { concurrency: 1 })
    const quota = new Quota(1)
    const permits = quota.share()
    const leaks: Array<object> = []
    for (const phase of phases) {
      const scheduler = new Nervous(phase.every)
      const flight = {
        carrier: { permits },
        state: "running",
        started: () => {},
        delivery: () => ({})
      } as unknown as Flight
      interruptAfter(phase.steps, scheduler, () => Effect.runFork(handler.run(flight), { scheduler }))
      if (quota.used !== 0) {
        leaks.push(phase)
        permits.give(1)
      }
    }
    expect(leaks).toEqual([])
  })

  it("of what may be settled ahead", () => {
    const quota = new Quota(10)
    let turns = new SettleTurns()
    const leaks: Array<object> = []
    for (const phase of phases) {
      const scheduler = new Nervous(phase.every)
      const assignment = new ScriptedAssignment()
      assignment.onSettle = () => Effect.never
      const mailboxes = { cancel: () => {} } as unknown as AddressBook
      const intake = { breakOff: () => {}, mayBegin: () => true } as unknown as Intake
      interruptAfter(phase.steps, scheduler, () => {
        let fiber: ReturnType<typeof Effect.runFork>
        turns = new SettleTurns()
        const stage = new SettleFirst(intake, assignment, {
          mailboxes,
          settledAhead: quota,
          turns,
          withheld: [],
          lasting: new Lasting("It can't be settled", "commit"),
          fork: (effect) => fiber = Effect.runFork(effect, { scheduler })
        })
        // More than there is room for.
        for (let i = 0; i < 20; i++) stage.add({ message: message("a"), settled: () => {} } as unknown as Flight)
        return fiber!
      })
      if (quota.used !== 0 || turns.underway !== 0) {
        leaks.push(phase)
        quota.used = 0
      }
    }
    expect(leaks).toEqual([])
  })
})
