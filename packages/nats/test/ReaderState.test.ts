import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { type Event, hasGap, initial, isOpen, type Next, type ReaderState, step } from "../src/internal/ReaderState.js"

/** The state after these, and what was to be done after the last one. */
const after = (...events: ReadonlyArray<Event>): ReaderState & { readonly next: Next } => {
  let state = initial
  let next: Next = "nothing"
  for (const event of events) [state, next] = step(state, event)
  return { ...state, next }
}

const opens: Event = { _tag: "Opens" }
const found: Event = { _tag: "Found" }
const recovers: Event = { _tag: "Recovers" }
const recovered: Event = { _tag: "Recovered" }
const gap: Event = { _tag: "Gap" }
const disconnected: Event = { _tag: "Broke", broken: { reason: "Disconnected" } }
const stopped: Event = { _tag: "Stopped" }
const startedOver: Event = { _tag: "StartedOver" }
const rewritten = (sequence: number): Event => ({ _tag: "Rewritten", sequence })
const refused = (by: "Lane" | "Limit"): Event => ({ _tag: "Refused", by })
const resumed = (by: "Lane" | "Limit"): Event => ({ _tag: "Resumed", by })
const ended = (answer: "Heard" | "Silent" | "Unknown"): Event => ({ _tag: "Ended", answer })

const flowing = [opens, found, recovers, recovered] as const

const any: fc.Arbitrary<Event> = fc.constantFrom(
  opens,
  found,
  { _tag: "Found", changedFrom: 5 } as const,
  startedOver,
  recovers,
  { _tag: "Recovers", isShared: true } as const,
  recovered,
  gap,
  rewritten(7),
  disconnected,
  ended("Heard"),
  ended("Silent"),
  refused("Lane"),
  refused("Limit"),
  resumed("Lane"),
  resumed("Limit"),
  stopped
)

describe("The reading of a partition", () => {
  it("hands nothing over before all that is outstanding has come", () => {
    assert.isFalse(isOpen(after()))
    assert.isFalse(isOpen(after(opens, found, recovers)))
    assert.deepInclude(after(...flowing), { next: "offer", phase: { _tag: "Flowing" } })
    assert.isTrue(isOpen(after(...flowing)))
  })

  it("is broken by a gap, but not while it gets back what is outstanding, which it asks for again", () => {
    assert.deepInclude(after(...flowing, gap), { next: "break", phase: { _tag: "Broken", broken: { reason: "Gap" } } })
    assert.isFalse(isOpen(after(...flowing, gap)))
    const recovering = after(opens, found, recovers, gap)
    assert.strictEqual(recovering.next, "nothing")
    assert.isTrue(hasGap(recovering))
    assert.isFalse(hasGap(after(opens, found, recovers, gap, recovers)))
    // One that came after it was looked at for the last time.
    assert.strictEqual(after(opens, found, recovers, gap, recovered).next, "break")
    // Late, of a spell that is over: what follows is not in order.
    assert.isFalse(isOpen(after(...flowing, disconnected, gap)))
  })

  it("goes on handing over what it has while it is cut off", () => {
    assert.isTrue(isOpen(after(...flowing, disconnected)))
    assert.isTrue(isOpen(after(...flowing, disconnected, opens, found)))
    assert.isFalse(isOpen(after(...flowing, disconnected, opens, found, recovers)))
  })

  it("ends a spell for the first reason, once", () => {
    const broken = after(...flowing, gap, disconnected)
    assert.deepInclude(broken, { next: "nothing", phase: { _tag: "Broken", broken: { reason: "Gap" } } })
  })

  it("begins anew with another stream, from the lowest sequence that changed, however often that fails", () => {
    const changed = after(...flowing, rewritten(7))
    assert.deepInclude(changed, { next: "break", changedFrom: 7 })
    assert.deepInclude(after(...flowing, rewritten(7), rewritten(4), opens, found), {
      next: "start-over",
      changedFrom: 4
    })
    // It did not come so far.
    const again = after(...flowing, rewritten(7), opens, found, opens, { _tag: "Found", changedFrom: 0 })
    assert.deepInclude(again, { next: "start-over", changedFrom: 0 })
    const done = after(...flowing, refused("Lane"), rewritten(7), opens, found, startedOver)
    assert.deepInclude(done, { changedFrom: undefined, keepsBack: true, waitsFor: "Nobody" })
  })

  it("sees to a consumer that has not answered twice in a row, and then counts anew", () => {
    assert.strictEqual(after(opens, ended("Silent"), opens, found).next, "nothing")
    assert.strictEqual(after(opens, ended("Silent"), ended("Unknown"), ended("Silent"), opens, found).next, "replace")
    assert.strictEqual(after(opens, ended("Silent"), ended("Heard"), ended("Silent"), opens, found).next, "nothing")
    assert.strictEqual(after(ended("Silent"), ended("Silent"), opens, found, opens, found).next, "nothing")
    // What is another stream's is no repair.
    assert.strictEqual(
      after(ended("Silent"), ended("Silent"), opens, { _tag: "Found", changedFrom: 3 }).next,
      "start-over"
    )
  })

  it("waits for whoever has refused, and for nobody else", () => {
    for (const [one, other] of [["Lane", "Limit"], ["Limit", "Lane"]] as const) {
      assert.isFalse(isOpen(after(...flowing, refused(one))))
      assert.strictEqual(after(...flowing, refused(one), resumed(other)).next, "nothing")
      assert.isFalse(isOpen(after(...flowing, refused(one), resumed(other))))
      assert.strictEqual(after(...flowing, refused(one), resumed(one)).next, "offer")
      assert.isTrue(isOpen(after(...flowing, refused(one), resumed(one))))
      // It waits over a spell's end.
      assert.isFalse(isOpen(after(...flowing, refused(one), disconnected, ...flowing)))
    }
  })

  it("whatever happens: once stopped it hands nothing over, and else only what is in order and of this stream", () => {
    fc.assert(
      fc.property(fc.array(any, { maxLength: 30 }), (events) => {
        let state = initial
        let [isStopped, isInOrder] = [false, false]
        for (const event of events) {
          const [before, next] = [state, step(state, event)]
          state = next[0]
          if (event._tag === "Stopped") isStopped = true
          if (
            event._tag === "Recovers" || event._tag === "Gap" || event._tag === "Rewritten" ||
            event._tag === "StartedOver"
          ) {
            isInOrder = false
          }
          if (event._tag === "Recovered" && !hasGap(before) && before.phase._tag !== "Broken") isInOrder = true
          if (isStopped) {
            assert.strictEqual(state.phase._tag, "Stopped")
            assert.notStrictEqual(next[1], "offer")
          }
          if (isOpen(state)) assert.isTrue(!isStopped && isInOrder && state.waitsFor === "Nobody")
          // Each spell ends once.
          if (next[1] === "break") assert.notStrictEqual(before.phase._tag, "Broken")
        }
      }),
      { numRuns: 2_000 }
    )
  })
})
