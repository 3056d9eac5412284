import * as Partitioner from "@effect-eventbus/core/Partitioner"
import { assert, describe, it } from "@effect/vitest"
import { Either, FastCheck as fc } from "effect"
import { NatsConfig, Subject } from "../src/index.js"
import * as Balance from "../src/internal/Balance.js"
import * as Placement from "../src/internal/Placement.js"
import * as T from "./fixture.js"

const settings = Either.getOrThrow(NatsConfig.resolve({}))

describe("The subject of an aggregate", () => {
  it.prop("leads back to partition and aggregate id, and is three tokens that can be published to", [
    fc.fullUnicodeString({ minLength: 1, maxLength: 256 }),
    fc.nat(1_023)
  ], ([id, partition]) => {
    const subject = Subject.ofAggregate("shop.orders", partition, id)
    assert.deepStrictEqual(Subject.toAggregate("shop.orders", subject), { partition, aggregateId: id })
    assert.match(subject, /^shop\.orders\.\d+\.[!-~]+$/)
    assert.isTrue(Subject.covers(Subject.ofPartition("shop.orders", partition), subject))
    assert.isTrue(Subject.covers(Subject.ofPartitions("shop.orders"), subject))
  })

  it.prop("belongs to one aggregate only", [
    fc.fullUnicodeString({ minLength: 1, maxLength: 8 }),
    fc.fullUnicodeString({ minLength: 1, maxLength: 8 })
  ], ([a, b]) => {
    assert.strictEqual(Subject.ofAggregate("t", 0, a) === Subject.ofAggregate("t", 0, b), a === b)
  })

  it("stays readable, and one without an id is nobody's", () => {
    assert.strictEqual(Subject.ofAggregate("orders", 3, "order:1/a.b-c_d"), "orders.3.order:1/a~b-c_d")
    assert.strictEqual(Subject.ofAggregate("orders", 3, "a b"), "orders.3.a=20b")
    assert.strictEqual(Subject.ofAggregate("orders", 3, undefined), "orders.3.=")
    assert.deepStrictEqual(Subject.toAggregate("orders", "orders.3.="), { partition: 3, aggregateId: undefined })
    for (
      const foreign of ["orders", "orders.3", "orders.x.a", "orders.03.a", "orders.3.a.b", "order.3.a", "orders.3.=4"]
    ) {
      assert.isUndefined(Subject.toAggregate("orders", foreign), foreign)
    }
    assert.deepStrictEqual(Subject.toDurable("billing", "shop.orders", 3), Either.right("billing@shop~orders@3"))
    assert.deepStrictEqual(Subject.fromDurable("billing@shop~orders@3"), {
      group: "billing",
      topic: "shop.orders",
      partition: 3
    })
    assert.strictEqual(Subject.toLease("a.b", "shop.orders"), "a=2Eb.shop=2Eorders")
  })

  it("patterns cover what the server says they do", () => {
    for (
      const [pattern, subject, expected] of [
        ["a.>", "a.b.c", true],
        ["a.>", "a", false],
        ["a.*.*", "a.b.c", true],
        ["a.*.*", "a.*.*", true],
        ["a.b.c", "a.*.*", false],
        ["a.*", "a.>", false],
        [">", "a.*.*", true],
        ["a.*.*", "a.b", false]
      ] as const
    ) assert.strictEqual(Subject.covers(pattern, subject), expected, `${pattern} ${subject}`)
  })
})

describe("The partition of a message", () => {
  const place = (partitions: number, partitioner: Partitioner.Partitioner = "murmur2") => {
    const topic = { name: "orders", kind: "envelope", partitions } as const
    const own = { ...settings, partitioner }
    return Placement.place(own, topic, Either.getOrThrow(Placement.of(own, topic)))
  }

  it.prop("is the hash of its aggregate id that Kafka's producers use, also for the key of one without an id", [
    fc.fullUnicodeString({ minLength: 1, maxLength: 64 }),
    fc.integer({ min: 1, max: 1_024 }),
    fc.constantFrom("murmur2" as const, "sarama-fnv1a" as const)
  ], ([id, partitions, partitioner]) => {
    const bytes = new TextEncoder().encode(id)
    const expected = Partitioner.partition(partitioner, bytes, partitions)
    const at = place(partitions, partitioner)
    assert.deepStrictEqual(at(T.message(1, id)), {
      partition: expected,
      subject: Subject.ofAggregate("orders", expected, id)
    })
    assert.deepStrictEqual(at({ ...T.message(1), aggregateId: undefined, key: bytes }), {
      partition: expected,
      subject: `orders.${expected}.=`
    })
  })

  it("goes round where there is neither", () => {
    const at = place(3)
    const none = { ...T.message(1), aggregateId: undefined }
    assert.deepStrictEqual(
      Array.from({ length: 4 }, () => at(none)),
      [0, 1, 2, 0].map((partition) => ({ partition, subject: `orders.${partition}.=` }))
    )
  })
})

describe("Balancing", () => {
  const members = (count: number) => Array.from({ length: count }, (_, i) => `m${i}`)

  it.prop("spreads evenly in two steps from wherever it is, and moves no more than it has to", [
    fc.integer({ min: 1, max: 9 }),
    fc.array(fc.option(fc.nat(9), { nil: undefined }), { minLength: 1, maxLength: 40 })
  ], ([count, start]) => {
    const alive = members(count)
    // Owners beyond the members are those that have gone.
    let owners = start.map((owner) => owner === undefined || owner >= count ? undefined : `m${owner}`)
    const before = owners
    const step = () => {
      const decisions = alive.map((me) => ({ me, ...Balance.decide({ me, members: alive, owners }) }))
      const taken = decisions.flatMap(({ acquire }) => acquire)
      assert.strictEqual(new Set(taken).size, taken.length)
      const next = owners.slice()
      for (const { acquire, me, release } of decisions) {
        for (const partition of release) {
          assert.strictEqual(owners[partition], me)
          next[partition] = undefined
        }
        for (const partition of acquire) {
          assert.isUndefined(owners[partition])
          next[partition] = me
        }
      }
      owners = next
    }
    step()
    step()
    const counts = alive.map((member) => owners.filter((owner) => owner === member).length)
    assert.isAtMost(Math.max(...counts) - Math.min(...counts), 1)
    assert.isFalse(owners.includes(undefined))
    const quota = Math.ceil(before.length / count)
    const moved = before.filter((owner, partition) => owner !== undefined && owners[partition] !== owner).length
    const excess = alive.reduce(
      (sum, member) =>
        sum + Math.max(0, before.filter((owner) => owner === member).length - Math.floor(before.length / count)),
      0
    )
    assert.isAtMost(moved, excess)
    assert.isAtMost(Math.max(...counts), quota)
    const settled = owners
    step()
    assert.deepStrictEqual(owners, settled)
  })

  it("an instance that leaves takes nothing and gives nothing back by force", () => {
    assert.deepStrictEqual(Balance.decide({ me: "a", members: ["b"], owners: ["a", undefined] }), {
      acquire: [],
      release: []
    })
  })
})
