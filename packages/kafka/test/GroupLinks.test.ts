/** Groups of one client before a coordinator that is slow with one of them. */
import { expect, it } from "@effect/vitest"
import { Effect, Either, Fiber, TestClock } from "effect"
import type { Client } from "../src/internal/Client.js"
import { KafkaFailure } from "../src/internal/Failure.js"
import * as GroupDriver from "../src/internal/GroupDriver.js"
import { GroupLink, GroupLinks } from "../src/internal/GroupLinks.js"
import { monotonic } from "../src/internal/monotonic.js"
import type { ApiName, RequestOf, ResponseOf } from "../src/internal/requests.js"
import { makeGroup } from "./fakeGroup.js"
import { clientOf } from "./fakeLog.js"
import { eventually, finishing, request, spec } from "./Harness.js"

/** As a broker: on each connection one request after the other. One that has no answer in 10 s ends the connection with all on it. */
const groupsOf = (slow: Record<string, number>) =>
  Effect.gen(function*() {
    const connections = new Map<string, { lock: Effect.Semaphore; generation: number }>()
    const released: Array<string> = []
    const client: Client = {
      ...clientOf({ fetch: () => Effect.never }),
      release: (role) => Effect.sync(() => void released.push(role)),
      call: <Name extends ApiName>(_: unknown, role: string, __: Name, request: RequestOf<Name>) =>
        Effect.gen(function*() {
          const connection = connections.get(role) ?? { lock: Effect.unsafeMakeSemaphore(1), generation: 0 }
          connections.set(role, connection)
          const { generation } = connection
          const { group } = request as { readonly group: string }
          const answer = connection.lock.withPermits(1)(Effect.sleep(slow[group] ?? 5))
          const late = Effect.sync(() => void connection.generation++)
          const ended = Effect.repeat(Effect.sleep(500), { until: () => connection.generation !== generation })
          return yield* Effect.raceFirst(
            Effect.as(answer, { partitions: [{ partition: 0, errorCode: 0 }] }),
            Effect.zipRight(
              Effect.raceFirst(Effect.delay(late, "10 seconds"), ended),
              new KafkaFailure({ type: "Connection", sent: true, cause: "it was ended" })
            )
          )
        }) as unknown as Effect.Effect<ResponseOf<Name>, KafkaFailure>
    }
    const links = new GroupLinks(monotonic(yield* Effect.clock))
    const groupOf = (group: string) =>
      GroupDriver.make({
        client,
        group,
        instanceId: undefined,
        joinRole: "join",
        link: new GroupLink(links, `group-${group}`)
      })
    const commit = (driver: GroupDriver.GroupDriver) =>
      driver.commit(1, { memberId: "m", generation: 1 }, "orders", [{ partition: 0, offset: 1, metadata: "" }])
    return { groupOf, commit, released, connections }
  })

it.effect("whose commits are not answered, no other group waits behind it, or loses its connection by it", () =>
  Effect.gen(function*() {
    const slow: Record<string, number> = { sick: 60_000 }
    const { commit, connections, groupOf, released } = yield* groupsOf(slow)
    const sick = groupOf("sick")
    const well = groupOf("well")
    const first = yield* Effect.fork(Effect.either(commit(sick)))
    yield* TestClock.adjust("1100 millis")
    const others = yield* Effect.fork(
      Effect.forEach(Array.from({ length: 60 }), () => Effect.zipRight(Effect.sleep(200), Effect.either(commit(well))))
    )
    yield* TestClock.adjust("11 seconds")
    expect(Either.isLeft(yield* Fiber.join(first))).toBe(true)
    // It tries again and again, on a connection of its own.
    const again = yield* Effect.fork(Effect.either(commit(sick)))
    yield* TestClock.adjust("11 seconds")
    expect(Either.isLeft(yield* Fiber.join(again))).toBe(true)
    expect((yield* Fiber.join(others)).every(Either.isRight)).toBe(true)
    expect(connections.get("group")!.generation).toBe(1)
    expect(connections.get("group-sick")!.generation).toBe(1)
    // When it is answered in time, it comes back.
    slow["sick"] = 5
    for (const _ of [1, 2]) {
      const fiber = yield* Effect.fork(Effect.either(commit(sick)))
      yield* TestClock.adjust("70 seconds")
      yield* Fiber.join(fiber)
    }
    expect(released.at(-1)).toBe("group-sick")
    expect(released.filter((role) => role === "group")).toEqual([])
  }))

it.scopedLive(
  "a group whose commit loses its connection joins again, and keeps its partitions meanwhile",
  () =>
    Effect.gen(function*() {
      const { consumer, state } = makeGroup({ offset: 0, metadata: "" })
      state.log = ["0", "1"]
      const { all, consumer: held, lanes } = finishing()
      yield* (yield* consumer).subscribe(request(spec("orders")), held)
      yield* eventually("it is committed", () => state.committed.offset === 2)
      const { joins } = state
      state.lost = 2
      state.log = ["0", "1", "2", "3"]
      yield* eventually("it joins again, and commits", () => state.joins > joins && state.committed.offset === 4)
      state.log = ["0", "1", "2", "3", "4"]
      yield* eventually("it goes on", () => state.committed.offset === 5)
      expect(all().map(({ offset }) => offset)).toEqual([0, 1, 2, 3, 4])
      expect(lanes.map(({ isClosed }) => isClosed)).toEqual([false])
    }),
  20_000
)
