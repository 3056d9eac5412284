import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { ResumePoint } from "../src/internal/ResumePoint.js"
import { SequenceSet } from "../src/internal/SequenceSet.js"
import * as T from "./fixture.js"

/** What the server and this process know of a consumer, and the point that is to be below all that is not finished. */
class Model {
  readonly point = new ResumePoint()
  /** Up to where messages were delivered, to whomever. */
  private delivered = 0
  /** The highest that came here. */
  highest = 0
  readonly held = new Set<number>()
  private readonly finished = new Set<number>()
  /** What the server counts as acknowledged. */
  private readonly acked = new Set<number>()
  private missed = false

  /** Another one had it before: what it had acknowledged. */
  constructor(before: ReadonlyArray<boolean>) {
    before.forEach((isAcked, i) => {
      if (isAcked) this.acked.add(i + 1)
    })
    this.delivered = before.length
  }

  /** Reading begins; it may break off before all that is outstanding has come. */
  begin(isRecovered: boolean): void {
    let floor = 0
    while (floor < this.delivered && this.acked.has(floor + 1)) floor++
    this.point.acknowledged(floor)
    this.point.isComplete = false
    if (!isRecovered) return
    for (let sequence = 1; sequence <= this.delivered; sequence++) {
      if (!this.acked.has(sequence) && !this.finished.has(sequence)) this.take(sequence)
    }
    this.missed = false
    this.point.recovered(this.delivered)
  }

  /** So many are delivered, of which the first ones get lost on the way. */
  deliver(count: number, lost: number): void {
    for (let i = 0; i < count; i++) {
      this.delivered++
      if (i >= lost) this.take(this.delivered)
    }
    // It is seen as soon as one comes after it.
    if (lost > 0) this.point.isComplete = false
    if (lost > 0) this.missed = true
  }

  finish(index: number, isAckLost: boolean): void {
    const sequence = [...this.held][index % Math.max(1, this.held.size)]
    if (sequence === undefined) return
    this.held.delete(sequence)
    this.finished.add(sequence)
    if (!isAckLost) this.acked.add(sequence)
  }

  check(): void {
    let lowest = 1
    while (this.acked.has(lowest) || this.finished.has(lowest)) lowest++
    const position = this.point.position(this.highest, this.held)
    assert.isAtMost(position!, lowest, "a message would be left out")
    if (this.point.isComplete && !this.missed) assert.strictEqual(position, lowest, "finished ones would come again")
  }

  private take(sequence: number): void {
    this.held.add(sequence)
    this.highest = Math.max(this.highest, sequence)
  }
}

describe("Where reading begins again when the consumer is gone", () => {
  const step = fc.oneof(
    fc.record({ begin: fc.boolean() }),
    fc.record({ deliver: fc.integer({ min: 1, max: 8 }), lost: fc.oneof(fc.constant(0), fc.nat(3)) }),
    fc.record({ finish: fc.nat(30), isAckLost: fc.boolean() })
  )

  it.prop(
    "is never above what is not finished; and where all has come, not below it either",
    [fc.array(fc.boolean(), { maxLength: 10 }), fc.boolean(), fc.array(step, { maxLength: 60 })],
    ([before, isRecovered, steps]) => {
      const model = new Model(before)
      model.begin(isRecovered)
      model.check()
      for (const step of steps) {
        if ("begin" in step) model.begin(step.begin)
        else if ("deliver" in step) model.deliver(step.deliver, Math.min(step.lost, step.deliver - 1))
        else model.finish(step.finish, step.isAckLost)
        model.check()
      }
    },
    { fastCheck: { numRuns: 500 } }
  )

  it("is not known before the consumer was there, and the beginning of a stream that was made anew", () => {
    const point = new ResumePoint()
    assert.isUndefined(point.position(0, []))
    point.acknowledged(40)
    assert.strictEqual(point.position(0, []), 41)
    // The server was killed, and has forgotten some; we have not.
    point.acknowledged(30)
    assert.strictEqual(point.position(0, []), 41)
    point.recovered(50)
    assert.strictEqual(point.position(0, []), 51)
    point.startOver()
    assert.strictEqual(point.position(0, []), 1)
  })
})

describe("SequenceSet", () => {
  const sequences = fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 80 })

  it.prop("has what was added, as few ranges, and finds what was not", [sequences], ([added]) => {
    const set = new SequenceSet(1_000)
    const expected = new Set<number>()
    for (const sequence of added) {
      set.add(sequence)
      expected.add(sequence)
    }
    for (const sequence of T.range(0, 64)) {
      assert.strictEqual(set.has(sequence), expected.has(sequence))
      let next = sequence
      while (expected.has(next)) next++
      assert.strictEqual(set.next(sequence), next)
    }
    assert.strictEqual(set.ranges, [...expected].filter((sequence) => !expected.has(sequence - 1)).length)
    set.clear()
    assert.strictEqual(set.next(added[0] ?? 1), added[0] ?? 1)
    assert.strictEqual(set.ranges, 0)
  })

  it.prop(
    "ranges join whatever they touch, a copy is one's own, and from a sequence on all can be taken out",
    [
      fc.array(fc.tuple(fc.integer({ min: 1, max: 50 }), fc.nat(9)), { maxLength: 30 }),
      fc.integer({ min: 0, max: 62 })
    ],
    ([added, from]) => {
      const set = new SequenceSet(1_000)
      const expected = new Set<number>()
      for (const [start, count] of added) {
        set.addRange(start, start + count)
        for (const sequence of T.range(start, start + count)) expected.add(sequence)
      }
      const members = (set: SequenceSet) => T.range(0, 64).filter((sequence) => set.has(sequence))
      assert.deepStrictEqual(members(set), T.ascending([...expected]))
      assert.strictEqual(set.ranges, [...expected].filter((sequence) => !expected.has(sequence - 1)).length)
      const again = new SequenceSet(1_000)
      again.addBounds(set.bounds(1_000))
      assert.deepStrictEqual(members(again), members(set))
      const more = set.with([62])
      assert.isTrue(more.has(62))
      set.removeFrom(from)
      assert.deepStrictEqual(members(set), T.ascending([...expected]).filter((sequence) => sequence < from))
      assert.deepStrictEqual(members(more), T.ascending([...expected, 62]))
    }
  )

  it.prop("at its bound it forgets the lowest range, and nothing else", [sequences], ([added]) => {
    const set = new SequenceSet(3)
    let expected = new Set<number>()
    for (const sequence of added) {
      set.add(sequence)
      expected.add(sequence)
      const beginnings = T.ascending([...expected].filter((one) => !expected.has(one - 1)))
      if (beginnings.length > 3) expected = new Set([...expected].filter((one) => one >= beginnings[1]!))
      assert.deepStrictEqual(T.range(0, 64).filter((one) => set.has(one)), T.ascending([...expected]))
    }
    assert.isAtMost(set.ranges, 3)
  })
})
