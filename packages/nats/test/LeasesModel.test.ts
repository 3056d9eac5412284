import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Leases from "../src/internal/Leases.js"
import { FakeBucket } from "./fakeBucket.js"
import * as T from "./fixture.js"

// Without room a lease is proven for half of it less a fifth: a busy machine needs that.
const duration = 1_500

/** Who has which partition, over all instances; two at once is a fault. */
const scene = (partitions: number) => {
  const server = new FakeBucket()
  const owners = new Map<number, string>()
  const faults: Array<string> = []
  const lost: Array<string> = []
  const takenOver: Array<string> = []
  const instance = (name: string, isFull: () => boolean = () => false) =>
    T.scoped(Effect.gen(function*() {
      const bucket = server.as(isFull)
      const leases = yield* Leases.make({
        bucket,
        renewals: bucket,
        prefix: "group.topic",
        partitions,
        duration,
        renewEvery: duration / 3,
        margin: duration / 5,
        onTaken: ({ partition }) => {
          if (owners.has(partition)) faults.push(`${name} took ${partition} of ${owners.get(partition)}`)
          owners.set(partition, name)
        },
        onWanted: (lease) => {
          owners.delete(lease.partition)
          Effect.runFork(lease.giveBack(undefined))
        },
        onLost: (lease) => {
          lost.push(`${name} ${lease.partition}`)
          if (owners.get(lease.partition) === name) owners.delete(lease.partition)
          Effect.runFork(lease.giveBack(undefined))
        },
        onTakenOver: () => takenOver.push(name)
      })
      yield* leases.join
      yield* leases.take
    }))
  const has = (name: string, count: number) => [...owners.values()].filter((owner) => owner === name).length === count
  return { faults, has, instance, lost, owners, server, takenOver }
}

describe("The leases, with a bucket that is a model", () => {
  it("a bucket without room: nobody loses a partition, nobody takes one, and it goes on when there is room", () =>
    T.run(Effect.gen(function*() {
      const { faults, has, instance, lost } = scene(4)
      let isFull = false
      yield* instance("a", () => isFull)
      yield* instance("b", () => isFull)
      yield* T.waitUntil("they share", () => has("a", 2) && has("b", 2))
      isFull = true
      // Longer than any lease.
      yield* Effect.sleep(3 * duration)
      assert.deepStrictEqual(lost, [])
      isFull = false
      yield* Effect.sleep(2 * duration)
      assert.deepStrictEqual(lost, [])
      yield* instance("c")
      yield* T.waitUntil("the third gets its share", () => has("c", 1))
      assert.deepStrictEqual(faults, [])
    })))

  it("room for others only: who can't renew gives up before another one takes over", () =>
    T.run(Effect.gen(function*() {
      const { faults, has, instance, lost } = scene(2)
      let isFull = false
      yield* instance("a", () => isFull)
      yield* T.waitUntil("it has both", () => has("a", 2))
      isFull = true
      yield* instance("b")
      yield* T.waitUntil("the other has both", () => has("b", 2))
      // One of them it may have given away before it noticed.
      assert.include(lost, "a 0")
      assert.deepStrictEqual(faults, [])
      isFull = false
      yield* T.waitUntil("they share", () => has("a", 1) && has("b", 1))
      assert.deepStrictEqual(faults, [])
    })))

  it("who died while there is no room is taken over when there is some", () =>
    T.run(Effect.gen(function*() {
      const { faults, has, instance, owners, takenOver } = scene(2)
      let isFull = false
      const a = yield* instance("a", () => isFull)
      yield* instance("b", () => isFull)
      yield* T.waitUntil("they share", () => has("a", 1) && has("b", 1))
      isFull = true
      yield* a.close
      for (const [partition, owner] of owners) if (owner === "a") owners.delete(partition)
      yield* Effect.sleep(2 * duration)
      assert.isTrue(has("b", 1))
      assert.deepStrictEqual(takenOver, [])
      isFull = false
      yield* T.waitUntil("the other has both", () => has("b", 2))
      assert.deepStrictEqual(takenOver, ["b"])
      assert.deepStrictEqual(faults, [])
    })))

  it("a partition whose key vanishes is lost to its owner before anybody takes it", () =>
    T.run(Effect.gen(function*() {
      const { faults, has, instance, lost, server } = scene(4)
      yield* instance("a")
      yield* instance("b")
      yield* T.waitUntil("they share", () => has("a", 2) && has("b", 2))
      for (let partition = 0; partition < 4; partition++) server.entries.delete(`group.topic.partition.${partition}`)
      yield* T.waitUntil("all notice", () => lost.length === 4)
      yield* T.waitUntil("they share again", () => has("a", 2) && has("b", 2))
      assert.deepStrictEqual(faults, [])
    })))
})
