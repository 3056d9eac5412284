/** The group's life before a scripted coordinator, on virtual time. */
import { expect, it } from "@effect/vitest"
import type { Duration } from "effect"
import { Clock, Deferred, Effect, Fiber, Logger, TestClock } from "effect"
import type { FailureType } from "../src/internal/Failure.js"
import { KafkaFailure } from "../src/internal/Failure.js"
import type { GroupDriver, GroupRequest, Join, Joined } from "../src/internal/GroupDriver.js"
import * as GroupProtocol from "../src/internal/groupProtocol.js"
import * as Lasting from "../src/internal/Lasting.js"
import type { MembershipOptions } from "../src/internal/Membership.js"
import * as Membership from "../src/internal/Membership.js"
import * as Standing from "../src/internal/Standing.js"

const settings = {
  sessionTimeout: 20_000,
  rebalanceTimeout: 60_000,
  heartbeatInterval: 2_000,
  requestTimeout: 10_000
}

const refusal = (type: FailureType) => new KafkaFailure({ type, sent: true, cause: "the script says so" })

type Answer<A> = Effect.Effect<A, KafkaFailure>

const assigned = GroupProtocol.encodeAssignments(new Map([["m", new Map([["orders", [0, 1]]])]]), false)[0]!.assignment

const joinedAs = (generation: number): Joined => ({
  _tag: "Joined",
  memberId: "m1",
  generation,
  leaderId: "other",
  members: []
})

/** What the coordinator does next for a request: the script's first line for it, or what it does in good times. */
const coordinatorOf = () => {
  const asked: Array<string> = []
  const joins: Array<Join> = []
  const script = new Map<GroupRequest, Array<Answer<unknown>>>()
  let generation = 0
  let ids = 0
  let abandoned = Deferred.unsafeMake<void>(Fiber.id(Fiber.void) as never)
  const refusing = new Map<GroupRequest, (note: string) => FailureType>()
  const next = <A>(request: GroupRequest, note: string, otherwise: () => Answer<A>): Answer<A> =>
    Effect.suspend(() => {
      asked.push(note)
      const line = script.get(request)?.shift()
      const why = refusing.get(request)
      return line !== undefined ? line as Answer<A> : why !== undefined ? Effect.fail(refusal(why(note))) : otherwise()
    })
  /** As over a link: a deadline, and an end of it. */
  const waiting = <A>(answer: Answer<A>, timeoutMs: number) =>
    Effect.suspend(() =>
      Effect.raceFirst(answer, Effect.zipRight(Deferred.await(abandoned), Effect.fail(refusal("Connection"))))
    ).pipe(Effect.timeoutFail({ duration: timeoutMs, onTimeout: () => refusal("Timeout") }))
  const joined = (memberId: string): Joined => ({
    _tag: "Joined",
    memberId,
    generation: ++generation,
    leaderId: "somebody",
    members: []
  })
  const driver: GroupDriver = {
    findCoordinator: (timeoutMs) => waiting(next("FindCoordinator", "find", () => Effect.succeed(1)), timeoutMs),
    join: (_, join, timeoutMs) => {
      joins.push(join)
      return waiting(
        next(
          "JoinGroup",
          `join "${join.memberId}"`,
          () =>
            Effect.sync((): Joined =>
              join.memberId === "" ? { _tag: "Named", memberId: `m${++ids}` } : joined(join.memberId)
            )
        ),
        timeoutMs
      )
    },
    sync: (_, { generation }, timeoutMs) =>
      waiting(
        next("SyncGroup", `sync ${generation}`, () => Effect.succeed(assigned)),
        timeoutMs
      ),
    heartbeat: (_, { generation }, timeoutMs) =>
      waiting(
        next("Heartbeat", `beat ${generation}`, () =>
          generation < 0 ? Effect.fail(refusal("UNKNOWN_MEMBER_ID")) : Effect.void),
        timeoutMs
      ),
    leave: (_, memberId) => next("LeaveGroup", `leave ${memberId}`, () => Effect.void),
    commit: (_, { generation }, __, commits) =>
      next(
        "OffsetCommit",
        `commit ${generation}`,
        () => Effect.succeed(new Map(commits.map(({ partition }) => [partition, 0])))
      ),
    committed: () => next("OffsetFetch", "fetch", () => Effect.succeed([])),
    describe: () =>
      next("DescribeGroups", "describe", () =>
        Effect.succeed({
          state: "PreparingRebalance",
          members: [{ memberId: "dead", clientId: "orders", clientHost: "/10.0.0.7" }]
        })),
    abandonJoin: Effect.suspend(() => {
      const before = abandoned
      abandoned = Deferred.unsafeMake<void>(Fiber.id(Fiber.void) as never)
      return Effect.asVoid(Deferred.succeed(before, undefined))
    })
  }
  return {
    driver,
    asked,
    joins,
    /** What comes next, and then next, for a request. */
    then: (request: GroupRequest, ...answers: ReadonlyArray<Answer<unknown>>) => {
      script.set(request, [...script.get(request) ?? [], ...answers])
    },
    /** From now on, where the script has no line for it. */
    refuses: (request: GroupRequest, why: (note: string) => FailureType) => void refusing.set(request, why),
    /** From now on, until it is given back. */
    always: (request: GroupRequest, answer: Answer<unknown>) => {
      script.set(request, Array.from({ length: 100_000 }, () => answer))
      return () => script.delete(request)
    }
  }
}

const memberOf = Effect.fnUntraced(function*(
  coordinator: ReturnType<typeof coordinatorOf>,
  more: Partial<MembershipOptions> = {}
) {
  const owned: Array<number> = []
  const losses: Array<string> = []
  const applied: Array<ReadonlyArray<number>> = []
  const membership = yield* Membership.make({
    driver: coordinator.driver,
    settings,
    lasting: yield* Lasting.make,
    topic: "orders",
    isStatic: false,
    fenceAfterMs: 10_000,
    owned: () => owned,
    isRefusing: () => false,
    plan: () => Effect.succeed(new Map()),
    apply: (partitions) =>
      Effect.sync(() => {
        applied.push(partitions)
        owned.splice(0, owned.length, ...partitions)
        return false
      }),
    ended: Effect.void,
    lost: (why, leftMs) =>
      Effect.sync(() => {
        if (owned.length > 0) losses.push(`${why} ${Math.round(leftMs / 100) / 10}`)
        owned.length = 0
      }),
    ...more
  })
  const run = yield* Effect.forkScoped(membership.run)
  return { membership, owned, losses, applied, run }
})

const logged = () => {
  const lines: Array<string> = []
  return {
    lines,
    layer: Logger.replace(
      Logger.defaultLogger,
      Logger.make(({ annotations, message }) => {
        lines.push(`${String(message)} ${JSON.stringify([...annotations])}`)
      })
    )
  }
}

const beats = (asked: ReadonlyArray<string>) => asked.filter((one) => one.startsWith("beat"))

it.scoped("joins, says that it is there, and leaves", () =>
  Effect.gen(function*() {
    const coordinator = coordinatorOf()
    const { applied, losses, membership, run } = yield* memberOf(coordinator)
    yield* Standing.stands(membership, 30_000)
    expect(applied).toEqual([[0, 1]])
    expect(membership.generation()).toBe(1)
    expect(coordinator.asked).toEqual(["find", "join \"\"", "join \"m1\"", "sync 1"])
    yield* TestClock.adjust("10 seconds")
    expect(beats(coordinator.asked)).toEqual(Array.from({ length: 5 }, () => "beat 1"))
    yield* Fiber.interrupt(run)
    yield* membership.leave
    expect(coordinator.asked.at(-1)).toBe("leave m1")
    expect(losses).toEqual([])
  }))

// By default, and the least that is allowed (twice and a half the heartbeats' interval): far less than a session and a rebalance take.
it.scoped.each([30_000, 5_000])(
  "rule 15: it stands after minutes in which others died while they joined, and says what it waits for (limit %d ms)",
  (withinMs) => {
    const { layer, lines } = logged()
    return Effect.gen(function*() {
      const coordinator = coordinatorOf()
      const whenTheOthersAreGone = (after: Duration.DurationInput) =>
        Effect.delay(
          Effect.suspend(() =>
            Effect.succeed({ _tag: "Joined", memberId: "m1", generation: 7, leaderId: "dead", members: [] })
          ),
          after
        )
      coordinator.then(
        "JoinGroup",
        Effect.succeed({ _tag: "Named", memberId: "m1" }),
        whenTheOthersAreGone("55 seconds"),
        Effect.fail(refusal("COORDINATOR_LOAD_IN_PROGRESS")),
        whenTheOthersAreGone("40 seconds"),
        Effect.fail(refusal("NOT_COORDINATOR")),
        Effect.fail(refusal("GROUP_MAX_SIZE_REACHED"))
      )
      // Its leader is dead, twice.
      coordinator.then(
        "SyncGroup",
        Effect.delay(Effect.fail(refusal("REBALANCE_IN_PROGRESS")), "20 seconds"),
        Effect.delay(Effect.fail(refusal("REBALANCE_IN_PROGRESS")), "20 seconds")
      )
      const { membership } = yield* memberOf(coordinator)
      const standing = yield* Effect.fork(Standing.stands(membership, withinMs))
      yield* TestClock.adjust("134 seconds")
      expect(yield* Fiber.poll(standing)).toMatchObject({ _tag: "None" })
      yield* TestClock.adjust("6 seconds")
      expect(yield* Fiber.join(standing)).toBeUndefined()
      const why = lines.filter((line) => line.startsWith("The subscription has not begun yet"))
      expect(why).toHaveLength(13)
      expect(why[0]).toContain("waits for members that have not joined again yet")
      expect(why[0]).toContain("PreparingRebalance")
      expect(why[0]).toContain("dead/10.0.0.7")
      expect(why[6]).toContain("the leader of the group shares the partitions out")
    }).pipe(Effect.provide(layer))
  }
)

it.scoped("where nobody answers, subscribing ends at its limit, and says why", () =>
  Effect.gen(function*() {
    const coordinator = coordinatorOf()
    coordinator.always("FindCoordinator", Effect.never)
    const { membership } = yield* memberOf(coordinator)
    const standing = yield* Effect.fork(Effect.flip(Standing.stands(membership, 30_000)))
    yield* TestClock.adjust("29 seconds")
    expect(yield* Fiber.poll(standing)).toMatchObject({ _tag: "None" })
    yield* TestClock.adjust("2 seconds")
    expect(yield* Fiber.join(standing)).toMatchObject({ _tag: "NoProgress", cause: { isUnreachable: true } })
  }))

for (
  const type of [
    "GROUP_AUTHORIZATION_FAILED",
    "INCONSISTENT_GROUP_PROTOCOL",
    "INVALID_SESSION_TIMEOUT",
    "INVALID_GROUP_ID",
    "FENCED_INSTANCE_ID"
  ] as const
) {
  it.scoped(`what waiting can't mend ends the start at once: ${type}`, () =>
    Effect.gen(function*() {
      const coordinator = coordinatorOf()
      coordinator.always("JoinGroup", Effect.fail(refusal(type)))
      const { membership } = yield* memberOf(coordinator)
      expect(yield* Effect.flip(Standing.stands(membership, 30_000))).toMatchObject({ type })
      const { length } = coordinator.asked
      yield* TestClock.adjust("15 seconds")
      expect(coordinator.asked).toHaveLength(length)
    }))
}

it.scoped("a heartbeat without an answer costs its deadline; the coordinator is looked up again, and nothing is lost", () =>
  Effect.gen(function*() {
    const coordinator = coordinatorOf()
    const { losses, membership } = yield* memberOf(coordinator)
    yield* Standing.stands(membership, 30_000)
    coordinator.asked.length = 0
    coordinator.then("Heartbeat", Effect.never)
    yield* TestClock.adjust("6 seconds")
    expect(coordinator.asked.slice(0, 3)).toEqual(["beat 1", "find", "beat 1"])
    yield* TestClock.adjust("15 seconds")
    expect(losses).toEqual([])
    expect(membership.generation()).toBe(1)
  }))

it.scoped("silence: the partitions are given up while others can't have them yet, and joined for again", () =>
  Effect.gen(function*() {
    const coordinator = coordinatorOf()
    const { applied, losses, membership } = yield* memberOf(coordinator)
    yield* Standing.stands(membership, 30_000)
    const back = [coordinator.always("Heartbeat", Effect.never), coordinator.always("FindCoordinator", Effect.never)]
    yield* TestClock.adjust("9900 millis")
    expect(losses).toEqual([])
    expect(membership.isAlive()).toBe(true)
    yield* TestClock.adjust("200 millis")
    expect(losses).toEqual(["no heartbeat was answered for too long 10"])
    expect(membership.isAlive()).toBe(false)
    expect(membership.generation()).toBe(-1)
    yield* TestClock.adjust("30 seconds")
    back.forEach((end) => end())
    yield* TestClock.adjust("10 seconds")
    // Under the id that it had.
    expect(coordinator.joins.at(-1)!.memberId).toBe("m1")
    expect(applied).toHaveLength(2)
    expect(membership.isAlive()).toBe(true)
  }))

it.scoped("thrown out, by a heartbeat or a commit: all is given up at once, and joined for without the old id", () =>
  Effect.gen(function*() {
    const coordinator = coordinatorOf()
    const { applied, losses, membership } = yield* memberOf(coordinator)
    yield* Standing.stands(membership, 30_000)
    coordinator.then("Heartbeat", Effect.fail(refusal("UNKNOWN_MEMBER_ID")))
    yield* TestClock.adjust("3 seconds")
    expect(losses).toEqual(["UNKNOWN_MEMBER_ID 0"])
    expect(coordinator.joins.map(({ memberId }) => memberId)).toEqual(["", "m1", "", "m2"])
    coordinator.then("OffsetCommit", Effect.succeed(new Map([[0, 22]])))
    yield* membership.commit([{ partition: 0, offset: 1, metadata: "" }])
    yield* TestClock.adjust("1 second")
    expect(losses).toEqual(["UNKNOWN_MEMBER_ID 0", "ILLEGAL_GENERATION 0"])
    // Here the id is still good.
    expect(coordinator.joins.at(-1)!.memberId).toBe("m2")
    expect(applied).toHaveLength(3)
  }))

it.scoped("a rebalance: it goes on with what it has until the group is complete, and tells what that is", () =>
  Effect.gen(function*() {
    const coordinator = coordinatorOf()
    const { losses, membership, owned } = yield* memberOf(coordinator)
    yield* Standing.stands(membership, 30_000)
    coordinator.then("Heartbeat", Effect.fail(refusal("REBALANCE_IN_PROGRESS")))
    coordinator.then(
      "JoinGroup",
      Effect.delay(
        Effect.succeed({ _tag: "Joined", memberId: "m1", generation: 2, leaderId: "other", members: [] }),
        "50 seconds"
      )
    )
    yield* TestClock.adjust("45 seconds")
    expect(membership.generation()).toBe(-1)
    expect(membership.isAlive()).toBe(true)
    expect(owned).toEqual([0, 1])
    expect(GroupProtocol.decodeMember("m1", coordinator.joins.at(-1)!.metadata)).toMatchObject({
      generation: 1,
      owned: new Map([["orders", [0, 1]]])
    })
    // Commits go on in the generation that it has.
    yield* membership.commit([{ partition: 0, offset: 1, metadata: "" }])
    expect(coordinator.asked.at(-1)).toBe("commit 1")
    yield* TestClock.adjust("10 seconds")
    expect(membership.generation()).toBe(2)
    expect(losses).toEqual([])
  }))

it.scoped("a coordinator that dies while the group gathers: heartbeats notice it, and the join goes to the next one", () =>
  Effect.gen(function*() {
    const coordinator = coordinatorOf()
    const { losses, membership } = yield* memberOf(coordinator)
    yield* Standing.stands(membership, 30_000)
    membership.rejoin()
    coordinator.then("JoinGroup", Effect.never)
    yield* TestClock.adjust("1 second")
    coordinator.asked.length = 0
    coordinator.then("Heartbeat", Effect.fail(refusal("Connection")))
    yield* TestClock.adjust("3 seconds")
    expect(coordinator.asked.slice(0, 2)).toEqual(["beat 1", "find"])
    expect(coordinator.asked.slice(2, 4)).toContain("join \"m1\"")
    expect(membership.generation()).toBe(2)
    expect(losses).toEqual([])
  }))

it.scoped("a static member keeps its place when it ends, and one whose place is taken ends for good", () =>
  Effect.gen(function*() {
    const coordinator = coordinatorOf()
    const { losses, membership, run } = yield* memberOf(coordinator, { isStatic: true })
    yield* Standing.stands(membership, 30_000)
    coordinator.then("Heartbeat", Effect.fail(refusal("FENCED_INSTANCE_ID")))
    yield* TestClock.adjust("3 seconds")
    expect(losses).toEqual(["FENCED_INSTANCE_ID 0"])
    expect(yield* Effect.flip(Deferred.await(membership.broken))).toMatchObject({ type: "FENCED_INSTANCE_ID" })
    const { length } = coordinator.asked
    yield* TestClock.adjust("15 seconds")
    expect(coordinator.asked).toHaveLength(length)
    yield* Fiber.interrupt(run)
    yield* membership.leave
    expect(coordinator.asked).toHaveLength(length)
  }))

it.scoped("rule 14: a right that is taken away later is said, and is no end", () => {
  const { layer, lines } = logged()
  return Effect.gen(function*() {
    const coordinator = coordinatorOf()
    const { membership } = yield* memberOf(coordinator)
    yield* Standing.stands(membership, 30_000)
    const back = coordinator.always("Heartbeat", Effect.fail(refusal("GROUP_AUTHORIZATION_FAILED")))
    yield* TestClock.adjust("13 seconds")
    expect(lines.join("\n")).toContain("GROUP_AUTHORIZATION_FAILED")
    back()
    yield* TestClock.adjust("15 seconds")
    expect(lines.filter((line) => line.startsWith("It is over"))).toHaveLength(1)
    expect(membership.generation()).toBeGreaterThan(0)
  }).pipe(Effect.provide(layer))
})

/** In the group, with partitions, and about to join again for a reason that nothing here is about. */
const joiningAgain = Effect.fnUntraced(function*(coordinator: ReturnType<typeof coordinatorOf>) {
  const member = yield* memberOf(coordinator)
  yield* Standing.stands(member.membership, 30_000)
  coordinator.asked.length = 0
  member.membership.rejoin()
  return member
})

const isIllegal = Effect.fail(refusal("ILLEGAL_GENERATION"))

it.scoped("a commit of the generation before that is refused when the next one has come takes nothing away", () =>
  Effect.gen(function*() {
    const coordinator = coordinatorOf()
    // The leader takes its time, and so does the answer to a commit that was sent meanwhile.
    coordinator.then("SyncGroup", Effect.succeed(assigned))
    coordinator.then("SyncGroup", Effect.delay(Effect.succeed(assigned), "2 seconds"))
    coordinator.then("OffsetCommit", Effect.delay(Effect.succeed(new Map([[0, 22]])), "3 seconds"))
    const { losses, membership, owned } = yield* joiningAgain(coordinator)
    yield* TestClock.adjust("1 second")
    expect(coordinator.asked).toEqual(["join \"m1\"", "sync 2"])
    const committing = yield* Effect.fork(membership.commit([{ partition: 0, offset: 1, metadata: "" }]))
    yield* TestClock.adjust("5 seconds")
    expect(yield* Fiber.join(committing)).toEqual(new Map([[0, 22]]))
    expect(coordinator.asked).toContain("commit 1")
    expect(membership.generation()).toBe(2)
    expect(losses).toEqual([])
    expect(owned).toEqual([0, 1])
  }))

it.scoped("a coordinator that knows the generation before only: where it counts on the member there, nothing is lost", () =>
  Effect.gen(function*() {
    for (const proof of [Effect.void, Effect.fail(refusal("REBALANCE_IN_PROGRESS"))]) {
      const coordinator = coordinatorOf()
      coordinator.then("SyncGroup", Effect.succeed(assigned), isIllegal)
      coordinator.then("Heartbeat", proof)
      const { losses, membership, owned } = yield* joiningAgain(coordinator)
      yield* TestClock.adjust("1 second")
      expect(coordinator.asked).toEqual(["join \"m1\"", "sync 2", "beat 1", "join \"m1\"", "sync 3"])
      expect(GroupProtocol.decodeMember("m1", coordinator.joins.at(-1)!.metadata)).toMatchObject({
        generation: 1,
        owned: new Map([["orders", [0, 1]]])
      })
      expect(membership.generation()).toBe(3)
      expect(losses).toEqual([])
      expect(owned).toEqual([0, 1])
    }
  }))

it.scoped("where it does not say so at once, others may have the partitions: all is given up", () =>
  Effect.gen(function*() {
    const proofs: ReadonlyArray<readonly [Answer<unknown>, string]> = [
      [isIllegal, "m1"],
      [Effect.fail(refusal("UNKNOWN_MEMBER_ID")), ""],
      [Effect.fail(refusal("NOT_COORDINATOR")), "m1"],
      [Effect.fail(refusal("COORDINATOR_LOAD_IN_PROGRESS")), "m1"],
      [Effect.fail(refusal("GROUP_AUTHORIZATION_FAILED")), "m1"],
      [Effect.fail(refusal("Connection")), "m1"],
      [Effect.never, "m1"]
    ]
    for (const [proof, id] of proofs) {
      const coordinator = coordinatorOf()
      coordinator.then("SyncGroup", Effect.succeed(assigned), isIllegal)
      coordinator.then("Heartbeat", proof)
      const { losses, membership } = yield* joiningAgain(coordinator)
      yield* TestClock.adjust("4 seconds")
      expect(losses).toEqual(["ILLEGAL_GENERATION 0"])
      expect(coordinator.asked).toContain(`join "${id}"`)
      expect(GroupProtocol.decodeMember("m", coordinator.joins.at(-1)!.metadata).owned.get("orders")).toEqual([])
      expect(membership.generation()).toBeGreaterThan(1)
    }
  }))

it.scoped("a coordinator that comes back without the last generation keeps a member that joins again for long", () =>
  Effect.gen(function*() {
    const coordinator = coordinatorOf()
    coordinator.then("SyncGroup", Effect.succeed(assigned), Effect.fail(refusal("Connection")))
    const { losses, membership, owned } = yield* memberOf(coordinator)
    yield* Standing.stands(membership, 30_000)
    // The second join is answered, and the third one waits for somebody.
    coordinator.then("JoinGroup", Effect.succeed(joinedAs(2)), Effect.delay(Effect.succeed(joinedAs(2)), "40 seconds"))
    coordinator.refuses("Heartbeat", (note) => note === "beat 1" ? "REBALANCE_IN_PROGRESS" : "ILLEGAL_GENERATION")
    membership.rejoin()
    yield* TestClock.adjust("35 seconds")
    expect(membership.phase()).toBe("Joining")
    expect(membership.isAlive()).toBe(true)
    expect(losses).toEqual([])
    expect(owned).toEqual([0, 1])
  }))

it.scoped("a heartbeat of a generation that the coordinator does not know is followed at once by one of the generation before", () =>
  Effect.gen(function*() {
    const coordinator = coordinatorOf()
    coordinator.then("SyncGroup", Effect.succeed(assigned), Effect.fail(refusal("Connection")))
    // No session is so short that one of them could not be spared.
    const { losses, membership } = yield* memberOf(coordinator, { fenceAfterMs: 4_000 })
    yield* Standing.stands(membership, 30_000)
    coordinator.then("JoinGroup", Effect.succeed(joinedAs(2)), Effect.delay(Effect.succeed(joinedAs(2)), "40 seconds"))
    coordinator.refuses("Heartbeat", (note) => note === "beat 1" ? "REBALANCE_IN_PROGRESS" : "ILLEGAL_GENERATION")
    yield* TestClock.adjust("1900 millis")
    coordinator.asked.length = 0
    membership.rejoin()
    yield* TestClock.adjust("500 millis")
    expect(beats(coordinator.asked)).toEqual(["beat 2", "beat 1"])
    yield* TestClock.adjust("20 seconds")
    expect(losses).toEqual([])
    expect(membership.isAlive()).toBe(true)
  }))

it.scoped("members of a process that joined at different times send their heartbeats at the same moments", () =>
  Effect.gen(function*() {
    const beatenAt: Array<ReadonlyArray<number>> = []
    for (const later of [0, 130, 700]) {
      yield* TestClock.adjust(later)
      const own: Array<number> = []
      beatenAt.push(own)
      const coordinator = coordinatorOf()
      const noted: GroupDriver = {
        ...coordinator.driver,
        heartbeat: (...args) =>
          Effect.zipRight(
            Effect.map(Clock.currentTimeMillis, (now) => void own.push(now)),
            coordinator.driver.heartbeat(...args)
          )
      }
      const { membership } = yield* memberOf(coordinator, { driver: noted })
      yield* Standing.stands(membership, 30_000)
    }
    yield* TestClock.adjust("8 seconds")
    // Never later than they are due, and all at multiples of the same time.
    expect(beatenAt.map((own) => own.slice(0, 3))).toEqual([[2_000, 4_000, 6_000], [2_000, 4_000, 6_000], [
      2_750,
      4_750,
      6_750
    ]])
  }))
