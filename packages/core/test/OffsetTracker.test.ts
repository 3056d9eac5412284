import { OffsetTracker } from "@effect-eventbus/core"
import { describe, expect, it } from "@effect/vitest"
import { FastCheck } from "effect"

type Range = readonly [from: number, to: number]

/** What a tracker has to be, over plain sets. */
class Model {
  readonly delivered = new Set<number>()
  readonly finished = new Set<number>()
  position: number

  constructor(readonly start: number, readonly known: ReadonlyArray<Range>) {
    this.position = start
  }

  isKnown(offset: number): boolean {
    return this.known.some(([from, to]) => from <= offset && offset < to)
  }

  deliver(offset: number): boolean {
    if (offset < this.position) return false
    this.position = offset + 1
    this.delivered.add(offset)
    if (!this.isKnown(offset)) return true
    this.finished.add(offset)
    return false
  }

  finish(offset: number): boolean {
    if (!this.delivered.has(offset) || this.finished.has(offset)) return false
    this.finished.add(offset)
    return true
  }

  unfinished(): ReadonlyArray<number> {
    return Array.from(this.delivered).filter((offset) => !this.finished.has(offset)).sort((a, b) => a - b)
  }

  get watermark(): number {
    return this.unfinished()[0] ?? this.position
  }
}

const ranges = FastCheck.array(
  FastCheck.tuple(FastCheck.nat(120), FastCheck.nat(9)).map(([from, length]): Range => [from, from + length]),
  { maxLength: 4 }
)

const commands = FastCheck.array(
  FastCheck.oneof(
    {
      weight: 5,
      arbitrary: FastCheck.record({
        type: FastCheck.constant("deliver" as const),
        by: FastCheck.integer({ min: -2, max: 5 })
      })
    },
    { weight: 5, arbitrary: FastCheck.record({ type: FastCheck.constant("finish" as const), by: FastCheck.nat(40) }) },
    {
      weight: 1,
      arbitrary: FastCheck.record({
        type: FastCheck.constant("advance" as const),
        by: FastCheck.integer({ min: -3, max: 6 })
      })
    }
  ),
  { maxLength: 300 }
)

const play = (
  tracker: OffsetTracker.OffsetTracker,
  model: Model,
  steps: ReadonlyArray<{ readonly type: "deliver" | "finish" | "advance"; readonly by: number }>
) => {
  for (const { by, type } of steps) {
    if (type === "deliver") {
      const offset = model.position + by
      expect(tracker.deliver(offset)).toBe(model.deliver(offset))
    } else if (type === "finish") {
      // Mostly one that can be finished, now and then one that can't.
      const open = model.unfinished()
      const offset = by < 35 && open.length > 0 ? open[by % open.length]! : model.position - by
      expect(tracker.finish(offset)).toBe(model.finish(offset))
    } else {
      const position = model.position + by
      tracker.advance(position)
      model.position = Math.max(model.position, position)
    }
    expect(tracker.position).toBe(model.position)
    expect(tracker.watermark).toBe(model.watermark)
    expect(tracker.unfinished).toBe(model.unfinished().length)
    expect(tracker.ahead).toBe(model.position - model.watermark)
  }
}

const covers = (covered: ReadonlyArray<Range>, offset: number) =>
  covered.some(([from, to]) => from <= offset && offset < to)

describe("OffsetTracker", () => {
  it.prop("agrees with a naive model whatever is delivered, finished and advanced", [
    FastCheck.nat(50),
    ranges,
    commands
  ], ([start, known, steps]) => {
    play(OffsetTracker.make(start, known), new Model(start, known), steps)
  }, { fastCheck: { numRuns: 120 } })

  it.prop("answers ascending, disjoint ranges of finished offsets, and no unfinished one in them", [
    FastCheck.nat(50),
    ranges,
    commands
  ], ([start, known, steps]) => {
    const tracker = OffsetTracker.make(start, known)
    const model = new Model(start, known)
    play(tracker, model, steps)
    const above = tracker.finishedAbove()
    for (let i = 0; i < above.length; i++) {
      expect(above[i]![0]).toBeLessThan(above[i]![1])
      expect(above[i]![0]).toBeGreaterThanOrEqual(tracker.watermark)
      if (i > 0) expect(above[i]![0]).toBeGreaterThanOrEqual(above[i - 1]![1])
    }
    for (const offset of model.unfinished()) expect(covers(above, offset)).toBe(false)
    for (const offset of model.finished) expect(offset < tracker.watermark || covers(above, offset)).toBe(true)
  }, { fastCheck: { numRuns: 120 } })

  it.prop("delivers exactly the unfinished again after a restart from its watermark and finished ranges", [
    FastCheck.nat(50),
    ranges,
    commands
  ], ([start, known, steps]) => {
    const tracker = OffsetTracker.make(start, known)
    const model = new Model(start, known)
    play(tracker, model, steps)
    const restarted = OffsetTracker.make(tracker.watermark, tracker.finishedAbove())
    const again: Array<number> = []
    for (const offset of Array.from(model.delivered).sort((a, b) => a - b)) {
      if (offset >= restarted.position && restarted.deliver(offset)) again.push(offset)
    }
    expect(again).toEqual(model.unfinished())
    // What is known from before and was not reached keeps being known.
    for (let offset = model.position; offset < 140; offset++) {
      expect(restarted.wasFinished(offset)).toBe(model.isKnown(offset))
    }
  }, { fastCheck: { numRuns: 120 } })

  it("holds ten thousand offsets above the watermark, in whatever order they finish", () => {
    const tracker = OffsetTracker.make(0)
    for (let i = 0; i < 10_000; i++) tracker.deliver(i * 2)
    for (let i = 9_999; i > 0; i--) tracker.finish(i * 2)
    expect(tracker.watermark).toBe(0)
    expect(tracker.finishedAbove()).toEqual([[2, 19_999]])
    tracker.finish(0)
    expect(tracker.watermark).toBe(19_999)
    expect(tracker.finishedAbove()).toEqual([])
  })

  it("says the gap behind the last delivered offset is finished only when a later position is known", () => {
    const tracker = OffsetTracker.make(0)
    tracker.deliver(0)
    tracker.finish(0)
    expect(tracker.watermark).toBe(1)
    tracker.advance(7)
    expect(tracker.watermark).toBe(7)
    tracker.deliver(9)
    expect(tracker.watermark).toBe(9)
  })
})
