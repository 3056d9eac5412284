import type { Transport } from "@effect-eventbus/core"
import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Fetched } from "../src/internal/Fetched.js"
import { Lineage } from "../src/internal/Lineage.js"
import type { PartitionOptions } from "../src/internal/Partition.js"
import { Partition } from "../src/internal/Partition.js"

const maxUnfinished = 10

const messages = (from: number, to: number): Array<Transport.IncomingMessage> =>
  Array.from({ length: to - from }, (_, i) => ({
    topic: "orders",
    partition: 0,
    offset: from + i,
    key: null,
    value: null,
    headers: {},
    timestamp: 0,
    maybeDuplicate: false,
    deliveryCount: undefined
  }))

const partition = (more: Partial<PartitionOptions> = {}) =>
  new Partition({
    topic: "orders",
    topicId: undefined,
    partition: 0,
    epoch: 1,
    start: 0,
    finished: [],
    duplicatesBelow: 0,
    maxAboveWatermark: 10_000,
    maxUnfinished,
    commitMessages: 1_000,
    onRoom: () => {},
    onChange: () => {},
    onCommit: () => {},
    atMostOnce: false,
    isAlive: () => true,
    settle: () => Effect.void,
    lineage: new Lineage(-1),
    leaderEpoch: -1,
    now: () => 0,
    ...more
  })

/** What a fetch has brought, made when it is taken. */
const fetched = (messages: Array<Transport.IncomingMessage>, next: number): Fetched => ({
  get left() {
    return messages.length
  },
  next,
  epochs: [],
  bytes: 0,
  take: (max) => messages.splice(0, max)
})

/** Takes what there is room for, and keeps how much it was offered each time. */
const lane = (room: { left: number }) => {
  const taken: Array<Transport.IncomingMessage> = []
  const offered: Array<number> = []
  return {
    taken,
    offered,
    offer: (messages: ReadonlyArray<Transport.IncomingMessage>) => {
      offered.push(messages.length)
      const some = messages.slice(0, room.left)
      room.left -= some.length
      taken.push(...some)
      return some.length
    },
    close: () => Effect.succeed({ unfinished: 0, lost: 0 })
  }
}

it.effect("a full lane is offered as many as it has room for, and not the rest of what was fetched with each", () =>
  Effect.gen(function*() {
    const room = { left: maxUnfinished }
    const to = lane(room)
    const subject = partition()
    subject.open(to)
    subject.accept(fetched(messages(0, 1_000), 1_000))
    for (let finished = 0; finished < 900; finished++) {
      room.left++
      subject.assignment.finish(to.taken[finished]!)
      subject.assignment.resume()
      yield* Effect.promise(() => Promise.resolve())
    }
    expect(to.taken.map(({ offset }) => offset)).toEqual(Array.from({ length: 910 }, (_, i) => i))
    expect(Math.max(...to.offered)).toBe(maxUnfinished)
    expect(to.offered.reduce((sum, count) => sum + count, 0)).toBeLessThan(2 * to.taken.length)
  }))

it.effect("a lane that takes more than was said gets all of it", () =>
  Effect.sync(() => {
    const to = lane({ left: Infinity })
    const subject = partition()
    subject.open(to)
    subject.accept(fetched(messages(0, 1_000), 1_000))
    expect(to.taken.map(({ offset }) => offset)).toEqual(Array.from({ length: 1_000 }, (_, i) => i))
  }))

it.effect("of a fetch no more is made than is offered next, and gaps at its end count once all of it is taken", () =>
  Effect.gen(function*() {
    const room = { left: maxUnfinished }
    const to = lane(room)
    const subject = partition()
    subject.open(to)
    const rest = fetched(messages(0, 1_000), 1_005)
    subject.accept(rest)
    expect(rest.left).toBeGreaterThan(700)
    expect(subject.canFetch).toBe(false)
    room.left = Infinity
    subject.assignment.resume()
    yield* Effect.promise(() => Promise.resolve())
    expect(rest.left).toBe(0)
    expect(subject.canFetch).toBe(true)
    expect(subject.tracker.watermark).toBe(0)
    for (const message of to.taken) subject.assignment.finish(message)
    expect(to.taken.length).toBe(1_000)
    expect(subject.commit(false).offset).toBe(1_005)
  }))

it.effect("a lane that throws does not keep what comes after it from being offered", () =>
  Effect.gen(function*() {
    const to = lane({ left: Infinity })
    let isBroken = true
    const subject = partition()
    subject.open({
      ...to,
      offer: (messages) => {
        if (isBroken) throw new Error("broken")
        return to.offer(messages)
      }
    })
    expect(() => subject.accept(fetched(messages(0, 10), 10))).toThrow("broken")
    isBroken = false
    subject.assignment.resume()
    yield* Effect.promise(() => Promise.resolve())
    expect(to.taken.map(({ offset }) => offset)).toEqual(Array.from({ length: 10 }, (_, i) => i))
  }))

it.effect("what was finished before is committed when it is passed, also where nothing new comes with it", () =>
  Effect.sync(() => {
    const to = lane({ left: Infinity })
    const subject = partition({ finished: [[5, 300], [302, 310]] })
    subject.open(to)
    const commit = () => {
      expect(subject.needsCommit).toBe(true)
      const one = subject.commit(false)
      subject.confirm(one, [])
      expect(subject.needsCommit).toBe(false)
      return one.offset
    }
    subject.accept(fetched(messages(0, 5), 5))
    for (const message of to.taken) subject.assignment.finish(message)
    expect(commit()).toBe(5)
    subject.accept(fetched(messages(5, 300), 302))
    expect(commit()).toBe(302)
    // Behind one that is not finished there is nothing to say.
    subject.accept(fetched(messages(310, 311), 311))
    expect(commit()).toBe(310)
    subject.accept(fetched(messages(311, 312), 320))
    expect(subject.needsCommit).toBe(false)
    for (const message of to.taken) subject.assignment.finish(message)
    expect(commit()).toBe(320)
    expect(to.taken.map(({ offset }) => offset)).toEqual([0, 1, 2, 3, 4, 310, 311])
  }))
