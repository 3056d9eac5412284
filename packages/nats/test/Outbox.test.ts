import { afterEach, assert, beforeEach, describe, it, vi } from "@effect/vitest"
import { Effect, Either, Exit, Fiber } from "effect"
import { encode } from "../src/internal/HeaderCodec.js"
import { Outbox } from "../src/internal/Outbox.js"
import { Call, Entry, TopicQueue } from "../src/internal/Outgoing.js"
import { resolve } from "../src/NatsConfig.js"
import { fakeConnection } from "./fakeConnection.js"
import * as T from "./fixture.js"

const settings = Either.getOrThrow(resolve({}))

const scene = () => {
  const { answer, connection, sent } = fakeConnection()
  const outbox = new Outbox(connection, settings, () => {})
  const topic = new TopicQueue({ name: "orders", kind: "envelope" }, () => "")
  /** A call with messages of these aggregates, and what it is answered. */
  const call = (...aggregates: ReadonlyArray<string>) => {
    const call = new Call(aggregates.length, performance.now() + 10_000, undefined, outbox.onReply)
    aggregates.forEach((aggregate, index) => {
      const message = T.message(index, aggregate)
      const headers = encode("id", message)
      if (typeof headers === "string") throw new Error(headers)
      call.entries.push(new Entry(call, index, topic, "orders", 0, headers, message))
    })
    let answers = 0
    call.resume = () => answers++
    return { call, answers: () => answers, results: () => call.answers.map(inWords) }
  }
  return { answer, call, outbox, sent }
}

/** The sequence, or what went wrong. */
const inWords = (result: Call["answers"][number]) =>
  Either.match(result, {
    onLeft: (error) =>
      error._tag === "PublishFailed" ? `${error.reason}, ${error.outcome}: ${String(error.cause)}` : error._tag,
    onRight: ({ offset }) => offset
  })

const closed = "Unreachable, not-written: the transport was closed"

describe("Outbox", () => {
  beforeEach(() =>
    void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance"] })
  )
  afterEach(() => void vi.useRealTimers())

  it("sends nothing after it was closed: what comes later fails as unwritten at once, and leaves no timer", () => {
    const { call, outbox, sent } = scene()
    assert.isTrue(Exit.isSuccess(Effect.runSyncExit(outbox.close)))
    const late = call("a", "a", "b")
    outbox.send(late.call)
    assert.deepStrictEqual(late.results(), [closed, closed, closed])
    assert.strictEqual(late.answers(), 1)
    assert.lengthOf(sent, 0)
    assert.strictEqual(vi.getTimerCount(), 0)
  })

  it("takes nothing more while it gives what is in flight a last chance", async () => {
    const { answer, call, outbox, sent } = scene()
    const early = call("a")
    outbox.send(early.call)
    const closing = Effect.runFork(outbox.close)
    await Promise.resolve()
    const late = call("a", "b")
    outbox.send(late.call)
    assert.deepStrictEqual(late.results(), [closed, closed])
    assert.lengthOf(sent, 1)
    answer(sent[0]!.reply, { stream: "orders", seq: 7 })
    await Effect.runPromise(Fiber.join(closing))
    assert.deepStrictEqual(early.results(), [7])
    assert.lengthOf(sent, 1)
    assert.strictEqual(vi.getTimerCount(), 0)
  })
})
