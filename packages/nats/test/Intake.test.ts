import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Acks } from "../src/internal/Acks.js"
import { Intake } from "../src/internal/Intake.js"
import { fakeConnection } from "./fakeConnection.js"
import * as T from "./fixture.js"

/** What is in hand, where each message is finished as soon as the lane has it, but those that are to stay. */
const scene = (stays: (sequence: number) => boolean = () => false) => {
  const fake = fakeConnection()
  const acked: Array<number> = []
  const acks = { add: (sequence: number) => acked.push(sequence) } as unknown as Acks
  const intake = new Intake(fake.connection, acks, undefined, () => true, () => {})
  const taken: Array<number> = []
  intake.lane = {
    offer: (messages) => {
      for (const message of messages) {
        taken.push(message.offset)
        if (!stays(message.offset)) queueMicrotask(() => intake.finish(message))
      }
      return messages.length
    },
    close: () => Effect.succeed({ unfinished: 0, lost: 0 })
  }
  let delivery = 0
  const deliver = (
    sequence: number,
    options: { readonly at?: number; readonly skips?: number; readonly pending?: number } = {}
  ) => {
    delivery += 1 + (options.skips ?? 0)
    const position = {
      sequence,
      delivery,
      count: 1,
      timestamp: options.at ?? sequence,
      pending: options.pending ?? NaN
    }
    return intake.receive({ subject: "t", data: new Uint8Array(1) } as never, position, `$JS.ACK.${delivery}`)
  }
  intake.expected = 1
  intake.complete(0)
  intake.flow()
  return { acked, deliver, intake, taken }
}

const turn = () => new Promise(setImmediate)

describe("What this process knows of a consumer", () => {
  it("is corrected by the server where a delivery said that more is left than ever comes", () => {
    const { deliver, intake } = scene()
    deliver(10, { pending: 1 })
    assert.strictEqual(intake.knownEnd, 12)
    intake.tellLeft(0, intake.expected)
    assert.strictEqual(intake.knownEnd, 11)
    // What the server said before a delivery is older than what the delivery says.
    const asked = intake.expected
    deliver(20, { pending: 2 })
    intake.tellLeft(0, asked)
    assert.strictEqual(intake.knownEnd, 23)
    // What is left lies behind all that need not come.
    intake.complete(100)
    intake.tellLeft(5, intake.expected)
    assert.strictEqual(intake.knownEnd, 106)
  })

  it("is few ranges also where its messages are sparse and one of them is never finished", async () => {
    const { acked, deliver, intake, taken } = scene((sequence) => sequence === 12)
    for (let n = 1; n <= 30_000; n++) {
      deliver(12 * n)
      if (n % 1_000 === 0) await turn()
    }
    assert.strictEqual(intake.finished.ranges, 2)
    assert.isFalse(intake.finished.has(12))
    // The server has forgotten everything: it all comes again, and none of it is handed over.
    acked.length = 0
    for (let n = 1; n <= 30_000; n++) deliver(12 * n)
    await turn()
    assert.lengthOf(taken, 30_000)
    assert.lengthOf(acked, 29_999)
  })

  it("does not hold for others what can have been delivered and got lost", async () => {
    const { deliver, intake, taken } = scene()
    deliver(10)
    deliver(20)
    await turn()
    // One delivery is missing.
    assert.isFalse(deliver(40, { skips: 1 }))
    assert.isFalse(intake.finished.has(30))
    deliver(50)
    assert.isFalse(intake.finished.has(45))
    // It is got back, and now all up to there has come.
    intake.recover(50)
    deliver(30)
    intake.complete(50)
    intake.flow()
    await turn()
    T.assertNumbers(taken, [10, 20, 30, 40, 50])
    assert.strictEqual(intake.finished.ranges, 1)
    assert.strictEqual(intake.finished.next(0), 51)
  })

  it("is not that others' deliveries are nobody's, where they read from the same consumer", async () => {
    const { deliver, intake } = scene()
    intake.recover(0, true)
    intake.flow()
    deliver(10)
    deliver(20)
    intake.complete(20)
    await turn()
    assert.isFalse(intake.finished.has(15))
  })

  it("does not stand for another message that has the sequence of one that is finished, or in hand", async () => {
    for (const sequence of [10, 20]) {
      const { acked, deliver, intake, taken } = scene((sequence) => sequence === 20)
      for (const each of [10, 20, 30]) deliver(each)
      await turn()
      acked.length = 0
      deliver(sequence, { at: 31 })
      assert.strictEqual(intake.life.state.changedFrom, sequence)
      deliver(30, { at: 32 })
      await turn()
      T.assertNumbers(taken, [10, 20, 30])
      T.assertNumbers(acked, [])
      const held = intake.held.get(20)!
      intake.finish(held.message)
      // It would be the other message's acknowledgement.
      T.assertNumbers(acked, [])
      intake.reset(sequence)
      assert.strictEqual(intake.life.state.changedFrom, undefined)
      assert.strictEqual(intake.finished.has(10), sequence > 10)
      assert.isFalse(intake.finished.has(30))
    }
  })

  it("the acknowledgement of what the server has forgotten to have delivered waits until it comes again", async () => {
    const { acked, deliver, intake } = scene(() => true)
    for (const sequence of [10, 20, 30]) deliver(sequence)
    await turn()
    intake.forgetAbove(10)
    for (const held of Array.from(intake.held.values())) intake.finish(held.message)
    T.assertNumbers(acked, [10])
    deliver(20)
    deliver(30)
    T.assertNumbers(acked, [10, 20, 30])
  })
})
