import { expect, it } from "@effect/vitest"
import { Effect, FastCheck } from "effect"
import type { FailureType } from "../src/internal/Failure.js"
import * as GroupState from "../src/internal/GroupState.js"

type State = GroupState.GroupState

const outside: State = { ...GroupState.initial, coordinator: 1, wantsJoin: false }
const joining: State = { ...outside, phase: { _tag: "Joining" }, round: 1, memberId: "m" }
const syncing: State = { ...joining, phase: { _tag: "Syncing", generation: 5 }, joined: 5, counted: 5 }
const member: State = {
  ...syncing,
  phase: { _tag: "Member", generation: 5 },
  generation: 5,
  holds: true,
  contact: 100,
  stood: true
}
const rejoining: State = { ...member, phase: { _tag: "Joining" }, round: 2 }
const resyncing: State = { ...rejoining, phase: { _tag: "Syncing", generation: 6 }, joined: 6, counted: 6 }
const lost: State = { ...member, phase: { _tag: "Outside" }, holds: false, counted: -1 }
const unproven: State = { ...resyncing, counted: 5 }

const states = { outside, joining, syncing, member, rejoining, resyncing, lost, unproven }

/** What may be asked in each state, and by whom: `late` answers belong to a round before. */
const columns: ReadonlyArray<readonly [name: string, state: State, request: GroupState.Request, late?: true]> = [
  ["first: find", outside, "FindCoordinator"],
  ["first: join", joining, "JoinGroup"],
  ["first: sync", syncing, "SyncGroup"],
  ["first: beat while joining", { ...joining, memberId: "" }, "Heartbeat"],
  ["first: begin", { ...member, stood: false }, "Begin"],
  ["again: join", rejoining, "JoinGroup"],
  ["again: sync", resyncing, "SyncGroup"],
  ["again: beat while joining", rejoining, "Heartbeat"],
  ["again: commit while joining", rejoining, "OffsetCommit"],
  ["member: beat", member, "Heartbeat"],
  ["member: commit", member, "OffsetCommit"],
  ["member: fetch offsets", member, "OffsetFetch"],
  ["member: late beat", member, "Heartbeat", true],
  ["member: late commit", member, "OffsetCommit", true],
  ["lost: join", { ...rejoining, holds: false, counted: -1 }, "JoinGroup"],
  ["lost: sync", { ...resyncing, holds: false }, "SyncGroup"],
  ["unproven: proof", unproven, "Proof"]
]

const same = (next: GroupState.Next) => columns.map(([name]) => name === "unproven: proof" ? "lose" : next)
/** What the join loop is told, and what all others are; while it joins; as a member; late; where it was lost. */
const table: Readonly<Partial<Record<FailureType, ReadonlyArray<GroupState.Next>>>> = {
  // Again after a while, whoever asked.
  ...Object.fromEntries(
    [
      "UNKNOWN",
      "COORDINATOR_LOAD_IN_PROGRESS",
      "GROUP_MAX_SIZE_REACHED",
      "REQUEST_TIMED_OUT",
      "NOT_ENOUGH_REPLICAS",
      "UNKNOWN_TOPIC_OR_PARTITION",
      "LEADER_NOT_AVAILABLE",
      "OFFSET_METADATA_TOO_LARGE",
      "INVALID_COMMIT_OFFSET_SIZE",
      "GROUP_ID_NOT_FOUND",
      "UNSTABLE_OFFSET_COMMIT",
      "THROTTLING_QUOTA_EXCEEDED",
      "KAFKA_STORAGE_ERROR",
      "NETWORK_EXCEPTION",
      "INVALID_REQUEST",
      "ERROR_999",
      // Over another coordinator, perhaps.
      "Connection",
      "Timeout",
      "NOT_COORDINATOR",
      "COORDINATOR_NOT_AVAILABLE"
    ].map((type) => [type, same("retry")])
  ),
  REBALANCE_IN_PROGRESS: [
    ...["rejoin", "rejoin", "rejoin", "nothing", "rejoin"] as const,
    ...["rejoin", "rejoin", "nothing", "nothing"] as const,
    ...["rejoin", "rejoin", "rejoin", "nothing", "nothing"] as const,
    ...["rejoin", "rejoin", "rejoin"] as const
  ],
  ...Object.fromEntries(
    ["ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID"].map((type) => [
      type,
      [
        ...["lose", "lose", "lose", "nothing", "lose"] as const,
        "lose" as const,
        // Of the generation before, nobody may know that it is over.
        type === "ILLEGAL_GENERATION" ? "prove" as const : "lose" as const,
        ...["nothing", "nothing"] as const,
        ...["lose", "lose", "lose", "nothing", "nothing"] as const,
        ...["lose", "lose", "lose"] as const
      ]
    ])
  ),
  ...Object.fromEntries(
    ["FENCED_INSTANCE_ID", "UNRELEASED_INSTANCE_ID"].map((type) => [
      type,
      [
        ...["fail", "fail", "fail", "nothing", "fail"] as const,
        ...["fail", "fail", "fail", "fail"] as const,
        ...["fail", "fail", "fail", "fail", "fail"] as const,
        ...["fail", "fail", "fail"] as const
      ]
    ])
  ),
  ...Object.fromEntries(
    [
      "GROUP_AUTHORIZATION_FAILED",
      "TOPIC_AUTHORIZATION_FAILED",
      "CLUSTER_AUTHORIZATION_FAILED",
      "INCONSISTENT_GROUP_PROTOCOL",
      "INVALID_GROUP_ID",
      "INVALID_SESSION_TIMEOUT",
      "UNSUPPORTED_VERSION",
      "Authentication"
    ].map((type) => [
      type,
      [
        ...["fail", "fail", "fail", "retry", "fail"] as const,
        ...["retry", "retry", "retry", "retry"] as const,
        ...["retry", "retry", "retry", "retry", "retry"] as const,
        ...["retry", "retry", "lose"] as const
      ]
    ])
  )
}

const types = Object.keys(table) as Array<FailureType>

for (const type of types) {
  const expected = table[type]!
  it(`each state has an answer to ${type}`, () => {
    const found = columns.map(([, state, request, late]) => {
      const ticket = GroupState.ticket(late ? { ...state, round: state.round - 1 } : state, request, 200)
      return GroupState.step(state, { _tag: "Refused", request, type, ticket })
    })
    const named = (nexts: ReadonlyArray<GroupState.Next>) =>
      Object.fromEntries(columns.map(([name], i) => [name, nexts[i]]))
    expect(named(found.map(([, next]) => next))).toEqual(named(expected))
    found.forEach(([after, next], i) => {
      const [, before, request] = columns[i]!
      const outcome = GroupState.outcomeOf(type)
      // The id is forgotten where the group has, and nowhere else.
      expect(after.memberId).toBe(next === "lose" && outcome === "rejoin-anew" ? "" : before.memberId)
      // Who coordinates is asked again where that was the matter.
      expect(after.coordinator).toBe(outcome === "find-coordinator" && request !== "Begin" ? undefined : 1)
      expect(after.phase._tag).toBe(next === "fail" ? "Broken" : next === "lose" ? "Outside" : before.phase._tag)
      if (next === "lose" || next === "fail") expect(after).toMatchObject({ counted: -1, holds: false })
      // Being told to join again is an answer: the coordinator has heard of the member.
      expect(after.contact).toBe(
        (request === "Heartbeat" || request === "Proof") && outcome === "rejoin" ? 200 : before.contact
      )
    })
  })
}

it("what has left or is broken stays so, whatever comes", () => {
  for (const phase of [{ _tag: "Left" }, { _tag: "Broken", type: "FENCED_INSTANCE_ID" }] as const) {
    const state: State = { ...member, phase }
    for (const type of types) {
      for (const [, , request] of columns) {
        const ticket = GroupState.ticket(state, request, 1)
        expect(GroupState.step(state, { _tag: "Refused", request, type, ticket })).toEqual([state, "nothing"])
      }
    }
    expect(GroupState.step(state, { _tag: "Joining" })).toEqual([state, "nothing"])
    expect(GroupState.step(state, { _tag: "Silent" })).toEqual([state, "nothing"])
  }
})

const anyEvent = (state: State): FastCheck.Arbitrary<GroupState.Event> => {
  const request = FastCheck.constantFrom<Array<GroupState.Request>>(
    ...[
      "FindCoordinator",
      "JoinGroup",
      "SyncGroup",
      "Heartbeat",
      "OffsetCommit",
      "OffsetFetch",
      "Begin",
      "Plan",
      "Proof"
    ] as const
  )
  const ticket = FastCheck.boolean().map((late) =>
    GroupState.ticket(late ? { ...state, round: state.round - 1 } : state, "Heartbeat", state.contact + 1)
  )
  return FastCheck.oneof(
    FastCheck.constant({ _tag: "Found" as const, node: 2 }),
    FastCheck.constant({ _tag: "Joining" as const }),
    FastCheck.constant({ _tag: "Named" as const, memberId: "n" }),
    FastCheck.constant({ _tag: "Joined" as const, memberId: "n", generation: state.generation + 1 }),
    FastCheck.constant({ _tag: "Synced" as const, generation: Math.max(0, state.counted), sentAt: state.contact + 1 }),
    FastCheck.constant({ _tag: "Silent" as const }),
    FastCheck.constant({ _tag: "Wanted" as const }),
    FastCheck.record({ _tag: FastCheck.constant("Beaten" as const), ticket }),
    FastCheck.record({ _tag: FastCheck.constant("Proven" as const), ticket }),
    FastCheck.record({
      _tag: FastCheck.constant("Refused" as const),
      request,
      type: FastCheck.constantFrom(...types),
      ticket
    })
  )
}

it.effect.prop(
  "whatever happens: contact never goes back, an outsider is not counted and wants to join, and generations only rise",
  [FastCheck.gen(), FastCheck.integer({ min: 1, max: 60 })],
  ([gen, length]) =>
    Effect.sync(() => {
      let state: State = { ...GroupState.initial }
      for (let i = 0; i < length; i++) {
        const event = gen(anyEvent, state)
        const [after] = GroupState.step(state, event)
        expect(after.contact).toBeGreaterThanOrEqual(state.contact)
        if (event._tag !== "Synced") expect(after.generation).toBe(state.generation)
        expect(after.round).toBe(state.round + (event._tag === "Joining" && !isOver(state) ? 1 : 0))
        if (after.phase._tag === "Outside" && after !== state && state.phase._tag !== "Outside") {
          expect(after).toMatchObject({ counted: -1, holds: false, wantsJoin: true })
        }
        // What was lost comes back with an assignment only.
        if (after.holds && !state.holds) expect(event._tag).toBe("Synced")
        state = after
      }
    })
)

const isOver = ({ phase }: State) => phase._tag === "Left" || phase._tag === "Broken"

const after = (state: State, ...events: ReadonlyArray<GroupState.Event>) =>
  events.reduce<State>((current, event) => GroupState.step(current, event)[0], state)

const synced = { _tag: "Synced", generation: 6, sentAt: 300 } as const

it("a commit that named the generation before says nothing of the one that has come meanwhile", () => {
  for (const [name, state] of Object.entries({ rejoining, resyncing, unproven })) {
    const ticket = GroupState.ticket(state, "OffsetCommit", 200)
    const joined = after(state, { _tag: "Joined", memberId: "m", generation: 6 }, synced)
    for (const type of ["ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS"] as const) {
      const refused = GroupState.step(joined, { _tag: "Refused", request: "OffsetCommit", type, ticket })
      expect([name, type, refused]).toEqual([name, type, [joined, "nothing"]])
    }
  }
})

it("while it joins again, heartbeats name whichever of the two generations the coordinator knows", () => {
  const beat = (state: State) =>
    after(state, {
      _tag: "Refused",
      request: "Heartbeat",
      type: "ILLEGAL_GENERATION",
      ticket: GroupState.ticket(state, "Heartbeat", 200)
    })
  const said = (state: State) => [state, beat(state), beat(beat(state))].map(({ counted }) => counted)
  expect(said(resyncing)).toEqual([6, 5, 6])
  expect(said({ ...resyncing, phase: { _tag: "Joining" } })).toEqual([6, 5, 6])
  expect(said(rejoining)).toEqual([5, 5, 5])
  // What was lost is asked about no more, and the first generation has none before it.
  expect(said({ ...resyncing, holds: false })).toEqual([6, 6, 6])
  expect(said(syncing)).toEqual([5, 5, 5])
  // Both were refused, or it was another round: that says nothing.
  const late = GroupState.ticket({ ...resyncing, round: 1 }, "Heartbeat", 200)
  const refused = { _tag: "Refused", request: "Heartbeat", type: "ILLEGAL_GENERATION" } as const
  expect(after(resyncing, { ...refused, ticket: late })).toEqual(resyncing)
})

it("each state can be left for the membership again", () => {
  for (const [name, state] of Object.entries(states)) {
    const joined = [
      { _tag: "Joining" },
      { _tag: "Joined", memberId: "m2", generation: 9 },
      { _tag: "Synced", generation: 9, sentAt: 300 }
    ] as const
    const after = joined.reduce<State>((current, event) => GroupState.step(current, event)[0], state)
    expect([name, after.phase]).toEqual([name, { _tag: "Member", generation: 9 }])
    expect(after).toMatchObject({ memberId: "m2", counted: 9, generation: 9, contact: 300, wantsJoin: false })
  }
})
