/**
 * Joining and leaving the fetch pool, answers and lost links, in any order: the test plays the broker, and answers only when it wants
 * to. Whoever is there is fetched for in the end, whoever has gone is left alone.
 */
import { expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, FastCheck, Fiber, FiberId, Scope, TestClock } from "effect"
import { KafkaFailure } from "../src/internal/Failure.js"
import type { FetchPool } from "../src/internal/FetchPool.js"
import type { FetchRequest } from "../src/internal/logApis.js"
import type { Partition } from "../src/internal/Partition.js"
import type { FetchResponse } from "../src/internal/records.js"
import { batch, clientOf, fetched, poolOf, response, subscription, topicsOf } from "./fakeLog.js"

const TOPICS = ["orders", "invoices"]

const ofOne = ["Leave", "Stop", "InterruptedStop", "Full", "Resume", "Wake"] as const
const ofARequest = ["Answer", "Answer", "Records", "Lost", "SessionLost"] as const

/** Of time: a step of the fibers, a turn of the event loop, some milliseconds. */
const passing = ["Step", "Step", "Turn", "Moment"] as const

type Step =
  | { readonly _tag: "Join"; readonly which: number }
  | { readonly _tag: (typeof ofOne)[number]; readonly which: number }
  | { readonly _tag: (typeof ofARequest)[number]; readonly which: number }
  | { readonly _tag: (typeof passing)[number]; readonly which: number }

const stepOf: FastCheck.Arbitrary<Step> = FastCheck.record({
  _tag: FastCheck.constantFrom<Array<Step["_tag"]>>(
    "Join" as const,
    "Join" as const,
    ...ofOne,
    ...ofARequest,
    ...passing
  ),
  which: FastCheck.nat({ max: 3 })
})

const turn = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

interface Asked {
  readonly role: string
  /** What the connection wants, with what it has said before (a session): from which offset. */
  readonly wanted: ReadonlyMap<string, number>
  readonly answer: Deferred.Deferred<FetchResponse, KafkaFailure>
}

/** The broker of the test, which answers when it is told to; and what should not be. */
const makeBroker = () => {
  const asked: Array<Asked> = []
  const used = new Set<string>()
  const released = new Set<string>()
  const wrong: Array<string> = []
  const sessions = new Map<string, Map<string, number>>()
  const wantedBy = (role: string, { forgottenTopics, sessionId, topics }: FetchRequest) => {
    const wanted = new Map(sessionId === 0 ? [] : sessions.get(role))
    for (const { partitions, topic } of forgottenTopics) {
      for (const partition of partitions) wanted.delete(`${topic}/${partition}`)
    }
    for (const { partitions, topic } of topics) {
      for (const { fetchOffset, partition } of partitions) wanted.set(`${topic}/${partition}`, fetchOffset)
    }
    sessions.set(role, wanted)
    return wanted
  }
  const fetching = clientOf({
    fetch: (request, role) =>
      Effect.suspend(() => {
        if (released.has(role)) wrong.push(`${role} was released, and is used`)
        used.add(role)
        const one: Asked = { role, wanted: wantedBy(role, request), answer: Deferred.unsafeMake(FiberId.none) }
        asked.push(one)
        return Effect.ensuring(Deferred.await(one.answer), Effect.sync(() => asked.splice(asked.indexOf(one), 1)))
      })
  })
  const release = (role: string) =>
    Effect.zipRight(Effect.sync(() => void released.add(role)), Effect.sleep("50 millis"))
  return { client: { ...fetching, release }, asked, used, released, wrong }
}

/** Notes who is called after it has left. */
const watched = (pool: FetchPool, wrong: Array<string>): FetchPool => ({
  join: (member) => {
    let hasLeft = false
    const called = (what: string) => {
      if (hasLeft) wrong.push(`${what} is called of a member that has left`)
    }
    const membership = pool.join({
      topic: member.topic,
      ready: (node) => {
        called("ready")
        return member.ready(node)
      },
      received: (...args) => {
        called("received")
        member.received(...args)
      },
      worked: (all) => {
        called("worked")
        member.worked(all)
      },
      failed: (...args) => {
        called("failed")
        member.failed(...args)
      }
    })
    return { wake: membership.wake, leave: Effect.tap(membership.leave, () => Effect.sync(() => hasLeft = true)) }
  }
})

interface Joined {
  readonly scope: Scope.CloseableScope
  readonly fetcher: Effect.Effect.Success<ReturnType<typeof subscription>>["fetcher"]
  readonly partition: Partition
  readonly full: Set<number>
  readonly resume: (id: number) => void
  isHere: boolean
}

const run = (steps: ReadonlyArray<Step>) =>
  Effect.gen(function*() {
    const { asked, client, released, used, wrong } = makeBroker()
    const records = yield* Effect.promise(() => batch(0, ["0"]))
    const pool = watched(yield* poolOf(client), wrong)
    const all: Array<Joined> = []

    const join = Effect.fnUntraced(function*(topic: string) {
      const scope = yield* Scope.make()
      const topics = topicsOf(() => ({ name: topic, id: undefined, leaders: [1], epochs: [0] }))
      const { fetcher, full, partitions, resume } = yield* Scope.extend(
        Effect.orDie(subscription(pool, topics, 1, { topic })),
        scope
      )
      all.push({ scope, fetcher, full, resume, partition: partitions.get(0)!, isHere: true })
      fetcher.wake()
    })

    const answer = ({ answer, wanted }: Asked, tag: (typeof ofARequest)[number]) => {
      const lost = new KafkaFailure({ type: "Connection", sent: true, cause: "cut" })
      const [first] = wanted
      const [topic] = first?.[0].split("/") ?? []
      const bytes = Buffer.from(records)
      bytes.writeBigInt64BE(BigInt(first?.[1] ?? 0))
      Deferred.unsafeDone(
        answer,
        tag === "Lost"
          ? Effect.fail(lost)
          : tag === "SessionLost"
          ? Effect.succeed(response([], { errorCode: 70, sessionId: 0 }))
          : Effect.succeed(response(tag === "Answer" ? [] : [fetched(0, { topic: topic!, records: bytes })]))
      )
    }

    const ended: Array<Fiber.Fiber<unknown>> = []
    const part = Effect.fnUntraced(function*(one: Joined, _tag: (typeof ofOne)[number]) {
      one.isHere = false
      // Its partitions are told first.
      one.partition.stop()
      const leaving = yield* Effect.fork(_tag === "Leave" ? Scope.close(one.scope, Exit.void) : one.fetcher.stop)
      if (_tag === "InterruptedStop") yield* Effect.yieldNow()
      ended.push(_tag === "InterruptedStop" ? yield* Effect.fork(Fiber.interrupt(leaving)) : leaving)
    })

    const step = ({ _tag, which }: Step): Effect.Effect<unknown> => {
      const here = all.filter(({ isHere }) => isHere)
      const one = here[which]
      switch (_tag) {
        case "Join":
          return here.length < 4 ? Effect.fork(join(TOPICS[which % TOPICS.length]!)) : Effect.void
        case "Step":
          return Effect.yieldNow()
        case "Turn":
          return turn
        case "Moment":
          return TestClock.adjust("60 millis")
        case "Leave":
        case "Stop":
        case "InterruptedStop":
          return one === undefined ? Effect.void : part(one, _tag)
        case "Wake":
          return Effect.sync(() => one?.fetcher.wake())
        case "Full":
          return Effect.sync(() => one?.full.add(0))
        case "Resume":
          return Effect.sync(() => one?.resume(0))
        default:
          return Effect.sync(() => asked.length > 0 && answer(asked[which % asked.length]!, _tag))
      }
    }

    for (const one of steps) yield* step(one)

    // Whoever is there is fetched for.
    yield* turn
    const here = all.filter(({ isHere }) => isHere)
    for (const { resume } of here) resume(0)
    const seen = new Set<Joined>()
    for (let round = 0; round < 8; round++) {
      yield* turn
      yield* TestClock.adjust("1100 millis")
      yield* turn
      for (const one of here) if (one.partition.isAsked) seen.add(one)
      for (const one of [...asked]) answer(one, "Answer")
    }
    expect(here.filter((one) => !seen.has(one)).length, "members that nobody fetches for").toBe(0)
    yield* Fiber.joinAll(ended)

    // Whoever has gone leaves nothing.
    yield* Effect.fork(Effect.forEach(all, ({ scope }) => Scope.close(scope, Exit.void), { concurrency: "unbounded" }))
    yield* turn
    yield* TestClock.adjust("200 millis")
    yield* turn
    expect(asked.map(({ role }) => role)).toEqual([])
    expect([...used].filter((role) => !released.has(role)), "connections that are left").toEqual([])
    expect(wrong).toEqual([])
  })

const EXAMPLES: Array<[Array<Step>]> = [
  // Who joins while the last one leaves, and an answer comes.
  [[
    { _tag: "Join", which: 0 },
    { _tag: "Turn", which: 0 },
    { _tag: "Leave", which: 0 },
    { _tag: "Join", which: 1 },
    { _tag: "Answer", which: 0 },
    { _tag: "Turn", which: 0 }
  ]],
  // Nobody waits until the connections of the one that leaves are closed.
  [[{ _tag: "Join", which: 0 }, { _tag: "Turn", which: 0 }, { _tag: "InterruptedStop", which: 0 }]],
  // A link that is lost while its partitions leave.
  [[
    { _tag: "Join", which: 0 },
    { _tag: "Turn", which: 0 },
    { _tag: "Join", which: 1 },
    { _tag: "Leave", which: 0 },
    { _tag: "Moment", which: 0 },
    { _tag: "Lost", which: 0 }
  ]]
]

it.effect.prop(
  "whoever is there is fetched for, and whoever has gone leaves nothing, in every order",
  [FastCheck.array(stepOf, { maxLength: 24, size: "max" })],
  ([steps]) => Effect.scoped(run(steps)),
  { fastCheck: { numRuns: 60, examples: EXAMPLES }, timeout: 60_000 }
)
