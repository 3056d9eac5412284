import type { IncomingMessage } from "@effect-eventbus/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck as fc } from "effect"
import { Acks } from "../src/internal/Acks.js"
import { Intake } from "../src/internal/Intake.js"
import { Pull } from "../src/internal/Pull.js"
import * as TakeOver from "../src/internal/TakeOver.js"
import { FakeConsumer, type Fate } from "./fakeConsumer.js"
import * as T from "./fixture.js"

/** One who reads from the consumer: what it has in hand, what it was offered, and how it takes over. */
const reader = (consumer: FakeConsumer, maxBytes = 1_000_000) => {
  const { api, connection } = consumer
  const acks = new Acks(connection, 2_000)
  const offered: Array<IncomingMessage> = []
  const intake = new Intake(connection, acks, undefined, () => true, () => {})
  intake.lane = {
    offer: (messages) => offered.push(...messages),
    close: () => Effect.succeed({ unfinished: 0, lost: 0 })
  }
  const onEnd: TakeOver.Context["onEnd"] = { current: undefined }
  const pull = new Pull(connection, "$JS.API.CONSUMER.MSG.NEXT.orders.group", 0, 1_000, {
    onMessage: (message, position, reply) => void intake.receive(message, position, reply),
    onEnd: () => onEnd.current?.(),
    onBroken: () => {}
  })
  const takeOver = Effect.suspend(() =>
    TakeOver.run({
      api,
      connection,
      intake,
      pull,
      stream: "orders",
      durable: "group",
      maxBytes,
      expires: 0,
      config: { ack_wait: 30e9 },
      onEnd,
      acks
    })
  )
  /** As it was before its connection broke: these are in hand, and finished later or were already. */
  const has = (sequence: number) => {
    const position = { sequence, delivery: 0, count: 1, timestamp: storedAt, pending: NaN }
    intake.receive({ subject: "orders", data: new Uint8Array(1) } as never, position, ackOf(sequence))
  }
  return { acks, has, intake, offered, takeOver }
}

/** As the model of the server says it of all messages. */
const storedAt = 1_763_742_000_123

const ackOf = (sequence: number) => `$JS.ACK.orders.group.1.${sequence}.1.1763742000123456789.0`

describe("Taking over, with a server that is a model", () => {
  /** Of each delivered message: whose it is, and what is known of it. */
  const state = fc.constantFrom("Acked", "Others", "InHand", "Finished", "AckLost")
  const fate = fc.constantFrom<Fate>("Arrives", "Arrives", "Swallowed", "PassedOver")

  it("goes on where the server says nothing to a request that does not wait and gets nothing", async () => {
    const consumer = new FakeConsumer([1, 3, 5, 7], 3, () => false)
    consumer.isMute = true
    const { intake, takeOver } = reader(consumer)
    // The first time somebody else's request gets what comes back.
    let requests = 0
    consumer.fateOf = () => requests === 1 ? "Swallowed" : "Arrives"
    consumer.onRequest = () => requests++
    // Nothing newer is there either.
    const none = new FakeConsumer([1, 3, 5], 3, () => false)
    none.isMute = true
    none.fateOf = () => "Swallowed"
    const other = reader(none)
    const [first, second] = await Promise.all([Effect.runPromise(takeOver), Effect.runPromise(other.takeOver)])
    assert.strictEqual(first, "Alone")
    assert.deepStrictEqual([...intake.held.keys()].filter((sequence) => sequence < 7), [1, 3, 5])
    assert.strictEqual(second, "Incomplete")
  })

  it("waits as long as the consumer is paused", async () => {
    const consumer = new FakeConsumer([1, 3, 5], 3, () => false)
    consumer.isPaused = true
    let requests = 0
    consumer.onRequest = () => requests++
    const { intake, takeOver } = reader(consumer)
    const end = Effect.runPromise(takeOver)
    await new Promise((resolve) => setTimeout(resolve, 100))
    assert.strictEqual(requests, 0)
    consumer.isPaused = false
    assert.strictEqual(await end, "Alone")
    assert.deepStrictEqual([...intake.held.keys()], [1, 3, 5])
  })

  it(
    "has all that is outstanding in hand when it is done, offers it in stream order, and nothing twice",
    () =>
      fc.assert(
        fc.asyncProperty(
          fc.array(state, { maxLength: 12 }),
          fc.nat(3),
          fc.array(fc.nat(4), { maxLength: 6 }),
          // After three rounds in which nothing comes it gives up.
          fc.array(fate, { maxLength: 5 }).filter((fates) => fates.filter((fate) => fate !== "Arrives").length < 3),
          async (states, fresh, finishing, fates) => {
            const sequences = T.range(0, states.length + fresh).map((n) => 2 * n + 1)
            const stateOf = (sequence: number) => states[(sequence - 1) / 2]
            const consumer = new FakeConsumer(
              sequences,
              states.length,
              (sequence) => stateOf(sequence) === "Acked" || stateOf(sequence) === "Finished"
            )
            const { has, intake, offered, takeOver } = reader(consumer)
            for (const sequence of sequences.slice(0, states.length)) {
              if (stateOf(sequence) === "InHand") has(sequence)
              if (stateOf(sequence) === "Finished" || stateOf(sequence) === "AckLost") intake.finished.add(sequence)
            }
            intake.latest = storedAt
            intake.flow()
            await new Promise(setImmediate)
            const before = offered.splice(0)
            // Handlers go on meanwhile.
            const running = [...before]
            let requests = 0
            consumer.onRequest = () => {
              for (const message of running.splice(0, finishing[requests++] ?? 0)) intake.finish(message)
            }
            let deliveries = 0
            consumer.fateOf = () => fates[deliveries++] ?? "Arrives"
            assert.strictEqual(await Effect.runPromise(takeOver), "Alone")
            for (const sequence of consumer.pending) {
              assert.isTrue(intake.held.has(sequence) || intake.finished.has(sequence), `${sequence} is not in hand`)
            }
            intake.flow()
            await new Promise(setImmediate)
            const numbers = offered.map(({ offset }) => offset)
            assert.deepStrictEqual(numbers, T.ascending([...new Set(numbers)]))
            for (const sequence of sequences) {
              const state = stateOf(sequence)
              if (state === "Others") assert.include(numbers, sequence)
              else if (state !== undefined) assert.notInclude(numbers, sequence)
            }
          }
        ),
        {
          numRuns: 1_000,
          // What is finished meanwhile does not stand for what is missing.
          examples: [[["InHand", "Others"], 0, [1], ["PassedOver"]], [["Others", "InHand"], 0, [1], ["Swallowed"]]]
        }
      ),
    30_000
  )
})
