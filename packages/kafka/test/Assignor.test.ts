import { FastCheck as fc } from "effect"
import { describe, expect, it } from "vitest"
import type { Assignments, Member } from "../src/internal/Assignor.js"
import { assign } from "../src/internal/Assignor.js"
import { decodeAssignment, decodeMember, encodeAssignments, encodeMember } from "../src/internal/groupProtocol.js"

const member = (memberId: string, owned: ReadonlyArray<number> = [], generation = 1): Member => ({
  memberId,
  topics: ["t"],
  generation,
  owned: new Map([["t", owned]]),
  isNew: false
})

const of = (assignments: Assignments, memberId: string, topic = "t") => assignments.get(memberId)?.get(topic) ?? []

/** As the group does it: everybody gets an assignment, lets go of what is missing in it, and joins again until nothing moves. */
const settle = (members: ReadonlyArray<Member>, partitions: number) => {
  let rounds = 0
  let now = members
  for (;;) {
    const assignments = assign(now, new Map([["t", partitions]]))
    const holders = new Map<number, string>()
    for (const { memberId } of now) {
      for (const partition of of(assignments, memberId)) {
        expect(holders.has(partition)).toBe(false)
        holders.set(partition, memberId)
      }
    }
    // Nobody is given what another still has.
    for (const { memberId, owned } of now) {
      for (const partition of owned.get("t") ?? []) {
        expect([undefined, memberId]).toContain(holders.get(partition))
      }
    }
    rounds++
    const next = now.map(({ memberId }) => member(memberId, of(assignments, memberId), rounds + 1))
    const letGo = now.some(({ memberId, owned }) =>
      (owned.get("t") ?? []).some((partition) => !of(assignments, memberId).includes(partition))
    )
    now = next
    if (!letGo) return { rounds, members: now }
  }
}

describe("Assignor", () => {
  it("partitions are spread evenly, each to one member", () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 12 }), (partitions, count) => {
      const { members } = settle(Array.from({ length: count }, (_, i) => member(`m${i}`)), partitions)
      const sizes = members.map(({ owned }) => owned.get("t")!.length)
      expect(sizes.reduce((a, b) => a + b)).toBe(partitions)
      expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1)
    }))
  })

  it("a member that comes gets its share after its owners let go, and nothing else moves", () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 8 }), (partitions, count) => {
      const before = settle(Array.from({ length: count }, (_, i) => member(`m${i}`)), partitions).members
      const after = settle([...before, member("new", [], -1)], partitions)
      expect(after.rounds).toBeLessThanOrEqual(2)
      for (const { memberId, owned } of before) {
        const kept = after.members.find((member) => member.memberId === memberId)!.owned.get("t")!
        expect(kept.every((partition) => owned.get("t")!.includes(partition))).toBe(true)
      }
    }))
  })

  it("what a member leaves behind is given to others at once", () => {
    const { members } = settle([member("a"), member("b"), member("c")], 7)
    const { members: left, rounds } = settle(members.slice(1), 7)
    expect(rounds).toBe(1)
    expect(left.flatMap(({ owned }) => owned.get("t")!).sort()).toEqual([0, 1, 2, 3, 4, 5, 6])
  })

  it("of two that claim a partition the one with the later generation has it", () => {
    const assignments = assign([member("a", [0, 1], 3), member("b", [0, 1], 4)], new Map([["t", 2]]))
    expect(of(assignments, "a")).toEqual([])
    expect(of(assignments, "b")).toHaveLength(1)
  })

  it("members get partitions only of topics that they subscribe to", () => {
    const assignments = assign([
      { memberId: "a", topics: ["t", "u"], generation: -1, owned: new Map(), isNew: false },
      { memberId: "b", topics: ["t"], generation: -1, owned: new Map(), isNew: false }
    ], new Map([["t", 4], ["u", 3]]))
    expect(of(assignments, "a", "u")).toEqual([0, 1, 2])
    expect(of(assignments, "b", "u")).toEqual([])
    expect(of(assignments, "b", "t")).toHaveLength(2)
  })

  it("what members and the leader tell each other survives the wire, and what can't be read owns nothing", () => {
    const { generation, owned, topics } = member("a", [3, 1], 7)
    expect(decodeMember("a", encodeMember({ topics, generation, owned, isNew: true }, 2))).toEqual({
      ...member("a", [3, 1], 7),
      isNew: true
    })
    const [first] = encodeAssignments(new Map([["a", new Map([["t", [2, 5]]])]]), true)
    expect(decodeAssignment(first!.assignment, "t")).toEqual({ partitions: [2, 5], isNew: true })
    expect(decodeAssignment(first!.assignment, "other")).toEqual({ partitions: [], isNew: true })
    expect(decodeAssignment(Buffer.alloc(0), "t")).toEqual({ partitions: [], isNew: false })
    // In version 0 of the protocol, which has no more fields than these: brokers look into it.
    expect([...first!.assignment.subarray(0, 2)]).toEqual([0, 0])
    expect([...encodeMember({ topics, generation, owned, isNew: false }, 2).subarray(0, 2)]).toEqual([0, 0])
  })
})
