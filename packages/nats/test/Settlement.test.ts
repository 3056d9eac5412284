import { afterEach, assert, beforeEach, describe, it, vi } from "@effect/vitest"
import { Effect, Either, Fiber } from "effect"
import { Acks } from "../src/internal/Acks.js"
import { Intake } from "../src/internal/Intake.js"
import { settle } from "../src/internal/Settlement.js"
import { fakeConnection, reconnect } from "./fakeConnection.js"

describe("Settling before handling", () => {
  beforeEach(() =>
    void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance"] })
  )
  afterEach(() => void vi.useRealTimers())

  /** Messages in hand, which are being settled. */
  const scene = (...sequences: ReadonlyArray<number>) => {
    const fake = fakeConnection()
    const intake = new Intake(fake.connection, new Acks(fake.connection, 2_000), undefined, () => true, () => {})
    for (const sequence of sequences) {
      const position = { sequence, delivery: sequence, count: 1, timestamp: 0 }
      intake.receive({ subject: "orders", data: new Uint8Array(1) } as never, position, `$JS.ACK.${sequence}`)
    }
    const messages = Array.from(intake.held.values(), ({ message }) => message)
    const settling = Effect.runFork(Effect.either(settle(fake.connection, intake, "orders", 0, messages)))
    return { fake, intake, settling }
  }
  const turn = () => Promise.resolve()

  it("an answer counts whichever attempt it is to: also where each takes longer than the time between two", async () => {
    const { fake, intake, settling } = scene(1, 2)
    await turn()
    // The server is slow: it answers in order, a second and a half later.
    const answers = setInterval(() => {
      const next = fake.published.shift()
      if (next !== undefined) fake.answer(next.reply!)
    }, 1_500)
    vi.advanceTimersByTime(6_000)
    clearInterval(answers)
    assert.isTrue(Either.isRight(await Effect.runPromise(Fiber.join(settling))))
    assert.strictEqual(intake.held.size, 0)
    assert.strictEqual(vi.getTimerCount(), 0)
    assert.strictEqual(fake.listeners.size, 0)
  })

  it("is tried again when the connection is back, and fails when no answer comes within five seconds", async () => {
    const { fake, intake, settling } = scene(1, 2)
    await turn()
    assert.deepStrictEqual(fake.published.map(({ subject }) => subject), ["$JS.ACK.1", "$JS.ACK.2"])
    fake.isUp = false
    vi.advanceTimersByTime(3_000)
    assert.lengthOf(fake.published, 2)
    reconnect(fake)
    assert.lengthOf(fake.published, 4)
    fake.answer(fake.published[2]!.reply!)
    assert.deepStrictEqual([...intake.held.keys()], [2])
    vi.advanceTimersByTime(2_000)
    const result = await Effect.runPromise(Fiber.join(settling))
    assert.include(Either.getOrThrow(Either.flip(result)), { _tag: "SettlementFailed", isRetryable: true })
    assert.strictEqual(vi.getTimerCount(), 0)
    assert.strictEqual(fake.listeners.size, 0)
  })
})
