/** Taking over a group's position before a broker that answers as it does in bad times. */
import { expect, it } from "@effect/vitest"
import { Effect, Fiber, TestClock } from "effect"
import { describe } from "vitest"
import type { Client } from "../src/internal/Client.js"
import { disconnected, failure, type KafkaFailure } from "../src/internal/Failure.js"
import { GroupLinks } from "../src/internal/GroupLinks.js"
import type { ApiName, RequestOf, ResponseOf } from "../src/internal/requests.js"
import * as Succession from "../src/internal/Succession.js"
import * as KafkaConfig from "../src/KafkaConfig.js"
import { clientOf, topicsOf } from "./fakeLog.js"
import { request } from "./Harness.js"

interface Group {
  readonly positions?: ReadonlyArray<number>
  readonly state?: string
  readonly members?: ReadonlyArray<{ readonly clientId: string; readonly clientHost: string }>
  readonly code?: number
}

type Ask = (name: ApiName, group: string) => Effect.Effect<object, KafkaFailure> | undefined

/** Two partitions; groups that are not named have no position, and don't exist. */
const scene = (groups: Readonly<Record<string, Group>>, from = "old", ask: Ask = () => undefined) =>
  Effect.gen(function*() {
    const asked: Array<string> = []
    const client: Client = {
      ...clientOf({ fetch: () => Effect.never }),
      coordinator: (group) =>
        (ask("FindCoordinator", group) ?? Effect.succeed(1)) as Effect.Effect<number, KafkaFailure>,
      call: <Name extends ApiName>(_: unknown, __: unknown, name: Name, request: RequestOf<Name>) =>
        Effect.suspend(() => {
          const { group: one, groups: several } = request as {
            readonly group?: string
            readonly groups?: ReadonlyArray<string>
          }
          const group = one ?? several![0]!
          asked.push(`${name} ${group}`)
          const { code = 0, members = [], positions = [], state = "Dead" } = groups[group] ?? {}
          return ask(name, group) ?? Effect.succeed(
            name === "OffsetFetch"
              ? {
                errorCode: code,
                partitions: [0, 1].map((partition) => ({
                  partition,
                  errorCode: 0,
                  offset: positions[partition] ?? -1,
                  metadata: ""
                }))
              }
              : { groups: [{ errorCode: code, state, members }] }
          )
        }) as Effect.Effect<ResponseOf<Name>, KafkaFailure>
    }
    const known = { name: "orders", id: "1", leaders: [1, 1], epochs: [0, 0], at: 0 }
    const inherited = Succession.inherited({
      client,
      links: new GroupLinks(() => 0),
      topics: topicsOf(() => known),
      settings: yield* KafkaConfig.resolve({ brokers: ["none:1"] }),
      request: request({ name: "orders", kind: "envelope" }, { group: "new", startFrom: { group: from } }),
      group: "new.orders",
      id: "0",
      nameOf: (group) => `${group}.orders`
    })
    return { asked, inherited: Effect.map(inherited, (all) => Array.from(all, ([id, { offset }]) => [id, offset])) }
  })

const empty = (...positions: ReadonlyArray<number>): Group => ({ positions, state: "Empty" })

describe("taking over a group's position", () => {
  it.effect("a group of this library comes before one that has the name itself", () =>
    Effect.gen(function*() {
      const groups = { "old.orders": empty(5, 7), old: empty(1, 1) }
      expect(yield* (yield* scene(groups)).inherited).toEqual([[0, 5], [1, 7]])
      expect(yield* (yield* scene({ old: empty(1, 2) })).inherited).toEqual([[0, 1], [1, 2]])
      // The group may go by the same name where others have made it.
      expect(yield* (yield* scene({ new: empty(3, 4) }, "new")).inherited).toEqual([[0, 3], [1, 4]])
    }))

  it.effect("only partitions without a position of its own are taken over, also when the first start was broken off", () =>
    Effect.gen(function*() {
      const half = yield* scene({ "new.orders": empty(9), "old.orders": empty(5, 7) })
      expect(yield* half.inherited).toEqual([[1, 7]])
      const begun = yield* scene({ "new.orders": empty(9, 9), "old.orders": { positions: [5, 7], state: "Stable" } })
      expect(yield* begun.inherited).toEqual([])
      expect(begun.asked).toEqual(["OffsetFetch new.orders"])
    }))

  it.effect("a start does not depend on a group that is long gone, when partitions were added", () =>
    Effect.gen(function*() {
      expect(yield* (yield* scene({ "new.orders": empty(9) })).inherited).toEqual([])
      const alive = { "new.orders": empty(9), "old.orders": { positions: [5], state: "Stable" } }
      expect(yield* (yield* scene(alive)).inherited).toEqual([])
    }))

  it.effect("whatever state is not empty is alive, and one of the newer protocol can't be seen", () =>
    Effect.gen(function*() {
      const members = [{ clientId: "billing", clientHost: "/10.0.0.7" }]
      for (const state of ["Stable", "PreparingRebalance", "CompletingRebalance", "Assigning", "something new"]) {
        const refused = yield* Effect.flip((yield* scene({ old: { positions: [1, 1], state, members } })).inherited)
        expect(refused).toMatchObject({ _tag: "TakeOverRefused", reason: "Alive" })
        expect(refused.message).toContain("billing at 10.0.0.7")
      }
      const hidden = yield* Effect.flip((yield* scene({ old: { positions: [1, 1] } })).inherited)
      expect(hidden).toMatchObject({ _tag: "TakeOverRefused", reason: "Alive" })
      expect(hidden.message).toContain("can't be seen")
    }))

  it.effect("a group that is not known, is elsewhere, or is this one itself", () =>
    Effect.gen(function*() {
      const refusedBy = (groups: Readonly<Record<string, Group>>, from?: string) =>
        Effect.flatMap(scene(groups, from), ({ inherited }) => Effect.flip(inherited))
      expect(yield* refusedBy({})).toMatchObject({ _tag: "TakeOverRefused", reason: "Unknown" })
      expect(yield* refusedBy({ old: empty() })).toMatchObject({ reason: "OtherTopic" })
      expect(yield* refusedBy({}, "new.orders")).toMatchObject({ reason: "Unknown" })
      expect(yield* refusedBy({}, "new")).toMatchObject({ reason: "Unknown", details: ["new"] })
    }))

  it.effect("without the right to describe the other group it says so, if that matters", () =>
    Effect.gen(function*() {
      const denied = { code: 30 }
      const refused = yield* Effect.flip((yield* scene({ "old.orders": denied, old: denied })).inherited)
      expect(refused._tag).toBe("InvalidConfiguration")
      expect(refused.message).toContain("not authorized to describe the group \"old.orders\"")
      expect(yield* (yield* scene({ "old.orders": empty(5, 7), old: denied })).inherited).toEqual([[0, 5], [1, 7]])
      expect(yield* (yield* scene({ "old.orders": denied, old: empty(5, 7) })).inherited).toEqual([[0, 5], [1, 7]])
      // Where it could be described, and its members not.
      const half: Ask = (name) => name === "DescribeGroups" ? Effect.fail(failure("DescribeGroups", 30)) : undefined
      const hidden = yield* Effect.flip((yield* scene({ "old.orders": empty(5, 7) }, "old", half)).inherited)
      expect(hidden._tag).toBe("InvalidConfiguration")
    }))

  it.effect("what passes is tried again, and what does not end is a failure after a while", () =>
    Effect.gen(function*() {
      const failures = [
        failure("FindCoordinator", 15),
        failure("OffsetFetch", 14),
        failure("OffsetFetch", 16),
        disconnected("it was reset", true)
      ]
      const once: Ask = () => {
        const next = failures.shift()
        return next === undefined ? undefined : Effect.fail(next)
      }
      const passing = yield* scene({ "old.orders": empty(5, 7) }, "old", once)
      const taken = yield* Effect.fork(passing.inherited)
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(taken)).toEqual([[0, 5], [1, 7]])
      // What has the name itself is not taken for it only because the other one was not answered.
      let isAsked = false
      const silent: Ask = (name, group) => {
        if (isAsked || name !== "OffsetFetch" || group !== "old.orders") return undefined
        isAsked = true
        return Effect.fail(disconnected("it was reset", true))
      }
      const both = yield* scene({ "old.orders": empty(5, 7), old: empty(1, 1) }, "old", silent)
      const right = yield* Effect.fork(both.inherited)
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(right)).toEqual([[0, 5], [1, 7]])
      const away = yield* scene({}, "old", () => Effect.fail(failure("FindCoordinator", 15)))
      const failed = yield* Effect.fork(Effect.flip(away.inherited))
      yield* TestClock.adjust("2 minutes")
      expect(yield* Fiber.join(failed)).toMatchObject({ _tag: "KafkaFailure" })
      const wrong = yield* scene({}, "old", () => Effect.fail(failure("FindCoordinator", 24)))
      expect(yield* Effect.flip(wrong.inherited)).toMatchObject({ type: "INVALID_GROUP_ID" })
    }))
})
