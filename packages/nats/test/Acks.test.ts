import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Acks } from "../src/internal/Acks.js"
import type { Message } from "../src/internal/Client.js"
import type { Connection } from "../src/internal/Connection.js"
import type { Waiting } from "../src/internal/Replies.js"

describe("Acks", () => {
  /** What is told to the server, and how to answer it. */
  const probe = () => {
    const told: Array<{ readonly subjects: ReadonlyArray<string>; readonly asks: boolean }> = []
    let waiting: Waiting | undefined
    const connection = {
      isUp: () => true,
      wire: {
        tell: (_: string, subjects: ReadonlyArray<string>, reply?: string) =>
          told.push({ subjects, asks: reply !== undefined })
      },
      replies: {
        expect: (one: Waiting) => {
          waiting = one
          return 1
        },
        subject: String,
        forget: () => waiting = undefined
      }
    } as unknown as Connection
    return {
      told,
      acks: new Acks(connection, 2_000),
      answer: (reply: object = {}) => waiting!.onReply(reply as Message),
      lost: () => waiting!.onReply(undefined)
    }
  }
  const turn = Effect.promise(() => new Promise(setImmediate))

  it.effect("ask once in a while, and whoever waits for the answer has it asked for at once", () =>
    Effect.gen(function*() {
      const { acks, answer, told } = probe()
      acks.add(1, "a")
      acks.add(2, "b")
      yield* turn
      acks.add(3, "c")
      yield* turn
      assert.deepStrictEqual(told, [{ subjects: ["a", "b"], asks: true }, { subjects: ["c"], asks: false }])
      answer()
      assert.strictEqual(acks.size, 1)
      assert.lengthOf(told, 2)
      const waiting = yield* Effect.fork(acks.confirmed)
      yield* Effect.yieldNow()
      assert.deepStrictEqual(told[2], { subjects: ["c"], asks: true })
      assert.isNull(waiting.unsafePoll())
      answer()
      yield* waiting
      assert.strictEqual(acks.size, 0)
    }))

  it.effect("one who waits during an answer that does not cover all has the rest asked for after it", () =>
    Effect.gen(function*() {
      const { acks, answer, told } = probe()
      acks.add(1, "a")
      yield* turn
      acks.add(2, "b")
      yield* turn
      const waiting = yield* Effect.fork(acks.confirmed)
      yield* Effect.yieldNow()
      assert.lengthOf(told, 2)
      answer()
      assert.deepStrictEqual(told[2], { subjects: ["b"], asks: true })
      answer()
      yield* waiting
    }))

  it.effect("what nobody asked about is asked about when it is looked at, and all is sent again after a reconnect", () =>
    Effect.gen(function*() {
      const { acks, answer, told } = probe()
      acks.add(1, "a")
      yield* turn
      acks.add(2, "b")
      yield* turn
      answer()
      acks.retry(performance.now())
      assert.deepStrictEqual(told[2], { subjects: ["b"], asks: true })
      acks.add(3, "c")
      yield* turn
      acks.reconnected()
      assert.deepStrictEqual(told.slice(3), [{ subjects: ["c"], asks: false }, { subjects: ["b", "c"], asks: true }])
    }))

  it.effect("what nobody listened to is not confirmed: it is sent again, and whoever waits goes on waiting", () =>
    Effect.gen(function*() {
      const { acks, answer, told } = probe()
      acks.add(1, "a")
      acks.add(2, "b")
      yield* turn
      const waiting = yield* Effect.fork(acks.confirmed)
      yield* Effect.yieldNow()
      // The consumer has no leader.
      answer({ data: new Uint8Array(0), headers: { code: 503 } })
      yield* Effect.yieldNow()
      assert.isNull(waiting.unsafePoll())
      assert.strictEqual(acks.size, 2)
      const before = told.length
      acks.retry(performance.now())
      assert.deepStrictEqual(told.slice(before), [{ subjects: ["a", "b"], asks: true }])
      answer()
      yield* waiting
      assert.strictEqual(acks.size, 0)
    }))

  it.effect("are held while the server denies them, but for one that is asked about, and sent when that has been answered", () =>
    Effect.gen(function*() {
      const { acks, answer, told } = probe()
      for (let sequence = 1; sequence <= 1_000; sequence++) acks.add(sequence, `first.${sequence}`)
      yield* turn
      acks.denied = { operation: "publish", subject: "first.1" }
      const before = told.length
      // Some of them come again, and are finished.
      for (let sequence = 991; sequence <= 1_010; sequence++) acks.add(sequence, `again.${sequence}`)
      yield* turn
      assert.strictEqual(acks.size, 1_010)
      for (let i = 1; i <= 20; i++) acks.retry(performance.now() + i * 2_000)
      acks.reconnected()
      assert.isTrue(told.slice(before).every(({ asks, subjects }) => asks && subjects.length === 1))
      assert.isAtMost(told.length - before, 21)
      const waiting = yield* Effect.fork(acks.confirmed)
      yield* Effect.yieldNow()
      const denied = told.length
      answer()
      yield* turn
      const sent = told.slice(denied)
      assert.deepStrictEqual(
        sent.flatMap(({ subjects }) => subjects).sort(),
        [
          ...Array.from({ length: 990 }, (_, i) => `first.${i + 1}`),
          ...Array.from({ length: 20 }, (_, i) => `again.${i + 991}`)
        ].sort()
      )
      assert.strictEqual(acks.size, 1_010)
      answer()
      yield* waiting
      assert.strictEqual(acks.size, 0)
    }))

  it.effect("say for how long the server has confirmed nothing, and lose none when answers can't come", () =>
    Effect.gen(function*() {
      const { acks, answer, lost, told } = probe()
      const later = () => performance.now() + 60_000
      assert.strictEqual(acks.unconfirmedFor(later()), 0)
      acks.add(1, "a")
      yield* turn
      assert.isAtLeast(acks.unconfirmedFor(later()), 60_000)
      // The subscription of the replies has ended.
      lost()
      acks.add(2, "b")
      yield* turn
      assert.strictEqual(acks.size, 2)
      assert.isTrue(told.at(-1)!.subjects.includes("b"))
      acks.retry(later())
      answer()
      yield* turn
      const waiting = yield* Effect.fork(acks.confirmed)
      yield* Effect.yieldNow()
      if (acks.size > 0) answer()
      yield* waiting
      assert.strictEqual(acks.unconfirmedFor(later()), 0)
    }))
})
