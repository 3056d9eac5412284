import { afterEach, assert, beforeEach, describe, it, vi } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { Chain } from "../src/internal/Chain.js"
import { Deadlines, type Waiting } from "../src/internal/Deadlines.js"

class Member implements Waiting<Member> {
  before: Member | undefined
  after: Member | undefined
  constructor(readonly name: string, readonly deadline: number) {}
}

describe("Chain", () => {
  it("has its members in the order in which they were appended, whichever are taken out", () => {
    fc.assert(fc.property(fc.array(fc.nat(20), { maxLength: 60 }), (steps) => {
      const chain = new Chain<Member>()
      let expected: Array<Member> = []
      steps.forEach((step, i) => {
        const out = expected[step]
        if (out === undefined) {
          const member = new Member(String(i), 0)
          chain.append(member)
          expected.push(member)
        } else {
          chain.remove(out)
          expected = expected.filter((member) => member !== out)
          // Nothing that was taken out leads to what is still there: it may have grown old.
          assert.isUndefined(out.before ?? out.after)
        }
        assert.deepStrictEqual([...chain].map(({ name }) => name), expected.map(({ name }) => name))
        assert.strictEqual(chain.size, expected.length)
        assert.strictEqual(chain.first, expected[0])
      })
    }))
  })
})

describe("Deadlines", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] }))
  afterEach(() => void vi.useRealTimers())

  const make = () => {
    const start = performance.now()
    const due: Array<readonly [name: string, after: number]> = []
    const deadlines: Deadlines<Member> = new Deadlines((member) => {
      due.push([member.name, performance.now() - start])
      deadlines.remove(member)
    })
    const add = (name: string, after: number) => {
      const member = new Member(name, start + after)
      deadlines.add(member)
      return member
    }
    return { add, deadlines, due }
  }

  it("tells each at its own deadline, with one timer for all, and none when nothing waits", () => {
    const { add, due } = make()
    add("a", 1_000)
    add("b", 300)
    add("c", 2_000)
    add("d", 1_000)
    add("never", Infinity)
    assert.strictEqual(vi.getTimerCount(), 1)
    vi.advanceTimersByTime(999)
    assert.deepStrictEqual(due, [["b", 300]])
    vi.advanceTimersByTime(10_000)
    assert.deepStrictEqual(due, [["b", 300], ["a", 1_000], ["d", 1_000], ["c", 2_000]])
    assert.strictEqual(vi.getTimerCount(), 0)
    add("e", 12_000)
    vi.advanceTimersByTime(2_000)
    assert.deepStrictEqual(due.at(-1), ["e", 12_000])
  })

  it("does not tell those that were taken out, and nobody any more after its end", () => {
    const { add, deadlines, due } = make()
    const a = add("a", 100)
    add("b", 200)
    deadlines.remove(a)
    vi.advanceTimersByTime(150)
    assert.deepStrictEqual(due, [])
    deadlines.end()
    assert.strictEqual(vi.getTimerCount(), 0)
    vi.advanceTimersByTime(1_000)
    assert.deepStrictEqual(due, [])
  })

  it("sets no timer after its end, whoever is added then, or while one is told", () => {
    const { add, deadlines, due } = make()
    add("a", 100)
    deadlines.end()
    add("b", 50)
    assert.strictEqual(vi.getTimerCount(), 0)
    const told: Array<string> = []
    const other: Deadlines<Member> = new Deadlines((member) => {
      told.push(member.name)
      other.end()
    })
    const now = performance.now()
    other.add(new Member("c", now + 100))
    other.add(new Member("d", now + 300))
    vi.advanceTimersByTime(1_000)
    assert.deepStrictEqual(told, ["c"])
    assert.deepStrictEqual(due, [])
    assert.strictEqual(vi.getTimerCount(), 0)
  })

  it("goes on where one that is due takes others out", () => {
    const due: Array<string> = []
    const deadlines: Deadlines<Member> = new Deadlines((member) => {
      due.push(member.name)
      for (const one of [...deadlines.waiting]) if (one.name !== "last") deadlines.remove(one)
    })
    const now = performance.now()
    for (const name of ["a", "b"]) deadlines.add(new Member(name, now + 100))
    deadlines.add(new Member("last", now + 300))
    vi.advanceTimersByTime(200)
    vi.advanceTimersByTime(200)
    assert.deepStrictEqual(due.slice(0, 1), ["a"])
    assert.strictEqual(due.at(-1), "last")
  })
})
