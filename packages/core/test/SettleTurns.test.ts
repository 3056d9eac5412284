import { afterEach, beforeEach, describe, expect, it, vi } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import { SettleTurn, SettleTurns } from "../src/internal/settleTurns.js"
import { eventually } from "./Eventually.js"
import { setup } from "./LaneProbe.js"
import { message } from "./ScriptedAssignment.js"

describe("the turns of settling", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] }))
  afterEach(() => void vi.useRealTimers())

  /** As many lanes, all of which want their turn, and those that were told. */
  const scene = (count: number) => {
    const turns = new SettleTurns()
    const told: Array<number> = []
    const lanes = Array.from({ length: count }, (_, lane) => new SettleTurn(turns, () => told.push(lane)))
    return { begun: lanes.map((lane) => lane.begin()), lanes, told, turns }
  }

  it("come two at a time, in the order in which they were asked for", () => {
    const { begun, lanes, told, turns } = scene(5)
    expect(begun).toEqual([true, true, false, false, false])
    lanes[1]!.end()
    // It asks again, and is behind the others.
    expect(lanes[1]!.begin()).toBe(false)
    lanes[0]!.end()
    expect(told).toEqual([2, 3])
    expect([lanes[2]!.begin(), lanes[4]!.begin()]).toEqual([true, false])
    // It does not want it any more.
    lanes[4]!.end()
    lanes[2]!.end()
    lanes[3]!.end()
    expect(told).toEqual([2, 3, 1])
    lanes[1]!.end()
    lanes[1]!.end()
    expect([turns.underway, vi.getTimerCount()]).toEqual([0, 0])
  })

  it("are over after a second, whatever becomes of them", () => {
    const { lanes, told, turns } = scene(5)
    vi.advanceTimersByTime(1_000)
    expect(told).toEqual([2, 3])
    // Those that hang are not counted any more, also where they end later.
    lanes[0]!.end()
    expect(told).toEqual([2, 3])
    lanes[2]!.end()
    expect(told).toEqual([2, 3, 4])
    expect([lanes[2]!.begin(), turns.underway]).toEqual([false, 2])
    for (const lane of lanes) lane.end()
    expect([turns.underway, vi.getTimerCount()]).toEqual([0, 0])
  })
})

/** So many lanes, with so many messages each, each of another key. */
const backlog = (lanes: number, count: number) =>
  Effect.gen(function*() {
    const scene = yield* setup("at-most-once")
    const assignments = Array.from({ length: lanes }, (_, partition) => scene.assign(partition))
    const fill = () => {
      for (const one of assignments) {
        for (let i = 0; i < count; i++) one.append(message(`${one.partition}-${i}`, { partition: one.partition }))
      }
    }
    return { ...scene, assignments, fill }
  })

/** As a broker answers: with an event of its own. */
const answered = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

describe("lanes that settle first", () => {
  it.scoped("settle many messages at once also where many of them share the bound, and leave nothing of it used", () =>
    Effect.gen(function*() {
      const { assignments, fill, probe, settings } = yield* backlog(12, 300)
      for (const one of assignments) one.onSettle = () => answered
      fill()
      yield* eventually("all are handled", () => probe.ended.length === 3_600)
      const settlements = assignments.flatMap(({ settled }) => settled)
      expect(settlements.flat()).toHaveLength(3_600)
      // Each at its own will they needed 430.
      expect(settlements.length).toBeLessThan(180)
      yield* eventually("the room is given back", () => settings.settledAhead.used === 0)
      expect(settings.turns.underway).toBe(0)
    }))

  it.scoped("wait for nobody as long as there is room for all that they have", () =>
    Effect.gen(function*() {
      const { assignments, fill, probe } = yield* backlog(12, 2)
      const gate = yield* Deferred.make<void>()
      for (const one of assignments.slice(0, 11)) one.onSettle = () => Deferred.await(gate)
      fill()
      yield* eventually("the last is handled", () => probe.ended.length === 2)
      yield* Deferred.succeed(gate, undefined)
      yield* eventually("all are handled", () => probe.ended.length === 24)
    }))

  it.scoped("go on while settlements of others hang", () =>
    Effect.gen(function*() {
      const { assignments, fill, probe } = yield* backlog(5, 100)
      for (const one of assignments.slice(0, 2)) one.onSettle = () => Effect.never
      fill()
      yield* eventually("the others are handled", () => probe.ended.length === 300)
    }))

  it.scoped("give their turn away while they wait for another attempt", () =>
    Effect.gen(function*() {
      const { assignments, fill, probe, settings } = yield* backlog(5, 100)
      // Their next attempts are due by a clock that stands still.
      for (const one of assignments.slice(0, 2)) one.onSettle = () => Effect.fail(one.failure(true))
      fill()
      yield* eventually("the others are handled", () => probe.ended.length === 300)
      expect(settings.turns.underway).toBe(0)
    }))
})
