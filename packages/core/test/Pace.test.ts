import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import { eventually, settle } from "./Eventually.js"
import { setup } from "./LaneProbe.js"
import { message, messages } from "./ScriptedAssignment.js"

describe("the pace of an at-least-once lane", () => {
  it.scoped("while handlers wait, the event loop has its turn after every 64 messages, up to the bound", () =>
    Effect.gen(function*() {
      const turns: Array<() => void> = []
      const { assign, probe } = yield* setup("at-least-once", {
        maxUnfinished: 150,
        nextTurn: (run) => void turns.push(run)
      })
      const gate = yield* Deferred.make<void>()
      probe.handle = () => Deferred.await(gate)
      const one = assign()
      for (let i = 0; i < 200; i++) one.append(message(`a${i}`))
      const taken: Array<number> = []
      for (let i = 0; i < 4; i++) {
        yield* settle
        taken.push(200 - one.waiting)
        turns.shift()?.()
      }
      expect(taken).toEqual([64, 128, 150, 150])
      expect(turns).toEqual([])
      yield* Deferred.succeed(gate, undefined)
      yield* eventually("all are handled", () => {
        turns.shift()?.()
        return probe.ended.length === 200
      })
      expect(one.violations).toEqual([])
    }))

  it.scoped("no turn is waited for where handlers are through at once, and one is as soon as they aren't", () =>
    Effect.gen(function*() {
      const turns: Array<() => void> = []
      const { assign, probe } = yield* setup("at-least-once", {
        maxUnfinished: 4_000,
        nextTurn: (run) => void turns.push(run)
      })
      const one = assign()
      one.append(...Array.from({ length: 3_000 }, (_, i) => message(`a${i % 10}`)))
      yield* eventually("all are handled", () => probe.ended.length === 3_000)
      expect([turns.length, one.waiting]).toEqual([0, 0])
      probe.handle = () => Effect.never
      one.append(...Array.from({ length: 5_000 }, (_, i) => message(`b${i}`)))
      yield* settle
      const { waiting } = one
      expect([turns.length, waiting > 3_000]).toEqual([1, true])
      turns.shift()!()
      yield* settle
      expect([turns.length, waiting - one.waiting]).toEqual([1, 64])
      expect(one.violations).toEqual([])
    }))

  it.scoped("what was refused for another reason meanwhile is resumed after the turn", () =>
    Effect.gen(function*() {
      const turns: Array<() => void> = []
      const { assign, probe } = yield* setup("at-least-once", { nextTurn: (run) => void turns.push(run) })
      const gate = yield* Deferred.make<void>()
      probe.handle = () => Deferred.await(gate)
      const one = assign()
      one.append(...messages("a", 64))
      yield* settle
      one.append(message("b"))
      yield* Deferred.succeed(gate, undefined)
      yield* eventually("those that were taken are handled", () => probe.ended.length === 64)
      expect([turns.length, one.waiting, one.resumes]).toEqual([1, 1, 0])
      turns[0]!()
      yield* eventually("all are handled", () => probe.ended.length === 65)
      expect([one.resumes, ...one.violations]).toEqual([1])
    }))
})
